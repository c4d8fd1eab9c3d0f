"""Claims: when they have passed, and when not."""

from dataclasses import asdict, replace
from math import inf, nan

import numpy as np
import pytest

from grok.claims import checks, statistics
from grok.claims.model import (
    Claim,
    Claims,
    Finding,
    Missing,
    Run,
    Runs,
    Undecided,
    Verdict,
    evaluate,
    evaluate_sweep,
    judge,
    measured_numbers,
    run_of,
    unfinished_run,
)
from grok.experiment.experiment import Experiment, load
from grok.experiment.show import format_number
from grok.paths import experiment_file
from tests.claims.runs import run


def claim(check, **fields) -> Claim:
    return Claim("01-C1", "it is so", check, "paper_cpu", **fields)


def dead(seed: int, named_configs=("cpu",), has_diverged=False) -> Run:
    """A run that was asked for and has diverged or not finished."""
    paper = Experiment("paper", threshold=0.9, delay=1)
    paper.matching_named_configs = lambda config: frozenset(named_configs)
    return unfinished_run(paper, {"seed": seed}, has_diverged)


def test_a_claim_that_cannot_be_evaluated_has_not_passed():
    """A missing run or value, or an error in the check, says why and never passes a claim."""
    nothing = Runs([run()])
    for check, why in (
        (lambda runs: (runs.one("large")["x"] > 0, {}), "needs a run with large"),
        (lambda runs: (runs.one("cpu")["x"] > 0, {}), "needs x in the result"),
        (lambda runs: (runs.one("cpu").final("loss") < 1, {}), "needs the metric loss"),
        (lambda runs: (1 / 0 > 1, {}), "ZeroDivisionError: division by zero"),
    ):
        assert evaluate(claim(check), nothing) == Finding("01-C1", False, {}, why)
        assert evaluate(claim(check), nothing, 3) == Finding("01-C1", False, {}, why, 3)
    assert judge([]) == Verdict("not run", 0, 0, 0)


def test_a_run_stores_the_claims_that_it_decides_alone():
    """A claim on several runs has neither passed nor failed when one of them ends."""
    paper = Experiment("paper", threshold=0.9, delay=1)
    one = Claims(paper)
    one("a", "figure 1")(lambda runs: (runs.where(x=1)[0]["y"] > 0, {}))
    one("b", "figure 1")(lambda runs: (runs.where(x=2)[0]["y"] > 0, {}))
    one("c", "figure 1")(lambda runs: (runs.where(x=1)[0]["y"] > 2, {}))
    one.not_tried("d", "It is so.", "figure 1", "It takes a year.")
    (at_the_end,) = paper.finish_functions
    stored = at_the_end({"x": 1, "seed": 0}, {"y": 1.0}, {})["claims"]
    assert [(one["claim"], one["passed"]) for one in stored] == [("a", True), ("c", False)]
    assert at_the_end({"x": 1, "seed": 0}, {"y": 1.0, "ended": "diverged"}, {}) == {"claims": []}


def test_a_finding_is_stored_as_plain_numbers():
    """MongoDB and JSON have no numpy numbers: what a check measured becomes a float or a bool."""
    check = claim(lambda runs: (np.float64(2) > 1, {"a": np.float32(0.5), "b": 3}))
    found = evaluate(check, Runs([run()]), 7)
    assert found == Finding("01-C1", True, {"a": 0.5, "b": 3.0}, None, 7)
    assert type(found.passed) is bool
    assert [type(value) for value in found.measured.values()] == [float, float]


def test_only_all_seeds_are_a_pass():
    """A claim is evaluated seed by seed; two of three seeds are "mostly", with an interval."""
    runs = Runs(run(seed, {"x": value}) for seed, value in enumerate((1, 5, 6)))
    at_least = claim(lambda runs: checks.within(runs, ("cpu", "x", 5, inf)))
    findings = evaluate_sweep([at_least], "paper_cpu", runs)
    assert [(f.seed, f.passed) for f in findings] == [(0, False), (1, True), (2, True)]
    assert findings[1].measured == {"cpu x": 5}
    assert judge(findings) == Verdict("mostly", 3, 3, 2)
    assert judge(findings[1:]).word == "passed"
    assert judge(findings[:2]).word == judge(findings[:1]).word == "failed"
    assert str(judge(findings)) == "mostly (21% to 94%)"  # Wilson's interval of 2 of 3
    assert str(judge(findings[1:])) == "passed"
    assert evaluate_sweep([at_least], "another_sweep", runs) == []


def test_a_seed_that_failed_to_run_stays_in_the_denominator():
    """A sweep with one dead seed of three is not a pass, and the dead seed is counted."""
    runs = Runs(run(seed, {"x": 6.0}) for seed in (0, 2))
    at_least = claim(lambda runs: checks.within(runs, ("cpu", "x", 5, inf)))
    findings = evaluate_sweep([at_least], "paper_cpu", runs, [dead(1)])
    assert [(f.seed, f.passed, f.state) for f in findings] == [
        (0, True, "evaluated"),
        (1, False, "not run"),
        (2, True, "evaluated"),
    ]
    assert findings[1].why == "needs a run that has not finished; 1 run has not finished"
    assert judge(findings) == Verdict("mostly", 3, 2, 2)
    complete = evaluate_sweep([at_least], "paper_cpu", Runs([run(3)]), [dead(1)])
    assert [(f.seed, f.why, f.state) for f in complete] == [
        (1, "needs a run that has not finished; 1 run has not finished", "not run"),
        (3, "needs x in the result", "evaluated"),
    ]
    none = evaluate_sweep([at_least], "paper_cpu", Runs(), [dead(0), dead(1)])
    assert judge(none) == Verdict("not run", 2, 0, 0)


def test_a_run_that_has_diverged_was_run_and_counts_against_the_claim():
    """A recipe that diverges on all seeds has failed the claim: its runs are not still to be made."""
    at_least = claim(lambda runs: checks.within(runs, ("cpu", "x", 5, inf)))
    all_diverged = [dead(seed, has_diverged=True) for seed in (0, 1)]
    findings = evaluate_sweep([at_least], "paper_cpu", Runs(), all_diverged)
    assert judge(findings) == Verdict("failed", 2, 2, 0)
    assert findings[0].why == "needs a run that has diverged; 1 run has diverged"
    one_died = evaluate_sweep([at_least], "paper_cpu", Runs(), [*all_diverged, dead(2)])
    assert judge(one_died) == Verdict("failed", 3, 2, 0)
    pooled = replace(at_least, pooled=True)
    (finding,) = evaluate_sweep([pooled], "paper_cpu", Runs([run(0, {"x": 6.0})]), all_diverged)
    assert (finding.passed, finding.state) == (False, "evaluated")
    assert finding.why == "2 runs have diverged"


def test_a_run_that_a_claim_does_not_need_may_be_missing():
    """A seed's other runs do not decide a claim that has what it needs."""
    runs = Runs([run(0, {"x": 6.0})])
    at_least = claim(lambda runs: checks.within(runs, ("cpu", "x", 5, inf)))
    others = [dead(0, named_configs=["large"]) for _ in range(3)]
    (finding,) = evaluate_sweep([at_least], "paper_cpu", runs, others)
    assert finding.passed and finding.state == "evaluated"


def test_a_run_that_a_claim_compares_may_not_be_missing():
    """The least fraction of a recipe is not "never" because its run at that fraction died: a claim
    that reads all runs with a value of the configuration needs those that have not finished too."""

    def ended(fraction, decay, accuracy):
        config = {"seed": 0, "train_fraction": fraction, "weight_decay": decay}
        return Run(config, {}, {"test_accuracy": ([0, 10], [0.0, accuracy])}, frozenset({"cpu"}))

    def saves_data(runs):
        least = checks.least_fractions(runs, "weight_decay", 1.0, 0.0)
        return least["weight decay 1.0"] < least["weight decay 0.0"], least

    saves = claim(saves_data)
    runs = Runs([ended(0.3, 1.0, 1.0), ended(0.5, 0.0, 1.0)])
    assert evaluate(saves, runs, 0).passed
    died = replace(dead(0), config={**ended(0.3, 0.0, 1.0).config})
    (finding,) = evaluate_sweep([saves], "paper_cpu", runs, [died])
    assert (finding.passed, finding.state) == (False, "not run")


def test_nothing_can_be_read_of_a_run_that_has_not_finished():
    """Its configuration is known; a result or a metric is Missing, however it is asked for."""
    paper = Experiment("paper", threshold=0.9, delay=10)
    paper.matching_named_configs = lambda config: frozenset({"large"})
    left = unfinished_run(paper, {"seed": 3, "lr": 0.1})
    assert (left.config["lr"], left.named_configs) == (0.1, {"large"})
    for read in (
        lambda: left["steps"],
        lambda: left.final("loss"),
        lambda: left.result.get("steps", 0),
        lambda: "loss" in left.series,
        lambda: [*left.result],
        lambda: len(left.series),
    ):
        with pytest.raises(Missing, match="a run that has not finished"):
            read()


def test_a_pooled_claim_passes_only_on_all_runs():
    """A correlation over the runs that survived is not the one that was asked for."""
    runs = Runs([run(0, {"x": 6.0})])
    pooled = claim(lambda runs: checks.within(runs, ("cpu", "x", 5, inf)), pooled=True)
    (finding,) = evaluate_sweep([pooled], "paper_cpu", runs, [dead(0), dead(4)])
    assert (finding.passed, finding.state) == (False, "not run")
    assert finding.why == "2 runs have not finished"
    assert finding.measured == {"cpu x": 6}


def test_undecided_seeds_are_neither_passed_nor_failed():
    """A pair whose baseline never arrives says nothing; too many of them, and nothing is decided."""

    def check(runs):
        if runs[0]["x"] == 0:
            raise Undecided("the baseline never arrives")
        return runs[0]["x"] > 1, {}

    def verdict(*values):
        runs = Runs(run(seed, {"x": value}) for seed, value in enumerate(values))
        return judge(evaluate_sweep([claim(check)], "paper_cpu", runs))

    assert verdict(2, 2, 0) == Verdict("mostly", 3, 3, 2)
    assert verdict(2, 0, 1).word == verdict(0, 0, 0).word == "not decided"
    assert verdict(2, 1, 1).word == verdict(0, 1, 1).word == "failed"
    undecided = Finding("01-C1", False, {}, "the baseline never arrives", 4, "undecided")
    runs = Runs([run(4, {"x": 0})])
    assert evaluate(claim(check), runs, 4) == undecided
    assert evaluate_sweep([claim(check)], "paper_cpu", runs, [dead(4)]) == [undecided]


def test_numbers_are_shown_with_their_range_over_the_seeds():
    findings = [Finding("1", True, {"a": value, "b": 2.0}) for value in (3.0, 1.0, 8.0)]
    findings.append(Finding("1", False, {}, "needs a run"))
    assert measured_numbers(findings) == {"a": (3.0, 1.0, 8.0), "b": (2.0, 2.0, 2.0)}
    assert measured_numbers([]) == {}


def test_an_undefined_number_is_not_one_that_is_never_reached():
    """A power that cannot be fitted is NaN. As a median it would be shown like an infinite step, and
    the smallest and largest value would depend on the order of the seeds."""
    findings = [Finding("1", True, {"power": value, "b": nan}) for value in (nan, -1.0, -0.5, inf)]
    assert measured_numbers(findings) == {"power": (-0.5, -1.0, inf)}
    assert [format_number(value) for value in (nan, inf)] == ["undefined", "never"]


def test_claims_of_other_sweeps_are_left_out():
    """A paper's claims are checked on several sweeps; each sweep's end checks all of its own."""
    runs = Runs([run(1, {"x": 2.0}), run(0, {"x": 1.0})])

    def measured(runs):
        return True, {"x": runs[0]["x"]}

    claims = [
        Claim("1", "", measured, "other_cpu"),
        Claim("2", "", measured, "paper_cpu"),
        Claim("3", "", lambda runs: (len(runs) == 2, {}), "paper_cpu", pooled=True),
        Claim("4", "", measured, "paper_cpu"),
        Claim("5", "", measured, "other_cpu"),
    ]
    assert evaluate_sweep(claims, "paper_cpu", runs) == [
        Finding("2", True, {"x": 1.0}, None, 0),
        Finding("2", True, {"x": 2.0}, None, 1),
        Finding("3", True, {}),
        Finding("4", True, {"x": 1.0}, None, 0),
        Finding("4", True, {"x": 2.0}, None, 1),
    ]


def test_a_pooled_claim_sees_all_seeds():
    runs = Runs(run(seed, {"x": float(seed)}) for seed in range(4))
    mean = claim(lambda runs: (True, {"mean": runs.mean("cpu", "x")}), pooled=True)
    assert evaluate_sweep([mean], "paper_cpu", runs)[0].measured == {"mean": 1.5}
    for several in (runs, Runs(runs[:2])):
        with pytest.raises(Missing, match="only one run"):
            several.one("cpu")


def test_the_effect_of_a_pooled_claim_has_an_interval_over_the_seeds():
    """Runs of one seed are alike, so that the seed is what is left out: of the mean over three seeds with
    two equal runs each, the interval is Student's of three numbers, not the narrower one of six."""
    values = (1.0, 2.0, 3.0)
    runs = Runs(run(seed, {"x": x}) for seed, x in enumerate(values) for _ in range(2))
    mean = claim(
        lambda runs: (True, {"mean": runs.mean("cpu", "x"), "runs": len(runs)}),
        pooled=True,
        effects=("mean",),
    )
    (finding,) = evaluate_sweep([mean], "paper_cpu", runs)
    _, low, high = statistics.mean_interval(values)
    assert finding.intervals == {"mean": pytest.approx((low, high))}
    assert measured_numbers([finding]) == {
        "mean": (2, *finding.intervals["mean"]),
        "runs": (6, 6, 6),
    }


def test_an_effect_that_one_seed_alone_defines_has_no_interval():
    """Without the only run that generalizes there is no estimate, so that its spread is not known."""
    runs = Runs(run(seed, {"x": 1.0}, ["cpu"] if seed else ["other"]) for seed in range(3))
    needed = claim(lambda runs: (True, {"x": runs.one("other")["x"]}), pooled=True, effects=("x",))
    (finding,) = evaluate_sweep([needed], "paper_cpu", runs)
    assert finding.passed and finding.intervals == {}


def test_what_a_run_tells():
    """Each quantity of a run by its definition: held, last logged, half fallen, rate, peak."""
    one = run(
        train_accuracy=[0, 1, 1, 1],
        test_accuracy=[0, 0.99, 0.2, 0.99],
        loss=[1, 4, 1.9, 3],
        spiky=[1, 1, 50, 1],
    )
    assert one.steps_to_both(0.99) == (10, 30)  # not held at the next evaluation
    assert one.first_step_held("test_accuracy", 0.999) == inf
    assert (one.at("loss", 19), one.at("loss", 20), one.final("loss")) == (4, 1.9, 3)
    assert one.step_halved("loss") == 20
    assert run(loss=[4, 3, 2]).step_halved("loss") == inf  # half is not below half
    assert one.rates("loss", [0, 10, 30]) == [0.3, -0.05]
    with pytest.raises(Missing, match="all the phases"):
        one.rates("loss", [0, inf])
    assert one.peaks("spiky", [10, 30]).tolist() == [50, 50]


def test_a_peak_is_within_one_logged_step_and_relative_to_the_usual_size():
    """A spike two logged steps away is another one. Half is the median size; NaN is no number."""
    one = run(loss=[8, 0.5, -0.5, 0.5, 40, nan, 0.5, -0.5], zero=[0, 0, 0])
    assert one.peaks("loss", [0, 10, 20, 30, 50, 60]).tolist() == [16, 16, 1, 80, 80, 1]
    assert one.peaks("loss", [11]).tolist() == [1]  # between two steps, as of the later one
    assert one.peaks("zero", [10]).tolist() == [0]


def test_values_of_a_metric_are_floats():
    """A metric that was logged in whole numbers must not be divided, or compared to NaN, as such."""
    steps, values = run(errors=[3, 2, 0]).logged("errors")
    assert (steps.tolist(), values.tolist()) == ([0, 10, 20], [3.0, 2.0, 0.0])
    assert values.dtype == np.float64


def test_a_value_is_that_of_the_step_itself_or_of_the_last_one_before():
    """Before the first logged step there is none, and the first one stands for it."""
    one = run(loss=[4, 3, 2])
    assert [one.at("loss", step) for step in (-5, 0, 9, 10, 11, 20, 99)] == [4, 4, 4, 3, 3, 2, 2]


def test_runs_of_a_named_config_come_by_seed():
    runs = Runs([run(2), run(0), run(1, named_configs=["large"])])
    assert [one.config["seed"] for one in runs.all("cpu")] == [0, 2]
    assert [one.config["seed"] for one in runs.all("cpu", "large")] == [0, 1, 2]
    with pytest.raises(Missing, match="small or tiny"):
        runs.all("small", "tiny")
    with pytest.raises(Missing, match="seed=7"):
        runs.where(seed=7)


def test_a_run_without_a_seed_counts_as_of_seed_0():
    """Runs of papers whose data have no randomness may have none; the others stay in order."""
    without = [Run({"name": name}, {}, {}, frozenset({"cpu"})) for name in ("a", "b")]
    runs = Runs([run(2), without[0], run(0), without[1], run(1)])
    assert runs.all("cpu") == [without[0], run(0), without[1], run(1), run(2)]


def test_a_docstring_is_the_statement():
    """The scorecard shows the first paragraph of the check's docstring, and the source."""
    ex = Experiment("paper", threshold=0.9, delay=10)
    add = Claims(ex)

    @add("01-C1", source="figure 2")
    def first(runs):
        """It groks,
        and late.

        Something else.
        """
        return True, {}

    @add("01-C2", source="table 1", sweep="other", pooled=True, report_only=True)
    def second(runs):
        """Nothing."""
        return True, {}

    assert ex.claims == [
        Claim("01-C1", "It groks, and late (figure 2)", first, "paper_cpu"),
        Claim("01-C2", "Nothing (table 1)", second, "other", pooled=True, report_only=True),
    ]
    third = add("01-C3", source="section 3", control=True, fails_on={"p": 1})(
        lambda runs: (True, {})
    )
    assert ex.claims[2] == Claim(
        "01-C3", " (section 3)", third, "paper_cpu", control=True, fails_on={"p": 1}
    )
    add.not_tried("01-C4", "It is large", "figure 4", "It takes a year.")
    listed = ex.claims[3]
    assert (listed.id, listed.statement) == ("01-C4", "It is large (figure 4)")
    assert (listed.sweep, listed.not_tried) == ("", "It takes a year.")
    assert evaluate(listed, Runs()).why == "needs a check"


def test_a_run_is_stored_with_the_findings_of_the_claims_that_need_no_other_run():
    """At a run's end its claims are checked on it alone, with its named configs, result and curves."""
    ex = Experiment("paper", threshold=0.9, delay=10)
    ex.matching_named_configs = lambda config: frozenset({f"width_{config['width']}"})
    add = Claims(ex)

    @add("01-C1", source="figure 2")
    def first(runs):
        """The loss is low in the end."""
        only = runs.one("width_8")
        numbers = {"loss": only.final("loss"), "steps": only["steps"]}
        return numbers["loss"] < 1, {**numbers, "seed": only.config["seed"]}

    @add("01-C2", source="figure 3", pooled=True)
    def second(runs):
        """It needs all runs."""
        return True, {}

    (finish,) = ex.finish_functions
    config, result, series = {"width": 8, "seed": 4}, {"steps": 20}, {"loss": ([0, 9], [2.0, 0.5])}
    finding = Finding("01-C1", True, {"loss": 0.5, "steps": 20.0, "seed": 4.0})
    assert finish(config, result, series) == {"claims": [asdict(finding)]}
    seen = run_of(ex, config, result, series)
    assert seen == Run(config, result, series, frozenset({"width_8"}))


def test_a_named_config_is_recognized_by_its_values():
    """Stored runs are assigned to named configs by their configuration, whatever they were called."""
    ex = load(experiment_file("doshi"))
    config = ex.full_config({"seed": 5, "preset": "outlier"})
    assert ex.matching_named_configs(config) == {"outlier"}
    stored = {**config, "betas": [0.9, 0.98]}  # MongoDB has lists for tuples
    assert ex.matching_named_configs(stored) == {"outlier"}
    assert ex.matching_named_configs({**config, "lr": 1e-4}) == frozenset()
    older = {key: value for key, value in config.items() if key != "stablemax"}
    assert ex.matching_named_configs(older) == {"outlier"}  # stored before that key was added
    measured = {**config, "measures": ["norms"], "device": "cpu"}
    assert ex.matching_named_configs(measured) == {"outlier"}
