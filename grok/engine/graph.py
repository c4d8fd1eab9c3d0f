"""Record the calls that a function of tensors makes, as a graph that repeats them."""

import contextlib
import importlib
import operator
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

DETACH = torch.ops.aten.detach.default
READ_NUMBER = torch.ops.aten._local_scalar_dense.default
RESULT = "result"  # key of a node's `meta` that holds its TensorInfo
# Operators whose results have undefined values.
UNDEFINED_VALUES = ("aten::empty", "aten::new_empty")
VIEWS = (
    torch.ops.aten.view.default,
    torch.ops.aten._unsafe_view.default,
    torch.ops.aten.expand.default,
)
TRANSPOSE = torch.ops.aten.t.default


class TensorInfo(NamedTuple):
    """What a node's result is like."""

    shape: torch.Size
    dtype: torch.dtype
    device: torch.device


def record(function: Callable, arguments: list[Tensor]) -> fx.GraphModule:
    """The calls of `function(*arguments)`, without repeated and unused ones.

    Recorded are the operators that `torch.func.grad` and `vmap` call in the end, as by `make_fx`
    and `fx_graph_cse`. Those import the compiler, which takes four CPU seconds that a short,
    uncompiled run need not spend.

    Arguments:
        function: returns a nested structure of tensors. It must not depend on their values in
            Python, and is called once.
        arguments: are changed if the function changes its arguments.

    Returns:
        a module that is called with tensors of the same shapes as the arguments.

    Raises:
        RuntimeError: the function reads a number from a tensor that it computes.
    """
    recorder = _Recorder()
    for position, argument in enumerate(arguments):
        recorder.assign(argument, recorder.graph.placeholder(f"argument_{position}"))
    with _without_compiler(), recorder:
        result = function(*arguments)
    recorder.graph.output(pytree.tree_map(recorder.node_of, result))
    _merge_equal_calls(recorder.graph)
    _skip_idle_views(recorder.graph)
    recorder.graph.eliminate_dead_code()
    return fx.GraphModule(recorder.constants, recorder.graph)


@contextlib.contextmanager
def _without_compiler() -> Iterator[None]:
    """A context in which `torch.func.grad` does not import torch.compile, unless it is loaded.

    It asks torch.compile not to compile the backward pass; importing it takes two CPU seconds.
    """
    if "torch._dynamo" in sys.modules:
        yield
        return
    setattr(torch, "_dynamo", _NothingCompiled())  # noqa: B010
    try:
        yield
    finally:
        if isinstance(vars(torch)["_dynamo"], _NothingCompiled):
            delattr(torch, "_dynamo")


class _NothingCompiled:
    """Takes the place of the module torch._dynamo, and loads it when anything else is asked for."""

    compiled_autograd = SimpleNamespace(_disable=contextlib.nullcontext)

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("torch._dynamo"), name)


class _Recorder(TorchDispatchMode):
    """Adds every call to a graph, and makes it."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = fx.Graph()
        self.nodes = WeakTensorKeyDictionary()  # of each tensor, the node that computes it
        self.constants = torch.nn.Module()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # keeps torch from importing torch.compile's front end

    def __torch_dispatch__(
        self, call: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if call is READ_NUMBER and args[0] in self.nodes:
            raise RuntimeError("a traced function reads a number from a tensor, as .item() does")
        result = call(*args, **kwargs)
        if call is DETACH:  # nothing records gradients here
            self.nodes[result] = self.node_of(args[0])
            return result
        node_args, node_kwargs = pytree.tree_map(self.node_of, (args, kwargs))
        node = self.graph.call_function(call, node_args, node_kwargs)
        if isinstance(result, Tensor):
            self.assign(result, node)
        elif isinstance(result, tuple | list):
            for position, part in enumerate(result):
                if isinstance(part, Tensor):
                    item = self.graph.call_function(operator.getitem, (node, position))
                    self.assign(part, item)
        return result

    def assign(self, tensor: Tensor, node: fx.Node) -> None:
        node.meta[RESULT] = TensorInfo(tensor.shape, tensor.dtype, tensor.device)
        self.nodes[tensor] = node

    def node_of(self, value: Any) -> Any:
        """The node that computes a tensor, a new constant if none does; any other value itself."""
        if not isinstance(value, Tensor):
            return value
        if value not in self.nodes:
            name = f"constant_{len(list(self.constants.buffers()))}"
            self.constants.register_buffer(name, value)
            self.assign(value, self.graph.get_attr(name))
        return self.nodes[value]


def separate_biases(
    graph: fx.GraphModule, chosen: Callable[[fx.Node, fx.Node], bool] = lambda x, w: True
) -> None:
    """Write x W + b as a product and an addition, which the compiler fuses with what follows.

    As one call, b is first copied into each row of the result, which reads and writes it once more.
    The addition has an axis more than the product, since the compiler would join them again.

    Arguments:
        chosen: whether a product is written so, by the nodes of x and W; all are by default.
    """
    for node in graph.graph.nodes:
        if node.target is torch.ops.aten.addmm.default and not node.kwargs:
            bias, left, right = node.args
            if not chosen(left, right):
                continue
            with graph.graph.inserting_before(node):
                product = graph.graph.call_function(torch.ops.aten.mm.default, (left, right))
                product = graph.graph.call_function(torch.ops.aten.unsqueeze.default, (product, 0))
                total = graph.graph.call_function(torch.ops.aten.add.Tensor, (product, bias))
                total = graph.graph.call_function(torch.ops.aten.squeeze.dim, (total, 0))
            total.meta[RESULT] = node.meta[RESULT]
            node.replace_all_uses_with(total)
            graph.graph.erase_node(node)
    graph.recompile()


def write_in_place(graph: fx.GraphModule) -> None:
    """Let new values of arguments be computed where the old ones are, instead of copied there.

    That is possible where an elementwise operation computes them and nothing reads the old values
    later. The optimizer's step of a large layer otherwise takes twice as long.
    """
    position = {node: index for index, node in enumerate(graph.graph.nodes)}
    for node in list(graph.graph.nodes):
        if node.target is not torch.ops.aten.copy_.default or node.users:
            continue
        old, new = node.args
        if old.op != "placeholder" or old.meta[RESULT] != new.meta[RESULT]:
            continue
        if not _is_elementwise(new) or "out" not in new.target.overloadpacket.overloads():
            continue
        aliases = _views_of(old)
        readers = {user for alias in aliases for user in alias.users} - {node, new}
        if any(position[reader] > position[new] for reader in readers):
            continue
        if any(argument in aliases for argument in new.all_input_nodes if argument is not old):
            continue
        with graph.graph.inserting_before(new):
            keywords = {**new.kwargs, "out": old}
            target = new.target.overloadpacket.out
            written = graph.graph.call_function(target, new.args, keywords)
        position[written] = position[new]
        written.meta[RESULT] = new.meta[RESULT]
        graph.graph.erase_node(node)
        new.replace_all_uses_with(written)
        graph.graph.erase_node(new)
    graph.recompile()


def _is_elementwise(node: fx.Node) -> bool:
    overload = getattr(node.target, "_overloadname", None)
    return overload in ("default", "Tensor") and torch.Tag.pointwise in getattr(
        node.target, "tags", ()
    )


def _views_of(node: fx.Node) -> set[fx.Node]:
    """A node and all that may show its memory."""
    found = {node}
    for user in node.users:
        schema = _schema(user)
        if schema is not None and any(value.alias_info for value in schema.returns):
            found |= _views_of(user)
    return found


def _merge_equal_calls(graph: fx.Graph) -> None:
    """Let equal calls be made once; a third of a step's calls are repeated.

    Where tensors other than arguments are changed in place, nothing is merged.
    """
    changed = {node.args[0] for node in graph.nodes if _changes_argument(node)}
    if any(node.op != "placeholder" for node in changed):
        return
    first: dict[tuple, fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        if _changes_argument(node):
            first.clear()  # what was read before may have another value now
            continue
        if not _is_repeatable(node):
            continue
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        key = (node.target, tuple((type(leaf), _hashable(leaf)) for leaf in leaves), repr(spec))
        if key in first:
            node.replace_all_uses_with(first[key])
            graph.erase_node(node)
        else:
            first[key] = node


def _skip_idle_views(graph: fx.Graph) -> None:
    """Use tensors in place of views that are equal to them: of the same shape, or transposed twice."""
    for node in graph.nodes:
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node):
            continue
        if node.target in VIEWS and node.meta[RESULT].shape == source.meta[RESULT].shape:
            node.replace_all_uses_with(source)
        elif node.target is TRANSPOSE and source.target is TRANSPOSE:
            original = source.args[0]
            assert isinstance(original, fx.Node), "a tensor is transposed"
            node.replace_all_uses_with(original)


def _hashable(leaf: Any) -> Any:
    return repr(leaf) if isinstance(leaf, float) else leaf  # 0.0 and -0.0 are different arguments


def _changes_argument(node: fx.Node) -> bool:
    schema = _schema(node)
    return schema is not None and schema.is_mutable


def _is_repeatable(node: fx.Node) -> bool:
    """Whether the call gives equal results for equal arguments."""
    is_random = torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())
    schema = _schema(node)
    return not is_random and not (schema and schema.name.startswith(UNDEFINED_VALUES))


def _schema(node: fx.Node) -> Any:
    """The declaration of the operator that a node calls; None for another function."""
    return getattr(node.target, "_schema", None)
