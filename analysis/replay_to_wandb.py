"""Stored runs to Weights & Biases: `python analysis/replay_to_wandb.py sweep=liu_figure5b`.

Online or offline as WANDB_MODE or an account says. A run goes there once only: one that was mirrored while
it ran, or replayed before, is left out (--again sends it under the same W&B id).
"""

import os
import sys
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.progress import track

from analysis import query
from grok.cli.options import SELECTION_HELP, runs_argument
from grok.experiment.wandb_mirror import PICTURES, Identity, Mirror, mode
from grok.store import connection as stores


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@click.option("--project", default="grok", show_default=True)
@click.option("--offline", is_flag=True, help="write W&B's offline files; `wandb sync` sends them")
@click.option("--again", is_flag=True, help="also runs that are there already")
def main(filters, project, offline, again) -> None:
    if offline:
        os.environ["WANDB_MODE"] = "offline"
    store = query.connect()
    numbers = [query.plain(run) for run in query.chosen(store, filters)["run"]]
    sent, there, failed = 0, 0, []
    quiet = not sys.stdout.isatty()
    for number in track(numbers, f"to W&B, {mode()}", disable=quiet, transient=True):
        run = stores.find_run(store.database, number)
        if run["status"] == "RUNNING" or (run["info"].get("wandb") and not again):
            there += 1
        elif replay(store, run, project):
            sent += 1
        else:
            failed.append(number)
    print(f"{sent} runs sent to W&B ({mode()}), {there} left out: there already, or still running")
    if failed:
        query.fail(f"W&B did not take {len(failed)} runs: {failed[:10]}")


def replay(store: stores.Store, run: dict, project: str) -> bool:
    """Send one run, and note in it where it went; False if W&B failed."""
    known = run["info"].get("wandb", {})
    project = known.get("project") or project
    identity = Identity(known.get("run") or id_of(run), project, known.get("sweep"))
    mirror = Mirror(identity, store.describe(), [run["experiment"]["name"], "replay"])
    mirror.started_event(
        run["experiment"], run["command"], run.get("host", {}), run["start_time"], run["config"],
        run.get("meta", {}), run["_id"],
    )  # fmt: skip
    logged = store.database.metrics.find(
        {"run_id": run["_id"]}, {"name": 1, "steps": 1, "values": 1}
    )
    mirror.log_metrics({one["name"]: one for one in logged}, {})
    for entry in run.get("artifacts", []):
        if Path(entry["name"]).suffix in PICTURES:
            with tempfile.NamedTemporaryFile(suffix=Path(entry["name"]).suffix) as file:
                file.write(stores.artifact(store.database, run["_id"], entry["name"]))
                file.flush()
                mirror.artifact_event(entry["name"], file.name)
    mirror.heartbeat_event(
        {}, "", None, run.get("result") if isinstance(run.get("result"), dict) else None
    )
    end = {"COMPLETED": mirror.completed_event, "FAILED": mirror.failed_event}.get(run["status"])
    if end:
        end(None, run.get("result"))
    else:
        mirror.interrupted_event(None, run["status"])
    mirror.thread.join()
    if mirror.has_told:
        return False
    link = {**mirror.link(), "replayed": datetime.now(UTC)}
    store.database.runs.update_one({"_id": run["_id"]}, {"$set": {"info.wandb": link}})
    return True


def id_of(run: dict) -> str:
    """The same eight letters for the same run, wherever and whenever it is replayed."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"{run['_id']} {run['start_time'].isoformat()}").hex[:8]


if __name__ == "__main__":
    main()
