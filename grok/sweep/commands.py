"""The command `grok sweep run`."""

from itertools import islice
from pathlib import Path

from rich.table import Table

from grok.console import Console
from grok.experiment.progress import duration
from grok.interrupts import exit_on_interrupt
from grok.store import connection as stores
from grok.sweep import file as files
from grok.sweep.local import LocalSweep, points_of
from grok.sweep.plan import estimate, plan, split
from grok.sweep.progress import SweepProgress
from grok.sweep.workers import choose_workers

SHOWN_POINTS = 10


def describe(
    path: Path,
    limit: int | None,
    seeds: int | None,
    slots: int | None,
    workers: int | None,
    resume: bool,
    sweep_id: str | None,
) -> None:
    """Print the points that `run` would train, their batches, and an upper bound of the time.

    Nothing is trained, and no sweep is stored.

    Arguments:
        path: The sweep file.
        limit: The largest number of points, or None for all.
        seeds: How many seeds each point runs with, or None for the file's own.
        slots: How many runs train at once, or None to choose.
        workers: How many processes train, or None to choose.
        resume: Describe what is left of a sweep instead of a new one.
        sweep_id: The sweep to resume; None for the latest of this file.
    """
    file = files.read(path)
    if resume:
        sweep = LocalSweep.resume(file, stores.mongo(), sweep_id, slots, workers)
        points, groups = sweep.pending(), sweep.groups
    else:
        points = dict(enumerate(points_of(file, limit or file.config.get("run_cap"), seeds)))
        groups = plan(file, points)
    if not points:
        is_bayes = file.config["method"] == "bayes"
        print("a Bayes search chooses its points while it runs" if is_bayes else "no runs to do")
        return
    screen = Console()
    table = Table("point", "config")
    for number, point in islice(points.items(), SHOWN_POINTS):
        table.add_row(str(number), "  ".join(f"{key}={value}" for key, value in point.items()))
    if len(points) > SHOWN_POINTS:
        table.add_row("...", f"{len(points)} points in all")
    screen.print(table)
    total = 0.0
    parts = split(groups, slots)
    count = min(workers or choose_workers(parts), len(parts))
    for part in parts:
        seconds = estimate(part)
        total += seconds
        screen.print(f"{len(part.runs)} runs, {part.slots} at once: at most {duration(seconds)}")
    processes = f" in {count} processes" if count > 1 else ""
    screen.print(
        f"together at most {duration(total / max(count, 1))}{processes}; "
        "early stopping may save some of it"
    )


def run(
    path: Path,
    limit: int | None,
    seeds: int | None,
    slots: int | None,
    workers: int | None,
    resume: bool,
    sweep_id: str | None,
) -> None:
    """Run or resume a sweep; prints its id first and a summary last.

    Arguments:
        path, limit, seeds, slots, workers, sweep_id: As in `describe`.
        resume: Continue a sweep instead of starting one.
    """
    file = files.read(path)
    store = stores.mongo()
    if resume:
        sweep = LocalSweep.resume(file, store, sweep_id, slots, workers)
    else:
        sweep = LocalSweep.begin(file, store, limit, seeds, slots, workers)
    planned = [run for group in sweep.groups for run in group]
    runs = len(planned) or sweep.document["limit"] or 0
    begun = sum(run.resume_point is not None for run in planned)
    from_checkpoints = f", {begun} of them from their checkpoints" if begun else ""
    where = store.describe()
    print(f"sweep {sweep.id}: {runs} runs to do{from_checkpoints}, in {where}", flush=True)
    total_steps = sum(run.problem.train_steps for run in planned)
    message = f'interrupted; "grok sweep run {path} --resume" continues'
    with exit_on_interrupt(message), SweepProgress(total_steps, runs) as progress:
        sweep.run(progress)
    if not progress.done:
        print(f"sweep {sweep.id} has no runs left to do")
        return
    endings = ", ".join(f"{count} {reason}" for reason, count in progress.outcomes.items())
    rate = progress.steps / max(progress.seconds, 1e-9)
    print(
        f"{progress.done} runs ({endings}) in {duration(progress.seconds)}: {progress.steps:,} "
        f"replica-steps, {rate:,.0f}/s; {progress.saved:,} saved by early stopping"
    )
