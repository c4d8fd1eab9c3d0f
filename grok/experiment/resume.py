"""A run's checkpoint, and going on from it as the same Sacred run."""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sacred.observers.base import RunObserver

from grok.engine import checkpoint
from grok.engine.checkpoint import Checkpoint, CheckpointError
from grok.engine.events import Event, Record, Saved, Start, stacked
from grok.errors import UserError
from grok.store import journal as spool
from grok.store import status

STATE, ARRAY = "state/", "array/"


@dataclass(frozen=True)
class Past:
    """What a run has behind it. run: its stored document. saved: the state that it goes on from,
    None for the start. records: what had been recorded until then. seconds: how long that took."""

    run: dict[str, Any]
    saved: Saved | None
    records: list[Record]
    seconds: float

    def replayed(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events of the resumed run, the old records after its Start."""
        for event in events:
            yield event
            if isinstance(event, Start):
                yield from self.records


def keep(path: Path, run: int | str, saved: Saved, records: list[Record], seconds: float) -> None:
    """Write a run's checkpoint in place of the one before."""
    tensors = {STATE + name: tensor for name, tensor in saved.tensors.items()}
    tensors |= {ARRAY + name: torch.from_numpy(a) for name, a in stacked(records).items()}
    facts = {
        "run": run,
        "step": saved.step,
        "met": saved.stop_streak,
        "seconds": seconds,
        "records": [[r.step, r.metrics, bool(r.arrays), r.burst_metrics] for r in records],
    }
    checkpoint.write(path, Checkpoint(facts, tensors))


def past_of(store, run: dict[str, Any]) -> Past:
    """What a stored run can go on from; UserError if its checkpoint cannot be trusted."""
    path = store.checkpoint_path(run["_id"])
    if not path.exists():
        return Past(run, None, [], 0.0)
    try:
        found = checkpoint.read(path)
    except CheckpointError as error:
        raise UserError(str(error)) from error
    facts = found.facts
    if facts["run"] != run["_id"]:
        raise UserError(f"{path}: of run {facts['run']}, not of run {run['_id']}")
    state = checkpoint.below(found.tensors, STATE)
    arrays = {k: iter(v.numpy()) for k, v in checkpoint.below(found.tensors, ARRAY).items()}
    records = [
        Record(
            0, step, metrics, {k: next(v) for k, v in arrays.items()} if pictured else {}, between
        )
        for step, metrics, pictured, between in facts["records"]
    ]
    saved = Saved(0, facts["step"], facts["met"], state)
    return Past(run, saved, records, facts["seconds"])


def check_ended(store, run: dict[str, Any]) -> None:
    """UserError if a run is complete, or alive."""
    number = run["_id"]
    if run["status"] == "COMPLETED":
        raise UserError(f"run {number} is complete; `grok repeat {number}` runs it again")
    if run["status"] != "RUNNING":
        return
    here = run["host"].get("hostname") == platform.node()
    seconds = status.heartbeat_age(run)
    if spool.is_written(store, number) or (not here and seconds < status.DEAD_AFTER):
        raise UserError(f"run {number} was heard of {seconds:.0f} s ago: it is alive")


class Discarder(RunObserver):
    """Deletes a run's checkpoint once the store has taken its end."""

    def __init__(self, path: Path):
        self.path = path

    def completed_event(self, stop_time, result) -> None:
        self.path.unlink(missing_ok=True)
