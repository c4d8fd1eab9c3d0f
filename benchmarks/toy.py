"""Speed of the Liu toy: ours beside a textbook loop and JAX, and the limits of the hardware.

Each row is printed as soon as it is measured; its programs take turns, and each shows its best turn.
The textbook loop is a plain module, torch.optim and one process; "t. compiled" is the same with the
module compiled by torch.compile. "fused" and "compiled" are ways of our engine, R replicas as one
program. JAX is `jit(lax.scan(vmap(step)))` in an environment of its own, which is made at the first
call. The textbook loops and ours evaluate at every hundredth step, as often as `liu_toy with cpu`
on average; JAX never does. Compiling is not counted. With several threads, the last column compares
"fused" with itself on one thread.
"""

import time
from collections.abc import Callable
from functools import cache

import click
import torch
from torch import nn

from benchmarks import limits
from benchmarks.peers import JaxServer, print_machine
from grok.engine.events import Record
from grok.engine.problem import Problem
from grok.engine.threads import usable_cores
from grok.engine.train import train
from grok.experiment.experiment import Experiment, load
from grok.objectives.losses import nearest
from grok.paths import PROJECT

CONFIG = {
    "variant": "table",
    "train_count": 45,
    "symbol_rep_dim": 30,
    "decoder_lr": 1e-4,
    "optimizer": "adamw",
}
WEIGHTS = 200 + 200 * 200 + 200 * 30
FLOPS = 3 * 2 * 45 * WEIGHTS  # of one replica-step: forward, and twice that backward
# The products of a step, (rows, inner, columns): both large layers forward, and twice backward.
PRODUCTS = [
    (45, 200, 200),
    (45, 200, 30),
    (45, 30, 200),
    (45, 200, 200),
    (200, 45, 200),
    (30, 45, 200),
]
REPLICAS = (1, 4, 8, 16, 32)
EVALUATED_EVERY = 100  # steps
PROGRAMS = ("textbook", "t. compiled", "compiled", "fused", "JAX")
ONE_THREAD = "fused on one thread"


@click.command(help=__doc__)
@click.option(
    "--steps", default=2000, show_default=True, help="steps timed for each row, shared by R"
)
@click.option("--repeats", default=3, show_default=True, help="turns of each program")
def main(steps: int, repeats: int) -> None:
    paper = load(PROJECT / "experiments" / "liu_toy.py")
    print_machine()
    for threads in sorted({1, usable_cores()}):
        torch.set_num_threads(threads)
        torch.compiler.reset()  # programs of another number of threads would be compiled again and again
        textbook_model.cache_clear()
        jax = JaxServer(threads)
        print(f"\n{threads} thread{'s' * (threads > 1)}, JAX {jax.version}; replica-steps/s")
        print(f"{'dtype':8} {'R':>3}", *(f"{name:>11}" for name in PROGRAMS), end="")
        print(
            f" {'of JAX':>8} {'of textbook':>12} {'of products':>12} {'of registers':>13}", end=""
        )
        print(f" {'of one thread':>14}" if threads > 1 else "")
        for dtype in ("float32", "float64"):
            products = limits.products(getattr(torch, dtype), PRODUCTS)
            registers = limits.registers(getattr(torch, dtype)) * threads
            for count in REPLICAS:
                rates = measure(
                    paper, dtype, count, max(steps // count, 200), repeats, threads, jax
                )
                best, gflops = rates["fused"], rates["fused"] * FLOPS / 1e9
                print(
                    f"{dtype:8} {count:3}", *(f"{rates[name]:11,.0f}" for name in PROGRAMS), end=""
                )
                print(f" {best / rates['JAX']:7.2f}x {best / rates['textbook']:11.1f}x", end="")
                print(f" {gflops / products:11.0%} {gflops / registers:12.0%}", end="")
                print(f" {best / rates[ONE_THREAD]:13.2f}x" if threads > 1 else "", flush=True)
        jax.close()


def measure(
    paper: Experiment,
    dtype: str,
    count: int,
    steps: int,
    repeats: int,
    threads: int,
    jax: JaxServer,
) -> dict[str, float]:
    """Replica-steps per second of each program, and of "fused" on one thread, the best of `repeats` turns."""

    def problems() -> list[Problem]:
        return [problem(paper, dtype, seed, steps) for seed in range(count)]

    rates = dict.fromkeys((*PROGRAMS, ONE_THREAD), 0.0)
    for _ in range(repeats):
        torch.set_num_threads(threads)  # which our engine changes
        turn = {
            "textbook": textbook(problem(paper, dtype, 0, max(steps, 400))),
            "t. compiled": textbook(problem(paper, dtype, 0, max(steps, 400)), compiled=True),
            "compiled": ours(problems(), threads, fused=False),
            "fused": ours(problems(), threads, fused=True),
            ONE_THREAD: ours(problems(), 1, fused=True) if threads > 1 else 0.0,
            "JAX": jax.rate("toy", {"dtype": dtype}, count, steps),
        }
        rates = {name: max(rate, turn[name]) for name, rate in rates.items()}
    return rates


def problem(paper: Experiment, dtype: str, seed: int, steps: int) -> Problem:
    """The toy, evaluated at every hundredth step."""
    made = paper.problem_of(
        {**paper.defaults(), **CONFIG, "dtype": dtype, "seed": seed, "train_steps": steps}
    )
    made.log_steps = list(range(0, steps + 1, EVALUATED_EVERY))
    return made


class Textbook(nn.Module):
    """The toy as a paper's script would write it."""

    def __init__(self, dtype: torch.dtype):
        super().__init__()
        self.table = nn.Parameter(torch.rand(10, 1, dtype=dtype) - 0.5)
        self.decoder = nn.Sequential(
            nn.Linear(1, 200, dtype=dtype),
            nn.Tanh(),
            nn.Linear(200, 200, dtype=dtype),
            nn.Tanh(),
            nn.Linear(200, 30, dtype=dtype),
        )

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.table[pairs[:, 0]] + self.table[pairs[:, 1]])


@cache
def textbook_model(
    dtype: torch.dtype, compiled: bool
) -> tuple[Textbook, Callable[..., torch.Tensor]]:
    """The module, and what is called in its place; compiled once for all measurements."""
    module = Textbook(dtype)
    return module, torch.compile(module, dynamic=False) if compiled else module


def textbook(problem: Problem, compiled: bool = False) -> float:
    """Steps per second of the textbook loop on a problem's data, evaluations included.

    compiled: whether the module is compiled by torch.compile.
    """
    data = problem.data
    module, model = textbook_model(data["targets"].dtype, compiled)
    optimizer = torch.optim.AdamW(
        [
            {"params": [module.table], "lr": 1e-3, "weight_decay": 0.0},
            {"params": module.decoder.parameters(), "lr": 1e-4, "weight_decay": 0.0},
        ]
    )
    log_steps = set(problem.log_steps)
    targets = data["targets"][data["train_labels"]]

    def evaluate() -> None:
        with torch.no_grad():
            for split in ("train", "test"):
                predictions = nearest(model(data[f"{split}_pairs"]), data["targets"])
                (predictions == data[f"{split}_labels"]).double().mean().item()

    evaluate()
    model(data["train_pairs"]).sum().backward()  # both are compiled before the clock starts
    began = time.perf_counter()
    for step in range(problem.train_steps):
        optimizer.zero_grad()
        loss = ((model(data["train_pairs"]) - targets) ** 2).mean()
        loss.backward()
        optimizer.step()
        if step in log_steps:
            evaluate()
    return problem.train_steps / (time.perf_counter() - began)


def ours(problems: list[Problem], threads: int, fused: bool) -> float:
    """Replica-steps per second through `train`, evaluations included, from the first one on."""
    compiled = None if fused else True
    began, first = 0.0, 0
    for event in train(
        problems, slots=len(problems), threads=threads, compiled=compiled, fused=fused
    ):
        if isinstance(event, Record) and event.step > 0 and not first:
            began, first = time.perf_counter(), event.step
    seconds = time.perf_counter() - began
    return (problems[0].train_steps - first) * len(problems) / seconds


if __name__ == "__main__":
    main()
