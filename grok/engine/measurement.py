"""What a replica's measures remember between updates and looks, and how they get to see a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.func import grad, jvp

from grok.engine.optimizers import SCALARS
from grok.engine.problem import Problem
from grok.engine.program import Program
from grok.measures import decomposition
from grok.measures.vectors import flat
from grok.tensors import Tensors

RECENT = 50  # batch gradients that lags reach back to, and as many new ones
WINDOW = 50  # mean gradients that are kept
SHOWN = 256  # train rows whose attention is looked at
LASTING = (
    "before", "initial", "length", "looks", "columns", "total", "means", "recent", "trail", "last",
    "entanglement", "seen", "snapshot_gradients", "snapshot_tables", "start", "points",
)  # fmt: skip


LOOK, SNAPSHOT, UPDATE = "look", "snapshot", "update"


@dataclass(frozen=True)
class Measure:
    """One instrument. when: at every look, at every `snapshot_every`-th, or in bursts of updates.

    take: Watch -> metrics. needs: what the run must have: a key of NEEDS. burst: every so many updates, so many in a row.
    """

    name: str
    group: str
    says: str
    when: str
    take: Callable[[MeasurementState], dict]
    needs: tuple[str, ...] = ()
    burst: tuple[int, int] | None = None


class MeasurementState:
    """One replica's memory. Flat vectors leave biases out. `now`, `before`, `initial`: its weights
    after the last update, at the last look, at the start."""

    def __init__(self, problem: Problem, measures: Sequence[Measure], program: Program, slot: int):
        self.problem, self.plan, self.measures = problem, problem.measures, measures
        self.reference, self.stride = self.plan.reference, self.plan.stride
        self.wanted = {measure.name for measure in measures}
        self.metrics: dict[str, float] = {}
        self.now, self.place = _copied(program.state["params"], slot)
        self.before = self.initial = self.now
        self.lr, self.length, self.looks = 0.0, 0.0, 0
        self.columns: list[Tensor] = []  # loss, |g|, lr, |w| of each update since the last look
        self.total = torch.zeros_like(self.flat(self.now))  # of the gradients since then
        self.means: list[Tensor] = []  # G of each look
        self.recent: list[Tensor] = []  # batch gradients
        self.trail: list[Tensors] = []  # weights after the last three updates, near a burst
        self.last: tuple[int, Tensors, float] | None = None  # update before: number, gradient, lr
        self.entanglement: tuple[int, Tensor] | None = None  # number of the update, vector
        self.seen: Tensor | None = None  # frequencies that were ever significant
        self.snapshot_gradients: list[Tensor] = []
        self.snapshot_tables: list[Tensor] = []
        self.start = (program.steps[slot], program.saved(slot))  # of this interval
        self.points: list[tuple[int, dict]] = []  # measured at updates since the last look
        self._shuffles: Tensor | None = None

    # -- fed by the engine -----------------------------------------------------------------------

    def after_update(self, program: Program, slot: int) -> None:
        """Take in the update that the program has just made."""
        self.gradient, whole = _copied(program.state["gradient"], slot)
        along = whole[: len(self.total)]
        weights, place = _copied(program.state["params"], slot)
        self.program, self.slot = program, slot
        self.rates = program.state["rates"][slot]
        self.lr = float(self.rates[0, SCALARS.index("lr")])
        self.total += along
        self.length += float((place - self.place).norm())
        loss = float(program.state["loss"][slot])
        row = [loss, float(along.norm()), self.lr, float(place.norm())]
        self.columns.append(torch.tensor(row, dtype=torch.float64))
        self.now, self.place, step = weights, place, program.steps[slot]
        if "batch_dynamics" in self.wanted:
            self.recent = [*self.recent[1 - 2 * RECENT :], along]
        for measure in self.measures:
            if measure.burst and in_burst(measure.burst, step):
                found = {f"{measure.name}/{k}": v for k, v in measure.take(self).items()}
                self.points.append((step, found))
        self.trail = [*self.trail[-2:], weights] if self._near_burst(step) else []
        self.last = (step, self.gradient, self.lr)

    def look(self, program: Program, slot: int, metrics: dict[str, float]) -> dict[str, float]:
        """What is measured at this look, by MEASURE/METRIC; begins the next interval."""
        result: dict[str, float] = {}
        self.metrics = metrics
        if self.columns:
            self.looks += 1
            snapshot = self.looks % self.plan.snapshot_every == 0
            self.means = [*self.means[1 - WINDOW :], self.total / len(self.columns)]
            if snapshot:
                self.snapshot_gradients = [*self.snapshot_gradients[-2:], self.means[-1]]
                if "tokens" in self.now:
                    self.snapshot_tables = [*self.snapshot_tables[-1:], self.tokens()]
            for measure in self.measures:
                if measure.when == "look" or (measure.when == "snapshot" and snapshot):
                    result |= {f"{measure.name}/{k}": v for k, v in measure.take(self).items()}
        self.before, self.columns, self._shuffles = self.now, [], None
        self.total = torch.zeros_like(self.total)
        due = (self.looks + 1) % self.plan.snapshot_every == 0
        if due and any("epochs" in measure.needs for measure in self.measures):
            self.start = (program.steps[slot], program.saved(slot))
        return result

    def taken_points(self) -> tuple[tuple[int, dict], ...]:
        """What was measured at updates since this was asked last."""
        points, self.points = tuple(self.points), []
        return points

    def saved(self) -> Tensors:
        """All that it remembers, as tensors: the leaves by number, and their structure as JSON."""
        memory = {name: getattr(self, name) for name in LASTING}
        leaves, spec = pytree.tree_flatten({k: v for k, v in memory.items() if v is not None})
        structure = torch.tensor(list(pytree.treespec_dumps(spec).encode()), dtype=torch.uint8)
        tensors = [
            leaf.detach().cpu().clone()
            if isinstance(leaf, Tensor)
            else torch.tensor(leaf, dtype=_wide(leaf))
            for leaf in leaves
        ]
        numbered = {f"{number:06d}": tensor for number, tensor in enumerate(tensors)}
        return {"structure": structure, **numbered}

    def restore(self, tensors: Tensors) -> None:
        """Take back what `saved` gave."""
        spec = pytree.treespec_loads(bytes(tensors["structure"].tolist()).decode())
        device = self.total.device
        leaves = [
            tensors[name].item() if tensors[name].ndim == 0 else tensors[name].to(device)
            for name in sorted(tensors.keys() - {"structure"})
        ]
        for name, value in pytree.tree_unflatten(leaves, spec).items():
            setattr(self, name, value)

    # -- seen by the measures --------------------------------------------------------------------

    def flat(self, tensors: Tensors) -> Tensor:
        """One vector of all parameters but biases, in the module's order."""
        return flat(self.weighed(tensors))

    def weighed(self, tensors: Tensors) -> Tensors:
        """The entries that are no biases."""
        return {name: value for name, value in tensors.items() if "bias" not in name}

    def update_columns(self) -> tuple[Tensor, ...]:
        """Losses, gradient norms, learning rates, weight norms of the updates since the last look."""
        return torch.stack(self.columns).unbind(1)

    def mean_gradient(self) -> Tensors:
        """G by parameter: the mean gradient since the last look."""
        shapes = self.weighed(self.now)
        parts = self.means[-1].split([value.numel() for value in shapes.values()])
        return {n: part.view_as(v) for (n, v), part in zip(shapes.items(), parts, strict=True)}

    def mean_gradients(self, count: int) -> Tensor:
        """The G's of up to `count` last looks, (W, P)."""
        return torch.stack(self.means[-count:])

    def recent_gradients(self) -> tuple[Tensor, int]:
        """Successive batch gradients (T, P), and how many of the last are of this interval."""
        new = min(len(self.columns), RECENT)
        return torch.stack(self.recent[-(RECENT + new) :]), new

    def way(self, weights: Tensors) -> Tensor | None:
        """From some weights to the reference ones, (P,)."""
        return None if self.reference is None else self.flat(self.reference) - self.flat(weights)

    def tokens(self, tensors: Tensors | None = None) -> Tensor:
        """Rows of the token table that stand for elements, (p, D)."""
        table = (tensors or self.now)["tokens"]
        config = self.problem.module.config
        return table[: config.elements or config.classes]

    def attention_blocks(self) -> list[Tensors]:
        """Q, K and V (D, D) of every layer."""
        blocks = []
        for index in range(len(self.problem.module.blocks)):
            keys, values = self.now[f"blocks.{index}.keys_values.weight"].chunk(2)
            blocks.append({"q": self.now[f"blocks.{index}.queries.weight"], "k": keys, "v": values})
        return blocks

    def attention_maps(self) -> list[Tensor]:
        """Attention (N, H, S, S) of every layer on the first train rows."""
        data = {
            name: self.problem.data[name][:SHOWN]
            for name in ("train_prefix_index", "train_suffixes")
        }
        prefixes = self.problem.data["prefixes"][data["train_prefix_index"]]
        tokens = torch.cat([prefixes, data["train_suffixes"]], 1)
        with torch.no_grad():
            return self.program.run(
                lambda module, tokens: module.attention(tokens), self.now, {}, tokens
            )

    def hessian(self) -> dict:
        """`decomposition.hessian` of the last two updates, the Hessian-vector product exact."""
        step = self.program.steps[self.slot]
        if self.last is None or self.last[0] != step - 1 or len(self.trail) < 2:
            return {}
        _, before, lr = self.last
        slope = grad(self.program.objective(self.slot))
        _, curved = jvp(slope, (self.trail[-2],), (before,))
        known = self.entanglement
        coherent = known[1] if known is not None and known[0] == step - 1 else None
        result, vector = decomposition.hessian(
            self.flat(before), self.flat(self.gradient), self.flat(curved), lr,
            self.way(self.trail[-2]), coherent,
        )  # fmt: skip
        self.entanglement = step, vector
        return result

    def adam(self) -> dict:
        """`decomposition.adam_dynamics` of the last update."""
        moments = {
            key: {name: value[self.slot] for name, value in tensors.items()}
            for key, tensors in self.program.state["optimizer"].items()
        }
        rates, update = {}, {}
        for name in moments["mean"]:
            row = self.rates[self.problem.optimizer.group_of(name)]
            scalar = dict(zip(SCALARS, row.unbind(), strict=True))
            root = moments["square"][name].sqrt() * scalar["unbias"] + scalar["eps"]
            rates[name] = scalar["lr"] / root
            update[name] = scalar["size"] * moments["mean"][name] / root
        return decomposition.adam_dynamics(
            self.flat(self.gradient), self.flat(moments["mean"]), self.flat(rates),
            self.flat(update), self.lr, self.way(self.now),
        )  # fmt: skip

    def shuffled(self, count: int) -> Tensor:
        """G's (count, P) of this interval, trained again from its start in other orders, side by side."""
        if self._shuffles is None:
            most = 4 if "counterfactual_validator" in self.wanted else count
            self._shuffles = torch.cat(list(self._shuffled_epochs(most)))
        return self._shuffles[:count]

    def _shuffled_epochs(self, count: int) -> Iterator[Tensor]:
        """G's of `count` epochs in other orders, as many at once as there are slots."""
        problem = replace(self.problem, sampling="epochs")
        program, (step, tensors) = self.program.beside(problem, count), self.start
        for first in range(0, count, program.slots):
            numbers = range(first, min(count, first + program.slots))
            for slot, number in enumerate(numbers):
                program.load(slot, replace(problem, seed=self.problem.seed + 7919 * (number + 1)))
                program.restore(slot, step, tensors)
            total = 0
            for _ in self.columns:
                program.step()
                grads = self.weighed(program.state["gradient"])
                total = total + torch.cat([value.flatten(1) for value in grads.values()], 1)
            yield total[: len(numbers)] / len(self.columns)

    def _near_burst(self, step: int) -> bool:
        bursts = [m.burst for m in self.measures if m.name == "hessian"]
        return any(in_burst(burst, step + ahead) for burst in bursts for ahead in (0, 1, 2))


def in_burst(burst: tuple[int, int], step: int) -> bool:
    """Whether update `step` is in a burst: every so many updates, so many in a row, none at first."""
    every, length = burst
    return step >= every and step % every < length


def _copied(tensors: Tensors, slot: int) -> tuple[Tensors, Tensor]:
    """A copy of one replica's tensors, by name and as one vector, biases last."""
    names = sorted(tensors, key=lambda name: "bias" in name)
    whole = torch.cat([tensors[name][slot].flatten() for name in names])
    parts = whole.split([tensors[name][slot].numel() for name in names])
    copies = {n: part.view_as(tensors[n][slot]) for n, part in zip(names, parts, strict=True)}
    return {name: copies[name] for name in tensors}, whole


def _wide(number: float) -> torch.dtype:
    return torch.float64 if isinstance(number, float) else torch.int64
