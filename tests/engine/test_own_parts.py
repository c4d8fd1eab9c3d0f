"""A user's own model, update rule and schedule: in a batch where that is possible, else one by one."""

import copy
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.nn.functional import scaled_dot_product_attention

from grok.engine import eager
from grok.engine.events import Outcome, Saved, Start
from grok.engine.spec import Optimizer
from grok.engine.train import train
from grok.experiment.initial_weights import fit
from tests.engine.toy import losses, problem

STEPS = 40
ALL = {"train_steps": STEPS, "log_steps": [0, 1, 10, 20]}


def momentum(weights, gradient, state, step):
    """SGD with momentum, as grok.engine.optimizers has it."""
    decayed = torch.addcmul(gradient, weights, step.weight_decay)
    velocity = torch.addcmul(decayed, state["velocity"], step.momentum)
    return torch.addcmul(weights, velocity, -step.lr), {"velocity": velocity}


@dataclass(frozen=True)
class Halving:
    """Halves the learning rate every `steps` steps."""

    steps: int

    def __call__(self, done):
        return 0.5 ** (done // self.steps)


def with_optimizer(one, **fields):
    return replace(one, optimizer=replace(one.optimizer, **fields))


def own(seed: int):
    one = problem(seed, "sgd", lr=0.05, **ALL)
    return with_optimizer(one, kind="own", rule=momentum, accumulators=("velocity",))


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_an_own_update_rule_is_mapped_as_ours_is(compiled):
    """The same formula gives the same numbers, bit for bit, alone and in a batch."""
    ours = [*train([problem(s, "sgd", lr=0.05, **ALL) for s in range(3)], 3, compiled, fused=False)]
    theirs = [*train([own(s) for s in range(3)], 3, compiled, fused=False)]
    for replica in range(3):
        assert losses(theirs, replica) == losses(ours, replica)
    assert Optimizer("own", rule=momentum).rule is momentum


def test_an_own_schedule_multiplies_the_learning_rate():
    """Without warm-up, halving after 10 of 20 steps is a run of two learning rates."""
    whole = with_optimizer(problem(0, "sgd", lr=0.05, **ALL), warmup_steps=0)
    halved = with_optimizer(whole, schedule=Halving(10))
    first, second = losses([*train([whole], fused=False)]), losses([*train([halved], fused=False)])
    assert {step: first[step] == second[step] for step in first} == {
        0: True,
        1: True,
        10: True,
        20: False,
        40: False,
    }
    assert Halving(10)(np.arange(11.0)).tolist() == [1.0] * 10 + [0.5]
    fused = losses([*train([halved], fused=True)])
    assert fused == pytest.approx(second, rel=1e-9)


class Gate(nn.Module):
    """Decides by a tensor's value, which no recorded program can do."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 8), nn.Linear(8, 2)

    def forward(self, inputs):
        hidden = self.first(inputs)
        return self.last(hidden.tanh() if hidden.mean().item() > 0 else hidden)


class Recurrent(nn.Module):
    """An LSTM, which torch cannot map over replicas."""

    def __init__(self):
        super().__init__()
        self.cells, self.last = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, inputs):
        return self.last(self.cells(inputs[:, None])[0][:, 0])


MODELS = {
    "dropout": lambda: nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 2)),
    "batch normalization": lambda: nn.Sequential(
        nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
    ),
    "values of tensors": Gate,
    "LSTM": Recurrent,
}


def of_model(name: str, seed: int, **options):
    one = problem(seed, "sgd", lr=0.05, **{**ALL, **options})
    torch.manual_seed(seed)
    optimizer = replace(one.optimizer, groups=one.optimizer.groups[1:])
    return replace(one, module=MODELS[name]().double(), optimizer=optimizer)


@pytest.mark.parametrize("name", MODELS)
def test_what_cannot_be_batched_trains_alone_and_says_so(name, capsys):
    """A run has the same numbers among others as alone, and after a resume, dropout included."""
    problems = [of_model(name, seed, checkpoint_every=15) for seed in range(2)]
    events = [*train(problems)]
    (line,) = capsys.readouterr().err.splitlines()
    assert "trains one run after the other" in line
    assert {e.slots for e in events if isinstance(e, Start)} == {1}
    assert losses(events, 1) == losses([*train([problems[1]])])
    saved = next(e for e in events if isinstance(e, Saved) and e.replica == 1)
    rest = losses([*train([problems[1]], resume={0: replace(saved, replica=0)})])
    assert rest == {step: loss for step, loss in losses(events, 1).items() if step > saved.step}


def test_the_line_says_why_in_whole_words(capsys):
    """torch's sentences are long: one of batch normalization was cut in the middle of a word."""
    [*train([of_model("batch normalization", seed) for seed in range(2)])]
    (line,) = capsys.readouterr().err.splitlines()
    cause = "it changes tensors of its own, as batch normalization does"
    assert line.endswith(f"one run after the other, uncompiled: {cause}")
    words = ["transform"] * 40
    said = eager.reason(RuntimeError(" ".join(words)))
    assert len(said) <= 160
    assert said.split() == [*words[: len(said.split()) - 1], "..."]
    assert eager.reason(ValueError("Too short. To be cut.")) == "Too short"
    assert eager.reason(ValueError()) == "ValueError"


class Attending(nn.Module):
    """A layer of a transformer, whose attention torch calls for one replica after the other."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 2)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

    def forward(self, inputs):
        return self.last(self.layer(self.first(inputs)[:, None])[:, 0])


def test_attention_is_batched_without_a_warning():
    """torch warned of it in several lines, as if the user could change that; elsewhere it may warn."""

    def attending(seed):
        torch.manual_seed(seed)
        one = problem(seed, "sgd", lr=0.05, **ALL)
        optimizer = replace(one.optimizer, groups=one.optimizer.groups[1:])
        return replace(one, module=Attending().double(), optimizer=optimizer)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        events = [*train([attending(seed) for seed in range(2)], compiled=False)]
        assert {e.slots for e in events if isinstance(e, Start)} == {2}
        assert not [str(warning.message) for warning in caught]
        query = torch.randn(2, 1, 1, 1, 2)
        vmap(scaled_dot_product_attention)(query, query, query)
    assert "performance drop" in str(caught[0].message)


def test_dropout_is_off_and_statistics_are_kept_at_evaluation():
    """As a user's script has it, which calls model.eval() before."""
    one = of_model("dropout", 0)
    with torch.no_grad():
        expected = one.metrics(one.module.eval(), one.data)["train_loss"]
    assert losses([*train([one])])[0] == float(expected)
    normalized = of_model("batch normalization", 0)
    saved = [*train([replace(normalized, checkpoint_every=10)])]
    first = next(e for e in saved if isinstance(e, Saved)).tensors
    assert first["program/buffers/1.num_batches_tracked"] == 10


@pytest.mark.parametrize("fused", [False, None])
def test_frozen_parameters_keep_their_values_as_in_a_plain_loop(fused):
    """Weights without requires_grad are not trained, nor does the norm of gradients count them."""

    def frozen(seed):
        one = of_model("dropout", seed, train_steps=STEPS)
        module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2)).double()
        module[0].weight.requires_grad_(False)
        return with_optimizer(replace(one, module=module), clip_norm=0.1, warmup_steps=0)

    problems = [frozen(seed) for seed in range(2)]
    ends = [e for e in train(problems, fused=fused) if isinstance(e, Outcome)]
    for end in ends:
        one = problems[end.replica]
        module, (group,) = copy.deepcopy(one.module), one.optimizer.groups
        trained = [p for p in module.parameters() if p.requires_grad]
        options = {"weight_decay": group.weight_decay, "momentum": group.momentum}
        plain = torch.optim.SGD(trained, lr=group.lr, **options)
        for _ in range(STEPS):
            plain.zero_grad()
            one.loss(module, one.data).backward()
            nn.utils.clip_grad_norm_(trained, 0.1)
            plain.step()
        assert torch.equal(end.weights["0.weight"], one.module[0].weight)
        torch.testing.assert_close(end.weights, dict(module.state_dict()), rtol=1e-4, atol=1e-8)
    trained = replace(problems[0], module=copy.deepcopy(problems[0].module).requires_grad_())
    assert trained.signature() != problems[0].signature()


def test_final_weights_have_the_statistics_of_batch_normalization():
    """Without them, a run that starts from these weights would begin with another network."""
    one = of_model("batch normalization", 0)
    end = next(e for e in train([one]) if isinstance(e, Outcome))
    assert {"1.running_mean", "1.running_var", "1.num_batches_tracked"} < {*end.weights}
    assert end.weights["1.num_batches_tracked"] == STEPS
    other = of_model("batch normalization", 1).module
    assert fit(end.weights, other) == "own"
    continued = losses([*train([replace(one, module=other)])])
    assert continued[0] == losses([*train([one])])[STEPS]


WRONG_PARTS = {
    "rule": (
        {"kind": "own", "rule": lambda *_: (_[0], {"men": _[0]}), "accumulators": ("mean",)},
        r"the update rule returns the accumulators \['men'\]; expected \['mean'\]",
    ),
    "shape": ({"schedule": lambda done: np.ones(3)}, "factors have the shape"),
    "NaN": ({"schedule": lambda done: done * np.nan}, "factor after 0 steps is not finite"),
}


@pytest.mark.parametrize("name", WRONG_PARTS)
def test_wrong_parts_of_the_optimizer_say_what_was_expected(name):
    """A NaN in the schedule would otherwise train silently with weights that are not numbers."""
    fields, message = WRONG_PARTS[name]
    with pytest.raises(ValueError, match=message):
        [*train([with_optimizer(problem(0, "sgd", **ALL), **fields)], fused=False)]
    with pytest.raises(ValueError, match=r"Optimizer\('own'\): expected with a rule"):
        Optimizer("own")
    with pytest.raises(ValueError, match=r"Optimizer\('sgd'\): its steps follow the gradient"):
        Optimizer("sgd", gradient_steps=False)


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        (lambda module, data: {"loss": data["inputs"].sum()}, ValueError, "expected train_loss"),
        (lambda module, data: {"train_loss": 1.0}, TypeError, "'train_loss': 'float'"),
        (lambda module, data: None, TypeError, "the metrics are None"),
    ],
)
def test_wrong_metrics_say_what_was_expected(metrics, error, message):
    """Otherwise the error is one of the engine's own code, which the author does not know."""
    with pytest.raises(error, match=message):
        [*train([replace(problem(0, **ALL), metrics=metrics)], fused=False)]


def test_an_error_of_the_model_is_raised_as_it_is(capsys):
    """It is not taken for a model that cannot be batched."""
    broken = replace(problem(0, **ALL), module=nn.Sequential(nn.Linear(4, 2)).double())
    broken = with_optimizer(broken, groups=broken.optimizer.groups[1:])
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        [*train([broken, broken])]
    assert capsys.readouterr().err == ""


class Scaled(nn.Module):
    """A module with a number that its repr does not show."""

    def __init__(self, factor):
        super().__init__()
        self.factor, self.last = factor, nn.Linear(3, 2)

    def forward(self, inputs):
        return self.last(inputs) * self.factor


def test_modules_with_other_attributes_are_not_trained_as_one():
    """A program has the attributes of one replica, and would use them for all."""
    first, equal, other = (replace(problem(0), module=Scaled(factor)) for factor in (1.0, 1.0, 2.0))
    assert first.signature() == equal.signature() != other.signature()
    tensors = [replace(problem(0), module=Scaled(torch.tensor(f))) for f in (1.0, 1.0, 2.0)]
    assert tensors[0].signature() == tensors[1].signature() != tensors[2].signature()
