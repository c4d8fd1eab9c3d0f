"""The C++ source of a network's training steps: forward, backward and optimizer, in one pass."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from grok.engine.fused.network import (
    CrossEntropy,
    Index,
    Layer,
    Lookup,
    Loss,
    Masked,
    Product,
    Rows,
    Unsupported,
    Value,
    Weight,
    matrix_shape,
)
from grok.engine.optimizers import ACCUMULATORS
from grok.engine.spec import Optimizer

HERE = Path(__file__).parent
C_TYPES = {torch.float32: "float", torch.float64: "double"}
LINE = 64  # bytes of a cache line, and of the longest vector
# Activations and their gradients, for all examples, that are kept at once. Above it, examples are
# taken in parts of about PART_BYTES, which stay in the cache of a core.
WHOLE_BYTES = 512 * 2**10
PART_BYTES = 192 * 2**10
# Terms of a sum in a product whose second factor is copied transposed. The copy, of up to eight
# vectors for each, lies on a thread's stack.
MOST_TERMS = 4096
KEEPS_SLOPE = ("gelu", "square")  # activations whose slope is computed from the pre-activation
MILLS_TERMS = {"float": 12, "double": 32}


@dataclass(frozen=True)
class Source:
    """A program, and what it is called with.

    workspace: reals that each thread needs.
    data: names of the data that it reads, in their order among the tensors.
    indices: for each of these that holds row numbers, the number of rows.
    """

    code: str
    workspace: int
    data: tuple[str, ...]
    indices: dict[str, int]


@dataclass(frozen=True)
class _Operand:
    """A matrix in memory: the C++ expression of its address, and its strides."""

    at: str
    row: int
    column: int

    @property
    def transposed(self) -> "_Operand":
        return _Operand(self.at, self.column, self.row)


@dataclass
class _Stored:
    """How a parameter lies in the workspace: its matrix, or that transposed, in padded rows."""

    rows: int
    columns: int
    transposed: bool
    offset: int
    line: int

    @property
    def size(self) -> int:
        return self.rows * self.line


def write(loss: Loss, params: dict[str, Tensor], optimizer: Optimizer, batch_size: int) -> Source:
    """The source of the training steps that lower a loss.

    Arguments:
        loss: from `grok.engine.fused.network.read`.
        params: the parameters.
        optimizer: its kind, groups, `decay_to` and `fixed_norm` are read.
        batch_size: examples of a mini-batch; 0 for full-batch training.
    """
    return _Writer(loss, params, optimizer, batch_size).source()


class _Writer:
    def __init__(
        self, loss: Loss, params: dict[str, Tensor], optimizer: Optimizer, batch_size: int
    ):
        self.loss, self.params, self.optimizer, self.batch_size = (
            loss,
            params,
            optimizer,
            batch_size,
        )
        self.real = C_TYPES[next(iter(params.values())).dtype]
        self.bytes = 4 if self.real == "float" else 8
        self.values = list(_postorder(loss.outputs))
        self.uses = self._count_uses()
        self.size = 0  # reals of the workspace so far
        self.stored = {name: self._store(name) for name in params}
        self.arena = self.size
        kinds = len(ACCUMULATORS[optimizer.kind])
        self.decay_target = (1 + kinds) * self.arena if optimizer.decay_to == "init" else 0
        self.gradient = (1 + kinds + (self.decay_target > 0)) * self.arena
        self.size = self.gradient + self.arena
        self.examples = loss.outputs.rows
        self.part = self._rows_of_part()
        self.parts = -(-self.examples // self.part)
        self.data: list[str] = []
        self.indices: dict[str, int] = {}
        self.places = {value: self._place(value) for value in self._computed()}
        self.slopes = {
            value: self._reserve(self._rows(value), value.columns)
            for value in self._computed()
            if isinstance(value, Layer) and value.activation in KEEPS_SLOPE
        }
        self.grads = {
            value: self._reserve(self._rows(value), value.columns)
            for value in self._computed()
            if not isinstance(value, Rows)
        }
        self.summed = {name for name in params if self._is_summed(name)}
        self.lines: list[str] = []

    # -- layout ------------------------------------------------------------------------------------

    def _padded(self, columns: int) -> int:
        """Reals of a row: whole vectors, and no multiple of 1 KiB, which would crowd the cache."""
        step = LINE // self.bytes
        line = -(-columns // step) * step
        return line + step if line * self.bytes % 1024 == 0 else line

    def _store(self, name: str) -> _Stored:
        rows, columns = matrix_shape(self.params[name])
        transposed = self._is_better_transposed(name, rows, columns)
        if transposed:
            rows, columns = columns, rows
        stored = _Stored(rows, columns, transposed, self.size, self._padded(columns))
        self.size += stored.size
        return stored

    def _is_better_transposed(self, name: str, rows: int, columns: int) -> bool:
        """Whether a parameter is stored transposed.

        The rows of a looked-up matrix must lie together. Otherwise the first layer's weights are
        stored as they are multiplied with, and others so that less is padded.
        """
        wanted = set()
        for value in self.values:
            if isinstance(value, Lookup):
                wanted |= {
                    t.transposed for t, _ in value.terms if isinstance(t, Weight) and t.name == name
                }
            if isinstance(value, Masked) and value.weight.name == name:
                wanted.add(False)
        if len(wanted) == 2:
            raise Unsupported("rows and columns of one parameter are looked up")
        if wanted:
            return wanted.pop()
        for value in self.values:
            if not isinstance(value, Product) or not isinstance(value.left, Rows):
                continue
            if isinstance(value.right, Weight) and value.right.name == name:
                return value.right.transposed
        return columns * self._padded(rows) < rows * self._padded(columns)

    def _reserve(self, rows: int, columns: int) -> _Operand:
        line = self._padded(columns)
        place = _Operand(f"memory + {self.size}", line, 1)
        self.size += rows * line
        return place

    def _computed(self) -> list[Value]:
        """All values but weights."""
        return [value for value in self.values if not isinstance(value, Weight)]

    def _rows(self, value: Value) -> int:
        return self.part if value.batched else value.rows

    def _place(self, value: Value) -> _Operand:
        is_whole = isinstance(value, Rows) and not value.sampled
        return self._reserve(
            self.part * self.parts if is_whole and value.batched else self._rows(value),
            value.columns,
        )

    def _rows_of_part(self) -> int:
        """Examples that are taken through the network at once."""
        layers = [value for value in self.values if isinstance(value, Layer) and value.batched]
        row = sum(2 * self._padded(layer.columns) * self.bytes for layer in layers)
        if self.examples * row <= WHOLE_BYTES:
            return self.examples
        parts = -(-self.examples * row // PART_BYTES)
        return max(16, -(-self.examples // parts))

    # -- uses --------------------------------------------------------------------------------------

    def _count_uses(self) -> dict[Value | str, int]:
        """How often each computed value, and each parameter by name, is used."""
        uses: dict[Value | str, int] = {self.loss.outputs: 1}
        for value in self.values:
            for part in _parts(value):
                key = part.name if isinstance(part, Weight) else part
                uses[key] = uses.get(key, 0) + 1
        for value in self.values:
            if value.batched and isinstance(value, Layer) and uses[value] > 1:
                raise Unsupported("a layer's outputs are used twice")
        unused = set(self.params) - {key for key in uses if isinstance(key, str)}
        if unused:
            raise Unsupported(f"the loss does not depend on {min(unused)}")
        return uses

    def _is_summed(self, name: str) -> bool:
        """Whether a parameter's gradient is summed up in memory, and not used where it arises."""
        if self.uses[name] > 1:
            return True
        for value in self.values:
            once = self.parts == 1 or not value.batched
            if isinstance(value, Product) and _is_whole(value.right, name, self.params):
                return not once
            if isinstance(value, Layer) and value.bias is not None and value.bias.name == name:
                return not once
        return True

    def _is_accumulated(self, value: Value) -> bool:
        """Whether the gradient at a value is a sum of several terms that arise at different times."""
        if value.batched:
            return False
        for user in self.values:
            if isinstance(user, Product) and user.left is value:
                return self.uses[value] > 1
            if isinstance(user, Product) and user.right is value and self.parts == 1:
                return self.uses[value] > 1
        return True

    # -- source ------------------------------------------------------------------------------------

    def source(self) -> Source:
        loss_real = C_TYPES[self.loss.dtype] if isinstance(self.loss, CrossEntropy) else self.real
        mills = ""
        if any(isinstance(v, Layer) and v.activation == "gelu" for v in self.values):
            coefficients = ", ".join(map(repr, mills_ratio(MILLS_TERMS[self.real])))
            mills = f"#define MILLS {coefficients}\n"
        step = self._step()
        moves = self._load_and_save()
        constants = (
            f"typedef {self.real} real;\ntypedef {loss_real} loss_real;\n"
            "enum { ADAMW, ADAM, SGD, LION };\n"
            f"constexpr int OPTIMIZER = {self.optimizer.kind.upper()};\n"
            f"constexpr long ARENA = {self.arena}, GRADIENT = {self.gradient}, "
            f"GROUPS = {len(self.optimizer.groups)}, BATCH = {self.batch_size}, "
            f"WORKSPACE = {self._whole_lines()};\n"
            + (f"#define DECAY_TARGET {self.decay_target}\n" if self.decay_target else "")
            + mills
        )
        kernels, driver = ((HERE / name).read_text() for name in ("kernels.h", "driver.h"))
        code = "\n".join([constants, kernels, moves, step, driver])
        return Source(code, self._whole_lines(), tuple(self.data), self.indices)

    def _whole_lines(self) -> int:
        """Reals of a thread's workspace: whole cache lines, and one between threads."""
        step = LINE // self.bytes
        return (-(-self.size // step) + 1) * step

    def _load_and_save(self) -> str:
        lines = [
            "struct Tensor { void* data; long stride; };",
            "struct Replica { const Tensor* tensors; long slot; real* memory; };",
            "template <class T> INLINE T* tensor(const Replica& r, long i) {",
            "    return (T*)r.tensors[i].data + r.slot * r.tensors[i].stride;",
            "}",
            "// Copies between a matrix without padding and one whose rows are `line` reals apart.",
            "template <bool LOAD> static void move(real* flat, long rows, long columns, bool transposed,",
            "                                      real* padded, long line) {",
            "    for (long i = 0; i < rows; i++)",
            "        for (long j = 0; j < columns; j++) {",
            "            real& inside = padded[i * line + j];",
            "            real& outside = flat[transposed ? j * rows + i : i * columns + j];",
            "            (LOAD ? inside : outside) = LOAD ? outside : inside;",
            "        }",
            "}",
            "template <bool LOAD> static void move_block(const Replica& r, long first, long offset) {",
        ]
        for position, stored in enumerate(self.stored.values()):
            lines.append(
                f"    move<LOAD>(tensor<real>(r, first + {position}), {stored.rows}, {stored.columns}, "
                f"{str(stored.transposed).lower()}, r.memory + offset + {stored.offset}, {stored.line});"
            )
        count, kinds = len(self.params), 1 + len(ACCUMULATORS[self.optimizer.kind])
        loaded = kinds + (self.decay_target > 0)
        lines += [
            "}",
            "static void load(const Replica& r) {",
            "    real* memory = r.memory;",
            "    clear(memory, WORKSPACE);",
            f"    for (long kind = 0; kind < {loaded}; kind++)",
            f"        move_block<true>(r, kind * {count}, kind * ARENA);",
        ]
        for value, place in self.places.items():
            if isinstance(value, Rows) and not value.sampled:
                lines.append(
                    f"    move<true>({self._data(value.name)}, {value.rows}, {value.columns}, false, "
                    f"{place.at}, {place.row});"
                )
        lines += [
            "}",
            "static void save(const Replica& r, bool with_gradients) {",
            f"    for (long kind = 0; kind < {kinds}; kind++)",
            f"        move_block<false>(r, kind * {count}, kind * ARENA);",
            f"    if (with_gradients) move_block<false>(r, {loaded * count}, GRADIENT);",
            "}",
        ]
        return "\n".join(lines)

    def _step(self) -> str:
        self._emit(
            "static void step(const Replica& r, const Scalars* scalars, const long* batch, double* loss) {"
        )
        self._emit("real* const memory = r.memory;")
        for name in sorted(self.summed):
            stored = self.stored[name]
            self._emit(f"clear(memory + {self.gradient + stored.offset}, {stored.size});")
        for value in self._computed():
            if value in self.grads and self._is_accumulated(value):
                place = self.grads[value]
                self._emit(f"clear({place.at}, {self._rows(value) * place.row});")
        layers = self._computed()
        for value in layers:
            if not value.batched:
                self._forward(value)
        self._emit(f"for (long first = 0; first < {self.examples}; first += {self.part}) {{")
        self._emit(
            f"const long rows = first + {self.part} <= {self.examples} ? {self.part} : {self.examples} - first;"
        )
        self._emit(
            "auto example = [&](long n) { return first + (n < rows ? n : rows - 1); };"
            " (void)example;"
        )
        for value in layers:
            if value.batched:
                self._forward(value)
        self._divide(self._operand(self.loss.outputs))
        self._loss_gradient()
        self._divide(self.grads[self.loss.outputs])
        for value in reversed(layers):
            if value.batched:
                self._backward(value)
        self._emit("}")
        for value in reversed(layers):
            if not value.batched:
                self._backward(value)
        for name in sorted(self.summed):
            stored = self.stored[name]
            self._emit(
                f"update_all(memory + {stored.offset}, {stored.size}, scalars[{self._group(name)}]);"
            )
        if self.optimizer.rescales:
            norm = f"*tensor<const double>(r, {self._blocks() * len(self.params)})"
            self._emit(f"rescale(memory, ARENA, {norm});")
        self._emit("}")
        return "\n".join(self.lines)

    def _emit(self, line: str) -> None:
        self.lines.append(line)

    def _group(self, name: str) -> int:
        return self.optimizer.group_of(name)

    def _data(self, name: str, of: str = "real") -> str:
        """The address of an entry of the data."""
        if name not in self.data:
            self.data.append(name)
        first = self._blocks() * len(self.params) + self.optimizer.rescales
        return f"tensor<{of}>(r, {first + self.data.index(name)})"

    def _blocks(self) -> int:
        """Weights, accumulators, targets of the decay and gradients, which come before the data."""
        return 2 + len(ACCUMULATORS[self.optimizer.kind]) + (self.decay_target > 0)

    def _index(self, index: Index, row: str, limit: int | None = None) -> str:
        """The whole number of an example."""
        if limit is not None:
            self.indices[index.name] = min(limit, self.indices.get(index.name, limit))
        number = f"batch[{row}]" if index.sampled else row
        return (
            f"{self._data(index.name, 'const long')}[({number}) * {index.width} + {index.column}]"
        )

    # -- forward -----------------------------------------------------------------------------------

    def _operand(self, value: Value, block: int = 0) -> _Operand:
        """Where a value lies; `block` reals further for a weight's gradient."""
        if not isinstance(value, Weight):
            place = self.places[value]
            if isinstance(value, Rows) and value.batched and not value.sampled:
                return _Operand(f"{place.at} + first * {place.row}", place.row, 1)
            return place
        stored = self.stored[value.name]
        row, column = value.first_row, value.first_column
        if stored.transposed:
            row, column = column, row
        at = f"memory + {stored.offset + block + row * stored.line + column}"
        operand = _Operand(at, stored.line, 1)
        return operand if stored.transposed == value.transposed else operand.transposed

    def _product(
        self, rows: int, columns: int, inner: int, a: _Operand, b: _Operand, epilogue: str
    ) -> None:
        """Emit a product; `epilogue` uses the row i, the column j and the vector c of sums."""
        if b.column != 1 and b.row != 1:
            raise AssertionError("one stride of every matrix is 1")
        is_transposed = b.column != 1
        if is_transposed and inner > MOST_TERMS:
            raise Unsupported("a wide layer")
        self._emit(
            f"product<{rows}, {columns}, {inner}, {str(is_transposed).lower()}>({a.at}, {a.row}, {a.column}, "
            f"{b.at}, {b.row if not is_transposed else b.column}, "
            f"[&](long i, long j, V c) {{ {epilogue} }});"
        )

    def _activate(self, layer: Layer, sums: str, row: str) -> str:
        """Store the activations of a vector of sums in a row, from column j on."""
        place, kept = self.places[layer], self.slopes.get(layer)
        if layer.bias is not None:
            sums = f"{sums} + load({self._operand(layer.bias).at} + j)"
        slope = f"{kept.at} + {row} * {kept.row} + j" if kept else "nullptr"
        applied = f"{layer.activation.capitalize()}::apply({sums}, {slope})"
        return f"store({place.at} + {row} * {place.row} + j, {applied});"

    def _forward(self, value: Value) -> None:
        if isinstance(value, Product):
            a, b = self._operand(value.left), self._operand(value.right)
            rows, columns = self._rows(value), value.columns
            self._product(rows, columns, value.left.columns, a, b, self._activate(value, "c", "i"))
        elif isinstance(value, Lookup):
            self._emit(f"for (long n = 0; n < {self._rows(value)}; n++) {{")
            for number, (table, index) in enumerate(value.terms):
                place = self._operand(table)
                row = self._index(index, "example(n)", table.rows)
                self._emit(f"const real* table{number} = {place.at} + {row} * {place.row};")
            sums = " + ".join(f"load(table{number} + j)" for number in range(len(value.terms)))
            self._emit(f"for (long j = 0; j < {value.columns}; j += W)")
            self._emit(self._activate(value, sums, "n"))
            self._emit("}")
        elif isinstance(value, Masked):
            source, place, line = (
                self._operand(value.weight),
                self.places[value],
                self.places[value].row,
            )
            self._emit(f"for (long i = 0; i < {value.rows}; i++)")
            self._emit(f"for (long j = 0; j < {value.columns}; j++)")
            mask = f"{self._data(value.mask)}[i * {value.columns} + j]"
            self._emit(
                f"({place.at})[i * {line} + j] = ({source.at})[i * {source.row} + j] * {mask};"
            )
        elif isinstance(value, Rows) and value.sampled:
            place = self.places[value]
            self._emit(f"for (long n = 0; n < {self.part}; n++)")
            self._emit(f"for (long j = 0; j < {value.columns}; j++)")
            data = f"{self._data(value.name)}[batch[example(n)] * {value.columns} + j]"
            self._emit(f"({place.at})[n * {place.row} + j] = {data};")

    # -- backward ----------------------------------------------------------------------------------

    def _divide(self, place: _Operand) -> None:
        """Divide the outputs, or the gradient at them, by the loss's divisor."""
        outputs, divisor = self.loss.outputs, self.loss.divisor
        if divisor is not None:
            self._emit(f"for (long i = 0; i < {self.part}; i++)")
            self._emit(f"for (long j = 0; j < {outputs.columns}; j += W)")
            at = f"{place.at} + i * {place.row} + j"
            self._emit(f"store({at}, load({at}) / *{self._data(divisor)});")

    def _loss_gradient(self) -> None:
        outputs = self.loss.outputs
        y, d = self._operand(outputs), self.grads[outputs]
        shape = f"<{self.part}, {outputs.columns}>"
        where = f"{y.at}, {d.at}, {y.row}, rows, {self.examples}, loss"
        if isinstance(self.loss, CrossEntropy):
            label = self._index(self.loss.labels, "example(n)", outputs.columns)
            self._emit(f"cross_entropy{shape}({where}, [&](long n) {{ return {label}; }});")
            return
        targets = self.loss.targets
        if isinstance(targets, Rows):
            row = "batch[example(n)]" if targets.sampled else "example(n)"
            target = f"{self._data(targets.name)}[{row} * {outputs.columns} + j]"
        elif isinstance(targets, Index):
            target = f"real({self._index(targets, 'example(n)', outputs.columns)} == j)"
        else:
            table, index = targets
            row = self._index(index, "example(n)", table.rows)
            target = f"{self._data(table.name)}[{row} * {table.columns} + j]"
        self._emit(f"squared_error{shape}({where}, [&](long n, long j) {{ return {target}; }});")

    def _backward(self, value: Value) -> None:
        """From the gradient at a value to those at what it is computed from."""
        if isinstance(value, Rows):
            return
        d = self.grads[value]
        is_nonlinear = isinstance(value, Layer) and value.activation != "identity"
        if is_nonlinear and (self._is_accumulated(value) or value is self.loss.outputs):
            self._emit(f"for (long i = 0; i < {self._rows(value)}; i++)")
            self._emit(f"for (long j = 0; j < {value.columns}; j += W)")
            at = f"{d.at} + i * {d.row} + j"
            self._emit(f"store({at}, load({at}) * {self._slope(value)});")
        if isinstance(value, Product):
            self._backward_product(value, d)
        elif isinstance(value, Lookup):
            for table, index in value.terms:
                to = self._gradient_at(table)
                row = self._index(index, "example(n)")
                self._emit(
                    f"scatter<{value.columns}>({d.at}, {d.row}, rows, {to.at}, {to.row}, "
                    f"[&](long n) {{ return {row}; }});"
                )
        elif isinstance(value, Masked):
            to = self._operand(value.weight, self.gradient)
            mask = f"{self._data(value.mask)}[i * {value.columns} + j]"
            self._emit(f"for (long i = 0; i < {value.rows}; i++)")
            self._emit(f"for (long j = 0; j < {value.columns}; j++)")
            self._emit(f"({to.at})[i * {to.row} + j] += ({d.at})[i * {d.row} + j] * {mask};")
        if isinstance(value, Layer) and value.bias is not None:
            shape = f"<{self._rows(value)}, {value.columns}>"
            use = self._use_gradient(value.bias)
            self._emit(
                f"column_sums{shape}({d.at}, {d.row}, [&](long i, long j, V c) {{ {use} }});"
            )

    def _backward_product(self, value: Product, d: _Operand) -> None:
        left, right = value.left, value.right
        rows, columns, inner = self._rows(value), value.columns, left.columns
        if not isinstance(left, Rows):
            self._product_gradient(left, rows, inner, columns, d, self._operand(right).transposed)
        self._product_gradient(right, inner, columns, rows, self._operand(left).transposed, d)

    def _product_gradient(
        self, value: Value, rows: int, columns: int, inner: int, a: _Operand, b: _Operand
    ) -> None:
        """Emit the gradient a @ b at a value, and what is done with it."""
        to = self._gradient_at(value)
        if to.column != 1:
            rows, columns, a, b = columns, rows, b.transposed, a.transposed
        self._product(rows, columns, inner, a, b, self._use_gradient(value))

    def _gradient_at(self, value: Value) -> _Operand:
        if isinstance(value, Weight):
            return self._operand(value, self.gradient)
        return self.grads[value]

    def _use_gradient(self, value: Value) -> str:
        """What is done with the vector c of a gradient, at row i and column j as stored."""
        to = self._gradient_at(value)
        at = f"{to.at} + i * {to.row if to.column == 1 else to.column} + j"
        if isinstance(value, Weight):
            if value.name in self.summed:
                return f"add_to({at}, c);"
            weight = f"{at} - GRADIENT"
            return f"if (loss) store({at}, c); update({weight}, c, scalars[{self._group(value.name)}]);"
        if self._is_accumulated(value):
            return f"add_to({at}, c);"
        has_slope = isinstance(value, Layer) and value.activation != "identity"
        return f"store({at}, c * {self._slope(value)});" if has_slope else f"store({at}, c);"

    def _slope(self, layer: Value) -> str:
        """The slope of a layer's activation at row i, column j."""
        assert isinstance(layer, Layer)
        h, kept = self.places[layer], self.slopes.get(layer)
        slope = f"{kept.at} + i * {kept.row} + j" if kept else "nullptr"
        return f"{layer.activation.capitalize()}::slope({h.at} + i * {h.row} + j, {slope})"


def _parts(value: Value) -> list[Value]:
    """What a value is computed from."""
    parts: list[Value] = []
    if isinstance(value, Product):
        parts = [value.left, value.right]
    elif isinstance(value, Lookup):
        parts = [table for table, _ in value.terms]
    elif isinstance(value, Masked):
        parts = [value.weight]
    if isinstance(value, Layer) and value.bias is not None:
        parts.append(value.bias)
    return parts


def _postorder(value: Value, seen: set[Value] | None = None) -> Iterator[Value]:
    """A value, after all that it is computed from."""
    seen = set() if seen is None else seen
    if value in seen:
        return
    seen.add(value)
    for part in _parts(value):
        yield from _postorder(part, seen)
    yield value


def _is_whole(value: Value, name: str, params: dict[str, Tensor]) -> bool:
    """Whether a value is all of the named parameter."""
    if not isinstance(value, Weight) or value.name != name:
        return False
    return value.rows * value.columns == params[name].numel()


def mills_ratio(terms: int) -> list[float]:
    """Coefficients of Phi(-x) / phi(x) for x >= 0, as a polynomial in (x - 2) / (x + 2).

    Phi and phi are the standard normal distribution and its density.
    """
    from scipy.special import erfcx  # only networks with GELU need it

    def ratio(t: np.ndarray) -> np.ndarray:
        x = 2 * (1 + t) / np.maximum(1 - t, 1e-300)
        return np.sqrt(np.pi / 2) * erfcx(x / np.sqrt(2))

    series = np.polynomial.Chebyshev.interpolate(ratio, terms - 1)
    return series.convert(kind=np.polynomial.Polynomial).coef.tolist()
