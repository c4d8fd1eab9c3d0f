"""The scorecard: findings are stored with runs and sweeps, and read from there."""

from math import inf

from grok.claims import scorecard
from grok.claims.model import Claim
from grok.experiment.experiment import load
from grok.paths import experiment_file
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress


def test_a_broken_run_fails_every_claim_it_is_checked_on(store):
    """Weight decay 0, 200 steps: nothing that Nanda et al. say of the recipe is true."""
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
