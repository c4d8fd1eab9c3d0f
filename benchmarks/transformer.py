"""Speed of the AI-Scientist template's transformer, compared with a textbook training loop.

2 layers of width 128, batches of 512, x + y mod 97, evaluation every 10 steps on 8 batches. The
yardstick does it as the template does: examples drawn one by one in Python, torch's own attention
and AdamW, one process. Ours is `experiments/capacity.py with template`; compiling is not counted.
"""

import random
import time
from collections.abc import Iterator

import click
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from benchmarks.toy import gemm_limit, ours
from grok.experiment.environment import cpu_model
from grok.experiment.experiment import load
from grok.paths import PROJECT

P, WIDTH, HEADS, DEPTH, BATCH = 97, 128, 4, 2, 512


@click.command(help=__doc__)
@click.option("--steps", default=200, show_default=True, help="steps timed for each row")
@click.option("--repeats", default=3, show_default=True, help="the best of so many")
def main(steps: int, repeats: int) -> None:
    paper = load(PROJECT / "experiments" / "capacity.py")
    template = paper.full_config({"train_steps": steps + 10}, ["template"])
    screen = Console()
    screen.print(f"{cpu_model()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    screen.print(f"limit: GEMM {gemm_limit(torch.float32):.0f} GFLOP/s float32 by torch.matmul")
    table = Table("program", "replica-steps/s", "times textbook")
    yardstick = max(textbook(steps) for _ in range(repeats))
    table.add_row("textbook template", f"{yardstick:.1f}", "1.0")
    for count in (1, 3):
        problems = [paper.problem_of({**template, "seed": seed}) for seed in range(count)]
        rate = ours(problems, repeats)
        table.add_row(f"R = {count}", f"{rate:.1f}", f"{rate / yardstick:.1f}")
    screen.print(table)


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

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS)
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.triu(torch.full((len(x), len(x)), -float("inf")), diagonal=1)
        x = self.norm1(x + self.attention(x, x, x, attn_mask=mask)[0])
        return self.norm2(x + self.mlp(x))


class Textbook(nn.Module):
    """The template's transformer, tokens (N, S) -> logits (N, P) at the last position."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(P + 2, WIDTH), nn.Embedding(5, WIDTH)
        blocks = [TextbookBlock() for _ in range(DEPTH)]
        self.layers = nn.Sequential(*blocks, nn.LayerNorm(WIDTH), nn.Linear(WIDTH, P))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.positions(torch.arange(tokens.shape[1]))
        return self.layers(x.transpose(0, 1))[-1]


def textbook(steps: int) -> float:
    """Steps per second of the template's own loop, evaluations included."""
    torch.set_flush_denormal(True)
    table = [(a, b) for a in range(P) for b in range(P)]
    random.shuffle(table)
    half = len(table) // 2
    train, test = (iter(DataLoader(Pairs(part), BATCH)) for part in (table[:half], table[half:]))
    model = Textbook()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, (0.9, 0.98), weight_decay=0.5)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        tokens, labels = next(train)
        logits = model(tokens)
        loss = F.cross_entropy(logits, labels)
        (logits.argmax(1) == labels).sum().item()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            evaluate(model, test)
    return steps / (time.perf_counter() - began)


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterator[tuple[Tensor, Tensor]]) -> None:
    """Compute loss and accuracy on 8 batches, as the template does."""
    model.eval()
    for _ in range(8):
        tokens, labels = next(batches)
        logits = model(tokens)
        F.cross_entropy(logits, labels).item(), (logits.argmax(1) == labels).sum().item()
    model.train()


if __name__ == "__main__":
    main()
