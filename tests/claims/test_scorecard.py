"""The scorecard: findings are stored with runs and sweeps, and read from there."""

from datetime import UTC, datetime
from math import inf

import pytest
from rich.console import Console

from grok.claims import scorecard
from grok.claims.asked import unfinished
from grok.claims.model import Claim
from grok.claims.versions import version_of
from grok.experiment.experiment import load
from grok.paths import experiment_file
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress


def small_sweep(store, tmp_path, parameters: str, runs: int) -> LocalSweep:
    """A finished sweep of a file that is called doshi_cpu and has these parameters."""
    path = tmp_path / "doshi_cpu.yaml"
    path.write_text(
        "program: experiments/doshi.py\nmethod: grid\n"
        "command: ['${program}', with, '${args_no_hyphens}']\n"
        f"parameters: {{{parameters}}}\n"
    )
    sweep = LocalSweep.begin(files.read(path), store, None, None)
    sweep.run(SweepProgress(runs, runs))
    return sweep


def test_a_broken_run_fails_every_claim_it_is_checked_on(store):
    """Weight decay 0, 200 steps: nothing that Nanda et al. say of the recipe is true. What needs other
    runs, or steps that this one never reaches, is not said to have failed."""
    paper = load(experiment_file("nanda"))
    broken = {
        "p": 13,
        "width": 16,
        "mlp_width": 32,
        "train_fraction": 0.5,
        "weight_decay": 0.0,
        "train_steps": 200,
    }
    paper.preset("broken", "A network that cannot grok.", broken)
    paper.matching_named_configs = lambda config: frozenset({"cpu"})
    done = paper.run(named_configs=["broken"], config_updates={"seed": 0})
    kept = store.database.runs.find_one({"_id": done._id})["info"]["claims"]
    assert {one["claim"] for one in kept} == {f"03-C{n}" for n in (1, 2, 3, 4, 5, 8)}
    by_id = {one["claim"]: one for one in kept}
    assert not any(by_id[f"03-C{n}"]["passed"] for n in (1, 4))
    assert by_id["03-C1"]["measured"]["test 99 % at"] == inf


@pytest.fixture
def any_recipe(monkeypatch):
    """Sweeps smaller than those of the project's files are checked as these are."""
    monkeypatch.setattr(scorecard, "is_of_file", lambda sweep: True)


def test_a_sweep_is_checked_at_its_end(store, tmp_path, any_recipe):
    sweep = small_sweep(
        store, tmp_path, "preset: {values: [analytic, analytic_product]}, seed: {values: [0, 1]}", 4
    )
    paper = sweep.file.experiment
    found, seconds = scorecard.latest(store.database, paper)
    assert seconds > 0
    assert [f.passed for f in found["08c"]] == [True, True]
    assert found["08c"][0].measured["analytic accuracy 500"] == 1
    assert [f.why for f in found["08i"]] == ["needs a run with noisy"] * 2
    noisy = next(claim for claim in paper.claims if claim.id == "08i")
    verdicts = [*scorecard.history(paper, noisy, store.database).columns[5].cells]
    assert any(one.endswith("needs a run with noisy") for one in verdicts)
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


def test_a_sweep_with_a_dead_seed_is_not_a_pass(store, tmp_path, any_recipe):
    """Seeds are counted from what the sweep asked for, whether they ended or not. A run that diverged
    counts as one that failed: "it never generalizes" must not pass because the loss is NaN."""
    sweep = small_sweep(store, tmp_path, "preset: {value: analytic}, seed: {values: [0, 1, 2]}", 3)
    paper = sweep.file.experiment
    claims = {claim.id: claim for claim in paper.claims}

    def card(id: str) -> scorecard.Summary:
        scorecard.check_again(store.database, [paper])
        return scorecard.summary(claims[id], scorecard.latest(store.database, paper)[0][id])

    assert str(card("08c").verdict) == "passed" and card("08c").seeds == "3/3"
    wanted = {"meta.sweep.id": sweep.id, "config.seed": 1}
    before = store.database.runs.find_one(wanted)
    store.database.runs.update_one(wanted, {"$set": {"status": "FAILED", "result": None}})
    assert (card("08c").verdict.word, card("08c").seeds) == ("mostly", "2/3")
    assert "1 run has not finished" in card("08c").measured
    diverged = {"status": before["status"], "result": {**before["result"], "ended": "diverged"}}
    store.database.runs.update_one(wanted, {"$set": diverged})
    assert (card("08c").verdict.word, card("08c").seeds) == ("mostly", "2/3")
    assert "1 run has diverged" in card("08c").measured


def test_a_sweep_that_is_not_the_one_of_the_file_runs_no_claim(store, tmp_path):
    """A copy of a sweep file with fewer seeds, another recipe or other fixed values has its name. Its
    runs are not those that the claim is registered for."""
    sweep = small_sweep(store, tmp_path, "preset: {value: analytic}, seed: {values: [0]}", 1)
    paper = sweep.file.experiment
    claim = next(claim for claim in paper.claims if claim.id == "08c")
    card = scorecard.summary(claim, scorecard.latest(store.database, paper)[0]["08c"])
    assert (card.verdict.word, card.verdict.passed) == ("not run", 0)
    assert "the sweep differs from sweeps/doshi_cpu.yaml" in card.measured


def test_a_grid_that_was_cut_short_asked_for_all_its_points(store):
    """`--limit` must not take points out of the denominator: neither whole seeds, nor some of the
    runs that a claim compares within a seed. Two of six have no point here, and one has not finished."""
    paper = load(experiment_file("doshi"))
    presets = ["analytic", "analytic_product"]
    config = {
        "method": "grid",
        "command": ["${program}", "with", "width=7", "${args_no_hyphens}"],
        "parameters": {"preset": {"values": presets}, "seed": {"values": [0, 1, 2]}},
    }
    points = [{"preset": name, "seed": seed} for name in presets for seed in (0, 1, 2)][:4]
    sweep = {"_id": "doshi_cpu-cut", "name": "doshi_cpu", "config": config, "points": points}
    done = {"status": "COMPLETED", "result": {"ended": "limit"}}
    runs = [
        {"_id": f"cut{number}", "meta": {"sweep": {"id": sweep["_id"], "point": number}}, **done}
        for number in (0, 1, 2)
    ]
    store.database.runs.insert_many(runs)
    try:
        left = unfinished(store.database, paper, sweep)
        all_of_others = unfinished(store.database, paper, {**sweep, "map": {}})
    finally:
        store.database.runs.delete_many({"_id": {"$in": [run["_id"] for run in runs]}})
    asked = [(one.config["preset"], one.config["seed"]) for one in left]
    assert asked == [("analytic_product", 0), ("analytic_product", 1), ("analytic_product", 2)]
    assert all(one.config["width"] == 7 and one.config["p"] for one in left)
    assert len(all_of_others) == 1


def test_a_claim_that_is_stated_after_its_runs_is_marked(store, tmp_path, monkeypatch, any_recipe):
    """The version of a claim counts, not its name: a reworded claim is a new statement."""
    sweep = small_sweep(store, tmp_path, "preset: {value: analytic}, seed: {values: [910]}", 1)
    paper = sweep.file.experiment
    claim = next(claim for claim in paper.claims if claim.id == "08c")

    def card() -> scorecard.Summary:
        scorecard.check_again(store.database, [paper])
        return scorecard.summary(claim, scorecard.latest(store.database, paper)[0]["08c"])

    assert card().mark == ""  # registered in this repository before this test ran
    finding = scorecard.latest(store.database, paper)[0]["08c"][0]
    assert finding.version == version_of(paper, claim)
    trained = store.database.sweeps.find_one({"_id": sweep.id})["claims"]["runs"]
    assert trained["first"] is not None and len(trained["commits"]) == 1
    early = {"start_time": datetime(2020, 1, 1), "status": "FAILED", "result": None}
    store.database.runs.insert_one({"_id": "early", "meta": {"sweep": {"id": sweep.id}}, **early})
    assert card().mark == " (stated after)"  # a run that failed may have been seen too
    store.database.runs.delete_one({"_id": "early"})
    monkeypatch.setattr(scorecard, "version_of", lambda paper, claim: "reworded")
    changed = scorecard.latest(store.database, paper)[0]["08c"]
    assert scorecard.summary(claim, changed).verdict.word == "not run"
    assert "the claim has changed since" in scorecard.summary(claim, changed).measured
    assert card().mark == " (stated after)"
    (before,) = store.database.sweeps.find_one({"_id": sweep.id})["claims_before"]
    assert finding.version in {one["version"] for one in before["findings"]}
    shown = Console(width=250)
    with shown.capture() as captured:
        shown.print(scorecard.history(paper, claim, store.database))
    text = captured.get()
    assert finding.version in text and "reworded (present)" in text and "(stated after)" in text


def test_a_claim_that_was_changed_after_a_check_of_the_same_seeds_is_restated(
    store, tmp_path, monkeypatch, any_recipe
):
    """A recipe that is trained again with the same seeds gives the same numbers: a claim that was changed
    in between was stated with these in view, although it was registered before the new runs."""
    names = ("recently", "never checked", "the same")
    stated = dict.fromkeys(names, datetime.now(UTC))
    monkeypatch.setattr(scorecard.registry, "stated_at", lambda _, id, version: stated[version])
    version = "the same"
    monkeypatch.setattr(scorecard, "version_of", lambda paper, claim: version)

    def mark(seeds: str) -> str:
        parameters = f"preset: {{value: analytic}}, seed: {{values: {seeds}}}"
        paper = small_sweep(store, tmp_path, parameters, len(seeds.split(","))).file.experiment
        claim = next(claim for claim in paper.claims if claim.id == "08c")
        return scorecard.summary(claim, scorecard.latest(store.database, paper)[0]["08c"]).mark

    assert mark("[900]") == ""
    assert mark("[900]") == ""  # the same version, trained again
    version, stated["recently"] = "recently", datetime.now(UTC)
    assert mark("[900, 901]") == " (restated)"
    version = "never checked"
    assert mark("[902]") == ""


def test_what_replications_found_is_part_of_the_history(store):
    """Of a claim whose runs are not in this store, too: docs/verdicts.json holds every version that was
    checked, with its verdict, commit and date."""
    paper = load(experiment_file("power"))
    claim = next(claim for claim in paper.claims if claim.id == "01-C1")
    columns = scorecard.history(paper, claim, store.database).columns
    registered, verdicts = ([*columns[number].cells] for number in (1, 5))
    assert registered[0] == "before the registry"
    assert verdicts[0].startswith("passed (stated after), seeds 3/3")
    assert any(one.startswith("mostly (38% to 96%) (restated), seeds 4/5; ") for one in verdicts)
