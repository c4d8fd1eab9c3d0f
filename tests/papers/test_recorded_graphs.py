"""The recorded step and evaluation of every paper stay what they are when they are rewritten."""

import pytest
import torch
import torch.utils._pytree as pytree

from grok.engine import graph as graphs
from grok.engine.program import Program
from grok.experiment.experiment import load
from grok.paths import experiment_file, experiment_names
from tests.docs.test_entries import RUNS


def recorded(name: str, slots: int) -> list[tuple[torch.fx.GraphModule, list[torch.Tensor]]]:
    """The graphs of a small run's step and evaluation, each with the arguments of a call."""
    paper = load(experiment_file(name))
    named, updates = RUNS[name]
    problems = [
        paper.problem_of(paper.full_config({**updates, "seed": seed}, named))
        for seed in range(slots)
    ]
    program = Program(problems[0], slots, set(), False)
    for slot, problem in enumerate(problems):
        program.load(slot, problem)
    if problems[0].batch_size is not None:
        program._next_minibatches(1)
    program.state["scalars"].copy_(program._next_scalars(1)[0])
    arguments, spec = pytree.tree_flatten((program._state_of_call(), program.shared))
    return [
        (
            graphs.record(
                lambda *leaves, call=function: call(*pytree.tree_unflatten(leaves, spec)),
                [argument.clone() for argument in arguments],
            ),
            arguments,
        )
        for function in (program._step_all, program._mapped(program._evaluate_one))
    ]


def outcome(graph: torch.fx.GraphModule, arguments: list[torch.Tensor]) -> list[torch.Tensor]:
    """The results of a call, and its arguments after it."""
    given = [argument.clone() for argument in arguments]
    return [*pytree.tree_leaves(graph(*given)), *given]


@pytest.mark.parametrize(
    ("name", "slots"), [*((name, 1) for name in experiment_names()), ("mlp", 2), ("capacity", 2)]
)
def test_rewriting_changes_no_result(name, slots):
    """What the compiler gets, and what runs without it, are rewritten for speed. A rewrite that read
    an index as it does not lie in memory once trained compiled networks on wrong symbols, without a
    word."""
    for graph, arguments in recorded(name, slots):
        expected = outcome(graph, arguments)
        graphs.write_in_place(graph)
        torch.testing.assert_close(
            outcome(graph, arguments), expected, rtol=0, atol=0, equal_nan=True
        )
    # not of the step: Adam's first one is as large for a gradient that is a rounding error
    graphs.separate_biases(graph)
    torch.testing.assert_close(outcome(graph, arguments), expected, equal_nan=True)
