"""Thilak et al. 2022: what is measured at a step, and each claim at its threshold."""

from dataclasses import replace
from math import inf

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.engine.events import Outcome, Record
from grok.engine.train import train
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def thilak():
    return load_module(PROJECT / "experiments" / "thilak.py")


@pytest.fixture(scope="module")
def trained(thilak):
    """A small cpu_division: the problem, the weights after each step, and the metrics of each."""
    sizes = {"p": 7, "width": 16, "eval_steps": 1, "train_steps": 4, "seed": 1}
    problem = thilak.ex.problem_of(thilak.ex.full_config(sizes, ("cpu_division",)))
    weights = []
    for steps in range(5):
        short = replace(problem, train_steps=max(steps, 1), log_steps=[0, max(steps, 1)])
        events = list(train([short], compiled=False))
        weights.append(next(e for e in events if isinstance(e, Outcome)).weights)
    weights[0] = {name: p.detach() for name, p in problem.module.named_parameters()}
    records = [e for e in train([problem], compiled=False) if isinstance(e, Record)]
    return problem, weights, {record.step: record.metrics for record in records}


def logits_of(problem, weights):
    return torch.func.functional_call(problem.module, weights, (problem.data["train_pairs"],))


def test_change_is_that_of_the_last_step(trained):
    problem, weights, metrics = trained
    for step in (1, 3, 4):
        now, before = (logits_of(problem, weights[i]) for i in (step, step - 1))
        change = ((now - before).norm(dim=1) / before.norm(dim=1)).mean()
        assert metrics[step]["logit_change"] == pytest.approx(float(change), rel=1e-4)
    assert metrics[0]["logit_change"] == 0


def test_sharpness_is_the_hessian_along_the_step(trained):
    problem, weights, metrics = trained
    names, old = list(weights[2]), weights[2]

    def loss(*values):
        outputs = torch.func.functional_call(
            problem.module, dict(zip(names, values, strict=True)), (problem.data["train_pairs"],)
        )
        return torch.nn.functional.cross_entropy(outputs, problem.data["train_labels"][:, 0])

    update = tuple(weights[3][name] - old[name] for name in names)
    values = tuple(old[name] for name in names)
    _, curved = torch.autograd.functional.hvp(loss, values, update)
    top = sum(float((u * h).sum()) for u, h in zip(update, curved, strict=True))
    known = top / sum(float((u * u).sum()) for u in update)
    assert metrics[3]["update_sharpness"] == pytest.approx(known, rel=1e-3)


def test_distances_are_from_the_start(trained):
    _, weights, metrics = trained
    last = [name for name in weights[4] if name.startswith("net.6")]
    flat = [torch.cat([w[name].flatten() for name in last]) for w in (weights[4], weights[0])]
    cosine = torch.nn.functional.cosine_similarity(*flat, dim=0)
    assert metrics[4]["classifier_distance"] == pytest.approx(1 - float(cosine), abs=1e-5)
    assert metrics[4]["classifier_norm"] == pytest.approx(float(weights[4]["net.6.weight"].norm()))


def test_a_compiled_step_measures_the_same(thilak):
    """What compares two steps must read the weights before a compiled step has overwritten them."""
    sizes = {"p": 7, "width": 16, "depth": 2, "eval_steps": 1, "train_steps": 3, "seed": 1}
    problem = thilak.ex.problem_of(thilak.ex.full_config(sizes, ("cpu_division",)))
    uncompiled, compiled = (
        [e.metrics for e in train([problem], compiled=flag) if isinstance(e, Record)]
        for flag in (False, True)
    )
    for known, found in zip(uncompiled, compiled, strict=True):
        for name in ("logit_change", "representation_change", "update_sharpness"):
            assert found[name] == pytest.approx(known[name], rel=1e-2, abs=1e-5)


def test_classifier_is_the_last_linear_layer(thilak):
    config = thilak.ex.full_config({"seed": 0}, ("cpu",))
    problem = thilak.ex.problem_of(config)
    layers = [m for m in problem.module.modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) == 6 and len(problem.data["train_labels"]) == 200
    assert problem.module.get_submodule(problem.metrics.classifier) is layers[-1]
    assert layers[-1].out_features == 10


def test_transformer_is_of_the_published_size(thilak):
    """Division modulo 97: 97 * 96 equations, half of them for training; biases, no LayerNorm."""
    problem = thilak.ex.problem_of(thilak.ex.full_config({"seed": 0}, ("paper",)))
    assert len(problem.data["train_labels"]) == len(problem.data["test_labels"]) == 97 * 96 / 2
    parameters = dict(problem.module.named_parameters())
    assert sum(p.numel() for p in parameters.values()) == pytest.approx(4.2e5, rel=0.05)
    assert not any("norm" in name for name in parameters)


def cycling(norms=(1.0, 2.0, 3.0), steps=(100, 200, 300)):
    """A `cpu` run with cycles at these steps, and the classifier's norm there."""
    series = {"classifier_norm": ([0, *steps], [0.5, *norms])}
    return claim_run("cpu", {"cycles": len(steps), "cycle_steps": list(steps)}, series)


@pytest.mark.parametrize(
    ("norms", "passed"), [((1.0, 2.0, 3.0), True), ((1.0, 2.0), False), ((1.0, 3.0, 2.9), False)]
)
def test_three_cycles_of_growing_norm(thilak, norms, passed):
    run = cycling(norms, (100, 200, 300)[: len(norms)])
    assert finding(thilak, "07a", run).passed == passed


@pytest.mark.parametrize(("claim", "control"), [("07b", "cpu_large_eps"), ("07f", "cpu_float64")])
def test_controls_have_no_cycle(thilak, claim, control):
    for cycles, control_cycles, passed in ((3, 0, True), (2, 0, False), (3, 1, False)):
        runs = (
            claim_run("cpu", {"cycles": cycles}),
            claim_run(control, {"cycles": control_cycles}),
        )
        assert finding(thilak, claim, *runs).passed == passed


@pytest.mark.parametrize(
    ("claim", "metric"), [("07d", "representation_change"), ("07e", "update_sharpness")]
)
@pytest.mark.parametrize(("peak", "passed"), [(10.0, True), (9.9, False)])
def test_peaks_are_ten_medians_at_every_cycle(thilak, claim, metric, peak, passed):
    """A peak one evaluation away from the cycle counts too."""
    steps = list(range(0, 220, 20))
    values = [20.0 if step == 60 else peak if step == 160 else 1.0 for step in steps]
    run = claim_run("cpu", {"cycle_steps": [60, 140]}, {metric: (steps, values)})
    outcome = finding(thilak, claim, run)
    assert outcome.passed == passed
    assert outcome.measured == {"least peak, in medians": pytest.approx(peak)}


@pytest.mark.parametrize(
    ("cycles", "accuracy", "passed"), [(5, 0.6, True), (4, 0.1, False), (5, 0.61, False)]
)
def test_cycles_without_generalization(thilak, cycles, accuracy, passed):
    run = claim_run("cpu_division", {"cycles": cycles, "test_accuracy": accuracy})
    assert finding(thilak, "07g", run).passed == passed


@pytest.mark.parametrize("claim", ["07a", "07d", "07d-classifier", "07e"])
def test_a_run_without_cycles_fails(thilak, claim):
    """It is evaluated, not left out."""
    series = {
        name: ([0, 20], [1.0, 1.0])
        for name in ("classifier_norm", "representation_change", "logit_change", "update_sharpness")
    }
    run = claim_run("cpu", {"cycles": 0, "cycle_steps": []}, series)
    assert not finding(thilak, claim, run).passed


def grokking(rise, final=0.9, spikes=(1000, 2000, 4000), memorized=500):
    """A `cpu_transformer` run whose test accuracy is 50 % from a step on; inf: never."""
    steps = [0, rise, rise + 20, 90_000] if rise < inf else [0, 90_000]
    accuracies = [0.1, 0.5, 0.6, final] if rise < inf else [0.1, 0.4]
    series = {
        "test_accuracy": (steps, accuracies),
        "train_accuracy": ([0, memorized, memorized + 20], [0.0, 0.99, 1.0]),
    }
    return claim_run("cpu_transformer", {"cycle_steps": [*spikes]}, series)


@pytest.mark.parametrize(
    ("run", "passed"),
    [
        ({"rise": 2500}, True),
        ({"rise": 2501}, False),
        ({"rise": 4375}, True),
        ({"rise": 4380}, False),
        ({"rise": 980}, False),
        ({"rise": inf}, False),
        ({"rise": 2500, "final": 0.89}, False),
        ({"rise": 2500, "spikes": (2000, 4000)}, False),
        ({"rise": 2500, "memorized": 1501}, False),
        ({"rise": 2500, "spikes": ()}, False),
    ],
)
def test_rise_is_in_the_first_quarter_of_a_cycle(thilak, run, passed):
    """Cycles of 1000 and 2000 steps; the length of the last one is their mean, 1500. Before the first
    spike nothing counts, and neither does a network that does not grok."""
    assert finding(thilak, "07c", grokking(**run)).passed == passed


@pytest.mark.parametrize(
    ("test", "cycles", "large_eps", "passed"),
    [(0.9, 0, 0.5, True), (0.89, 0, 0.1, False), (0.9, 1, 0.1, False), (0.9, 0, 0.51, False)],
)
def test_a_large_epsilon_must_prevent_grokking(thilak, test, cycles, large_eps, passed):
    runs = (
        claim_run("cpu_transformer", {"test_accuracy": test}),
        claim_run("cpu_transformer_large_eps", {"cycles": cycles, "test_accuracy": large_eps}),
    )
    assert finding(thilak, "07c-absent", *runs).passed == passed


def test_small_transformer_differs_from_the_papers_in_size_and_length_alone(thilak):
    """The same table, width, batches and optimizer; one layer, and 7,449 of 9,312 divisions."""
    paper, small = (
        thilak.ex.full_config({"seed": 0}, (name,)) for name in ("paper", "cpu_transformer")
    )
    differing = {key for key in paper if paper[key] != small[key]}
    assert differing == {"train_fraction", "depth", "train_steps"}
    problem = thilak.ex.problem_of(small)
    assert len(problem.data["train_labels"]) == 7449


@pytest.mark.parametrize(("features", "passed"), [(4.9, True), (5.0, False)])
def test_logits_must_change_more_than_features_at_every_cycle(thilak, features, passed):
    """The largest value within one evaluation of a cycle counts, as for the peaks."""
    steps = list(range(0, 220, 20))
    logits = [20.0 if step == 60 else 5.0 if step == 160 else 1.0 for step in steps]
    of_features = [2.0 if step == 60 else features if step == 120 else 0.1 for step in steps]
    series = {"logit_change": (steps, logits), "representation_change": (steps, of_features)}
    run = claim_run("cpu", {"cycle_steps": [60, 140]}, series)
    outcome = finding(thilak, "07d-classifier", run)
    assert outcome.passed == passed
    assert outcome.measured == {"logits over features, at least": pytest.approx(5 / features)}
