"""Sweep agents as one Slurm array job, one task an agent."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grok.errors import UserError
from grok.paths import PROJECT, home, make_private_folder

TERM_BEFORE_LIMIT = 60  # seconds between Slurm's SIGTERM and the end of the time limit
PATIENCE = 10.0  # seconds for an answer of `squeue`
# Slurm's forms of a time: M, M:S, H:M:S, D-H, D-H:M and D-H:M:S, or without a limit.
TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}|UNLIMITED|INFINITE", re.ASCII | re.IGNORECASE)
PLAIN = re.compile(r"[\w./:,@%+=-]*")  # a value that sbatch reads as it is
EXTRA = re.compile(r"--[a-z][a-z-]*([= ].+)?")  # the value may have spaces


@dataclass(frozen=True)
class Request:
    """The resources that a sweep's agents get from Slurm.

    Attributes:
        agents: Number of tasks of the array.
        gpus: GPUs for each agent.
        time: Time limit, as Slurm writes it.
        batch: Points that one agent trains at once.
        workers: Processes of each agent, which share its GPUs; None to choose.
        extra: Further sbatch options, for example `--mem=8G`.

    Raises:
        UserError: A value would not be one option of sbatch's.
    """

    partition: str | None
    agents: int
    gpus: int
    time: str | None
    batch: int
    workers: int | None = None
    extra: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.partition is not None and not _is_word(self.partition):
            raise UserError(f"--partition {self.partition!r}: expected a name without spaces")
        if self.time is not None and not TIME.fullmatch(self.time):
            expected = "minutes, H:M:S, DAYS-H or DAYS-H:M:S, as 2:00:00"
            raise UserError(f"--time {self.time!r}: expected {expected}")
        for option in self.extra:
            if not EXTRA.fullmatch(option) or not option.isprintable():
                expected = "an option of sbatch that begins with --, as --mem=8G"
                raise UserError(f"--sbatch {option!r}: expected {expected}")


def script(request: Request, sweep: str) -> str:
    """The sbatch script: an array of agents that SIGTERM ends and preemption queues again.

    Raises:
        UserError: A folder or the sweep has a control character, a quote or a backslash in its name.
    """
    logs = str(log_folder()).replace("%", "%%")  # %A and %a are the task's numbers
    options = {
        "job-name": f"grok-{sweep.rpartition('/')[2]}",
        "partition": request.partition,
        "array": f"0-{request.agents - 1}",
        "gpus-per-task": request.gpus or None,
        "ntasks": 1,
        "time": request.time,
        "signal": f"B:TERM@{TERM_BEFORE_LIMIT}",
        "open-mode": "append",
        "output": f"{logs}/%A_%a.log",
        "chdir": str(PROJECT),
    }
    lines = ["#!/bin/bash"]
    lines += [
        f"#SBATCH --{key}={_quoted(str(value))}"
        for key, value in options.items()
        if value is not None
    ]
    lines += ["#SBATCH --requeue", *(f"#SBATCH {option}" for option in request.extra)]
    agent = [sys.executable, "-m", "grok.cli", "sweep", "agent", "--batch", str(request.batch)]
    if request.workers:
        agent += ["--workers", str(request.workers)]
    lines.append(f"exec {shlex.join([*agent, sweep])}")
    for line in lines:
        if not line.isprintable():
            raise UserError(f"{line!r}: expected a line without control characters")
    return "\n".join([*lines, ""])


def _quoted(value: str) -> str:
    """The value as one word of an #SBATCH line, where # begins a comment."""
    if PLAIN.fullmatch(value):
        return value
    if '"' in value or "\\" in value:
        raise UserError(f"{value!r}: Slurm takes no quote or backslash in a path or name")
    return f'"{value}"'


def _is_word(text: str) -> bool:
    """Whether it is one word of a line of the script, and no comment."""
    return text.isprintable() and text.split() == [text] and "#" not in text


def log_folder() -> Path:
    """The folder of the tasks' logs, `JOB_TASK.log` each."""
    return home() / "slurm"


def submit(request: Request, sweep: str, environment: dict[str, str]) -> str:
    """The id of the submitted job.

    Arguments:
        environment: Variables that the agents get besides the user's own. Secrets are passed here
            since Slurm stores the script.

    Raises:
        UserError: There is no Slurm, or it refuses the job.
    """
    if not shutil.which("sbatch"):
        raise UserError('no Slurm here (sbatch is not on PATH); "grok sweep agent" runs one agent')
    make_private_folder(log_folder())
    done = subprocess.run(
        ["sbatch", "--parsable", "--export=ALL"],
        input=script(request, sweep),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise UserError(f"sbatch refuses: {words[-1]}")
    return done.stdout.strip().partition(";")[0]


def tasks(jobs: Iterable[str]) -> list[tuple[str, str, str]]:
    """The tasks of the jobs that Slurm still knows, as (task, state, node or reason).

    Empty without Slurm, or if it does not answer.
    """
    jobs = list(jobs)
    if not jobs or not shutil.which("squeue"):
        return []
    command = ["squeue", "--noheader", "--array", "--format=%i %T %R", "--jobs", ",".join(jobs)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return []
    rows = (line.split(maxsplit=2) for line in done.stdout.splitlines())
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]
