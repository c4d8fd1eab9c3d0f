"""Fused steps: many training steps of a stack of dense layers in one call of compiled C++.

`FusedStep` reads the network and the loss from the calls that a problem's loss makes (network.py),
writes a C++ program for its shapes (source.py, kernels.h, driver.h), compiles it once (compiler.py)
and calls it. One call takes some replicas through any number of steps. Each replica is trained by
one thread, on a copy of its state in that core's cache, and the threads take replicas from one
queue. A replica's numbers therefore depend neither on its neighbours nor on the number of threads.
"""

import ctypes
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from grok.engine.functional import run_with
from grok.engine.fused import compiler, network, source
from grok.engine.fused.compiler import CompilerError
from grok.engine.fused.network import Unsupported
from grok.engine.graph import record
from grok.engine.optimizers import ACCUMULATORS
from grok.engine.problem import Problem
from grok.tensors import Tensors

__all__ = ["CompilerError", "FusedStep", "Unsupported"]

# Weights above which a step is not fused: each part of the examples would read them from memory.
MOST_WEIGHTS = 2_000_000
ALIGNMENT = 64  # bytes, of a thread's workspace
# Trains slots for T steps. Arguments: the slots, their StepScalars (T, R, groups, 10) and mini-batches
# (T, R, B) or None for full-batch training, each of all slots, and how many threads to use.
Steps = Callable[[Sequence[int], Tensor, Tensor | None, int], None]


class _Tensor(ctypes.Structure):
    """`Tensor` of driver.h."""

    _fields_ = (("data", ctypes.c_void_p), ("stride", ctypes.c_long))


class FusedStep:
    """The compiled steps of problems of one signature.

    Arguments:
        problem: one of them.
        most_multiplications: of a forward pass, above which the step is not fused.

    Raises:
        Unsupported: there is no fused step for such a problem.
        CompilerError: there is no C++ compiler, or it fails.
    """

    def __init__(self, problem: Problem, most_multiplications: float = math.inf):
        check_options(problem)
        params = {name: p.detach() for name, p in problem.module.named_parameters()}
        if sum(value.numel() for value in params.values()) > MOST_WEIGHTS:
            raise Unsupported("many weights")
        try:
            recorded = _recorded(problem, params)
        except Exception as error:
            raise Unsupported("a loss that cannot be recorded") from error
        loss = network.read(*recorded, params)
        if network.multiplications(loss.outputs) > most_multiplications:
            raise Unsupported("a large step")
        self.source = source.write(loss, params, problem.optimizer, problem.batch_size or 0)
        self._train = compiler.load(self.source.code).train
        self._train.restype = None
        number, pointer = ctypes.c_long, ctypes.c_void_p
        self._train.argtypes = [pointer, *[number] * 4, *[pointer] * 5]
        self.kinds = ACCUMULATORS[problem.optimizer.kind]
        self._workspace = torch.empty(0)

    def check_data(self, problem: Problem) -> None:
        """Raise Unsupported if a row number among the problem's data is negative or too large."""
        for name, rows in self.source.indices.items():
            numbers = problem.data[name]
            if numbers.numel() and not (int(numbers.min()) >= 0 and int(numbers.max()) < rows):
                raise Unsupported(f"numbers in {name} are no rows")

    def bind(self, state: dict, shared: Tensors) -> "Steps":
        """The steps of a program, in place.

        Arguments:
            state: of the program, whose tensors must stay where they are. With measures, `gradient`
                and `loss` become those of the last step.
            shared: data that all slots share.
        """
        params, optimizer = state["params"], state["optimizer"]
        blocks = [params, *(optimizer[kind] for kind in self.kinds)]
        if "decay_target" in state:
            blocks.append(state["decay_target"])
        blocks.append(state.get("gradient", params))  # without measures, it is not written
        tensors = [(block[name], block[name][0].numel()) for block in blocks for name in params]
        if "fixed_norm" in state:
            tensors.append((state["fixed_norm"], 1))
        for name in self.source.data:
            if name in shared:
                tensors.append((shared[name], 0))
            else:
                own = state["data" if name in state["data"] else "buffers"][name]
                tensors.append((own, own[0].numel()))
        assert all(tensor.is_contiguous() for tensor, _ in tensors), "a program's tensors are"
        described = [_Tensor(tensor.data_ptr(), stride) for tensor, stride in tensors]
        array = (_Tensor * len(described))(*described)
        losses = state["loss"].data_ptr() if "loss" in state else None
        all_slots, dtype = len(tensors[0][0]), tensors[0][0].dtype

        def steps(
            slots: Sequence[int], scalars: Tensor, minibatches: Tensor | None, threads: int
        ) -> None:
            chosen = (ctypes.c_long * len(slots))(*slots)
            self._train(
                chosen,
                len(slots),
                all_slots,
                len(scalars),
                threads,
                array,
                scalars.data_ptr(),
                None if minibatches is None else minibatches.data_ptr(),
                self._workspace_of(threads, dtype),
                losses,
            )

        return steps

    def _workspace_of(self, threads: int, dtype: torch.dtype) -> int:
        """The aligned address of the workspaces of so many threads."""
        size = threads * self.source.workspace + ALIGNMENT
        if len(self._workspace) < size:
            self._workspace = torch.zeros(size, dtype=dtype)
        return -(-self._workspace.data_ptr() // ALIGNMENT) * ALIGNMENT


def check_options(problem: Problem) -> None:
    """Raise Unsupported if a problem asks for what fused steps do not do."""
    options = problem.optimizer
    others = {
        "a GPU": problem.device.type != "cpu",
        "random numbers in the loss": problem.needs_rng,
        "parameters that are not trained": bool(problem.frozen),
        "an update rule of the user's own": options.rule is not None,
        "noise": bool(options.noises()),
        "clipped gradients": bool(options.clip_norm),
        "Muon": options.kind == "muon",
        "sharpness-aware minimization": bool(options.sam_rho),
        "a gradient filter": options.grokfast is not None,
        "orthogonal gradients": options.orthogonal,
        "another dtype": any(
            parameter.dtype not in (torch.float32, torch.float64)
            for parameter in problem.module.parameters()
        ),
    }
    for reason, applies in others.items():
        if applies:
            raise Unsupported(reason)


def _recorded(problem: Problem, params: Tensors) -> tuple[torch.fx.GraphModule, list[str]]:
    """The calls of a problem's loss, and the names of their arguments."""
    buffers = dict(problem.module.named_buffers())
    tensors = {**params, **buffers, **problem.data}
    if problem.batch_size is not None:
        tensors[network.BATCH] = torch.zeros(problem.batch_size, dtype=torch.long)

    def loss(*leaves: Tensor) -> Tensor:
        named = dict(zip(tensors, leaves, strict=True))
        data = {name: named[name] for name in problem.data}
        if problem.batch_size is not None:
            batch = named[network.BATCH]
            data |= {name: data[name][batch] for name in problem.minibatch_keys}
        own = {name: named[name] for name in (*params, *buffers)}
        return run_with(problem.module, own, problem.loss, data)

    with torch.no_grad():
        return record(loss, list(tensors.values())), list(tensors)
