"""The measures of a run while it trains: what one is, and what it sees of a replica.

A measure sees copies and never the program's own tensors, so a measured run equals the unmeasured
one bit for bit. G is the mean gradient over an interval, the steps between two evaluations; P the
number of weights without biases.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.func import grad, jvp, vmap
from torch.nn.utils.rnn import pad_sequence

from grok.engine.addition import Addition, addition_of
from grok.engine.checkpoint import CheckpointError
from grok.engine.measure import BURST, Measure
from grok.engine.optimizers import StepScalars, by_group
from grok.engine.problem import Problem
from grok.engine.program import Program
from grok.engine.spec import MeasureConfig
from grok.measures import decomposition
from grok.measures.vectors import flat, of_parameter
from grok.objectives.classification import ClassificationLoss
from grok.tensors import Tensors

PAIRS_AT_ONCE = 64  # whose gradients with respect to all embeddings are in memory
LEAST_WINDOW = 2  # G's of the last intervals that are kept at least

# Fields of History that checkpoints hold under another name.
NAMES_IN_CHECKPOINTS = {
    "weights_before": "before",
    "initial_weights": "initial",
    "path_length": "length",
    "intervals": "looks",
    "step_rows": "columns",
    "gradient_sum": "total",
    "mean_gradients": "means",
    "batch_gradients": "recent",
    "batch_products": "products",
    "recent_weights": "trail",
    "last_step": "last",
    "significant_frequencies": "seen",
    "interval_start": "start",
    "burst_metrics": "points",
}


@dataclass
class History:
    """What later measurements of a replica read of earlier ones; checkpoints hold all of it.

    weights_before: at the last evaluation.
    path_length: of the weights with biases.
    intervals: number of complete intervals.
    step_rows: loss, |g|, lr and |w| of each step of this interval; empty if no measure reads them.
    gradient_sum: over the steps of this interval, (P,).
    mean_gradients: G's of the last intervals that were recorded, (P,) each.
    batch_gradients: of the last steps, (P,) each, as many as the batch gradients are compared over.
    batch_products: of the last steps, twice as many: the inner products of each batch gradient with
        those so many steps before, from 0, that are compared with it.
    recent_weights: after the last three steps, in and just before a burst.
    last_step: number, gradient and learning rate of the last step that was recorded.
    entanglement: number of the step, and the vector (P,).
    significant_frequencies: whether each frequency has ever been significant.
    snapshot_gradients, snapshot_tables: G and the token embeddings at the last snapshots.
    interval_start: step and state at the beginning of this interval.
    burst_metrics: step and metrics of each step that was measured in this interval.
    contents, orderings: components of the last G's that `counterfactual` has split, (P,) each.
    """

    weights_before: Tensors
    initial_weights: Tensors
    gradient_sum: Tensor
    interval_start: tuple[int, Tensors]
    path_length: float = 0.0
    intervals: int = 0
    step_rows: list[Tensor] = field(default_factory=list)
    mean_gradients: list[Tensor] = field(default_factory=list)
    batch_gradients: list[Tensor] = field(default_factory=list)
    batch_products: list[Tensor] = field(default_factory=list)
    recent_weights: list[Tensors] = field(default_factory=list)
    last_step: tuple[int, Tensors, float] | None = None
    entanglement: tuple[int, Tensor] | None = None
    significant_frequencies: Tensor | None = None
    snapshot_gradients: list[Tensor] = field(default_factory=list)
    snapshot_tables: list[Tensor] = field(default_factory=list)
    burst_metrics: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    contents: list[Tensor] = field(default_factory=list)
    orderings: list[Tensor] = field(default_factory=list)

    def saved(self) -> Tensors:
        """Everything as tensors: the leaves by number, their structure as JSON, and which are numbers."""
        values = {_saved_name(entry): getattr(self, entry.name) for entry in fields(self)}
        leaves, spec = pytree.tree_flatten({k: v for k, v in values.items() if v is not None})
        structure = torch.tensor(list(pytree.treespec_dumps(spec).encode()), dtype=torch.uint8)
        numbered = {f"{number:06d}": _as_tensor(leaf) for number, leaf in enumerate(leaves)}
        numbers = torch.tensor([not isinstance(leaf, Tensor) for leaf in leaves])
        return {"structure": structure, "numbers": numbers, **numbered}

    def restore(self, tensors: Tensors) -> None:
        """Take the values that `saved` returned; CheckpointError if they cannot be read."""
        device = self.gradient_sum.device
        try:
            spec = pytree.treespec_loads(bytes(tensors["structure"].tolist()).decode())
            names = sorted(tensors.keys() - {"structure", "numbers"})
            if "numbers" in tensors:
                are_numbers = tensors["numbers"].tolist()
            else:  # older versions did not tell them from parameters that are scalars
                are_numbers = [tensors[name].ndim == 0 for name in names]
            leaves = [
                tensors[name].item() if is_number else tensors[name].to(device)
                for name, is_number in zip(names, are_numbers, strict=True)
            ]
            values = pytree.tree_unflatten(leaves, spec)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise CheckpointError(f"the state of the measures cannot be read ({error})") from error
        if not isinstance(values, dict):
            raise CheckpointError("the state of the measures cannot be read")
        for entry in fields(self):
            default = getattr(self, entry.name)  # of what older versions did not save
            setattr(self, entry.name, values.get(_saved_name(entry), default))
        if NAMES_IN_CHECKPOINTS["batch_products"] not in values:  # older versions left them out
            counts = range(1, len(self.batch_gradients) + 1)
            self.batch_products = [_products(self.batch_gradients[:n], range(n)) for n in counts]


class MeasurementState:
    """One replica as its measures see it: the last step, and the history before.

    measures, reference, stride: see `MeasureConfig`.
    kept_gradients: G's of the last intervals that the measures read.
    metrics: the metrics of this evaluation; empty after a step without one.
    weights: the parameters after the last step that was recorded, or at the last evaluation.
    gradient: of the last step that was recorded, by parameter.
    lr: of the last step that was recorded, in the first parameter group.
    history: what of earlier steps is read.
    """

    def __init__(
        self,
        problem: Problem,
        config: MeasureConfig,
        program: Program,
        slot: int,
    ):
        self.problem, self.measures = problem, config.measures
        self.reference, self.stride = config.reference, config.stride
        self.by_name = {measure.name: measure for measure in config.measures}
        windows = [m.values.get("window", 0) for m in config.measures if m.group == "gradients"]
        self.kept_gradients = max([LEAST_WINDOW, *windows])
        self.program, self.slot = program, slot
        self.metrics: dict[str, float] = {}
        self.weights, self._position = _copied(program.state["params"], slot)
        self.gradient: Tensors = {}
        self.lr = 0.0
        self.history = History(
            weights_before=self.weights,
            initial_weights=self.weights,
            gradient_sum=torch.zeros_like(self.flat(self.weights)),
            interval_start=(program.steps[slot], program.saved(slot)),
        )
        self._shuffled: Tensor | None = None
        ends = sorted({*problem.log_steps, problem.train_steps} - {0})  # of the intervals
        measure = self.by_name.get("batch_dynamics")
        numbered = enumerate(ends, 1)
        self._batch_dynamics_at = [e for n, e in numbered if measure and measure.is_due(n)]

    # -- called by the training loop -------------------------------------------------------------

    def after_step(self, program: Program, slot: int) -> None:
        """Record the step that the program has just made; `slot` is the replica's."""
        self.program, self.slot, self.metrics = program, slot, {}
        history, step = self.history, program.steps[slot]
        self.gradient, gradient = _copied(program.state["gradient"], slot)
        gradient_P = gradient[: len(history.gradient_sum)]
        self.weights, position = _copied(program.state["params"], slot)
        self.lr = float(self.scalars()[0].lr)
        history.gradient_sum += gradient_P
        history.path_length += float((position - self._position).norm())
        self._position = position
        loss = float(program.state["loss"][slot])
        row = [loss, float(gradient_P.norm()), self.lr, float(position.norm())]
        history.step_rows.append(torch.tensor(row, dtype=torch.float64))
        if "batch_dynamics" in self.by_name:
            self._compare_batches(gradient_P, step)
        for measure in self.measures:
            if measure.is_in_burst(step):
                history.burst_metrics.append((step, self._computed(measure)))
        recent = [*history.recent_weights[-2:], self.weights]
        history.recent_weights = recent if self._near_burst(step) else []
        history.last_step = (step, self.gradient, self.lr)

    def reads_steps(self) -> bool:
        """Whether the steps of this interval have to be recorded, each by `after_step`."""
        interval = self.history.intervals + 1
        return any(m.when == BURST or m.reads_past or m.is_due(interval) for m in self.measures)

    def evaluate(self, program: Program, slot: int, metrics: dict[str, float]) -> dict[str, float]:
        """The measures of this evaluation, by MEASURE/METRIC; the next interval begins."""
        history = self.history
        results: dict[str, float] = {}
        self.program, self.slot, self.metrics = program, slot, metrics
        if history.step_rows and self.reads_steps():
            mean = history.gradient_sum / len(history.step_rows)
            history.mean_gradients = [*history.mean_gradients[1 - self.kept_gradients :], mean]
        else:  # the last step has not been recorded
            self.weights, self._position = _copied(program.state["params"], slot)
        if program.steps[slot]:
            history.intervals += 1
            due = [measure for measure in self.measures if measure.is_due(history.intervals)]
            if any(measure.name == "phases" for measure in due):
                gradients = [*history.snapshot_gradients[-2:], history.mean_gradients[-1]]
                history.snapshot_gradients = gradients
                history.snapshot_tables = [*history.snapshot_tables[-1:], self.tokens()]
            for measure in due:
                results |= self._computed(measure)
        history.weights_before, history.step_rows, self._shuffled = self.weights, [], None
        history.gradient_sum = torch.zeros_like(history.gradient_sum)
        if any("epochs" in m.needs and m.is_due(history.intervals + 1) for m in self.measures):
            history.interval_start = (program.steps[slot], program.saved(slot))
        return results

    def begin_interval(self, program: Program, slot: int) -> None:
        """Go on from the weights of now, which are not those that the last step has made."""
        history = self.history
        self.weights, self._position = _copied(program.state["params"], slot)
        history.weights_before, history.recent_weights = self.weights, []
        history.interval_start = (program.steps[slot], program.saved(slot))

    def pop_burst_metrics(self) -> tuple[tuple[int, dict[str, float]], ...]:
        """(step, metrics) of the steps measured since this was called last."""
        points, self.history.burst_metrics = tuple(self.history.burst_metrics), []
        return points

    def _computed(self, measure: Measure) -> dict[str, float]:
        metrics = measure.compute(self, **measure.values)
        return {f"{measure.name}/{key}": value for key, value in metrics.items()}

    def _near_burst(self, step: int) -> bool:
        hessian = self.by_name.get("hessian")
        return hessian is not None and any(hessian.is_in_burst(step + i) for i in (0, 1, 2))

    def _compare_batches(self, gradient_P: Tensor, step: int) -> None:
        """Keep the gradient of a step, and those of its products with earlier ones that will be read.

        They are read at the next evaluation of `batch_dynamics`, for the last steps before it.
        """
        history, ends = self.history, self._batch_dynamics_at
        values, reach = self.by_name["batch_dynamics"].values, self._gradient_reach()
        gradients = [*history.batch_gradients, gradient_P][-reach - 1 :]
        following = bisect_left(ends, step)
        to_come = ends[following] - step if following < len(ends) else reach
        distances = {0}
        if to_come < reach:
            distances |= {*values["lags"], *range(max(values["windows"]) - to_come)}
        products = [*history.batch_products, _products(gradients, distances)]
        history.batch_products, history.batch_gradients = products[-2 * reach :], gradients[-reach:]

    def _gradient_reach(self) -> int:
        """How many steps the batch gradients are compared over."""
        return batch_reach(self.by_name["batch_dynamics"])

    # -- read by the measures --------------------------------------------------------------------

    def flat(self, tensors: Tensors) -> Tensor:
        """One vector (P,) of all parameters but biases, in the module's order."""
        return flat(self.without_biases(tensors))

    def without_biases(self, tensors: Tensors) -> Tensors:
        """The entries that are not biases."""
        return {name: value for name, value in tensors.items() if "bias" not in name}

    def parts(self) -> dict[str, slice]:
        """The part of a vector (P,) that each parameter is, biases left out."""
        parts, start = {}, 0
        for name, value in self.without_biases(self.weights).items():
            parts[name] = slice(start, start + value.numel())
            start += value.numel()
        return parts

    def scalars(self) -> list[StepScalars]:
        """What the last step multiplied by, for each parameter group."""
        return by_group(self.program.state["scalars"][self.slot])

    def step_columns(self) -> tuple[Tensor, ...]:
        """Losses, gradient norms, learning rates and weight norms of the interval's steps."""
        return torch.stack(self.history.step_rows).unbind(1)

    def mean_gradient(self) -> Tensors:
        """G of this interval by parameter, biases left out."""
        gradient_P = self.mean_gradients(1)[0]
        return {n: gradient_P[part].view_as(self.weights[n]) for n, part in self.parts().items()}

    def mean_gradients(self, count: int) -> Tensor:
        """The G's of the last `count` intervals or as many as there are, (W, P)."""
        return torch.stack(self.history.mean_gradients[-count:])

    def recent_products(self) -> tuple[Tensor, int]:
        """Inner products (T, T) of successive batch gradients, and how many are of this interval.

        Those that `batch_dynamics` does not read are zero, as all above the diagonal.
        """
        reach = self._gradient_reach()
        new = min(len(self.history.step_rows), reach)
        rows = pad_sequence(self.history.batch_products[-(reach + new) :], True).double().cpu()
        gram_TT = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        for distance in range(min(rows.shape)):
            gram_TT.diagonal(-distance).copy_(rows[distance:, distance])
        return gram_TT, new

    def to_reference(self, weights: Tensors) -> Tensor | None:
        """The vector (P,) from some weights to the reference; None without a reference."""
        return None if self.reference is None else self.flat(self.reference) - self.flat(weights)

    def tokens(self, tensors: Tensors | None = None) -> Tensor:
        """The rows (p, D) of the token embeddings that stand for elements, or those of `tensors`."""
        table = (tensors or self.weights)["tokens"]
        return table[: self._elements()]

    def logit_rows(self) -> Tensor | None:
        """The rows (p, D) of the output layer that stand for elements; None if it has no own weights."""
        table = self.weights.get("output.weight")
        return None if table is None else table[: self._elements()]

    def _elements(self) -> int:
        config = self._module.config
        return config.elements or config.classes

    def attention_blocks(self) -> list[Tensors]:
        """W_Q, W_K and W_V (D, D) of every layer, as q, k and v."""
        blocks = []
        for index in range(len(self._module.blocks)):
            W_Q = self.weights[f"blocks.{index}.queries.weight"]
            W_K, W_V = self.weights[f"blocks.{index}.keys_values.weight"].chunk(2)
            blocks.append({"q": W_Q, "k": W_K, "v": W_V})
        return blocks

    def attention_maps(self, rows: int) -> list[Tensor]:
        """Attention (N, H, S, S) of every layer on the first `rows` train rows."""
        data = self.problem.data
        index = data["train_prefix_index"][:rows]
        suffixes = data["train_suffixes"][:rows]
        tokens_NS = torch.cat([data["prefixes"][index], suffixes], 1)
        with torch.no_grad():
            return self.program.run(
                lambda module, tokens: module.attention(tokens), self.weights, {}, tokens_NS
            )

    def run(self, function: Callable, weights: Tensors, data: Any) -> Any:
        """function(module, data) with these weights in the module, and the replica's buffers."""
        buffers = {name: b[self.slot] for name, b in self.program.state["buffers"].items()}
        return self.program.run(function, weights, buffers, data)

    def train_loss(self, weights: Tensors) -> Tensor:
        """The loss of all train rows, with other weights; without a penalty, if it is of classes."""
        loss = self.problem.loss
        if isinstance(loss, ClassificationLoss):
            loss = loss.without_penalty
        return self.run(loss, weights, self.data())

    def data(self) -> Tensors:
        """The data of the replica, with the numbers that interventions have changed."""
        own = {name: value[self.slot] for name, value in self.program.state["data"].items()}
        return {**self.problem.data, **own}

    def train_rows(self) -> int:
        """The number of train rows."""
        return train_rows(self.problem)

    def logits(self, rows: int) -> tuple[Tensor, Tensor]:
        """The logits (N, C) and labels (N,) of the first train rows, one for each label of a row."""
        loss: Any = self.problem.loss
        data = self.data()
        data |= {name: data[name][:rows] for name in (*loss.logits.batched, "train_labels")}
        with torch.no_grad():
            logits = self.run(lambda m, d: loss.logits(m, d, "train", False), self.weights, data)
        return logits.flatten(0, -2), data["train_labels"].flatten()

    def table_of_sums(self) -> tuple[Tensor, Tensor]:
        """The embeddings (p, D) of a network that adds, and the label's logits [a, b]."""
        addition = self.addition
        numbers = torch.arange(addition.p, device=self.problem.device)
        pairs = torch.cartesian_prod(numbers, numbers)
        with torch.no_grad():
            logits = self.run(addition.logits, self.weights, addition.inputs(pairs))
        labels = pairs.sum(1) % addition.p
        correct = logits.gather(1, labels.unsqueeze(1)).view(addition.p, addition.p)
        return self.weights[addition.table][: addition.p], correct

    def gradients_of_sums(self, count: int) -> tuple[Tensor, Tensor]:
        """Gradients (N, D) of logits of random classes with respect to the embeddings of a and of b.

        Pairs (a, b) and classes are drawn from the run's seed, with a != b.
        """
        addition, device = self.addition, self.problem.device
        generator = torch.Generator().manual_seed(self.problem.seed)
        p = addition.p
        a, c = (torch.randint(p, (count,), generator=generator) for _ in range(2))
        b = (a + torch.randint(1, p, (count,), generator=generator)) % p
        pairs, classes = torch.stack([a, b], 1).to(device), c.to(device)
        inputs = addition.inputs(pairs)

        def logit(table: Tensor, row: Tensor, label: Tensor) -> Tensor:
            weights = {**self.weights, addition.table: table}
            logits = self.run(addition.logits, weights, row.unsqueeze(0))
            return logits[0].gather(0, label.unsqueeze(0))[0]

        found = []
        for first in range(0, count, PAIRS_AT_ONCE):
            part = slice(first, first + PAIRS_AT_ONCE)
            table = self.weights[addition.table]
            grads_NVD = vmap(grad(logit), (None, 0, 0))(table, inputs[part], classes[part])
            rows = torch.arange(len(grads_NVD), device=device).unsqueeze(1)
            found.append(grads_NVD[rows, pairs[part]])
        gradients_N2D = torch.cat(found)
        return gradients_N2D[:, 0], gradients_N2D[:, 1]

    @property
    def addition(self) -> Addition:
        """How the network adds."""
        addition = addition_of(self.problem)
        assert addition is not None, "the measure needs it"
        return addition

    @property
    def _module(self) -> Any:
        """The replica's module, a transformer where a measure reads more than its weights."""
        return self.problem.module

    def hessian(self, per_parameter: bool = False) -> dict[str, float]:
        """`decomposition.hessian` of the last two steps, the Hessian-vector product exact.

        Arguments:
            per_parameter: also of each parameter, as METRIC/PARAMETER.
        """
        history, step = self.history, self.program.steps[self.slot]
        last = history.last_step
        if last is None or last[0] != step - 1 or len(history.recent_weights) < 2:
            return {}
        _, gradient_before, lr = last
        earlier_weights = history.recent_weights[-2]
        gradient_at = grad(self.program.objective(self.slot))
        hessian_product = jvp(gradient_at, (earlier_weights,), (gradient_before,))[1]
        entanglement = history.entanglement
        before_P, now_P = self.flat(gradient_before), self.flat(self.gradient)
        product_P = self.flat(hessian_product)
        to_reference = self.to_reference(earlier_weights)
        result, vector = decomposition.hessian(
            before_P,
            now_P,
            product_P,
            lr,
            to_reference,
            entanglement[1] if entanglement is not None and entanglement[0] == step - 1 else None,
        )
        history.entanglement = step, vector
        for name, part in self.parts().items() if per_parameter else ():
            to_part = None if to_reference is None else to_reference[part]
            metrics, _ = decomposition.hessian(
                before_P[part], now_P[part], product_P[part], lr, to_part, None
            )
            result |= of_parameter(name, metrics, decomposition.HESSIAN_OF_PARAMETERS)
        return result

    def moments(self) -> dict[str, Tensors]:
        """A copy of the optimizer's state, by kind and parameter."""
        return {
            key: {name: value[self.slot].clone() for name, value in tensors.items()}
            for key, tensors in self.program.state["optimizer"].items()
        }

    def batch(self) -> Tensors:
        """A copy of the rows of the last step, by name; of all data in full-batch training."""
        data, keys = self.problem.data, self.problem.minibatch_keys
        if self.problem.batch_size is None:
            return {name: value.clone() for name, value in self.data().items()}
        rows = self.program.state["minibatch"][self.slot]
        return {name: data[name][rows] for name in keys}

    def adam(self) -> dict[str, float]:
        """`decomposition.adam_dynamics` of the last step."""
        moments = self.moments()
        scalars = self.scalars()
        rates, update = {}, {}
        for name, mean in moments["mean"].items():
            group = scalars[self.problem.optimizer.group_of(name)]
            root = moments["square"][name].sqrt() + group.eps
            rates[name] = group.lr * (1 - group.beta2**group.t) ** 0.5 / root
            update[name] = group.step_size * mean / root
        return decomposition.adam_dynamics(
            self.flat(self.gradient),
            self.flat(moments["mean"]),
            self.flat(rates),
            self.flat(update),
            self.lr,
            self.to_reference(self.weights),
        )

    def shuffled(self, count: int) -> Tensor:
        """G's (count, P) of this interval, trained again from its start in shuffled orders."""
        if self._shuffled is None:
            k = {m.name: m.values["k"] for m in self.measures if "epochs" in m.needs}
            most = max(count, k.get("counterfactual", 0), k.get("counterfactual_validator", 0) + 1)
            self._shuffled = torch.cat(list(self._shuffled_epochs(most)))
        return self._shuffled[:count]

    def _shuffled_epochs(self, count: int) -> Iterator[Tensor]:
        """G's of `count` shuffled epochs, as many at once as there are slots."""
        problem = replace(self.problem, sampling="epochs")
        program, (step, tensors) = (
            self.program.reordered(problem, count),
            self.history.interval_start,
        )
        for first in range(0, count, program.slots):
            numbers = range(first, min(count, first + program.slots))
            for slot, number in enumerate(numbers):
                program.load(slot, replace(problem, seed=self.problem.seed + 7919 * (number + 1)))
                program.restore(slot, step, tensors)
                self.program.copy_settings(self.slot, program, slot)
            total_RP = torch.zeros(())
            for _ in self.history.step_rows:
                program.step()
                grads = self.without_biases(program.state["gradient"])
                total_RP = total_RP + torch.cat([value.flatten(1) for value in grads.values()], 1)
            yield total_RP[: len(numbers)] / len(self.history.step_rows)


def batch_reach(batch_dynamics: Measure) -> int:
    """How many steps the batch gradients are compared over."""
    return max(*batch_dynamics.values["lags"], *batch_dynamics.values["windows"])


def gigabytes_needed(problem: Problem) -> dict[str, float]:
    """What the measures keep of earlier steps, and need to compute from it, in GB by measure.

    Only the measures of windows of gradients, and of what is split from them, are counted; the others keep
    a few copies of the weights.
    """
    measures = {m.name: m for m in problem.measures.measures} if problem.measures else {}
    weights = [w for name, w in problem.module.named_parameters() if "bias" not in name]
    gigabytes = sum(weight.numel() * weight.element_size() for weight in weights) / 1e9
    vectors = {}
    if "batch_dynamics" in measures:
        vectors["batch_dynamics"] = min(
            batch_reach(measures["batch_dynamics"]), problem.train_steps
        )
    windows = {
        name: m.values["window"]
        for name, m in measures.items()
        if m.group == "gradients" and "window" in m.values  # an own instrument's is of its own
    }
    if windows:
        widest = max(windows, key=lambda name: windows[name])  # the others read the same gradients
        # what is kept, and two copies of it while it is computed
        vectors[widest] = 3 * min(windows[widest], len(problem.log_steps))
    counterfactual = measures.get("counterfactual")
    if counterfactual and (window := counterfactual.values["energy_window"]):
        # two components of each, and a copy of one while it is computed
        vectors["counterfactual"] = 3 * min(window, len(problem.log_steps))
    return {name: count * gigabytes for name, count in vectors.items()}


def train_rows(problem: Problem) -> int:
    """The number of train rows: of mini-batches, or of the first entry of the data for training."""
    for name in (*problem.minibatch_keys, *problem.data):
        if name in problem.minibatch_keys or name.startswith("train_"):
            return len(problem.data[name])
    return 0


def _copied(tensors: Tensors, slot: int) -> tuple[Tensors, Tensor]:
    """A copy of one replica's tensors, by name and as one vector, biases last."""
    names = sorted(tensors, key=lambda name: "bias" in name)
    vector = torch.cat([tensors[name][slot].flatten() for name in names])
    parts = vector.split([tensors[name][slot].numel() for name in names])
    copies = {n: part.view_as(tensors[n][slot]) for n, part in zip(names, parts, strict=True)}
    return {name: copies[name] for name in tensors}, vector


def _products(gradients: Sequence[Tensor], distances: Collection[int]) -> Tensor:
    """The products of the last gradient with those at distances before it, by distance; 0 elsewhere."""
    last = gradients[-1]
    known = [d for d in sorted(distances) if d < len(gradients)]
    products = last.new_zeros(known[-1] + 1)
    products[known] = torch.stack([torch.dot(gradients[-1 - d], last) for d in known])
    return products


def _saved_name(entry: Field) -> str:
    return NAMES_IN_CHECKPOINTS.get(entry.name, entry.name)


def _as_tensor(leaf: Tensor | float) -> Tensor:
    """A copy of a tensor on the CPU; a number as a scalar of 64 bits."""
    if isinstance(leaf, Tensor):
        return leaf.detach().cpu().clone()
    return torch.tensor(leaf, dtype=torch.float64 if isinstance(leaf, float) else torch.int64)
