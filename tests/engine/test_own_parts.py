"""A user's own model, update rule and schedule: in a batch where that is possible, else one by one."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch import nn

from grok.engine.events import Saved, Start
from grok.engine.spec import Optimizer
from grok.engine.train import train
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
