"""Claims: when they have passed, and when not."""

from math import inf

import pytest

from grok.claims import checks
from grok.claims.model import Claim, Claims, Missing, Runs, evaluate, evaluate_sweep, has_passed
from grok.experiment.experiment import Experiment, load
from grok.paths import experiment_file
from tests.claims.runs import run


def claim(check, **fields) -> Claim:
    return Claim("01-C1", "it is so", check, "paper_cpu", **fields)


def test_a_claim_that_cannot_be_evaluated_has_not_passed():
    """A missing run or value, or an error in the check, says why and never passes a claim."""
    nothing = Runs([run()])
    for check, why in (
        (lambda runs: (runs.one("large")["x"] > 0, {}), "needs a run with large"),
        (lambda runs: (runs.one("cpu")["x"] > 0, {}), "needs x in the result"),
        (lambda runs: (runs.one("cpu").final("loss") < 1, {}), "needs the metric loss"),
        (lambda runs: (1 / 0 > 1, {}), "ZeroDivisionError: division by zero"),
    ):
        finding = evaluate(claim(check), nothing)
        assert not finding.passed and finding.why == why
    assert not has_passed([])


def test_two_of_three_seeds_are_enough():
    """A claim is evaluated seed by seed, and stands with two of three."""
    runs = Runs(run(seed, {"x": value}) for seed, value in enumerate((1, 5, 6)))
    at_least = claim(lambda runs: checks.within(runs, ("cpu", "x", 5, inf)))
    findings = evaluate_sweep([at_least], "paper_cpu", runs)
    assert [(f.seed, f.passed) for f in findings] == [(0, False), (1, True), (2, True)]
    assert findings[1].measured == {"cpu x": 5}
    assert has_passed(findings) and not has_passed(findings[:2])
    assert evaluate_sweep([at_least], "another_sweep", runs) == []


def test_a_pooled_claim_sees_all_seeds():
    runs = Runs(run(seed, {"x": float(seed)}) for seed in range(4))
    mean = claim(lambda runs: (True, {"mean": runs.mean("cpu", "x")}), pooled=True)
    assert evaluate_sweep([mean], "paper_cpu", runs)[0].measured == {"mean": 1.5}
    with pytest.raises(Missing, match="only one run"):
        runs.one("cpu")


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


def test_runs_of_a_named_config_come_by_seed():
    runs = Runs([run(2), run(0), run(1, named_configs=["large"])])
    assert [one.config["seed"] for one in runs.all("cpu")] == [0, 2]
    assert [one.config["seed"] for one in runs.all("cpu", "large")] == [0, 1, 2]
    with pytest.raises(Missing, match="small or tiny"):
        runs.all("small", "tiny")
    with pytest.raises(Missing, match="seed=7"):
        runs.where(seed=7)


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
