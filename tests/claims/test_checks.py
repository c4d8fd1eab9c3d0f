"""What the measurements of claims return, on runs made by hand."""

from math import inf

import pytest
import scipy.stats  # `statistics` imports it late; each process of `make mutants` would

from grok.claims import checks
from grok.claims.model import Missing, Run, Runs, Undecided
from tests.claims.runs import run


@pytest.mark.parametrize(
    ("value", "passes"), [(4.9, False), (5, True), (6.5, True), (8, True), (8.1, False)]
)
def test_within_has_both_bounds_and_includes_them(value, passes):
    """A value above the upper bound fails too: 17 claims are made of `within` alone."""
    runs = Runs([run(result={"x": value})])
    assert checks.within(runs, ("cpu", "x", 5, 8)) == (passes, {"cpu x": value})


def test_within_needs_every_entry_in_its_range():
    """One entry out of range is enough to fail, whatever the others are."""
    runs = Runs([run(result={"x": 1, "a_b": 2}), run(result={"x": 9}, named_configs=["large"])])
    good = ("cpu", "x", 0, 1), ("cpu", "a_b", 2, 2)
    assert checks.within(runs, *good) == (True, {"cpu x": 1, "cpu a b": 2})
    assert not checks.within(runs, *good, ("large", "x", 0, 8))[0]
    with pytest.raises(Missing, match="a run with small"):
        checks.within(runs, ("small", "x", 0, 1))


def test_steps_to_test_and_delays_are_held():
    """A single spike does not count."""
    spike = run(train_accuracy=[0, 1, 1, 1, 1], test_accuracy=[0, 0.96, 0.5, 0.96, 0.96])
    runs = Runs([spike])
    assert checks.steps_to_test(runs, "cpu") == {"cpu": 30}
    assert checks.delays(runs, "cpu", test=0.95) == {"cpu": 3}
    assert checks.steps_to_test(runs, "cpu", test=0.97) == {"cpu": inf}
    early = run(train_accuracy=[0.98, 0.99, 1], test_accuracy=[0.79, 0.79, 0.8])
    assert checks.delays(Runs([early]), "cpu") == {"cpu": 2}  # 80 % test and 99 % train accuracy


def test_a_delay_needs_both_accuracies():
    """A delay is a ratio of steps, and infinite if one of them never comes."""
    one = Run(
        {}, {}, {"train_accuracy": ([0, 10], [0.0, 1.0]), "test_accuracy": ([0, 100], [0.0, 0.5])}
    )
    assert one.first_crossing("train_accuracy", 0.9) == pytest.approx(9)
    assert checks.delay(one, train=0.5, test=0.25) == 10
    assert checks.delay(one, train=0.5, test=0.75) == inf
    assert checks.delay(run(train_accuracy=[0, 0], test_accuracy=[0, 1]), 0.5, 0.5) == inf


def reaching(step: float, budget: int = 1000) -> Run:
    """A run of `budget` steps that reaches its test set at a step, or never."""
    steps = [0, budget] if step == inf else [0, int(step)]
    return Run({"train_steps": budget}, {}, {"test_accuracy": (steps, [0.0, float(step < inf)])})


def test_a_run_is_slower_by_a_ratio_of_steps():
    """A run that never reaches the accuracy is slower if it had enough steps for the ratio."""
    assert checks.is_slower(reaching(500), reaching(100), 5)
    assert not checks.is_slower(reaching(499), reaching(100), 5)
    assert checks.is_slower(reaching(inf), reaching(200), 5)
    with pytest.raises(Undecided, match="more than 1000 steps"):
        checks.is_slower(reaching(inf), reaching(201), 5)
    assert not checks.is_slower(reaching(900), reaching(inf), 5)
    assert not checks.is_slower(reaching(inf), reaching(inf), 5)


def test_least_fractions_are_the_smallest_that_suffice():
    """An accuracy counts where it is held; a value of which no run reaches it gives inf."""

    def with_best(preset, fraction, *accuracies):
        series = {"test_accuracy": (list(range(len(accuracies))), list(accuracies))}
        return Run({"preset": preset, "train_fraction": fraction}, {}, series)

    runs = Runs(
        [
            with_best("decay", 0.7, 0.0, 1.0),
            with_best("decay", 0.5, 0.0, 0.96, 0.95),
            with_best("decay", 0.4, 0.0, 0.96, 0.1),
            with_best("decay", 0.3, 0.5, 0.94),
            with_best("none", 0.7, 0.0, 0.9),
            with_best("none", 0.5, 0.0, 0.2),
        ]
    )
    fractions = checks.least_fractions(runs, "preset", "decay", "none")
    assert fractions == {"preset decay": 0.5, "preset none": inf}
    assert checks.least_fractions(runs, "preset", "none", test=0.9) == {"preset none": 0.7}
    with pytest.raises(Missing, match="preset=noise"):
        checks.least_fractions(runs, "preset", "noise")


def test_a_median_counts_a_run_that_never_gets_there_as_the_longest():
    """Runs that do not generalize must not drop out of the median."""

    def reaching(fraction, step):
        steps = [0, 10**6] if step == inf else [0, step]
        series = {"test_accuracy": (steps, [0.0, float(step < inf)])}
        return Run({"train_fraction": fraction}, {}, series)

    runs = Runs(reaching(0.4, step) for step in (300, inf, 500))
    runs += [reaching(0.6, step) for step in (100, 300, inf)]
    medians = checks.median_steps(runs, "train_fraction", 0.4, 0.6)
    assert medians == {"train fraction 0.4": 500, "train fraction 0.6": 300}


def test_times_that_are_censored_are_compared_by_their_ranks():
    """Two of three runs never get there: the log-rank statistic has them at risk at every event.

    Events of the first at 10 (of 3 at risk in each), 20 (2 and 3); of the second at 30 (0 and 3). The
    first has 2 events where 10/20/30 expect 3/6 + 2/5 + 0; the variances are 1/4 and 6/25.
    """

    def reaching(key, step):
        steps = [0, step] if step < inf else [0, 100]
        series = {"test_accuracy": (steps, [0.0, float(step < inf)])}
        return Run({"key": key}, {}, series)

    runs = Runs(reaching("a", step) for step in (10, 20, 25))
    runs[2] = Run({"key": "a"}, {}, {"test_accuracy": ([0, 25], [0.0, 0.0])})
    runs += [reaching("b", step) for step in (30, inf, inf)]
    statistic = (2 - 0.9) / (0.25 + 0.24) ** 0.5
    assert checks.log_rank(runs, "key", "a", "a") == 1
    same = Runs(reaching(key, 10) for key in ("a", "a", "b", "b"))
    assert checks.log_rank(same, "key", "a", "b") == 1
    assert checks.log_rank(runs, "key", "a", "b") == pytest.approx(
        2 * scipy.stats.norm.sf(statistic)
    )


def test_a_correlation_is_of_ranks_of_runs_that_fit():
    """Spearman's coefficient of a monotone relation is -1 or 1; runs that do not fit are left out."""

    def ended(x, train):
        return Run({}, {"x": x, "y": -(x**3), "train_accuracy": train}, {})

    runs = Runs([ended(x, 1.0) for x in range(15)] + [ended(-x, 0.9) for x in range(5)])
    found = checks.rank_correlation(runs, "x", "y")
    assert found["correlation"] == pytest.approx(-1) and found["runs"] == 15
    assert -1 <= found["low"] <= found["high"] < -0.99
    shuffled = [3, 1, 4, 1.5, 9, 2, 6, 5, 3.5]
    unordered = Runs(
        Run({}, {"x": x, "y": y, "train_accuracy": 0.99}, {}) for x, y in enumerate(shuffled)
    )
    found = checks.rank_correlation(unordered, "x", "y")
    assert found["correlation"] == pytest.approx(0.4, abs=0.2)
    assert found["low"] < 0 < found["high"]
    assert checks.rank_correlation(unordered, "x", "y", level=0.5)["low"] > found["low"]
    with pytest.raises(Missing, match="four runs"):
        checks.rank_correlation(Runs(runs[:3]), "x", "y")
    assert checks.rank_correlation(Runs(runs[:4]), "x", "y")["runs"] == 4


def decaying(decay: float, memorized: int, generalized: float) -> Run:
    """A run that reaches its train set at one step and its test set at another, or never."""
    test = ([0, 1000, 10**6], [0.0, 0.0, 0.0])
    if generalized < inf:
        test = ([0, generalized], [0.0, 1.0])
    train = ([0, memorized, 10**6], [0.0, 1.0, 1.0])
    config = {"weight_decay": decay, "seed": 0, "dataset": "teacher"}
    return Run(config, {}, {"train_accuracy": train, "test_accuracy": test})


def test_the_weight_decay_law_is_a_power_a_spread_and_the_run_without_decay():
    """Steps proportional to 1 / weight decay give the power -1."""
    runs = Runs([decaying(d, 100, 1000 / d) for d in (1.0, 0.1, 0.3)] + [decaying(0.0, 100, inf)])
    law = checks.weight_decay_law(runs, 0.5, 0.5, dataset="teacher")
    assert law == {
        "power": pytest.approx(-1, abs=1e-4),  # steps are whole
        "to memorize, most / least": pytest.approx(1),
        "without decay": inf,
    }
    slower = Runs([*runs[:2], decaying(0.3, 150, 1000 / 0.3), decaying(0.0, 100, 10**5)])
    law = checks.weight_decay_law(slower, 0.5, 0.5)
    assert law["to memorize, most / least"] == pytest.approx(1.5)
    assert law["without decay"] == 10**5
    with pytest.raises(Missing, match="dataset=digits"):
        checks.weight_decay_law(runs, 0.5, 0.5, dataset="digits")


def test_the_spread_compares_the_best_run_of_each_value():
    """Runs that differ in other keys, such as the norm, compete within a value of the key."""

    def ended(messiness, norm, loss):
        config = {"messiness": messiness, "norm": norm}
        return Run(config, {}, {"test_loss": ([0, 9], [50.0, loss])})

    runs = Runs([ended(0, 1, 0.5), ended(0, 2, 0.1), ended(1, 1, 2.0), ended(1, 2, 7.0)])
    assert checks.spread_of_least(runs, "messiness", "test_loss") == pytest.approx(20)


def test_an_exponent_is_the_slope_in_logarithms():
    """3 x^2 at 1, 2 and 4."""
    assert checks.exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)
