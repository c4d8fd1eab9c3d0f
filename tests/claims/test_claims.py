"""Claims: when they are passed, when not, where the verdict is kept."""

from math import inf

import pytest

from grok.claims import checks, scorecard
from grok.claims import model as claims
from grok.claims.model import Claim, Missing, Run, Runs, evaluate
from grok.experiment.experiment import load
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress
from tests.conftest import PROJECT


def run(seed=0, result=None, recipes=("cpu",), **series) -> Run:
    logged = {name: ([0, 10, 20, 30], values) for name, values in series.items()}
    return Run({"seed": seed}, result or {}, logged, frozenset(recipes))


def claim(check, **how) -> Claim:
    return Claim("01-C1", "it is so", check, "paper_cpu", **how)


def test_a_claim_that_cannot_be_evaluated_is_not_passed():
    nothing = Runs([run()])
    for check, why in (
        (lambda runs: (runs.one("large")["x"] > 0, {}), "needs a run with large"),
        (lambda runs: (runs.one("cpu")["x"] > 0, {}), "needs x in the result"),
        (lambda runs: (runs.one("cpu").final("loss") < 1, {}), "needs the metric loss"),
        (lambda runs: (1 / 0 > 1, {}), "ZeroDivisionError: division by zero"),
    ):
        finding = evaluate(claim(check), nothing)
        assert not finding.passed and finding.why == why
    assert not claims.has_passed([])


def test_two_of_three_seeds_are_enough():
    runs = Runs(run(seed, {"x": value}) for seed, value in enumerate((1, 5, 6)))
    at_least = checks.within(("cpu", "x", 5, inf))
    found = claims.evaluate_sweep([claim(at_least)], "paper_cpu", runs)
    assert [(f.seed, f.passed) for f in found] == [(0, False), (1, True), (2, True)]
    assert found[1].measured == {"cpu x": 5}
    assert claims.has_passed(found) and not claims.has_passed(found[:2])
    assert claims.evaluate_sweep([claim(at_least)], "another_sweep", runs) == []


def test_a_pooled_claim_sees_all_seeds():
    runs = Runs(run(seed, {"x": float(seed)}) for seed in range(4))
    mean = claim(lambda runs: (True, {"mean": runs.mean("cpu", "x")}), pooled=True)
    assert claims.evaluate_sweep([mean], "paper_cpu", runs)[0].measured == {"mean": 1.5}
    with pytest.raises(Missing, match="only one run"):
        runs.one("cpu")


def test_what_a_run_tells():
    one = run(
        train_accuracy=[0, 1, 1, 1], test_accuracy=[0, 0.99, 0.2, 0.99], loss=[1, 4, 1.9, 3],
        spiky=[1, 1, 50, 1],
    )  # fmt: skip
    assert one.steps_to_both(0.99) == (10, 30)  # not held at the next look
    assert one.first_step_held("test_accuracy", 0.999) == inf
    assert (one.at("loss", 19), one.at("loss", 20), one.final("loss")) == (4, 1.9, 3)
    assert one.half_fallen("loss") == 20
    assert one.rates("loss", [0, 10, 30]) == [0.3, -0.05]
    assert one.peaks("spiky", [10, 30]).tolist() == [50, 50]


def test_a_recipe_is_recognized_by_its_values():
    paper = load(PROJECT / "experiments" / "doshi.py")
    known = paper.full_config({"seed": 5, "preset": "outlier"})
    assert paper.matching_named_configs(known) == {"outlier"}
    assert paper.matching_named_configs({**known, "betas": [0.9, 0.98]}) == {
        "outlier"
    }  # as MongoDB has it
    assert paper.matching_named_configs({**known, "lr": 1e-4}) == frozenset()
    older = {key: value for key, value in known.items() if key != "stablemax"}
    assert paper.matching_named_configs(older) == {"outlier"}  # of before that key was
    assert paper.matching_named_configs({**known, "measures": ["norms"], "device": "cpu"}) == {
        "outlier"
    }


def test_a_broken_run_fails_every_claim_it_is_checked_on(store):
    """Weight decay 0, 200 steps: nothing that Nanda et al. say of the recipe is true."""
    paper = load(PROJECT / "experiments" / "nanda.py")
    paper.add_named_config("broken", {"p": 13, "width": 16, "mlp_width": 32, "train_fraction": 0.5,
                                      "weight_decay": 0.0, "train_steps": 200})  # fmt: skip
    paper.matching_named_configs = lambda config: frozenset({"cpu"})
    done = paper.run(named_configs=["broken"], config_updates={"seed": 0})
    kept = store.database.runs.find_one({"_id": done._id})["info"]["claims"]
    assert {one["claim"] for one in kept} == {f"03-C{n}" for n in range(1, 9)}
    by_id = {one["claim"]: one for one in kept}
    assert not any(by_id[f"03-C{n}"]["passed"] for n in (1, 4, 6, 7))
    assert by_id["03-C1"]["measured"]["test 99 % at"] == inf
    assert by_id["03-C7"]["why"] == "needs a run with cpu_no_decay"


def test_a_sweep_is_checked_at_its_end(store, tmp_path):
    path = tmp_path / "doshi_cpu.yaml"
    path.write_text(
        "program: experiments/doshi.py\nmethod: grid\n"
        "command: ['${program}', with, '${args_no_hyphens}']\n"
        "parameters: {preset: {values: [analytic, analytic_product]}, seed: {values: [0, 1]}}\n"
    )
    sweep = LocalSweep.begin(files.read(path), store, None, None)
    sweep.run(SweepProgress(4, 4))
    paper = sweep.file.experiment
    found, seconds = scorecard.latest(store.database, paper)
    assert seconds > 0
    assert [f.passed for f in found["08c"]] == [True, True]
    assert found["08c"][0].measured["analytic accuracy 500"] == 1
    assert [f.why for f in found["08i"]] == ["needs a run with noisy"] * 2
    table, complete = scorecard.scorecard([paper], store.database)
    assert table.row_count == len(paper.claims) and not complete
    paper.claims = [Claim("08c", "reworded, and now denied", lambda runs: (False, {}), "doshi_cpu")]
    scorecard.check_again(store.database, [paper])
    assert [f.passed for f in scorecard.latest(store.database, paper)[0]["08c"]] == [False, False]
    # a claim may be younger than the sweep that it is checked on
    store.database.sweeps.update_one({"_id": sweep.id}, {"$unset": {"claims": 1}})
    assert scorecard.latest(store.database, paper)[0]["08c"] == []
    scorecard.check_again(store.database, [paper])
    assert len(scorecard.latest(store.database, paper)[0]["08c"]) == 2


def decaying(decay: float, memorized: int, generalized: float) -> Run:
    """A run that reaches its train set at one step and its test set at another, or never."""
    steps = [0, memorized, 10**6]
    tests = ([0, 1000, 10**6], [0.0, 0.0, 0.0])
    if generalized < inf:
        tests = ([0, generalized], [0.0, 1.0])
    series = {"train_accuracy": (steps, [0.0, 1.0, 1.0]), "test_accuracy": tests}
    return Run({"weight_decay": decay, "seed": 0}, {}, series)


def test_decays_reads_the_power_and_the_spread():
    runs = Runs([decaying(d, 100, 1000 / d) for d in (1.0, 0.1, 0.3)] + [decaying(0.0, 100, inf)])
    passed, numbers = checks.decays(0.5, 0.5, -1.01, -0.99)(runs)
    assert passed and numbers["power"] == pytest.approx(-1)
    assert not checks.decays(0.5, 0.5, -0.9, -0.1)(runs)[0]
    slower = Runs([*runs[:2], decaying(0.3, 150, 1000 / 0.3), runs[3]])
    assert checks.decays(0.5, 0.5, -1.1, -0.9, spread=1.6)(slower)[0]
    assert not checks.decays(0.5, 0.5, -1.1, -0.9, spread=1.4)(slower)[0]
    ever = Runs([*runs[:3], decaying(0.0, 100, 10**5)])
    assert not checks.decays(0.5, 0.5, -1.1, -0.9)(ever)[0]


def test_dependences_compares_the_best_of_each_value():
    def ended(dataset, m, norm, loss):
        config = {"dataset": dataset, "m": m, "norm": norm}
        return Run(config, {}, {"test_loss": ([0, 9], [50.0, loss])})

    runs = Runs([
        ended("a", 0, 1, 0.5), ended("a", 0, 2, 0.1), ended("a", 1, 1, 2.0), ended("a", 1, 2, 7.0),
        ended("b", 0, 1, 0.3), ended("b", 1, 1, 0.6),
    ])  # fmt: skip
    passed, found = checks.dependences("m", "test_loss", a=(10, inf), b=(1, 3))(runs)
    assert passed and found == {"a": pytest.approx(20), "b": pytest.approx(2)}
    assert not checks.dependences("m", "test_loss", a=(10, inf), b=(1, 1.5))(runs)[0]


def test_fractions_are_the_smallest_that_ever_sufficed():
    def best(preset, fraction, *accuracies):
        series = {"test_accuracy": (list(range(len(accuracies))), list(accuracies))}
        return Run({"preset": preset, "train_fraction": fraction}, {}, series)

    runs = Runs([
        best("decay", 0.7, 0.0, 1.0), best("decay", 0.5, 0.0, 0.96, 0.1), best("decay", 0.3, 0.5, 0.94),
        best("none", 0.7, 0.0, 0.9), best("none", 0.5, 0.0, 0.2),
    ])  # fmt: skip
    less = checks.fractions(lambda decay, none: decay < none, "preset", "decay", "none")
    passed, found = less(runs)
    assert passed and found == {"preset decay": 0.5, "preset none": inf}
    lower = checks.fractions(lambda none: none == 0.7, "preset", "none", test=0.9)
    assert lower(runs)[0]
    with pytest.raises(Missing, match="preset=noise"):
        checks.fractions(lambda noise: True, "preset", "noise")(runs)


def test_medians_count_a_run_that_never_gets_there_as_the_longest():
    def reaching(fraction, step):
        steps = [0, 10**6] if step == inf else [0, step]
        series = {"test_accuracy": (steps, [0.0, float(step < inf)])}
        return Run({"train_fraction": fraction}, {}, series)

    runs = Runs(reaching(0.4, step) for step in (300, inf, 500))
    runs += [reaching(0.6, step) for step in (100, 300, inf)]
    check = checks.medians(lambda little, more: little > more, "train_fraction", 0.4, 0.6)
    passed, found = check(runs)
    assert passed and found == {"train fraction 0.4": 500, "train fraction 0.6": 300}


def test_a_correlation_is_of_ranks_and_needs_enough_runs_that_fit():
    def ended(x, train):
        return Run({}, {"x": x, "y": -(x**3), "train_accuracy": train}, {})

    runs = Runs([ended(x, 1.0) for x in range(15)] + [ended(-x, 0.9) for x in range(5)])
    passed, found = checks.correlation("x", "y", -1, -0.5)(runs)
    assert passed and found["rank correlation"] == pytest.approx(-1) and found["runs"] == 15
    assert not checks.correlation("x", "y", 0.5, 1)(runs)[0]
    assert not checks.correlation("x", "y", -1, -0.5)(Runs(runs[1:]))[0]


def test_a_crossing_is_between_logged_steps_and_a_delay_needs_both():
    run = Run(
        {}, {}, {"train_accuracy": ([0, 10], [0.0, 1.0]), "test_accuracy": ([0, 100], [0.0, 0.5])}
    )
    assert run.first_crossing("train_accuracy", 0.9) == pytest.approx(9)
    assert checks.delay(run, train=0.5, test=0.25) == pytest.approx(10)
    assert checks.delay(run, train=0.5, test=0.75) == inf
