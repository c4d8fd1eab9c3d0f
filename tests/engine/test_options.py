"""Options of the training engine against direct computations: Grokfast, SAM, noise, sampling."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from grok.engine import products
from grok.engine.determinism import drawing
from grok.engine.filters import amplified, initial_state, keep
from grok.engine.graph import record
from grok.engine.optimizers import without_radial_part
from grok.engine.problem import Problem, sampled_batches
from grok.engine.spec import Grokfast, Group, Optimizer
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load
from grok.experiment.parts import stacked_matrices, with_temperature
from grok.models.sum_mlp import SumMLP
from grok.objectives.classification import (
    ClassificationLoss,
    ClassificationMetrics,
    InputLogits,
)
from tests.conftest import PROJECT
from tests.engine.toy import losses, outcome, problem

ALPHA, GAIN, WINDOW = 0.9, 3.0, 4


def gradients(count: int) -> list[torch.Tensor]:
    return list(
        torch.randn(count, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    )


def filtered(grokfast: Grokfast, grads: list[torch.Tensor]) -> list[torch.Tensor]:
    state, found = initial_state(grokfast, {"w": grads[0]}), []
    for t, grad in enumerate(grads, start=1):
        step, gain = torch.tensor(float(t)), torch.tensor(grokfast.gain, dtype=torch.float64)
        out, changed = amplified(grokfast, {"w": grad}, state, step, gain)
        state |= changed
        if grokfast.kind == "window":
            keep(grokfast, {"w": grad}, state["past"], t)
        found.append(out["w"])
    return found


def test_grokfast_ema_is_algorithm_2():
    grads = gradients(10)
    slow = grads[0]
    for index, found in enumerate(filtered(Grokfast("ema", GAIN, ALPHA), grads)):
        slow = ALPHA * slow + (1 - ALPHA) * grads[index]
        assert torch.allclose(found, grads[index] + GAIN * slow)


def test_grokfast_window_is_algorithm_1():
    grads = gradients(10)
    for index, found in enumerate(filtered(Grokfast("window", GAIN, window=WINDOW), grads)):
        last = grads[max(0, index + 1 - WINDOW) : index + 1]
        slow = torch.stack(last).mean(0) if len(last) == WINDOW else 0
        assert torch.allclose(found, grads[index] + GAIN * slow)


@pytest.mark.parametrize("compiled", [False, True])
def test_training_with_a_window_is_gradient_descent_on_filtered_gradients(compiled):
    """The window is kept outside of the compiled step: each step must read the gradients of all before."""
    lr, steps, grokfast = 0.05, 9, Grokfast("window", GAIN, window=WINDOW)
    one = problem(1, "sgd", lr=lr, train_steps=steps, log_steps=[0, steps])
    plain = replace(one.optimizer.groups[0], prefix="", momentum=0.0, lr=lr, weight_decay=0.0)
    one.optimizer = Optimizer("sgd", (plain,), grokfast=grokfast)
    weights, past = list(one.module.parameters()), []
    (ended,) = [e for e in train([one], compiled=compiled) if hasattr(e, "weights")]
    for _ in range(steps):
        past.append(torch.autograd.grad(one.loss(one.module, one.data), weights))
        slow = [torch.stack(last).mean(0) for last in zip(*past[-WINDOW:], strict=True)]
        with torch.no_grad():
            for weight, g, mean in zip(weights, past[-1], slow, strict=True):
                weight -= lr * (g + GAIN * mean if len(past) >= WINDOW else g)
    for name, weight in one.module.named_parameters():
        torch.testing.assert_close(ended.weights[name], weight.detach(), rtol=1e-9, atol=1e-12)


def test_sam_takes_the_gradient_uphill():
    rho, lr, one = 0.1, 0.05, problem(1, "sgd", lr=0.05, train_steps=1, log_steps=[0, 1])
    one.optimizer = Optimizer(
        "sgd",
        (replace(one.optimizer.groups[0], prefix="", momentum=0.0, lr=lr, weight_decay=0.0),),
        sam_rho=rho,
    )
    names = [name for name, _ in one.module.named_parameters()]
    weights = list(one.module.parameters())

    def gradient():
        return torch.autograd.grad(one.loss(one.module, one.data), weights)

    before = [weight.detach().clone() for weight in weights]
    flat = gradient()
    norm = sum((g**2).sum() for g in flat).sqrt()
    (ended,) = [e for e in train([one]) if hasattr(e, "weights")]
    with torch.no_grad():
        for weight, g in zip(weights, flat, strict=True):
            weight += rho * g / norm
    uphill = gradient()
    for name, weight, g in zip(names, before, uphill, strict=True):
        assert torch.allclose(ended.weights[name], weight - lr * g, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"weight_noise": 0.05},
        {"update_noise": 0.05},
        {"grokfast": Grokfast("ema", 2.0)},
        {"grokfast": Grokfast("window", 2.0, window=5)},
        {"sam_rho": 0.05},
        {"fixed_norm": True},
    ],
)
def test_an_option_acts_and_a_replica_of_a_batch_still_equals_the_solo_run(options):
    def noisy(seed):
        one = problem(seed)
        return replace(one, optimizer=replace(one.optimizer, **options))

    batch = list(train([noisy(seed) for seed in range(3)], slots=2))
    for seed in range(3):
        solo = list(train([noisy(seed)]))
        assert losses(batch, seed) == pytest.approx(losses(solo), abs=1e-8)
    assert losses(batch, 0) != pytest.approx(losses(list(train([problem(0)]))))


def test_weight_noise_of_another_seed_is_other_noise():
    one = problem(0)
    one = replace(one, optimizer=replace(one.optimizer, weight_noise=0.05))
    first, second = (outcome(list(train([replace(one, seed=seed)]))) for seed in (0, 1))
    assert any((first.weights[k] != second.weights[k]).any() for k in first.weights)


def test_drawing_with_replacement_repeats_rows_and_reaches_all():
    drawn = sampled_batches(seed=3, block=0, examples=100, shape=(50, 20))
    assert drawn.shape == (50, 20) and set(drawn.flatten().tolist()) == set(range(100))
    assert any(len(set(batch.tolist())) < 20 for batch in drawn)
    assert (drawn == sampled_batches(3, 0, 100, (50, 20))).all()
    assert (drawn != sampled_batches(3, 1, 100, (50, 20))).any()


@pytest.mark.parametrize("batch", [(), (1,), (3,)])
@pytest.mark.parametrize("left_transposed", [False, True])
@pytest.mark.parametrize("right", ["plain", "transposed", "with gaps"])
def test_products_are_matrix_products(batch, left_transposed, right):
    m, k, n = 40, 30, 20
    a = torch.randn(*batch, k, m).mT if left_transposed else torch.randn(*batch, m, k)
    b = {
        "plain": torch.randn(*batch, k, n),
        "transposed": torch.randn(*batch, n, k).mT,
        "with gaps": torch.randn(*batch, k, 2 * n)[..., :n],
    }[right]
    found = products.operator()(a, b)
    assert found.is_contiguous()
    assert torch.allclose(found, a @ b, atol=1e-4)


def test_large_products_of_one_replica_are_replaced_and_small_ones_are_not():
    """One replica's products are not batched, and a layer's has its bias in the same call."""
    generator = torch.Generator().manual_seed(0)
    x, small = (torch.randn(size, 128, generator=generator) for size in (512, 4))
    weight, bias = (torch.randn(shape, generator=generator) for shape in ((256, 128), (256,)))

    def layer(x, small, weight, bias):
        large = torch.nn.functional.linear(x, weight, bias)
        return large, large.T @ x, torch.nn.functional.linear(small, weight, bias)

    graph = record(layer, [x, small, weight, bias])
    products.replace_products(graph)
    calls = [node.target for node in graph.graph.nodes]
    assert calls.count(products.operator()) == 2
    assert calls.count(torch.ops.aten.addmm.default) == 1
    for found, expected in zip(
        graph(x, small, weight, bias), layer(x, small, weight, bias), strict=True
    ):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5)


def test_a_gradient_across_the_weights_has_its_length_and_no_part_along_them():
    generator = torch.Generator().manual_seed(2)
    grad, weights = (torch.randn(4, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    found = without_radial_part(grad, weights)
    assert (found * weights).sum().abs() < 1e-12
    assert found.norm().item() == pytest.approx(grad.norm().item(), rel=1e-12)
    together = torch.stack([found, grad, weights]).flatten(1)
    assert torch.linalg.matrix_rank(together, atol=1e-9) == 2  # in the plane of the two
    assert without_radial_part(torch.zeros(3), torch.zeros(3)).tolist() == [0, 0, 0]


def test_an_orthogonal_step_of_sgd_keeps_the_norm_to_second_order():
    norms = []
    for lr in (1e-2, 1e-3):
        one = problem(1, "sgd", train_steps=1, log_steps=[0, 1])
        group = replace(one.optimizer.groups[0], prefix="", momentum=0.0, lr=lr, weight_decay=0.0)
        one.optimizer = Optimizer("sgd", (group,), orthogonal=True)
        before = {name: p.detach().norm() for name, p in one.module.named_parameters()}
        after = outcome(train([one], compiled=False)).weights
        norms.append(max(abs(after[k].norm() ** 2 - before[k] ** 2).item() for k in before))
    assert norms[1] == pytest.approx(norms[0] / 100, rel=1e-2)


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_a_fixed_norm_is_kept_and_the_direction_is_the_updates(kind):
    def norm(weights) -> float:
        return sum((w.double() ** 2).sum() for w in weights.values()).sqrt().item()

    one = problem(1, kind, train_steps=400, log_steps=[0, 400])
    kept = replace(one, optimizer=replace(one.optimizer, fixed_norm=True))
    start = norm({name: p.detach() for name, p in one.module.named_parameters()})
    assert norm(outcome(train([kept])).weights) == pytest.approx(start, rel=1e-6)
    assert abs(norm(outcome(train([one])).weights) - start) > 1e-3 * start
    first = [replace(p, train_steps=1, log_steps=[0, 1]) for p in (kept, one)]
    fixed, free = (outcome(train([p], compiled=False)).weights for p in first)
    ratio = norm(free) / start
    assert all(torch.allclose(fixed[k] * ratio, free[k]) for k in free)


def test_a_fixed_norm_may_be_a_number():
    """The weights have it after the first step; runs with several norms share a program."""
    norms = {"initial": True, "small": 2.0, "large": 30.0}
    problems = [
        replace(one, optimizer=replace(one.optimizer, fixed_norm=norm))
        for one in (problem(1, train_steps=1, log_steps=[0, 1]),)
        for norm in norms.values()
    ]
    events = list(train(problems, compiled=False))
    for replica, norm in enumerate(norms.values()):
        if norm is not True:
            weights = outcome(events, replica).weights
            assert sum((w**2).sum() for w in weights.values()) ** 0.5 == pytest.approx(norm)


def test_a_homogeneous_network_at_a_fixed_norm_has_one_degree_of_freedom():
    """With weights of norm c rho, temperature c^4 tau and rate c lr, the network of four matrices is
    the one of rho, tau and lr: gradients are divided by c, which Adam does not see. Both options
    would break this if either acted at another place than on the weights and the logits."""
    c, tau = 1.2, 1.5
    labels = torch.randint(7, (30, 1), generator=torch.Generator().manual_seed(0))
    pairs = torch.randint(7, (30, 2), generator=torch.Generator().manual_seed(1))
    data = {f"{part}_pairs": pairs for part in ("train", "test")}
    data |= {f"{part}_labels": labels for part in ("train", "test")}
    loss = ClassificationLoss(InputLogits())
    found = []
    for scale in (1.0, c):
        with drawing(0, torch.float64):
            module = SumMLP(7, 5, 12)
        with torch.no_grad():
            for weight in module.parameters():
                weight *= scale
        group = Group(lr=1e-2 * scale, weight_decay=0.0, eps=1e-30)
        optimizer = Optimizer("adamw", (group,), fixed_norm=5.0 * scale)
        metrics = ClassificationMetrics(loss)
        one = Problem(module, data, loss, metrics, optimizer, 40, [0, 1, 10, 40])
        one = with_temperature(one, tau * scale**4)
        found.append(losses(train([one], compiled=False)))
    for step, value in found[0].items():
        assert found[1][step] == pytest.approx(value, rel=1e-9), step
    assert found[0][40] < 0.9 * found[0][1]


def test_a_temperature_divides_the_logits_of_loss_and_metrics():
    paper = load(PROJECT / "experiments" / "minegishi.py")
    hot, plain = (
        paper.problem_of(paper.full_config({"seed": 0, "p": 7, "temperature": tau}))
        for tau in (2.0, None)
    )
    with torch.no_grad():
        logits = plain.loss.logits(plain.module, plain.data, "train", False)
        expected = plain.loss.from_logits(logits / 2, plain.data["train_labels"])
        assert torch.equal(hot.loss(hot.module, hot.data), expected)
        assert torch.equal(hot.metrics(hot.module, hot.data)["train_loss"], expected)


@pytest.mark.parametrize("updates", [{"temperature": 2.0}, {"fixed_norm": 0}, {"fixed_norm": "x"}])
def test_a_temperature_without_logits_and_norms_that_are_none_are_refused(updates):
    toy = load(PROJECT / "experiments" / "liu_toy.py")
    with pytest.raises(UserError, match=f"{next(iter(updates))}="):
        toy.problem_of(toy.full_config({"seed": 0, **updates}))


@pytest.mark.parametrize(
    ("name", "updates", "expected"),
    [
        ("nanda", {}, ["queries", "keys_values", "mix", "up", "down"]),
        ("minegishi", {}, ["w_in", "w_out"]),
        ("mlp", {"depth": 4, "width": 8}, ["net.2.weight", "net.4.weight"]),
        ("minegishi", {"muon_parameters": ["w_in", "emb"]}, ["embed", "w_in"]),
    ],
)
def test_muon_updates_the_hidden_matrices_or_those_that_are_named(name, updates, expected):
    """Embeddings, output layers and vectors are AdamW's, as in Jordan et al. 2024."""
    paper = load(PROJECT / "experiments" / f"{name}.py")
    config = {"seed": 0, "p": 7, "optimizer": "muon", "muon_weight_decay": 0.3, **updates}
    optimizer = paper.problem_of(paper.full_config(config)).optimizer
    groups = [group for group in optimizer.groups if group.muon]
    names = [group.prefix.removeprefix("blocks.0.").removesuffix(".weight") for group in groups]
    assert names == [one.removesuffix(".weight") for one in expected]
    assert {(g.lr, g.momentum, g.weight_decay) for g in groups} == {(0.02, 0.95, 0.3)}
    assert optimizer.groups[-1].lr == 1e-3 and not optimizer.groups[-1].muon
    assert [g.stacked for g in groups] == [2 if "keys_values" in g.prefix else 1 for g in groups]


def test_the_matrices_of_a_parameter_are_known_by_its_module():
    """LSTMs have four gates, GRUs three and plain recurrent cells one; queries, keys and values of
    torch's attention are one parameter."""
    module = nn.ModuleDict(
        {
            "lstm": nn.LSTM(8, 8, 2),
            "gru": nn.GRUCell(8, 8),
            "rnn": nn.RNN(8, 8),
            "attention": nn.MultiheadAttention(8, 2),
        }
    )
    lstm = {f"lstm.weight_{part}_l{layer}": 4 for layer in (0, 1) for part in ("ih", "hh")}
    gru = {"gru.weight_ih": 3, "gru.weight_hh": 3}
    assert stacked_matrices(module) == {**lstm, **gru, "attention.in_proj_weight": 3}
    assert stacked_matrices(nn.LSTMCell(8, 8)) == {"weight_ih": 4, "weight_hh": 4}


def test_muon_without_matrices_to_update_is_refused():
    paper = load(PROJECT / "experiments" / "doshi.py")
    for updates in ({}, {"muon_parameters": ["head"]}):
        config = paper.full_config({"seed": 0, "p": 7, "optimizer": "muon", **updates})
        with pytest.raises(UserError, match=r"muon_parameters.*outputs"):
            paper.problem_of(config)


def test_a_long_gradient_is_cut_to_its_norm_and_a_short_one_left():
    for clip, factor in ((0.01, None), (1e6, 1.0)):
        one = problem(1, "sgd", train_steps=1, log_steps=[0, 1])
        group = replace(one.optimizer.groups[0], prefix="", momentum=0.0, lr=1.0, weight_decay=0.0)
        one.optimizer = Optimizer("sgd", (group,), clip_norm=clip)
        weights = list(one.module.parameters())
        grads = torch.autograd.grad(one.loss(one.module, one.data), weights)
        before = [weight.detach().clone() for weight in weights]
        norm = sum((g**2).sum() for g in grads).sqrt()
        after = outcome(train([one], compiled=False)).weights.values()
        for old, new, g in zip(before, after, grads, strict=True):
            assert torch.allclose(old - new, g * (factor or clip / norm))


def test_a_group_can_be_the_biases_alone():
    groups = (Group(weight_decay=0.0, part="bias"), Group(weight_decay=1.0))
    optimizer = Optimizer("adamw", groups)
    assert optimizer.group_of("blocks.0.up.bias") == 0
    assert optimizer.group_of("blocks.0.up.weight") == 1


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("minegishi", {"p": 7}),
        ("omnigrok", {"dataset": "digits", "loss": "cross_entropy"}),
        ("wang", {"entities": 20, "relations": 5, "out_degree": 3, "phi": 2.0, "ood_share": 0.1}),
    ],
)
def test_stablemax_is_trained_with_and_reported(name, config):
    paper = load(PROJECT / "experiments" / f"{name}.py")
    found = paper.problem_of(paper.full_config({"seed": 0, "stablemax": True, **config}))
    assert found.loss.kind == found.metrics.loss.kind == "stablemax"
