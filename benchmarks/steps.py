"""Speed of one training step of each paper's network: ours beside a plain PyTorch loop and JAX.

Each row is printed as soon as it is measured; its programs take turns, and each shows its best turn.
The plain loop trains the same module with the same loss by torch.optim, the compiled one has its
loss compiled by torch.compile. "traced" is our step for short runs, "ours" the one that long runs
take: fused if it applies, compiled otherwise. JAX is the same model written plainly, without dropout and
without a bias of the output layer. Evaluations and compiling are not counted. The table has the
milliseconds of each replica's step, and the time of the plain loop or of JAX divided by ours.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import click
import torch

from benchmarks.peers import JaxServer, PlainLoop, print_machine, rate
from grok.engine import denormals
from grok.engine.problem import Problem
from grok.engine.threads import usable_cores
from grok.engine.train import choose_slots, make_program
from grok.experiment.experiment import load
from grok.paths import PROJECT

TURN_SECONDS = 2.0  # of the plain loop; the other programs train for as many steps
PROGRAMS = ("plain", "plain compiled", "traced", "ours", "JAX")


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Arguments:
        paper, named: the experiment and its named config.
        jax: a model of benchmarks/jax_server.py and its specification.
        replicas: how many there are to train; JAX maps over them, ours takes as many at once as it
            chooses to.
        updates: further configuration.
    """

    paper: str
    named: str
    jax: tuple[str, dict[str, Any]]
    replicas: int = 1
    updates: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        updates = "".join(f" {key}={value}" for key, value in self.updates.items())
        return f"{self.paper} {self.named}{updates}" + f" x {self.replicas}" * (self.replicas > 1)


def transformer(**spec: Any) -> tuple[str, dict[str, Any]]:
    """JAX's transformer: one layer of width 128 on three tokens, unless the specification differs."""
    default: dict[str, Any] = {"width": 128, "depth": 1, "heads": 4, "mlp_width": 512, "length": 3}
    default |= {"norm": "none", "final_norm": False, "biases": False, "pool": False}
    return "transformer", {**default, "activation": "relu", **spec}


NANDA = transformer(vocabulary=114, classes=114, rows=3830)
NANDA_CPU = transformer(vocabulary=60, classes=60, rows=1566, width=64, mlp_width=256)
POWER = transformer(vocabulary=99, classes=97, length=5, rows=4704, norm="post")
TEMPLATE = transformer(
    vocabulary=99,
    classes=97,
    length=4,
    depth=2,
    rows=4704,
    norm="post",
    final_norm=True,
    biases=True,
    activation="gelu",
)
SMALL = {"width": 64, "batch_size": 256}
ORDERING = transformer(
    vocabulary=9973,
    classes=9973,
    length=2,
    width=256,
    mlp_width=2048,
    depth=2,
    rows=300_000,
    norm="pre",
    biases=True,
    pool=True,
)
DOSHI = {"symbols": 97, "hidden": [500], "activation": "square", "loss_kind": "squared_error"}
STABILITY = {
    "symbols": 113,
    "hidden": [200, 200],
    "activation": "relu",
    "loss_kind": "cross_entropy",
}
RECIPES = (
    Recipe("nanda", "paper", NANDA),
    Recipe("nanda", "cpu", NANDA_CPU),
    Recipe("nanda", "cpu", NANDA_CPU, 4),
    Recipe("power", "cpu", POWER),
    Recipe("power", "cpu", POWER, 4),
    Recipe("capacity", "template", TEMPLATE),
    Recipe(
        "capacity",
        "template",
        transformer(**{**TEMPLATE[1], "width": 64, "mlp_width": 256}),
        1,
        SMALL,
    ),
    Recipe("numerical_stability", "paper", ("pair_mlp", {**STABILITY, "rows": 5107})),
    Recipe("doshi", "cpu", ("pair_mlp", {**DOSHI, "rows": 4704})),
    Recipe("ordering", "paper", ORDERING),
)


@click.command(help=__doc__)
@click.option("--only", default="", help="rows whose label contains this text")
@click.option("--repeats", default=3, show_default=True, help="turns of each program")
@click.option("--threads", default=1, show_default=True, help="of each program")
@click.option("--torch-compile/--no-torch-compile", default=True, show_default=True)
def main(only: str, repeats: int, threads: int, torch_compile: bool) -> None:
    print_machine()
    torch.set_num_threads(threads)
    jax = JaxServer(min(threads, usable_cores()))
    print(f"{threads} thread{'s' * (threads > 1)}, JAX {jax.version}; ms for each replica's step")
    print(f"{'recipe':43}", *(f"{name:>14}" for name in PROGRAMS), f"{'plain/ours':>11}", end="")
    print(f" {'JAX/ours':>9} {'plain/traced':>13}")
    for recipe in RECIPES:
        if only in recipe.label:
            ms = measure(recipe, repeats, threads, torch_compile, jax)
            print(f"{recipe.label:43}", *(f"{ms[name]:14.2f}" for name in PROGRAMS), end="")
            print(f" {ms['plain'] / ms['ours']:10.2f}x {ms['JAX'] / ms['ours']:8.2f}x", end="")
            print(f" {ms['plain'] / ms['traced']:12.2f}x", flush=True)
    jax.close()


def measure(
    recipe: Recipe, repeats: int, threads: int, torch_compile: bool, jax: JaxServer
) -> dict[str, float]:
    """Milliseconds of each program for a replica's step, the best of its turns."""
    paper = load(PROJECT / "experiments" / f"{recipe.paper}.py")
    config = paper.full_config(recipe.updates, [recipe.named])
    problems = [paper.problem_of({**config, "seed": seed}) for seed in range(recipe.replicas)]
    plain = PlainLoop(deepcopy(problems[0]))
    slots = min(choose_slots(problems[0]), recipe.replicas)
    programs: dict[str, Callable[[int], Any]] = {
        "plain": plain.steps,
        "traced": our_steps(problems[:slots], threads, compiled=False),
        "ours": our_steps(problems[:slots], threads, compiled=True),
    }
    if torch_compile:
        programs["plain compiled"] = PlainLoop(deepcopy(problems[0]), compiled=True).steps
    for steps in programs.values():
        steps(3)  # traces and compiles
    count = max(int(TURN_SECONDS * rate(plain.steps, 5)), 5)
    batch_size = problems[0].batch_size
    rates = dict.fromkeys(PROGRAMS, 0.0)
    for _ in range(repeats):
        for name, steps in programs.items():
            factor = 1 if name.startswith("plain") else slots
            rates[name] = max(rates[name], factor * rate(steps, max(count // factor, 3)))
        for spec in jax_forms(recipe.jax):
            turn = jax.rate(
                recipe.jax[0], spec, recipe.replicas, max(count // recipe.replicas, 3), batch_size
            )
            rates["JAX"] = max(rates["JAX"], turn)
    return {name: 1000 / value if value else float("nan") for name, value in rates.items()}


def jax_forms(jax: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The specifications of a model; of an MLP on pairs with one-hot vectors and without."""
    model, spec = jax
    return (
        [{**spec, "one_hot": value} for value in (True, False)] if model == "pair_mlp" else [spec]
    )


def our_steps(problems: list[Problem], threads: int, compiled: bool) -> Callable[[int], Any]:
    """A function that trains the problems as one program for some steps."""
    slots = range(len(problems))
    denormals.set_for(problems)
    program = make_program(problems, len(problems), compiled, fused=compiled, threads=threads)
    for slot in slots:
        program.load(slot, problems[slot])

    def steps(count: int) -> None:
        while count > 0:
            count -= program.advance(count, slots)

    return steps


if __name__ == "__main__":
    main()
