"""A run's checkpoint, and the point from which the same Sacred run goes on."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sacred.observers.base import RunObserver

from grok.engine import checkpoint
from grok.engine.checkpoint import Checkpoint, CheckpointError
from grok.engine.events import Event, Record, Saved, Start, stacked
from grok.errors import UserError
from grok.store import lease, status
from grok.store.connection import Store

STATE, ARRAY = "state/", "array/"  # prefixes of the tensors in a checkpoint


@dataclass(frozen=True)
class ResumePoint:
    """Where a run that was cut short goes on.

    run: its stored document.
    saved: the state that it resumes from, None for the start.
    records: what had been recorded up to that state.
    seconds: how long the run had taken by then.
    program: that of the state, with the entries of `info.program`; None if it is not known.
    """

    run: dict[str, Any]
    saved: Saved | None
    records: list[Record]
    seconds: float
    program: Mapping[str, Any] | None = None

    @property
    def step(self) -> int:
        """The step from which the run goes on."""
        return self.saved.step if self.saved else 0

    def replayed(self, events: Iterable[Event]) -> Iterator[Event]:
        """The events of the resumed run, with the earlier records after its Start."""
        for event in events:
            yield event
            if isinstance(event, Start):
                yield from self.records


def write(
    path: Path,
    run: int | str,
    saved: Saved,
    records: list[Record],
    seconds: float,
    uid: str | None = None,
    program: Mapping[str, Any] | None = None,
) -> None:
    """Replace a run's checkpoint.

    Arguments:
        saved: the state of its replica.
        records: everything recorded so far.
        seconds: how long the run has taken.
        uid: the run's `uid`, as its id may be given away after a deletion; None for a run of a
            version without them.
        program: what trains it, with the entries of `info.program`. They are not in the store before
            the run's first heartbeat.
    """
    tensors = {STATE + name: tensor for name, tensor in saved.tensors.items()}
    tensors |= {ARRAY + name: torch.from_numpy(a) for name, a in stacked(records).items()}
    facts = {
        "run": run,
        "uid": uid,
        "step": saved.step,
        "met": saved.stop_streak,
        "seconds": seconds,
        "records": [[r.step, r.metrics, bool(r.arrays), r.burst_metrics] for r in records],
        "program": program,
    }
    checkpoint.write(path, Checkpoint(facts, tensors))


def load_resume_point(store: Store, run: dict[str, Any]) -> ResumePoint:
    """Where a stored run can go on; UserError if its checkpoint cannot be trusted."""
    path = store.checkpoint_path(run["_id"])
    if not path.exists():
        return ResumePoint(run, None, [], 0.0)
    content = checkpoint.read(path)
    facts = content.facts
    if not _are_facts(facts):
        raise CheckpointError(f"{path}: its facts are not those of a run")
    if facts["run"] != run["_id"]:
        raise UserError(f"{path}: of run {facts['run']}, not of run {run['_id']}")
    if facts.get("uid") != run.get("uid"):
        raise UserError(f"{path}: of a former run {run['_id']}, which has been deleted")
    state = checkpoint.below(content.tensors, STATE)
    recorded = checkpoint.below(content.tensors, ARRAY)
    count = sum(has_arrays for _, _, has_arrays, _ in facts["records"])
    if any(array.ndim == 0 or len(array) != count for array in recorded.values()):
        raise CheckpointError(f"{path}: its arrays are not those of its records")
    arrays = {name: iter(array.numpy()) for name, array in recorded.items()}
    records = [
        Record(
            0, step, metrics, {k: next(v) for k, v in arrays.items()} if has_arrays else {}, between
        )
        for step, metrics, has_arrays, between in facts["records"]
    ]
    saved = Saved(0, facts["step"], facts["met"], state)
    return ResumePoint(run, saved, records, facts["seconds"], facts.get("program"))


def _are_facts(facts: Mapping[str, Any]) -> bool:
    """Whether the facts of a checkpoint have the form that `write` gives them."""
    return (
        isinstance(facts.get("run"), int | str)
        and _is_count(facts.get("step"))
        and _is_count(facts.get("met"))
        and _is_number(facts.get("seconds"))
        and isinstance(facts.get("records"), list)
        and all(map(_is_record, facts["records"]))
        and (facts.get("program") is None or _is_program(facts["program"]))
    )


def _is_program(program: Any) -> bool:
    """Whether these are entries of `info.program`."""
    return (
        isinstance(program, dict)
        and _is_count(program.get("slot"))
        and _is_count(program.get("slots"))
        and program["slot"] < program["slots"]
        and isinstance(program.get("compiled"), bool)
        and isinstance(program.get("fused"), bool)
        and (program.get("threads") is None or _is_count(program["threads"]))
    )


def _is_record(record: Any) -> bool:
    """Whether this is [step, metrics, whether it has arrays, [[step, metrics], ...]]."""
    return (
        isinstance(record, list)
        and len(record) == 4
        and _is_measurement(record[:2])
        and isinstance(record[2], bool)
        and isinstance(record[3], list)
        and all(map(_is_measurement, record[3]))
    )


def _is_measurement(measurement: Any) -> bool:
    """Whether this is [step, metrics]."""
    return (
        isinstance(measurement, list)
        and len(measurement) == 2
        and _is_count(measurement[0])
        and isinstance(measurement[1], dict)
        and all(map(_is_number, measurement[1].values()))
    )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check_can_resume(store: Store, run: Mapping[str, Any]) -> None:
    """UserError if a run is complete, or still in progress."""
    number, runs = run["_id"], store.database.runs
    if run["status"] == "COMPLETED":
        raise UserError(f"run {number} is complete; `grok repeat {number}` runs it again")
    if lease.is_alive(store, runs, run):
        seconds = status.silence(runs, {"_id": number}).get(number, 0.0)
        raise UserError(f"run {number} is still running: its last heartbeat is {seconds:.0f} s old")


class CheckpointRemover(RunObserver):
    """Deletes a run's checkpoint once the run is complete, and recorded as that.

    Arguments:
        check: raises UserError if that could not be recorded.
    """

    def __init__(self, path: Path, check: Callable[[], None]):
        self.path, self.check = path, check

    def completed_event(self, stop_time: Any, result: Any) -> None:
        with contextlib.suppress(UserError):
            self.check()
            self.path.unlink(missing_ok=True)
