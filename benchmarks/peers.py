"""What others do: a plain PyTorch loop, the same compiled by torch.compile, and JAX."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from grok.engine.problem import Problem
from grok.engine.threads import usable_cores
from grok.experiment.environment import cpu_model
from grok.paths import home
from grok.tensors import Tensors

BUSY = 0.3  # load average from which the machine is not idle


def print_machine() -> None:
    """Say on what is measured, and whether it is idle."""
    load_average = os.getloadavg()[0]
    if load_average > BUSY:
        print(f"warning: the machine is not idle (load {load_average:.1f}): compare ratios only")
    print(f"{cpu_model()}, {usable_cores()} cores, torch {torch.__version__}")


class PlainLoop:
    """A training loop as a paper's script would have it: autograd, torch.optim, one process.

    It trains the module of a problem with the problem's own loss, learning rate, and batches.

    Arguments:
        problem: what to train. Its module is trained in place.
        compiled: whether loss and metrics are compiled by torch.compile.
    """

    def __init__(self, problem: Problem, compiled: bool = False):
        group = problem.optimizer.groups[-1]
        kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}.get(
            problem.optimizer.kind, torch.optim.AdamW
        )
        options: dict[str, Any] = {"lr": group.lr, "weight_decay": group.weight_decay}
        if kind is not torch.optim.SGD:
            options |= {"betas": group.betas, "eps": group.eps}
        self.problem = problem
        self.optimizer = kind(problem.module.parameters(), **options)
        self.data = dict(problem.data)
        if problem.needs_rng:
            self.data["key"] = torch.tensor(0)
        self.loss: Callable[[Any, Tensors], Tensor] = (
            torch.compile(problem.loss, dynamic=False) if compiled else problem.loss
        )

    def steps(self, count: int) -> None:
        """Train for some steps."""
        problem, data = self.problem, self.data
        for _ in range(count):
            if problem.batch_size is not None:
                examples = len(problem.data[problem.minibatch_keys[0]])
                rows = torch.randint(examples, (problem.batch_size,))
                data = self.data | {key: self.data[key][rows] for key in problem.minibatch_keys}
            self.optimizer.zero_grad()
            self.loss(problem.module, data).backward()
            self.optimizer.step()


class JaxServer:
    """JAX in a process and a virtual environment of its own, measured by benchmarks/jax_server.py.

    threads: cores that the process may use.
    """

    def __init__(self, threads: int):
        cores = sorted(os.sched_getaffinity(0))[:threads]
        self.process = subprocess.Popen(
            [str(jax_python()), str(Path(__file__).with_name("jax_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.version = self._read()

    def rate(
        self,
        model: str,
        spec: dict[str, Any],
        replicas: int,
        steps: int,
        batch_size: int | None = None,
    ) -> float:
        """Replica-steps per second of a model of benchmarks/jax_server.py."""
        assert self.process.stdin is not None, "it is a pipe"
        request = {
            "model": model,
            "spec": spec,
            "replicas": replicas,
            "steps": steps,
            "batch_size": batch_size,
        }
        print(json.dumps(request), file=self.process.stdin, flush=True)
        return float(self._read())

    def close(self) -> None:
        """End the process."""
        self.process.communicate()

    def _read(self) -> str:
        assert self.process.stdout is not None, "it is a pipe"
        return self.process.stdout.readline().strip()


def jax_python() -> Path:
    """The Python of an environment with JAX, which is made if it is not there."""
    folder = home() / "bench" / "jax"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        print(f"installing JAX in {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "jax[cpu]"], check=True)
        (folder / "complete").touch()
    return python


def rate(steps: Callable[[int], Any], count: int) -> float:
    """Steps per second of `steps(count)`."""
    began = time.perf_counter()
    steps(count)
    return count / (time.perf_counter() - began)
