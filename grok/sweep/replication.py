"""The command `grok replicate`: runs the sweeps on which the papers' claims are checked."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from math import inf
from pathlib import Path

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from grok.claims import verdicts
from grok.claims.scorecard import experiments, latest, scorecard, sweeps_of
from grok.engine.threads import usable_cores
from grok.errors import UserError
from grok.experiment.environment import commit
from grok.experiment.experiment import Experiment
from grok.experiment.progress import console, duration
from grok.experiment.show import wide_console
from grok.interrupts import exit_on_interrupt
from grok.paths import PROJECT
from grok.store import connection as stores
from grok.sweep import file as files
from grok.sweep.local import is_unchanged, latest_local_sweep

GROK = (sys.executable, "-m", "grok.cli")


def replicate(names: tuple[str, ...], resume: bool, jobs: int | None) -> bool:
    """Whether every claim has passed on most seeds, after all sweeps have run; prints the scorecard.

    If every sweep ran to its end, the verdicts are written to docs/verdicts.json, which the
    documentation is generated from.

    Arguments:
        names: The papers; all that have claims if empty.
        resume: Continue the latest sweep of each file, if there is one and the file is unchanged.
        jobs: How many papers run at once, each in its own process. None for one on each core, or
            one if there is a GPU.

    Raises:
        UserError: A paper is unknown.
    """
    wanted = [paper for paper in experiments(names) if names or paper.claims]
    store = stores.mongo()
    jobs = min(jobs or (1 if torch.cuda.is_available() else usable_cores()), len(wanted))
    longest_first = sorted(
        wanted, key=lambda paper: latest(store.database, paper)[1] or inf, reverse=True
    )
    started, version = time.perf_counter(), commit()
    with exit_on_interrupt('interrupted; "grok replicate --resume" continues'):
        has_finished = Replication(store, resume, jobs).run(longest_first)
    if has_finished and (PROJECT / "docs").is_dir():
        verdicts.update(PROJECT / "docs" / "verdicts.json", wanted, store.database, version)
    table, complete = scorecard(wanted, store.database)
    wide_console().print(table)
    papers = "1 paper" if len(wanted) == 1 else f"{len(wanted)} papers"
    print(f"{papers} in {duration(time.perf_counter() - started)}, {jobs} at once")
    return has_finished and complete


class Replication:
    """Runs papers' sweeps, each as a process `grok sweep run`.

    The sweeps of one paper run one after another, since a run may start from a run of an earlier
    sweep.

    Arguments:
        store: Where the sweeps are stored.
        resume: Continue the latest sweep of each file, if there is one and the file is unchanged.
        jobs: How many papers run at once.
    """

    def __init__(self, store: stores.Store, resume: bool, jobs: int):
        self.store, self.resume, self.jobs = store, resume, jobs
        self.environment = dict(os.environ)
        self.options: list[str] = []
        if jobs > 1:
            self.environment.setdefault("OMP_NUM_THREADS", "1")
            self.options = ["--workers", str(max(1, usable_cores() // jobs))]
            self.environment["GROK_CONSOLE"] = "silent"  # only its result, when a sweep has ended
        self.loading = threading.Lock()  # two threads cannot load experiments at the same time
        self.running: dict[str, subprocess.Popen] = {}
        self.is_over = False
        screen = console()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=screen,
            disable=jobs == 1 or not screen.is_terminal,  # alone a sweep shows its own
        )

    def run(self, papers: list[Experiment]) -> bool:
        """Whether every sweep ran to its end. An exception here ends the sweeps with SIGTERM."""
        total = sum(len(sweeps_of(paper)) for paper in papers)
        self.task = self.bar.add_task("sweeps", total=total)
        with self.bar, ThreadPoolExecutor(self.jobs) as pool:
            try:
                futures = [pool.submit(self._run_paper, paper) for paper in papers]
                return all([future.result() for future in as_completed(futures)])
            finally:
                self.is_over = True
                for process in list(self.running.values()):
                    process.terminate()

    def _run_paper(self, experiment: Experiment) -> bool:
        return all([self._run_sweep(name) for name in sweeps_of(experiment)])

    def _run_sweep(self, name: str) -> bool:
        """Whether the sweep of this file ran to its end."""
        if self.is_over:
            return False
        path = PROJECT / "sweeps" / f"{name}.yaml"
        resumed = self._sweep_to_resume(path) if self.resume else None
        options = [*self.options, *(["--id", resumed] if resumed else [])]
        is_captured = self.jobs > 1  # shown when the process has ended
        process = subprocess.Popen(
            [*GROK, "sweep", "run", path, *options],
            env=self.environment,
            text=True,
            process_group=0,  # Ctrl-C reaches this process alone, which then ends the others
            stdout=subprocess.PIPE if is_captured else None,
            stderr=subprocess.STDOUT if is_captured else None,
        )
        self.running[name] = process
        self.bar.update(self.task, description=", ".join([*self.running]))
        if self.is_over:
            process.terminate()
        output = process.communicate()[0]
        del self.running[name]
        if output:
            self.bar.console.print(output.strip(), highlight=False, soft_wrap=True)
        self.bar.advance(self.task)
        return process.returncode == 0

    def _sweep_to_resume(self, path: Path) -> str | None:
        """The id of the latest sweep of a file, unless the file has changed since it began."""
        stored = latest_local_sweep(self.store, path.stem)
        if stored is None:
            return None
        with self.loading, suppress(UserError):  # a wrong file: `grok sweep run` says what is wrong
            if is_unchanged(files.read(path), stored):
                return stored["_id"]
            said = f"{path.stem} has changed since sweep {stored['_id']} began: a new sweep begins"
            self.bar.console.print(said, highlight=False, soft_wrap=True)
        return None
