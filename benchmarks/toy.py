"""Speed of the Liu toy: a textbook training loop, and R replicas as one program.

`make bench` prints the table. The textbook loop is a plain module, torch.optim and one process, with
an evaluation every 1 % of the steps; ours evaluates at the same steps. Compiling is not counted.
"""

import time
from collections.abc import Callable

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from grok.engine.events import Record
from grok.engine.problem import Problem
from grok.engine.train import train
from grok.experiment.environment import cpu_model
from grok.experiment.experiment import load
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


@click.command(help=__doc__)
@click.option("--steps", default=2000, show_default=True, help="steps timed for each row")
@click.option("--repeats", default=3, show_default=True, help="the best of so many")
def main(steps: int, repeats: int) -> None:
    paper = load(PROJECT / "experiments" / "liu_toy.py")

    def problem(dtype: str, seed: int) -> Problem:
        config = {**paper.defaults(), **CONFIG, "dtype": dtype, "seed": seed, "train_steps": steps}
        made = paper.problem_of(config)
        made.log_steps = list(range(0, steps + 1, max(steps // 100, 1)))
        return made

    limits = {name: gemm_limit(getattr(torch, name)) for name in ("float32", "float64")}
    screen = Console()
    screen.print(f"{cpu_model()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    screen.print(
        f"limits: GEMM {limits['float32']:.0f} GFLOP/s float32, {limits['float64']:.0f} float64; "
        f"memory copy {copy_limit():.0f} GB/s"
    )
    yardstick = textbook(problem("float64", 0))
    rates = {}
    for dtype in ("float64", "float32"):
        for count in (1, 4, 8, 16, 32):
            rates[dtype, count] = ours([problem(dtype, seed) for seed in range(count)], repeats)
            yardstick = max(
                yardstick, textbook(problem("float64", 0))
            )  # the machine's speed varies over minutes
    table = Table("program", "dtype", "replica-steps/s", "times textbook", "of the GEMM limit")

    def row(name: str, dtype: str, rate: float) -> None:
        fraction = rate * FLOPS / limits[dtype] / 1e9
        table.add_row(name, dtype, f"{rate:,.0f}", f"{rate / yardstick:.1f}", f"{fraction:.0%}")

    row("textbook loop", "float64", yardstick)
    for (dtype, count), rate in rates.items():
        row(f"R = {count}", dtype, rate)
    screen.print(table)


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


def textbook(problem: Problem) -> float:
    """Steps per second of the textbook loop on a problem's data, evaluations included."""
    data = problem.data
    model = Textbook(data["targets"].dtype)
    optimizer = torch.optim.AdamW(
        [
            {"params": [model.table], "lr": 1e-3, "weight_decay": 0.0},
            {"params": model.decoder.parameters(), "lr": 1e-4, "weight_decay": 0.0},
        ]
    )
    log_steps = set(problem.log_steps)
    targets = data["targets"][data["train_labels"]]
    began = time.perf_counter()
    for step in range(problem.train_steps):
        optimizer.zero_grad()
        loss = ((model(data["train_pairs"]) - targets) ** 2).mean()
        loss.backward()
        optimizer.step()
        if step in log_steps:
            with torch.no_grad():
                for split in ("train", "test"):
                    predictions = nearest(model(data[f"{split}_pairs"]), data["targets"])
                    (predictions == data[f"{split}_labels"]).double().mean().item()
    return problem.train_steps / (time.perf_counter() - began)


def ours(problems: list[Problem], repeats: int) -> float:
    """Replica-steps per second through `train`, evaluations included, after a first compiled use."""
    best_rate = 0.0
    for _ in range(repeats):
        began, first = None, 0
        for event in train(problems, slots=len(problems), compiled=True):
            if isinstance(event, Record) and event.step > 0 and began is None:
                began, first = time.perf_counter(), event.step
        seconds = time.perf_counter() - began
        best_rate = max(best_rate, (problems[0].train_steps - first) * len(problems) / seconds)
    return best_rate


def gemm_limit(dtype: torch.dtype, size: int = 1500) -> float:
    """GFLOP/s of a large square matrix product."""
    a = torch.randn(size, size, dtype=dtype)
    return 2 * size**3 / best_time(lambda: a @ a) / 1e9


def copy_limit(megabytes: int = 256) -> float:
    """GB/s read and written by a large copy."""
    source = torch.ones(megabytes * 2**17, dtype=torch.float64)
    target = torch.empty_like(source)
    return 2 * megabytes * 2**20 / best_time(lambda: target.copy_(source)) / 1e9


def best_time(work: Callable[[], object], repeats: int = 8) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main()
