"""The dense network and the loss of a problem, read from the calls that its loss makes.

Any other code is refused: a network that is read is equal to the code.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx

from grok.engine.graph import RESULT

aten = torch.ops.aten


class Unsupported(Exception):
    """Why a problem has no fused step, in a few words."""


@dataclass(eq=False)
class Value:
    """A matrix. batched: it has a row for each example, and none of its rows depends on another."""

    rows: int
    columns: int
    batched: bool = field(default=False, init=False)


@dataclass(eq=False)
class Weight(Value):
    """A part of a parameter: its rows and columns from the given ones on, perhaps transposed.

    A parameter of one dimension is one row; of three, the matrices stand below each other.
    """

    name: str
    first_row: int = 0
    first_column: int = 0
    transposed: bool = False


@dataclass(eq=False)
class Rows(Value):
    """Rows of numbers among the data, those of the mini-batch where `sampled`."""

    name: str
    sampled: bool = False


@dataclass(eq=False)
class Masked(Value):
    """A whole parameter times a tensor of its shape that is not trained."""

    weight: Weight
    mask: str


@dataclass(eq=False)
class Index:
    """Whole numbers among the data, one for each example: a column of `name`.

    width: columns of `name`. sampled: those of the mini-batch.
    """

    name: str
    rows: int
    width: int = 1
    column: int = 0
    sampled: bool = False


@dataclass(eq=False)
class Layer(Value):
    """activation(sum + bias)."""

    bias: Weight | None = field(default=None, kw_only=True)
    activation: str = field(default="identity", kw_only=True)


@dataclass(eq=False)
class Product(Layer):
    """activation(left @ right + bias)."""

    left: Value
    right: Value


@dataclass(eq=False)
class Lookup(Layer):
    """activation(the sum of rows of some matrices + bias)."""

    terms: tuple[tuple[Value, Index], ...]


@dataclass(eq=False)
class SquaredError:
    """Mean of (outputs / divisor - targets)^2.

    targets: rows of numbers, a table's rows at labels, or one-hot labels.
    divisor: the number among the data by this name; None for 1.
    """

    outputs: Value
    targets: Rows | tuple[Rows, Index] | Index
    divisor: str | None = None


@dataclass(eq=False)
class CrossEntropy:
    """Mean of -log softmax(outputs / divisor)[label], computed in `dtype`; divisor as above."""

    outputs: Value
    labels: Index
    dtype: torch.dtype
    divisor: str | None = None


Loss = SquaredError | CrossEntropy


def read(graph: fx.GraphModule, names: list[str], params: dict[str, Tensor]) -> Loss:
    """The loss that a recorded graph computes.

    Arguments:
        graph: of the loss of one replica, from `grok.engine.graph.record`.
        names: of its arguments; BATCH for the indices of the mini-batch.
        params: the parameters.

    Raises:
        Unsupported: the graph makes other calls.
    """
    return _Reader(graph, names, params).loss()


def multiplications(value: Value) -> int:
    """Multiplications in the products that a value is computed by."""
    if isinstance(value, Product):
        own = value.rows * value.columns * value.left.columns
        return own + multiplications(value.left) + multiplications(value.right)
    if isinstance(value, Lookup):
        return sum(multiplications(table) for table in {table for table, _ in value.terms})
    return 0


BATCH = "minibatch"
ACTIVATIONS = {aten.tanh.default: "tanh", aten.relu.default: "relu", aten.gelu.default: "gelu"}


@dataclass(eq=False)
class _Reshaped:
    """A value, or rows of it, with another shape, divided by a number among the data."""

    of: Any
    divisor: str | None = None


@dataclass(eq=False)
class _Number:
    """A number among the data."""

    name: str


@dataclass(eq=False)
class _Partial:
    """Part of a loss: `kind` is logp, picked, onehot, gap, square, and `of` what it is made of."""

    kind: str
    of: Any
    other: Any = None
    dtype: torch.dtype | None = None
    divisor: str | None = None


class _Reader:
    """Interprets a graph's calls with descriptions in place of tensors."""

    def __init__(self, graph: fx.GraphModule, names: list[str], params: dict[str, Tensor]):
        self.graph, self.params = graph, params
        self.known: dict[fx.Node, Any] = {}
        self.dtype = next(iter(params.values())).dtype
        holders = [node for node in graph.graph.nodes if node.op == "placeholder"]
        for node, name in zip(holders, names, strict=True):
            self.known[node] = self._argument(node, name)

    def loss(self) -> Loss:
        for node in self.graph.graph.nodes:
            if node.op == "output":
                result = self.known[node.args[0]]
                if not isinstance(result, SquaredError | CrossEntropy):
                    raise Unsupported("another loss")
                _mark_batched(result.outputs)
                return result
            if node.op != "placeholder":
                self.known[node] = self._value(node)
        raise AssertionError("a graph ends with its output")

    def _argument(self, node: fx.Node, name: str) -> Any:
        shape, dtype, _ = node.meta[RESULT]
        if name in self.params:
            if dtype != self.dtype or not 1 <= len(shape) <= 3:
                raise Unsupported("parameters of several types")
            rows, columns = matrix_shape(self.params[name])
            return Weight(rows, columns, name)
        if name == BATCH:
            return BATCH
        if dtype == torch.long and len(shape) in (1, 2):
            return Index(name, shape[0], *shape[1:])
        if dtype == self.dtype and len(shape) == 2:
            return Rows(shape[0], shape[1], name)
        if dtype == self.dtype and not shape:
            return _Number(name)
        return None  # of no use here

    def _value(self, node: fx.Node) -> Any:
        rule = _RULES.get(node.target)
        if node.op != "call_function" or rule is None:
            raise Unsupported(str(getattr(node.target, "__name__", node.target)))
        arguments = [self._read(argument) for argument in node.args]
        try:
            value = rule(self, node, *arguments, **node.kwargs)
        except TypeError:
            value = None  # other arguments than a rule expects
        if value is None:
            raise Unsupported(str(getattr(node.target, "__name__", node.target)))
        return value

    def _read(self, argument: Any) -> Any:
        if isinstance(argument, fx.Node):
            return self.known[argument]
        if isinstance(argument, list | tuple):
            return [self._read(part) for part in argument]
        return argument


def _mark_batched(value: Value, batched: bool = True, seen: dict | None = None) -> None:
    """Mark the values that have a row for each example: the outputs, and what they are made of."""
    seen = {} if seen is None else seen
    if seen.setdefault(value, batched) != batched or (
        batched and not isinstance(value, Rows | Layer)
    ):
        raise Unsupported("rows of examples that depend on each other")
    if not batched and (isinstance(value, Lookup) or (isinstance(value, Rows) and value.sampled)):
        raise Unsupported("rows of examples that are no examples of the batch")
    value.batched = batched
    if isinstance(value, Product):
        _mark_batched(value.left, batched, seen)
        _mark_batched(value.right, False, seen)
    elif isinstance(value, Lookup):
        for table, _ in value.terms:
            _mark_batched(table, False, seen)


def matrix_shape(parameter: Tensor) -> tuple[int, int]:
    """Rows and columns of a parameter as a matrix."""
    columns = parameter.shape[-1]
    return parameter.numel() // columns, columns


def _shape(node: fx.Node) -> torch.Size:
    return node.meta[RESULT].shape


def _is_read_once(node: fx.Node, argument: int = 0) -> bool:
    source = node.args[argument]
    return isinstance(source, fx.Node) and len(source.users) == 1


# -- rules: what a call returns, or None for what is not supported ----------------------------------


def _transpose(reader: _Reader, node: fx.Node, value: Any, order: Any = (1, 0)) -> Any:
    if list(order) != [1, 0] or len(_shape(node)) != 2:
        return None
    if isinstance(value, Weight):
        return replace(
            value, rows=value.columns, columns=value.rows, transposed=not value.transposed
        )
    return _Partial("columns", value) if isinstance(value, Index) else None


def _split(reader: _Reader, node: fx.Node, value: Any, size: int, dim: int = 0) -> Any:
    if isinstance(value, Weight) and not value.transposed and dim in (0, 1):
        parts = []
        whole = value.columns if dim else value.rows
        for first in range(0, whole, size):
            if dim:
                columns = min(size, whole - first)
                parts.append(
                    replace(value, columns=columns, first_column=value.first_column + first)
                )
            else:
                rows = min(size, whole - first)
                parts.append(replace(value, rows=rows, first_row=value.first_row + first))
        return parts
    return None


def _unbind(reader: _Reader, node: fx.Node, value: Any, dim: int = 0) -> Any:
    if isinstance(value, _Partial) and value.kind == "columns" and dim == 0:
        return [replace(value.of, column=c) for c in range(value.of.width)]
    shape = reader.params[value.name].shape if isinstance(value, Weight) else ()
    if len(shape) == 3 and dim == 0 and value.rows == shape[0] * shape[1]:
        return [replace(value, rows=shape[1], first_row=i * shape[1]) for i in range(shape[0])]
    return None


def _item(reader: _Reader, node: fx.Node, value: Any, position: int) -> Any:
    return value[position] if isinstance(value, list) else None


def _select(reader: _Reader, node: fx.Node, value: Any, dim: int, position: int) -> Any:
    if isinstance(value, Index) and dim == 1:
        return replace(value, column=position)
    return None


def _index(reader: _Reader, node: fx.Node, value: Any, indices: list) -> Any:
    if len(indices) != 1:
        return None
    (index,) = indices
    if index == BATCH:
        if isinstance(value, Index | Rows):
            return replace(value, rows=_shape(node)[0], sampled=True)
        return None
    if not isinstance(index, Index) or len(_shape(node)) != 2:
        return None
    if isinstance(value, Rows):
        return (value, index)  # a table's rows
    return _lookup(value, index)


def _embedding(reader: _Reader, node: fx.Node, table: Any, index: Any, *_: Any) -> Any:
    return _lookup(table, index)


def _lookup(table: Any, index: Any) -> Lookup | None:
    if isinstance(table, Weight | Layer | Masked) and isinstance(index, Index):
        return Lookup(index.rows, table.columns, ((table, index),))
    return None


def _matmul(reader: _Reader, node: fx.Node, left: Any, right: Any) -> Any:
    if isinstance(left, Value) and isinstance(right, Weight | Layer | Masked):
        return Product(left.rows, right.columns, left, right)
    return None


def _addmm(reader: _Reader, node: fx.Node, bias: Any, left: Any, right: Any) -> Any:
    product = _matmul(reader, node, left, right)
    return None if product is None else _with_bias(product, bias)


def _with_bias(layer: Layer, bias: Any) -> Any:
    is_free = layer.bias is None and layer.activation == "identity"
    if is_free and isinstance(bias, Weight) and (bias.rows, bias.columns) == (1, layer.columns):
        return replace(layer, bias=bias)
    return None


def _add(reader: _Reader, node: fx.Node, left: Any, right: Any) -> Any:
    if not _is_read_once(node):
        return None
    if right == 0 and isinstance(left, Layer):
        return left
    if isinstance(left, Layer) and isinstance(right, Weight):
        return _with_bias(left, right)
    plain = all(
        isinstance(x, Lookup) and x.bias is None and x.activation == "identity"
        for x in (left, right)
    )
    if plain and _is_read_once(node, 1):
        return replace(left, terms=left.terms + right.terms)
    return None


def _activation(reader: _Reader, node: fx.Node, value: Any) -> Any:
    kinds: dict[Any, str] = ACTIVATIONS
    return _activated(node, value, kinds[node.target])


def _activated(node: fx.Node, value: Any, kind: str) -> Any:
    is_free = isinstance(value, Layer) and value.activation == "identity"
    return replace(value, activation=kind) if is_free and _is_read_once(node) else None


def _mul(reader: _Reader, node: fx.Node, left: Any, right: Any) -> Any:
    if isinstance(right, float | int) and right == 1:
        return left
    is_whole = isinstance(left, Weight) and not left.transposed
    if (
        is_whole
        and isinstance(right, Rows)
        and matrix_shape(reader.params[left.name])
        == (
            left.rows,
            left.columns,
        )
        == (right.rows, right.columns)
    ):
        return Masked(left.rows, left.columns, left, right.name)
    return None


def _reshape(reader: _Reader, node: fx.Node, value: Any, *_: Any) -> Any:
    """Outputs or labels with further axes of length 1."""
    of, divisor = _divided(value)
    is_known = isinstance(of, Layer) or (isinstance(of, Index) and of.width == 1)
    return _Reshaped(of, divisor) if is_known and _shape(node)[0] == of.rows else None


def _divide(reader: _Reader, node: fx.Node, value: Any, number: Any) -> Any:
    """Outputs without an activation, divided by a number."""
    of, divisor = _divided(value)
    is_free = isinstance(of, Layer) and of.activation == "identity" and divisor is None
    if is_free and isinstance(number, _Number) and _is_read_once(node):
        return _Reshaped(of, number.name)
    return None


def _divided(value: Any) -> tuple[Any, str | None]:
    """What a value with another shape is, and the number that it is divided by."""
    return (value.of, value.divisor) if isinstance(value, _Reshaped) else (value, None)


def _copy(reader: _Reader, node: fx.Node, value: Any, dtype: torch.dtype | None = None) -> Any:
    if isinstance(value, _Partial) and value.kind in ("onehot", "gap"):
        return value
    of, divisor = _divided(value)
    if isinstance(of, Layer) and dtype in (torch.float32, torch.float64):
        return _Partial("cast", of, dtype=dtype, divisor=divisor)
    return None


def _outputs(value: Any) -> tuple[Layer | None, torch.dtype | None, str | None]:
    """The outputs (N, C) that a loss is computed from, the type they are cast to, and the name of
    what they are divided by."""
    if isinstance(value, _Partial) and value.kind == "cast":
        return value.of, value.dtype, value.divisor
    of, divisor = _divided(value)
    return (of, None, divisor) if isinstance(of, Layer) else (None, None, None)


def _log_softmax(reader: _Reader, node: fx.Node, value: Any, dim: int, _: bool) -> Any:
    outputs, dtype, divisor = _outputs(value)
    is_last = dim in (-1, len(_shape(node)) - 1)
    if outputs is None or not is_last or _shape(node).numel() != outputs.rows * outputs.columns:
        return None
    return _Partial("logp", outputs, dtype=dtype or reader.dtype, divisor=divisor)


def _labels(value: Any) -> Index | None:
    of = value.of if isinstance(value, _Reshaped) else value
    return of if isinstance(of, Index) and of.width == 1 else None


def _gather(reader: _Reader, node: fx.Node, value: Any, dim: int, index: Any) -> Any:
    labels = _labels(index)
    is_last = dim in (-1, len(_shape(node)) - 1)
    is_logp = isinstance(value, _Partial) and value.kind == "logp"
    if is_logp and is_last and labels is not None and labels.rows == value.of.rows:
        return replace(value, kind="picked", other=labels)
    return None


def _mean(reader: _Reader, node: fx.Node, value: Any, dims: Any = None, *_: Any) -> Any:
    if not isinstance(value, _Partial):
        return None
    if dims is not None:
        is_rowwise = value.kind == "square" and list(dims) == [-1]
        return value if is_rowwise else None
    if value.kind == "picked":
        return replace(value, kind="mean")
    if value.kind == "square":
        return SquaredError(value.of, value.other, value.divisor)
    return None


def _neg(reader: _Reader, node: fx.Node, value: Any) -> Any:
    if isinstance(value, _Partial) and value.kind == "mean":
        assert value.dtype is not None, "set with the log-softmax"
        return CrossEntropy(value.of, value.other, value.dtype, value.divisor)
    return None


def _arange(reader: _Reader, node: fx.Node, count: int, **_: Any) -> Any:
    return _Partial("classes", count)


def _equal(reader: _Reader, node: fx.Node, left: Any, right: Any) -> Any:
    labels = _labels(left)
    is_classes = isinstance(right, _Partial) and right.kind == "classes"
    if labels is not None and is_classes and _shape(node).numel() == labels.rows * right.of:
        return _Partial("onehot", right.of, labels)
    return None


def _subtract(reader: _Reader, node: fx.Node, left: Any, right: Any) -> Any:
    outputs, _, divisor = _outputs(left)
    if outputs is None or _shape(node).numel() != outputs.rows * outputs.columns:
        return None
    if isinstance(right, _Partial) and right.kind == "onehot":
        targets, shape = right.other, (right.other.rows, right.of)
    elif isinstance(right, Rows):
        targets, shape = right, (right.rows, right.columns)
    elif isinstance(right, tuple):
        targets, shape = right, (right[1].rows, right[0].columns)
    else:
        return None
    if shape != (outputs.rows, outputs.columns):
        return None
    return _Partial("gap", outputs, targets, divisor=divisor)


def _power(reader: _Reader, node: fx.Node, value: Any, exponent: float) -> Any:
    if exponent != 2:
        return None
    if isinstance(value, _Partial) and value.kind == "gap":
        return replace(value, kind="square")
    return _activated(node, value, "square")


_RULES: dict[Any, Callable] = {
    aten.t.default: _transpose,
    aten.permute.default: _transpose,
    aten.split.Tensor: _split,
    aten.unbind.int: _unbind,
    operator.getitem: _item,
    aten.select.int: _select,
    aten.index.Tensor: _index,
    aten.embedding.default: _embedding,
    aten.mm.default: _matmul,
    aten.addmm.default: _addmm,
    aten.add.Tensor: _add,
    **dict.fromkeys(ACTIVATIONS, _activation),
    aten.mul.Tensor: _mul,
    aten.div.Tensor: _divide,
    aten.unsqueeze.default: _reshape,
    aten._to_copy.default: _copy,
    aten._log_softmax.default: _log_softmax,
    aten.gather.default: _gather,
    aten.mean.default: _mean,
    aten.mean.dim: _mean,
    aten.neg.default: _neg,
    aten.arange.default: _arange,
    aten.eq.Tensor: _equal,
    aten.sub.Tensor: _subtract,
    aten.pow.Tensor_Scalar: _power,
}
