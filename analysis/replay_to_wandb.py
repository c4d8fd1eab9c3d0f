"""Send stored runs to Weights & Biases.

`python analysis/replay_to_wandb.py sweep=liu_figure5b`

Whether W&B is used online or offline depends on WANDB_MODE and on the account. A run that was
mirrored while it ran, or was replayed before, is left out; --again sends it under the same W&B id.
"""

import os
import sys
import tempfile
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.progress import track

from grok.analysis import query
from grok.cli.options import SELECTION_HELP, mongo_option, runs_argument
from grok.errors import UserError
from grok.experiment.wandb_mirror import PICTURES, Identity, Mirror, mode
from grok.store import connection
from grok.store.connection import Store
from grok.store.documents import find_metrics

ID_LENGTH = 8  # of a run's id at W&B
SHOWN_FAILURES = 10  # ids of runs in an error message


@click.command(help=__doc__, epilog=SELECTION_HELP)
@runs_argument
@mongo_option
@click.option("--project", default="grok", show_default=True, help="Project at W&B.")
@click.option("--offline", is_flag=True, help="Write offline files, for `wandb sync` to send.")
@click.option("--again", is_flag=True, help="Also send runs that are at W&B already.")
def main(filters: tuple[str, ...], project: str, offline: bool, again: bool) -> None:
    if offline:
        os.environ["WANDB_MODE"] = "offline"
    store = query.connect()
    run_ids = [query.mongo_id(run_id) for run_id in query.selected_runs(store, filters)["run"]]
    sent, skipped, failed = 0, 0, []
    is_quiet = not sys.stdout.isatty()
    for run_id in track(run_ids, f"to W&B, {mode()}", disable=is_quiet, transient=True):
        run = connection.find_run(store.database, run_id)
        info = run.get("info") or {}
        if run.get("status") == "RUNNING" or (info.get("wandb") and not again):
            skipped += 1
        elif not can_be_replayed(run):
            print(f"left out: run {run_id} is no run of Sacred's", file=sys.stderr)
            skipped += 1
        elif replay(store, run, project):
            sent += 1
        else:
            failed.append(run_id)
    print(
        f"{sent} runs sent to W&B ({mode()}), {skipped} left out: there already, or still running"
    )
    if failed:
        raise UserError(f"W&B did not take {len(failed)} runs: {failed[:SHOWN_FAILURES]}")


def can_be_replayed(run: dict[str, Any]) -> bool:
    """Whether a run's document has what Sacred gives every run."""
    return all(run.get(key) for key in ("experiment", "start_time", "command", "config"))


def replay(store: Store, run: dict[str, Any], project: str) -> bool:
    """Whether W&B has taken a run. If so, the run's document gets a link to it.

    Arguments:
        run: the run's document.
        project: the project at W&B of a run that has not been sent before.
    """
    previous_link = (run.get("info") or {}).get("wandb", {})
    identity = Identity(
        previous_link.get("run") or wandb_id(run),
        previous_link.get("project") or project,
        previous_link.get("sweep"),
    )
    mirror = Mirror(identity, store.describe(), [run["experiment"]["name"], "replay"])
    mirror.started_event(
        run["experiment"],
        run["command"],
        run.get("host", {}),
        run["start_time"],
        run["config"],
        run.get("meta", {}),
        run["_id"],
    )
    metrics = find_metrics(store.database.metrics, {"run_id": run["_id"]})
    mirror.log_metrics({metric["name"]: metric for metric in metrics}, {})
    send_pictures(store, run, mirror)
    result = run.get("result")
    mirror.heartbeat_event({}, "", None, result if isinstance(result, dict) else None)
    if run["status"] == "COMPLETED":
        mirror.completed_event(None, result)
    elif run["status"] == "FAILED":
        mirror.failed_event(None, result)
    else:
        mirror.interrupted_event(None, run["status"])
    mirror.thread.join()
    if mirror.has_warned:
        return False
    link = {**mirror.link(), "replayed": datetime.now(UTC)}
    store.database.runs.update_one({"_id": run["_id"]}, {"$set": {"info.wandb": link}})
    return True


def send_pictures(store: Store, run: dict[str, Any], mirror: Mirror) -> None:
    """Send the pictures among a run's artifacts."""
    for entry in run.get("artifacts", []):
        suffix = Path(entry["name"]).suffix
        if suffix in PICTURES:
            with tempfile.NamedTemporaryFile(suffix=suffix) as file:
                file.write(connection.artifact(store.database, run["_id"], entry["name"]))
                file.flush()
                mirror.artifact_event(entry["name"], file.name)


def wandb_id(run: dict[str, Any]) -> str:
    """A run's id at W&B, which is the same wherever and whenever it is replayed."""
    name = f"{run['_id']} {run['start_time'].isoformat()}"
    return uuid.uuid5(uuid.NAMESPACE_OID, name).hex[:ID_LENGTH]


if __name__ == "__main__":
    main()
