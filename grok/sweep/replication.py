"""What `grok replicate` does: the sweeps that papers' claims are checked on, several papers at once."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from math import inf

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from grok.claims.scorecard import duration, latest, named, scorecard, sweeps_of
from grok.experiment.experiment import Experiment
from grok.experiment.progress import console
from grok.experiment.show import wide_console
from grok.interrupts import exit_code, raise_on_signals
from grok.paths import PROJECT
from grok.store import connection as stores

CORES = len(os.sched_getaffinity(0))
GROK = sys.executable, "-m", "grok.cli"


def replicate(names: tuple[str, ...], resume: bool, jobs: int | None) -> bool:
    """Run the sweeps that the named papers' claims (all papers' if none are) are checked on, print the
    scorecard, and return whether every claim that counts has passed. UserError for an unknown paper.

    jobs: papers at once, each in its own processes; None: one a core, or one on a GPU.
    """
    wanted = [paper for paper in named(names) if names or paper.claims]
    store = stores.mongo()
    jobs = min(jobs or (1 if torch.cuda.is_available() else CORES), len(wanted))
    longest_first = sorted(
        wanted, key=lambda paper: latest(store.database, paper)[1] or inf, reverse=True
    )
    raise_on_signals()
    started = time.perf_counter()
    try:
        whole = Replication(store, resume, jobs).run(longest_first)
    except KeyboardInterrupt as error:
        print('interrupted; "grok replicate --resume" goes on', file=sys.stderr)
        sys.exit(exit_code(error))
    table, complete = scorecard(wanted, store.database)
    wide_console().print(table)
    print(f"{len(wanted)} papers in {duration(time.perf_counter() - started)}, {jobs} at once")
    return whole and complete


class Replication:
    """Papers' sweeps, each a `grok sweep run` of its own; those of one paper one after another, since
    they may take up each other's runs."""

    def __init__(self, store: stores.Store, resume: bool, jobs: int):
        self.store, self.resume, self.jobs = store, resume, jobs
        threads = max(1, CORES // jobs)
        # what the user has set stays
        self.environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
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
        """Whether every sweep came to its end. Whatever ends this ends the sweeps as SIGTERM does."""
        self.task = self.bar.add_task("sweeps", total=sum(len(sweeps_of(one)) for one in papers))
        with self.bar, ThreadPoolExecutor(self.jobs) as pool:
            try:
                ends = [pool.submit(self._paper, paper) for paper in papers]
                return all([end.result() for end in as_completed(ends)])
            finally:
                self.is_over = True
                for process in list(self.running.values()):
                    process.terminate()

    def _paper(self, experiment: Experiment) -> bool:
        return all([self._sweep(name) for name in sweeps_of(experiment)])

    def _sweep(self, name: str) -> bool:
        if self.is_over:
            return False
        known = self.resume and stores.find_sweep(self.store.database, name)
        on = ["--id", known["_id"]] if known else []
        command = [*GROK, "sweep", "run", PROJECT / "sweeps" / f"{name}.yaml", *on]
        apart = {} if self.jobs == 1 else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        # a group of its own: Ctrl-C comes here alone, and is handed on once
        process = subprocess.Popen(
            command, env=self.environment, text=True, process_group=0, **apart
        )
        self.running[name] = process
        self.bar.update(self.task, description=", ".join([*self.running]))
        if self.is_over:
            process.terminate()
        said = process.communicate()[0]
        del self.running[name]
        if said:
            self.bar.console.print(said.strip(), highlight=False, soft_wrap=True)
        self.bar.advance(self.task)
        return process.returncode == 0
