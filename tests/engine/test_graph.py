"""The recorded graph: the same numbers as the function, from as few calls as it needs."""

import subprocess
import sys

import pytest
import torch
import torch.utils._pytree as pytree
from torch.func import grad, vmap

from grok.engine.graph import record, separate_biases, write_in_place
from grok.engine.program import CPU_COMPILER_OPTIONS
from grok.engine.program import _compile as program_of_graph
from grok.engine.train import make_program
from tests.engine.toy import problem


def calls(graph) -> list[str]:
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def test_a_mapped_gradient_is_repeated_bit_for_bit():
    """On arguments other than those it was recorded on, so that no number became a constant."""

    def loss(weight, x):
        return ((x @ weight).tanh() ** 2).sum() / x.shape[0]

    def gradients(weights, x):
        return vmap(grad(loss), in_dims=(0, None))(weights, x)

    generator = torch.Generator().manual_seed(0)
    first, second = (
        [torch.randn(shape, generator=generator) for shape in ((4, 3, 2), (5, 3))] for _ in range(2)
    )
    graph = record(gradients, first)
    assert torch.equal(graph(*second), gradients(*second))


def test_repeated_and_unused_calls_are_left_out():
    def function(x):
        x.cos()
        return x.sin() + x.sin(), x.detach().sin()

    graph = record(function, [torch.ones(3)])
    assert calls(graph) == ["aten.sin.default", "aten.add.Tensor"]
    total, sine = graph(torch.full((3,), 2.0))
    assert torch.equal(total, 2 * sine)


def test_views_that_change_nothing_are_left_out():
    """A short, uncompiled run takes as long as its calls."""

    def function(x):
        return x.view(2, 3).t().t().expand(2, 3) * 2, x.view(3, 2), x.t()

    graph = record(function, [torch.ones(2, 3)])
    assert calls(graph) == ["aten.mul.Tensor", "aten.view.default", "aten.t.default"]
    doubled, reshaped, transposed = graph(torch.arange(6.0).view(2, 3))
    assert doubled.tolist() == [[0, 2, 4], [6, 8, 10]]
    assert reshaped.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert transposed.tolist() == [[0, 3], [1, 4], [2, 5]]


def test_one_slot_makes_the_calls_of_the_plain_module():
    """vmap would multiply batches of one matrix, and add biases apart."""
    names = []
    for slots in (1, 2):
        program = make_program([problem(0)] * slots, slots, compiled=False, fused=False)
        program.step()
        names.append(calls(program._traced["step"]))
    alone, together = names
    assert "aten.bmm.default" not in alone
    assert alone.count("aten.addmm.default") == 2
    assert len(alone) < len(together)


def test_a_value_read_again_after_a_change_is_the_new_one():
    def function(state):
        before = state * 2
        state.copy_(state + 1)
        return before, state * 2

    before, after = record(function, [torch.zeros(2)])(torch.ones(2))
    assert before.tolist() == [2, 2]
    assert after.tolist() == [4, 4]


def test_two_equal_tensors_that_are_changed_stay_two():
    def function(x):
        first, second = torch.zeros(2), torch.zeros(2)
        first.add_(x)
        return first, second

    first, second = record(function, [torch.ones(2)])(torch.ones(2))
    assert first.tolist() == [1, 1]
    assert second.tolist() == [0, 0]


def test_zeros_of_either_sign_and_numbers_of_either_type_are_different_arguments():
    def function(x):
        return torch.copysign(x, 0.0), torch.copysign(x, -0.0), x + 1, x + 1.0

    graph = record(function, [torch.ones(2, dtype=torch.int64)])
    results = graph(torch.ones(2, dtype=torch.int64))
    assert [result.tolist() for result in results] == [[1, 1], [-1, -1], [2, 2], [2, 2]]
    assert results[3].dtype == torch.float32


def test_a_tensor_from_outside_is_a_constant():
    weights = torch.tensor([1.0, 2.0])
    graph = record(lambda x: x * weights, [torch.ones(2)])
    assert graph(torch.full((2,), 3.0)).tolist() == [3, 6]


def copies(graph):
    return [node for node in graph.graph.nodes if node.target is torch.ops.aten.copy_.default]


def test_new_values_are_computed_where_the_old_ones_are():
    """An optimizer's step of a large layer otherwise takes twice as long."""

    def step(value, mean, gradient):
        new_mean = torch.addcmul(mean, gradient - mean, torch.tensor(0.1))
        value.copy_(torch.addcmul(value, new_mean, torch.tensor(-0.01)))
        mean.copy_(new_mean)
        return ()

    arguments = [torch.randn(3, 4) for _ in range(3)]
    graph = record(step, [argument.clone() for argument in arguments])
    write_in_place(graph)
    assert copies(graph) == []
    expected, found = ([each.clone() for each in arguments] for _ in range(2))
    step(*expected)
    graph(*found)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


@pytest.mark.parametrize(
    "step",
    [
        lambda a, b: (b.copy_(a - b), a.copy_(a * 2), b.sum() + a.sum()),
        lambda a, b: (a.copy_(a * 2), b.copy_(a @ b)),
        lambda a, b: (a.copy_(a.T + a),),
        lambda a, b: (a.copy_(b * 2), b.copy_(a.T * 2)),
        lambda a, b: (a.copy_((b * 2).round()), b.copy_(b.to(torch.float64).float() - 1)),
        lambda a, b: (b.copy_(a.T.contiguous() - b), a.copy_(a - b)),
    ],
)
def test_old_values_that_are_read_later_or_through_a_view_are_kept(step):
    """In place, the sum would be of new values, and a transposed matrix partly of them."""
    arguments = [torch.randn(4, 4) for _ in range(2)]
    expected, found = ([each.clone() for each in arguments] for _ in range(2))
    graph = record(lambda *given: [*step(*given)], [each.clone() for each in arguments])
    write_in_place(graph)
    step(*expected)
    graph(*found)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_the_compiler_gets_biases_apart_from_products():
    """As one call with the product, a bias is copied into each row first: 5 % of a step of
    `capacity with template`."""
    x, weight, bias = torch.randn(4, 3), torch.randn(5, 3), torch.randn(5)
    graph = record(torch.nn.functional.linear, [x, weight, bias])
    separate_biases(graph)
    assert torch.ops.aten.addmm.default not in {node.target for node in graph.graph.nodes}
    torch.testing.assert_close(graph(x, weight, bias), x @ weight.T + bias)


def first_and_second(table, pairs):
    return torch.tanh(table[pairs[:, 0]] - table[pairs.T[1]])


def test_an_index_that_is_a_column_of_an_argument_is_read_as_it_lies():
    """Networks look symbols up by the columns of their pairs: by the wrong ones, every step of a
    compiled run is wrong without a word."""
    arguments = [torch.randn(50, 8), torch.tensor([[1, 7], [2, 8], [3, 9], [4, 40]])]
    graph = record(first_and_second, arguments)
    program = program_of_graph(graph, arguments, CPU_COMPILER_OPTIONS)
    (result,) = pytree.tree_leaves(program(*arguments))
    torch.testing.assert_close(result, first_and_second(*arguments))


def test_a_number_read_from_a_computed_tensor_is_refused():
    """It would be the number of the first call for ever."""
    with pytest.raises(RuntimeError, match="reads a number"):
        record(lambda x: x * float(x.sum()), [torch.ones(2)])


def test_an_uncompiled_program_does_not_import_the_compiler():
    """Its import takes four CPU seconds, which each short run would pay."""
    code = """
import sys
from grok.engine.train import train
from tests.engine.toy import problem
list(train([problem(0)], compiled=False))
assert not {"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)
import torch
assert torch._dynamo.is_compiling is not None
"""
    subprocess.run([sys.executable, "-c", code], check=True)
