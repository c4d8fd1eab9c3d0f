"""Speed of two transformers, evaluations included, compared with a textbook training loop.

`capacity with template`: 2 layers of width 128, batches of 512 of x + y mod 97, evaluation every 10
steps on 8 batches. The textbook loop does it as the AI-Scientist template does: examples drawn one by
one in Python, torch's own attention and AdamW, all positions of a sequence.
`power with cpu`: 1 layer, batches of 512, and 100 evaluations on all rows, spaced logarithmically.
The textbook loop indexes its batches and has the same parts of torch's.
The programs take turns, and each shows its best turn. Compiling is not counted.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import replace

import click
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.peers import print_machine
from benchmarks.toy import ours
from grok.engine.problem import Problem
from grok.experiment.experiment import load
from grok.paths import PROJECT

P, WIDTH, HEADS, BATCH = 97, 128, 4, 512


@click.command(help=__doc__)
@click.option("--steps", default=400, show_default=True, help="steps timed for each row")
@click.option("--repeats", default=3, show_default=True, help="turns of each program")
@click.option("--threads", default=1, show_default=True, help="of each program")
def main(steps: int, repeats: int, threads: int) -> None:
    print_machine()
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    print(f"{threads} thread{'s' * (threads > 1)}; steps/s, evaluations included")
    print(f"{'recipe':20} {'textbook':>10} {'ours':>10} {'ours/textbook':>14}")
    for paper, named, textbook in (
        ("capacity", "template", textbook_template),
        ("power", "cpu", textbook_power),
    ):
        experiment = load(PROJECT / "experiments" / f"{paper}.py")
        problem = experiment.problem_of(experiment.full_config({"train_steps": 6000}, [named]))
        problem = shortened(problem, steps)
        best = [0.0, 0.0]
        for _ in range(repeats):
            turn = textbook(problem), ours([problem], threads, fused=False)
            best = [max(rates) for rates in zip(best, turn, strict=True)]
        print(
            f"{paper + ' ' + named:20} {best[0]:10.1f} {best[1]:10.1f} {best[1] / best[0]:13.2f}x"
        )


def shortened(problem: Problem, steps: int) -> Problem:
    """The problem with fewer steps and evaluations in proportion, evenly spaced."""
    every = max(problem.train_steps // len(problem.log_steps), 1)
    log_steps = [0, 1, *range(every, steps + 1, every)]
    return replace(problem, train_steps=log_steps[-1], log_steps=log_steps, stop=None)


class Pairs(IterableDataset):
    """Examples (a, o, b, =) and their sums, one by one, as the template's data set yields them."""

    def __init__(self, pairs: list[tuple[int, int]]):
        self.pairs = pairs

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            a, b = random.choice(self.pairs)
            yield torch.tensor([a, P, b, P + 1]), torch.tensor((a + b) % P)


class TextbookBlock(nn.Module):
    """A post-norm transformer block of torch's own parts."""

    def __init__(self, activation: type[nn.Module], bias: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, bias=bias)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH, bias), activation(), nn.Linear(4 * WIDTH, WIDTH, bias)
        )

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.triu(torch.full((len(x), len(x)), -float("inf")), diagonal=1)
        x = self.norm1(x + self.attention(x, x, x, attn_mask=mask)[0])
        return self.norm2(x + self.mlp(x))


class Textbook(nn.Module):
    """A transformer, tokens (N, S) -> logits (N, P) at the last position."""

    def __init__(self, depth: int, activation: type[nn.Module], bias: bool) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(P + 2, WIDTH), nn.Embedding(5, WIDTH)
        blocks = [TextbookBlock(activation, bias) for _ in range(depth)]
        final = [nn.LayerNorm(WIDTH)] if bias else []
        self.layers = nn.Sequential(*blocks, *final, nn.Linear(WIDTH, P, bias))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.layers(x.transpose(0, 1))[-1]


def textbook_template(problem: Problem) -> float:
    """Steps per second of the template's own loop, evaluations included."""
    table = [(a, b) for a in range(P) for b in range(P)]
    random.shuffle(table)
    half = len(table) // 2
    train, test = (iter(DataLoader(Pairs(part), BATCH)) for part in (table[:half], table[half:]))
    model = Textbook(2, nn.GELU, bias=True)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.98), weight_decay=0.5)
    began = time.perf_counter()
    for step in range(1, problem.train_steps + 1):
        train_step(model, optimizer, *next(train))
        if step % 10 == 0:
            for _ in range(8):
                evaluate(model, *next(test))
    return problem.train_steps / (time.perf_counter() - began)


def textbook_power(problem: Problem) -> float:
    """Steps per second of a plain loop on sequences E a o b =, evaluations included."""
    a, b = torch.arange(P * P) // P, torch.arange(P * P) % P
    end, operator, equals = (torch.full_like(a, token) for token in (P, P + 1, P + 1))
    tokens = torch.stack([end, a, operator, b, equals], 1)[torch.randperm(P * P)]
    labels = (tokens[:, 1] + tokens[:, 3]) % P
    half = P * P // 2
    model = Textbook(1, nn.ReLU, bias=False)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.98), weight_decay=1.0)
    log_steps = set(problem.log_steps)
    began = time.perf_counter()
    for step in range(1, problem.train_steps + 1):
        rows = torch.randint(half, (BATCH,))
        train_step(model, optimizer, tokens[rows], labels[rows])
        if step in log_steps:
            evaluate(model, tokens[:half], labels[:half])
            evaluate(model, tokens[half:], labels[half:])
    return problem.train_steps / (time.perf_counter() - began)


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, tokens: Tensor, labels: Tensor
) -> None:
    logits = model(tokens)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def evaluate(model: nn.Module, tokens: Tensor, labels: Tensor) -> None:
    """Compute loss and accuracy."""
    model.eval()
    logits = model(tokens)
    F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).sum().item()
    model.train()


if __name__ == "__main__":
    main()
