"""The command `grok sweep run`."""

import random
from itertools import islice
from pathlib import Path

from rich.table import Table

from grok.console import Console
from grok.experiment.progress import duration
from grok.interrupts import exit_on_interrupt
from grok.store import connection as stores
from grok.sweep import file as files
from grok.sweep import search
from grok.sweep.file import SweepFile
from grok.sweep.local import LocalSweep, find_to_resume, pending_points, points_of
from grok.sweep.plan import Part, estimate, plan, split
from grok.sweep.progress import SweepProgress
from grok.sweep.workers import choose_workers

SHOWN_POINTS = 10
SHOWN_PARTS = 10  # whose time is measured, in about a second each
MOST_PLANNED = 300  # points whose problems are made, in about 10 ms each


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

    Nothing is trained, and no sweep is stored. Of more than MOST_PLANNED points, so many are drawn
    at random and planned, and the time of all is estimated from theirs.

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
        store = stores.mongo()
        points = pending_points(store, find_to_resume(file, store, sweep_id))
        total = len(points)
    else:
        points, total = _new_points(file, limit or file.config.get("run_cap"), seeds)
    if not points:
        is_bayes = file.config["method"] == "bayes"
        print("a Bayes search chooses its points while it runs" if is_bayes else "no runs to do")
        return
    screen = Console()
    table = Table("point", "config")
    for number, point in islice(points.items(), SHOWN_POINTS):
        table.add_row(str(number), "  ".join(f"{key}={value}" for key, value in point.items()))
    if total > SHOWN_POINTS:
        table.add_row("...", f"{total} points in all")
    screen.print(table)
    planned = random.Random(0).sample(sorted(points), min(MOST_PLANNED, len(points)))
    parts = split(plan(file, {number: points[number] for number in sorted(planned)}), slots)
    repeats = total / len(planned)  # every planned point stands for so many
    if repeats > 1:
        screen.print(f"batches of {len(planned)} points that were drawn at random:")
    seconds, steps = 0.0, 0
    for part in parts[:SHOWN_PARTS]:
        seconds_of_part = estimate(part)
        seconds, steps = seconds + seconds_of_part, steps + _steps(part)
        runs = f"{len(part.runs)} runs, {part.slots} at once"
        screen.print(f"{runs}: at most {duration(seconds_of_part)}")
    if len(parts) > SHOWN_PARTS:
        screen.print(f"... {len(parts)} batches in all")
    seconds *= repeats * sum(map(_steps, parts)) / max(steps, 1)
    count = min(workers or choose_workers(parts * round(repeats)), len(parts))
    processes = f" in {count} processes" if count > 1 else ""
    bound = "at most" if repeats == 1 and len(parts) <= SHOWN_PARTS else "about"
    screen.print(
        f"together {bound} {duration(seconds / max(count, 1))}{processes}; "
        "early stopping may save some of it"
    )


def _new_points(
    file: SweepFile, limit: int | None, seeds: int | None
) -> tuple[dict[int, search.Point], int]:
    """The points of a new sweep by number, and how many it has.

    A random search takes a millisecond for a point, so only its first MOST_PLANNED are drawn.
    """
    if file.config["method"] == "random" and limit and limit > MOST_PLANNED:
        total = limit * (seeds or 1)
        search.check_count(total)
        points = points_of(file, MOST_PLANNED, seeds)
        search.check_size(points, total)
        return dict(enumerate(points)), total
    points = points_of(file, limit, seeds)
    return dict(enumerate(points)), len(points)


def _steps(part: Part) -> int:
    """How many steps the part takes at most, all its runs together."""
    return sum(run.problem.train_steps for run in part.runs)


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
