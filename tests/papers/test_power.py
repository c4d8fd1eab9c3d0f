"""Power et al. 2022: the data, the network, and each claim at its threshold."""

from dataclasses import replace
from math import inf

import pytest
import torch

from grok.claims.model import Runs, evaluate
from grok.claims.testing import claim_run, finding
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def power():
    return load_module(PROJECT / "experiments" / "power.py")


TO_INIT, DIFFERENCE = "difference_adamw_to_init", "difference_adam"


def problem_of(power, named_config="cpu", **updates):
    return power.ex.problem_of(power.ex.full_config({"seed": 0, **updates}, (named_config,)))


def test_split_and_blocks_are_of_the_published_size(power):
    """Half of 97 * 96 divisions are 4,656; the two blocks have 394,240 parameters (about 4e5)."""
    problem = problem_of(power, "paper")
    assert len(problem.data["train_labels"]) == len(problem.data["test_labels"]) == 4656
    blocks = problem.module.get_submodule("blocks")
    assert sum(p.numel() for p in blocks.parameters()) == 394_240
    assert not any("bias" in n and "norm" not in n for n, _ in problem.module.named_parameters())


def test_division_undoes_multiplication(power):
    """Tokens are E a o b =; of division, label * b = a modulo p."""
    problem, p = problem_of(power, "division", p=13, batch_size=None), 13
    data = problem.data
    prefixes = data["prefixes"][data["train_prefix_index"]]
    tokens = torch.cat([prefixes, data["train_suffixes"]], 1)
    end, a, operator, b, equals = tokens.unbind(1)
    assert torch.equal(data["train_labels"][:, 0] * b % p, a)
    constants = [column.unique().tolist() for column in (end, operator, equals)]
    assert constants == [[p], [p + 1], [p + 2]]


@pytest.mark.parametrize(("asked", "batch_size"), [(512, 12), (5, 5), (None, None)])
def test_a_batch_is_at_most_half_of_the_train_set(power, asked, batch_size):
    """7^2 pairs, half of which are 24 train rows."""
    assert problem_of(power, p=7, batch_size=asked).batch_size == batch_size


def test_curves_of_figure_2_differ_in_one_thing_at_both_scales(power):
    """Each small_X changes `small` as paper_X changes the paper's S_5."""
    config = power.ex.full_config
    small, paper = config({"seed": 0}, ("small",)), config({"seed": 0}, ("paper_adamw",))
    assert paper["operation"] == "s5" and paper["train_steps"] == 100_000
    names = [n.removeprefix("small_") for n in power.ex.named_configs if n.startswith("small_")]
    assert len(names) == 9
    for name in names:
        changes = []
        for base, prefix in ((small, "small"), (paper, "paper")):
            full = config({"seed": 0}, (f"{prefix}_{name}",))
            changes.append({key: full[key] for key in full if full[key] != base[key]})
        assert changes[0] == changes[1]
        assert changes[0].get("weight_decay", 1.0) == (1.0 if "adamw" in name else 0.0)


@pytest.mark.parametrize(
    ("memorized", "ratio", "at_2000", "passed"),
    [
        (400, 8.0, 0.49, True),
        (401, 8.0, 0.49, False),
        (400, 7.9, 0.49, False),
        (400, 8.0, 0.5, False),
    ],
)
def test_generalizes_eight_times_as_late(power, memorized, ratio, at_2000, passed):
    series = {"test_accuracy": ([0, 1990, 2010], [0.0, at_2000, 1.0])}
    run = claim_run("small", {"steps_to_train": memorized, "delay_ratio": ratio}, series)
    assert finding(power, "01-C1", run).passed == passed


def reaching(step: float, best: float = 1.0, **config):
    """A run whose test accuracy is `best` from a step on."""
    logged = 100 if step == inf else step
    values = [0.0, 0.0, 0.0] if step == inf else [0.0, best, best]
    series = {
        "test_accuracy": ([0, logged, logged + 20], values),
        "train_accuracy": ([0, 20], [0.0, 1.0]),
    }
    return claim_run("small", series=series, **config)


@pytest.mark.parametrize(
    ("steps", "passed"),
    [
        ((4000, 3000, 2000, 1000), True),
        ((3900, 3000, 2000, 1000), False),  # less than twice as many at 40 % as at 60 %
        ((8000, 3000, 2000, 2000), False),  # no fewer at 70 % than at 60 %
    ],
)
def test_less_data_takes_more_steps(power, steps, passed):
    runs = [
        reaching(step, train_fraction=fraction, train_steps=8000)
        for fraction, step in zip((0.4, 0.5, 0.6, 0.7), steps, strict=True)
    ]
    assert finding(power, "01-C2", *runs * 3).passed == passed
    assert not finding(power, "01-C2", *runs).passed  # one seed tells nothing


@pytest.mark.parametrize(("train_steps", "state"), [(7999, "undecided"), (8000, "evaluated")])
def test_runs_that_are_too_short_do_not_decide_how_much_longer_less_data_takes(
    power, train_steps, state
):
    """A run that has not generalized by its last step would otherwise count as infinitely slow."""
    runs = [
        reaching(step, train_fraction=fraction, train_steps=train_steps)
        for fraction, step in zip((0.4, 0.5, 0.6, 0.7), (inf, 5000, 4000, 3000), strict=True)
    ]
    (claim,) = (one for one in power.claim if one.id == "01-C2")
    assert evaluate(claim, Runs(runs * 3)).state == state


def with_least_fraction(key: str, least: dict) -> list:
    """Runs at three train fractions for each value of a key, generalizing from one of them on."""
    return [
        reaching(500 if fraction >= at_least else inf, **{key: value, "train_fraction": fraction})
        for value, at_least in least.items()
        for fraction in (0.4, 0.8, 0.9)
    ]


@pytest.mark.parametrize(
    ("claim", "key", "least", "passed"),
    [
        ("01-C3", "preset", {"small_adamw": 0.4, "small_adam": 0.8}, True),
        ("01-C3", "preset", {"small_adamw": 0.8, "small_adam": 0.9}, False),
        ("01-C3", "preset", {"small_adamw": inf, "small_adam": inf}, False),
        ("01-C3", "preset", {"small_adamw": inf, "small_adam": 0.8}, False),
        ("01-C3-init", "preset", {TO_INIT: 0.8, DIFFERENCE: 0.9}, True),
        ("01-C3-init", "preset", {TO_INIT: 0.8, DIFFERENCE: inf}, True),
        ("01-C3-init", "preset", {TO_INIT: 0.8, DIFFERENCE: 0.8}, False),
        ("01-C3-init", "preset", {TO_INIT: inf, DIFFERENCE: 0.8}, False),
        ("01-C4", "operation", {"x_plus_y": 0.4, "x_minus_y": 0.8}, True),
        ("01-C4", "operation", {"x_plus_y": 0.8, "x_minus_y": 0.8}, False),
        ("01-C4", "operation", {"x_plus_y": 0.8, "x_minus_y": 0.4}, False),
        ("01-C4", "operation", {"x_plus_y": 0.4, "x_minus_y": inf}, False),
        ("01-C5", "noisy_answers", {0: 0.4, 58: 0.4, 173: inf}, True),
        ("01-C5", "noisy_answers", {0: 0.4, 58: 0.8, 173: inf}, False),
        ("01-C5", "noisy_answers", {0: 0.4, 58: 0.4, 173: 0.4}, False),
    ],
)
def test_claims_on_the_data_that_is_needed(power, claim, key, least, passed):
    outcome = finding(power, claim, *with_least_fraction(key, least))
    assert outcome.passed == passed
    assert [*outcome.measured.values()][: len(least)] == list(least.values())


@pytest.mark.parametrize(
    ("claim", "least"),
    [
        ("01-C3", {"small_adamw": 0.9, "small_adam": inf}),
        ("01-C3-init", {TO_INIT: 0.4, DIFFERENCE: 0.4}),
        ("01-C3-init", {TO_INIT: inf, DIFFERENCE: inf}),
    ],
)
def test_a_sweep_without_a_difference_decides_nothing(power, claim, least):
    """A baseline that never arrives would let any fraction pass."""
    (chosen,) = (each for each in power.claim if each.id == claim)
    outcome = evaluate(chosen, Runs(with_least_fraction("preset", least)))
    assert outcome.state == "undecided" and not outcome.passed


def test_random_labels_must_all_be_memorized(power):
    runs = with_least_fraction("noisy_answers", {0: 0.4, 58: 0.4, 173: inf})
    unfitted = replace(runs[-1], series={**runs[-1].series, "train_accuracy": ([0, 9], [0, 0.99])})
    assert not finding(power, "01-C5", *runs[:-1], unfitted).passed


@pytest.mark.parametrize(
    ("train", "best", "passed"), [(0.99, 0.29, True), (0.99, 0.3, False), (0.98, 0.29, False)]
)
def test_what_is_never_learned_is_memorized_and_stays_below_30_percent(power, train, best, passed):
    """At no evaluation step, and by a network that has fitted its train set."""
    run = claim_run(
        "small",
        series={
            "train_accuracy": ([0, 10, 20], [0.0, train, train]),
            "test_accuracy": ([0, 10, 20], [0.0, best, 0.0]),
        },
        operation="x3_plus_xy2_plus_y",
    )
    assert finding(power, "01-C4-never", run).passed == passed


def runs_of_figure_7(entry: str, count: int = 15, falls: bool = True, train_accuracy=1.0) -> Runs:
    """Runs whose test accuracy falls, or rises, with an entry of the result."""
    sign = -1 if falls else 1
    return Runs(
        claim_run(
            "small",
            {entry: float(i), "test_accuracy": sign * i / 20, "train_accuracy": train_accuracy},
            seed=i,
        )
        for i in range(count)
    )


@pytest.mark.parametrize(
    ("claim", "entry"),
    [
        ("01-C6", "sharpness"),
        ("01-C6-published", "published_sharpness"),
        ("01-C6-adaptive", "adaptive_sharpness"),
        ("01-C6-hessian", "top_eigenvalue"),
    ],
)
def test_sharper_is_worse(power, claim, entry):
    outcome = finding(power, claim, *runs_of_figure_7(entry))
    assert outcome.passed and outcome.measured["correlation"] == pytest.approx(-1)
    assert not finding(power, claim, *runs_of_figure_7(entry, count=14)).passed
    assert not finding(power, claim, *runs_of_figure_7(entry, falls=False)).passed
    unfitted = runs_of_figure_7(entry, train_accuracy=0.98)
    outcome = finding(power, claim, *runs_of_figure_7(entry, count=14), *unfitted)
    assert not outcome.passed and outcome.measured["runs"] == 14  # the others are left out


def test_a_correlation_that_may_be_chance_does_not_pass(power):
    """Of 15 runs, at a level of 98.75 %, an interval around -0.679 is below 0, around -0.571 not.

    From a falling order, exchanging the runs i and j adds (j - i)^2 / 280 to the correlation.
    """
    outcomes = []
    for swaps in ([(1, 10), (3, 6)], [(1, 10), (3, 6), (7, 12), (8, 9), (11, 13)]):
        accuracies = [1 - i / 20 for i in range(15)]
        for i, j in swaps:
            accuracies[i], accuracies[j] = accuracies[j], accuracies[i]
        runs = [
            claim_run(
                "small",
                {"sharpness": float(i), "test_accuracy": accuracy, "train_accuracy": 1.0},
                seed=i,
            )
            for i, accuracy in enumerate(accuracies)
        ]
        outcomes.append(finding(power, "01-C6", *runs))
    passing, chance = outcomes
    assert passing.passed and passing.measured["correlation"] == pytest.approx(-190 / 280)
    assert passing.measured["high"] < 0
    assert not chance.passed and chance.measured["correlation"] == pytest.approx(-160 / 280)
    assert chance.measured["low"] < -0.8 and chance.measured["high"] > 0


@pytest.mark.parametrize(("gain", "passed"), [(3.0, True), (2.9, False)])
def test_numbers_lie_on_a_circle(power, gain, passed):
    assert finding(power, "01-C7", claim_run("cpu", {"circle_gain": gain})).passed == passed
