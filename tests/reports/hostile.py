"""Runs and a sweep whose every text is a script, for the tests of reports."""

from pymongo.database import Database

from benchmarks import synthetic

SCRIPT = "<script>hacked()</script><img src=x onerror=hacked()>\"'><svg onload=hacked()>${hacked()}"


def with_script(value: object) -> object:
    """A document with hostile text in the place of every text, and as a further key."""
    if isinstance(value, dict):
        changed = {key: with_script(item) for key, item in value.items()}
        return {**changed, SCRIPT.replace("$", ""): SCRIPT} if value else changed
    if isinstance(value, list):
        return [with_script(item) for item in value]
    return SCRIPT if isinstance(value, str) else value


def fill_hostile(database: Database) -> None:
    """Insert three runs and a sweep, with SCRIPT in the place of every text and as further keys."""
    synthetic.fill(database, 3, steps=6)
    for run in list(database.runs.find()):
        given = {
            "meta": {"sweep": {"id": "x"}, "named_configs": ["a"], "config_updates": {"p": "b"}}
        }
        given |= {
            "omniboard": {"tags": ["t"]},
            "info": {"claims": [{"claim": "c", "passed": True}]},
        }
        given["info"]["environment"] = {"torch": "2"}
        changed = with_script({**run, **given})
        if run["_id"] == 1:  # or it would not be drawn
            changed["result"]["phase"] = "grokking"
        database.runs.replace_one({"_id": run["_id"]}, changed)
    database.metrics.update_many({"name": "train_loss"}, {"$set": {"name": SCRIPT}})
    parameters = {"p": {"values": ["a", "b"]}, "decoder_lr": {"values": [1, 2]}}
    sweep = {"name": "s", "experiment": "e", "state": "f", "config": {"parameters": parameters}}
    created = {"_id": SCRIPT, "created": synthetic.datetime(2026, 1, 1)}
    database.sweeps.insert_one({**with_script({**sweep, "claims": {"findings": []}}), **created})
