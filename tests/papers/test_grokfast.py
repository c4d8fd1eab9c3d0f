"""Lee et al. 2024: the published network and filters, and the claims at their thresholds."""

from math import inf

import pytest
import torch

from grok.engine.spec import Grokfast, Stop
from grok.engine.train import train
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT
from tests.helpers import claim_run, finding


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "grokfast.py")


def problem(paper, *named_configs, **updates):
    return paper.ex.problem_of(paper.ex.full_config({"seed": 1, **updates}, named_configs))


def test_network_has_the_published_number_of_parameters(paper):
    """423 thousand, with biases in attention and MLP but not in the unembedding."""
    parameters = sum(p.numel() for p in problem(paper).module.parameters())
    assert round(parameters, -3) in (422_000, 423_000)


def test_labels_are_products_of_the_operands(paper):
    """Each sequence is a, o, b, =; the train half and the test half are all pairs, once each."""
    data, pairs = problem(paper, p=7, batch_size=None).data, []
    for part in ("train", "test"):
        tokens = torch.cat(
            [data["prefixes"][data[f"{part}_prefix_index"]], data[f"{part}_suffixes"]], 1
        )
        a, operator, b, equals = tokens.unbind(1)
        assert (operator == 7).all() and (equals == 8).all()
        assert (data[f"{part}_labels"][:, 0] == a * b % 7).all()
        pairs += list(zip(a.tolist(), b.tolist(), strict=True))
    assert len(data["train_labels"]) == 24
    assert sorted(pairs) == [(a, b) for a in range(7) for b in range(7)]


def test_filters_are_the_published_ones(paper):
    optimizers = {
        name: problem(paper, name).optimizer
        for name in ("cpu", "paper_window", "cpu_baseline", "cpu_decay_alone")
    }
    assert optimizers["cpu"].grokfast == Grokfast("ema", gain=2.0, alpha=0.98)
    window = optimizers["paper_window"].grokfast
    assert (window.kind, window.gain, window.window) == ("window", 5.0, 100)
    assert optimizers["cpu_baseline"].grokfast is None
    assert optimizers["cpu_decay_alone"].grokfast is None
    # the control has the weight decay of the filter's run, and Adam adds it to the gradient
    assert optimizers["cpu_decay_alone"].groups == optimizers["cpu"].groups
    assert optimizers["cpu"].kind == "adam" and optimizers["cpu"].groups[0].weight_decay == 0.005


def weights_after(paper, steps, **updates):
    options = {"p": 7, "width": 8, "heads": 2, "depth": 1, "batch_size": None, "warmup_steps": 0}
    options |= {"train_steps": steps, "dtype": "float64", **updates}
    *_, outcome = train([problem(paper, **options)], compiled=False)
    return torch.cat([values.flatten() for values in outcome.weights.values()])


def test_first_step_with_the_filter_is_the_one_without(paper):
    """The average starts at the first gradient g, so the step uses 3 g, and Adam divides by its
    length. From the second step on they differ."""
    options = {"grokfast": "ema", "eps": 1e-30}
    for steps, equal in ((1, True), (3, False)):
        plain = weights_after(paper, steps, eps=1e-30)
        filtered = weights_after(paper, steps, **options)
        assert torch.allclose(plain, filtered, rtol=0, atol=1e-9) == equal


def test_a_run_ends_when_it_has_grokked_unless_told_not_to(paper):
    assert problem(paper, p=7, batch_size=None).stop == Stop((("test_accuracy", 0.95),))
    assert problem(paper, p=7, batch_size=None, stop_when_grokked=False).stop is None


def run_that_groks_at(named_config, step):
    """A run whose test accuracy is 95 % from this step on; inf: never."""
    steps = [0, *([step, step + 1] if step < inf else [5000])]
    accuracies = [0.0, *([0.95, 0.95] if step < inf else [0.4])]
    return claim_run(named_config, series={"test_accuracy": (steps, accuracies)})


@pytest.mark.parametrize(
    ("filtered", "baseline", "passed"),
    [(2000, 4000, True), (2000, inf, True), (2001, inf, False), (1000, 1999, False)],
)
def test_filter_must_be_twice_as_fast_within_2000_steps(paper, filtered, baseline, passed):
    runs = run_that_groks_at("cpu", filtered), run_that_groks_at("cpu_baseline", baseline)
    outcome = finding(paper, "E1a", *runs)
    assert outcome.passed == passed
    assert (outcome.measured["95 % at"], outcome.measured["without"]) == (filtered, baseline)


@pytest.mark.parametrize(("decay_alone", "passed"), [(2000, True), (1999, False)])
def test_decay_alone_must_take_twice_the_steps(paper, decay_alone, passed):
    runs = run_that_groks_at("cpu", 1000), run_that_groks_at("cpu_decay_alone", decay_alone)
    assert finding(paper, "E1c", *runs).passed == passed


@pytest.mark.parametrize(("baseline", "passed"), [(20_000, True), (19_999, False), (inf, False)])
def test_published_speedup_needs_a_baseline_that_groks(paper, baseline, passed):
    runs = run_that_groks_at("paper_ema", 1000), run_that_groks_at("paper", baseline)
    assert finding(paper, "E1-paper", *runs).passed == passed
