"""R slots of equal shape trained as one program: one step, one evaluation, for all of them.

A paper writes a plain module for one replica; `torch.func.vmap` maps the whole step (forward,
backward, optimizer) over the slots, and the traced result is compiled once. Measured against the
same step written by hand with a leading replica axis, the mapped one is no slower (Liu toy, two
cores: 3.3 k against 2.8 k steps/s at R=1 in float64, 9.0 k against 8.6 k at R=16 in float32).
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.func import grad, grad_and_value, vmap

from grok import randomness
from grok.engine import determinism, filters, optimizers, products
from grok.engine.checkpoint import CheckpointError
from grok.engine.functional import run_with
from grok.engine.graph import record
from grok.engine.optimizers import Hyperparameters, StepScalars
from grok.engine.problem import Problem, batch_order, sampled_batches
from grok.interrupts import held_back

SAMPLED_BATCHES = 256  # mini-batches sampled at once, with replacement
SCHEDULED_STEPS = 256  # steps whose learning rates and bias corrections are computed at once
RNG_STREAMS = ("loss", "metrics", "weight_noise", "update_noise")
# What a saved state consists of: entry of the state -> its name in checkpoint files. All other
# entries follow from the problem and the step.
PERSISTENT_STATE = {
    "params": "params",
    "buffers": "buffers",
    "optimizer": "optimizer",
    "filter": "filter",
    "decay_target": "goal",
    "previous_params": "previous",
}
# Checks of Inductor's that are left out: a compiled function is called with tensors like those it was
# traced on only, and the vector instructions of the CPU need not be tried in a process of their own.
UNCHECKED = {"size_asserts": False, "cpp.vec_isa_ok": True}


class Program:
    """Slots 0..R-1, each holding one replica: `load` fills a slot, `step` and `evaluate` do all.

    template: one of the problems; all have its signature.
    slots: R.
    shared: names of data that are the same tensor in every problem and are held once.
    compiled: whether step and evaluation are compiled; becomes false if the compiler fails.
    traced: traced functions of another program of equal shape, to be used here too.

    `state` is a nested dictionary of tensors whose first axis is R.
    """

    def __init__(
        self,
        template: Problem,
        slots: int,
        shared: set[str],
        compiled: bool,
        traced: dict[str, Callable] | None = None,
    ):
        self.template = template
        self.slots = slots
        self.compiled = compiled
        self.shared = {k: v for k, v in template.data.items() if k in shared}
        self.steps = [0] * slots
        self.seeds = [0] * slots
        # of each slot, the epoch (or the block of sampled mini-batches) and its indices
        self.epochs: list[tuple[int, Tensor] | None] = [None] * slots
        numbers = optimizers.hyperparameters(template.optimizer)
        self.hyperparameters_RG = Hyperparameters(*(np.stack([x] * slots) for x in numbers))
        self.schedule_TRGC = torch.empty(0)  # StepScalars of SCHEDULED_STEPS steps
        self.scheduled = 0  # how many of them are still to come
        empty = self._replica(template)
        self.state = pytree.tree_map(lambda x: torch.stack([x] * slots), empty)
        # functions of all tensors of state and shared data, by name; and calls on our own tensors
        self._traced: dict[str, Callable] = {} if traced is None else traced
        self._calls: dict[str, Callable] = {}
        self._reordered: Program | None = None

    def _replica(self, problem: Problem) -> dict:
        """The state of one replica before its first step."""
        params = {name: p.detach().clone() for name, p in problem.module.named_parameters()}
        first = next(iter(params.values()))
        device, dtype, groups = first.device, first.dtype, len(problem.optimizer.groups)
        state = {
            "params": params,
            "buffers": {name: b.clone() for name, b in problem.module.named_buffers()},
            "optimizer": optimizers.initial_state(problem.optimizer, params),
            "filter": filters.initial_state(problem.optimizer.grokfast, params),
            "seed": torch.tensor(problem.seed, device=device),
            "scalars": torch.zeros(groups, len(StepScalars._fields), dtype=dtype, device=device),
            "data": {k: v for k, v in problem.data.items() if k not in self.shared},
        }
        if problem.measures is not None:
            state["gradient"] = {name: torch.zeros_like(value) for name, value in params.items()}
            state["loss"] = torch.zeros((), dtype=torch.float64, device=device)
        if problem.needs_previous_params:
            state["previous_params"] = {name: value.clone() for name, value in params.items()}
        if problem.optimizer.decay_to == "init":
            state["decay_target"] = {name: value.clone() for name, value in params.items()}
        if problem.optimizer.fixed_norm:
            state["initial_norm"] = optimizers.norm_of(params)
        if problem.batch_size is not None:
            state["minibatch"] = torch.zeros(problem.batch_size, dtype=torch.long, device=device)
        return state

    def load(self, slot: int, problem: Problem) -> None:
        """Put a problem's initial state into a slot; the other slots are not touched."""
        self.steps[slot], self.seeds[slot], self.epochs[slot] = 0, problem.seed, None
        self._set_hyperparameters(slot, optimizers.hyperparameters(problem.optimizer))
        initial = self._replica(problem)
        pytree.tree_map(lambda old, new: old[slot].copy_(new), self.state, initial)

    def move(self, source: int, target: "Program", slot: int) -> None:
        """Copy a slot, whatever its step, into a slot of another program of the same problems."""
        target.steps[slot], target.seeds[slot] = self.steps[source], self.seeds[source]
        target.epochs[slot] = self.epochs[source]
        numbers = Hyperparameters(*(column[source] for column in self.hyperparameters_RG))
        target._set_hyperparameters(slot, numbers)
        pytree.tree_map(lambda new, old: new[slot].copy_(old[source]), target.state, self.state)

    def _set_hyperparameters(self, slot: int, numbers: Hyperparameters) -> None:
        for column, value in zip(self.hyperparameters_RG, numbers, strict=True):
            column[slot] = value
        self.scheduled = 0

    def step(self) -> None:
        """One step of every slot."""
        if self.template.batch_size is not None:
            self._next_minibatches()
        if self.scheduled == 0:
            self._precompute_schedule()
        self.state["scalars"].copy_(self.schedule_TRGC[-self.scheduled])
        self.scheduled -= 1
        if self.template.needs_previous_params:
            # not inside the step: a compiled one may write the weights first
            pytree.tree_map(
                lambda old, now: old.copy_(now), self.state["previous_params"], self.state["params"]
            )
        with held_back:
            self._call("step", self._step_all)
        for slot in range(self.slots):
            self.steps[slot] += 1

    def evaluate(self) -> dict[str, Tensor]:
        """The metrics of every slot after its last step, each (R, ...)."""
        with held_back:
            return self._call("evaluate", self._evaluate_all)

    def reordered(self, problem: Problem, slots: int) -> "Program":
        """A program with a state of its own, for problems that differ from these in order only.

        It is made at the first call, with R slots or `slots`, whichever is less; with R it runs our
        own traced functions.
        """
        if self._reordered is None:
            count = min(self.slots, slots)
            traced = self._traced if count == self.slots else None
            shared = set(self.shared)
            self._reordered = Program(problem, count, shared, self.compiled, traced)
        return self._reordered

    def weights(self, slot: int) -> dict[str, Tensor]:
        """A copy of a slot's parameters."""
        return {name: value[slot].clone() for name, value in self.state["params"].items()}

    def saved(self, slot: int) -> dict[str, Tensor]:
        """A copy of a slot's persistent state, by path: what `restore` needs."""
        leaves = self._persistent()
        return {name: leaf[slot].detach().cpu().clone() for name, leaf in leaves.items()}

    def _persistent(self) -> dict[str, Tensor]:
        """The tensors of all slots that a saved state consists of, by path."""
        kept = {
            name: self.state[key] for key, name in PERSISTENT_STATE.items() if key in self.state
        }
        return {_name(path): leaf for path, leaf in pytree.tree_flatten_with_path(kept)[0]}

    def restore(self, slot: int, step: int, tensors: dict[str, Tensor]) -> None:
        """Put a saved state after `step` steps into a slot that holds its problem.

        Raises:
            CheckpointError: the state is not one of such a problem.
        """
        leaves = self._persistent()
        for name in sorted({*leaves, *tensors}):
            if name not in leaves or name not in tensors:
                raise CheckpointError(f"{name} is in one of state and problem only")
            expected, saved = leaves[name][slot], tensors[name]
            if (expected.shape, expected.dtype) != (saved.shape, saved.dtype):
                raise CheckpointError(
                    f"{name} is {_kind(saved)} in the state, {_kind(expected)} here"
                )
        for name, leaf in leaves.items():
            leaf[slot].copy_(tensors[name])
        self.steps[slot], self.scheduled = step, 0

    def objective(self, slot: int) -> Callable[[dict], Tensor]:
        """The loss that a slot's last step lowered, as a function of its parameters."""
        return self._objective(pytree.tree_map(lambda x: x[slot], self.state), self.shared)

    # -- one replica, mapped over all ------------------------------------------------------------

    def run(self, function: Callable, params: dict, buffers: dict, data: Any) -> Any:
        """function(module, data) with these parameters and buffers in the module."""
        return run_with(self.template.module, {**params, **buffers}, function, data)

    def _objective(self, state: dict, shared: dict) -> Callable[[dict], Tensor]:
        """The loss as a function of the parameters, on one replica's data and batch."""
        problem = self.template
        data = {**state["data"], **shared}
        if problem.batch_size is not None:
            data.update({name: data[name][state["minibatch"]] for name in problem.minibatch_keys})
        if problem.needs_rng:
            data["key"] = self._key(state, "loss")
        return lambda params: self.run(problem.loss, params, state["buffers"], data)

    def _step_one(self, state: dict, shared: dict) -> dict:
        settings = self.template.optimizer
        objective = self._objective(state, shared)
        losses: list[Tensor] = []

        def gradient_and_loss(params: dict) -> dict:
            grads, loss = grad_and_value(objective)(params)
            losses.append(loss)
            return grads

        gradient_at = grad(objective) if self.template.measures is None else gradient_and_loss
        noise = {name: self._key(state, name) for name in settings.noises()}
        grads = optimizers.gradient(settings, gradient_at, state["params"], noise)
        new: dict[str, Any] = {}
        if losses:
            new |= {"gradient": grads, "loss": losses[0].double()}
        if settings.grokfast is not None:
            grads, new["filter"] = filters.amplified(
                settings.grokfast, grads, state["filter"], optimizers.step_number(state["scalars"])
            )
        new["params"], new["optimizer"] = optimizers.update(
            settings,
            state["params"],
            grads,
            state["optimizer"],
            state["scalars"],
            state.get("decay_target"),
            noise,
        )
        if settings.fixed_norm:
            factor = state["initial_norm"] / optimizers.norm_of(new["params"])
            new["params"] = {k: (v * factor).to(v.dtype) for k, v in new["params"].items()}
        return new

    def _key(self, state: dict, stream: str) -> Tensor:
        """The key of this step's random numbers: of the run's seed, the step and their purpose."""
        t = optimizers.step_number(state["scalars"]).long()
        return randomness.key_of(state["seed"], t, RNG_STREAMS.index(stream))

    def _step_all(self, state: dict, shared: dict) -> tuple:
        new = vmap(self._step_one, in_dims=(0, None))(state, shared)
        for key, value in new.items():
            pytree.tree_map(lambda old, fresh: old.copy_(fresh), state[key], value)
        return ()

    def _evaluate_one(self, state: dict, shared: dict) -> dict:
        data = {**state["data"], **shared}
        if self.template.needs_rng:
            data["key"] = self._key(state, "metrics")
        if self.template.needs_previous_params:
            data["previous"] = state["previous_params"]
        with torch.no_grad():
            metrics = self.run(self.template.metrics, state["params"], state["buffers"], data)
            squares = [(value**2).sum() for value in state["params"].values()]
            return {**metrics, "weight_norm": sum(squares).sqrt()}

    def _evaluate_all(self, state: dict, shared: dict) -> dict:
        return vmap(self._evaluate_one, in_dims=(0, None))(state, shared)

    def _call(self, name: str, function: Callable) -> Any:
        """`function` of state and shared data: traced at its first call, compiled if asked for.

        On CUDA its kernels become one captured graph.
        """
        if name not in self._calls:
            arguments, spec = pytree.tree_flatten((self.state, self.shared))
            if name not in self._traced:
                self._traced[name] = self._trace(function, arguments, spec)
            call = partial(self._traced[name], *arguments)
            self._calls[name] = _captured(call, arguments) if arguments[0].is_cuda else call
        return self._calls[name]()

    def _trace(self, function: Callable, arguments: list[Tensor], spec: Any) -> Callable:
        """`function` as one of the flat list of tensors, recorded on copies of them."""

        def flat(*leaves: Tensor) -> Any:
            return function(*pytree.tree_unflatten(leaves, spec))

        def recorded() -> torch.fx.GraphModule:
            graph = record(flat, [leaf.clone() for leaf in arguments])
            if products.pay():
                products.replace_products(graph)
            return graph

        deleted: set[Path] = set()
        while self.compiled:
            try:
                return _compile(recorded(), arguments)
            except Exception as error:  # no C++ compiler, or a fault of Inductor's
                path = _unloadable_file(error)
                if path is not None and path not in deleted:
                    path.unlink(missing_ok=True)
                    deleted.add(path)
                    continue
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                print(f"warning: training uncompiled, slower: {reason}", file=sys.stderr)
                self.compiled = False
        return recorded()  # again where the compiler has failed, since it changes the graph

    def _precompute_schedule(self) -> None:
        """Compute the StepScalars of the next steps of every slot."""
        t_TR1 = np.array(self.steps)[:, None] + np.arange(1, SCHEDULED_STEPS + 1)[:, None, None]
        scalars = torch.from_numpy(optimizers.step_scalars(self.hyperparameters_RG, t_TR1))
        current = self.state["scalars"]
        self.schedule_TRGC = scalars.to(current.device, current.dtype)
        self.scheduled = SCHEDULED_STEPS

    def _next_minibatches(self) -> None:
        """The next mini-batch of every slot: of a permutation of the train set, or sampled."""
        size, sampling = self.template.batch_size, self.template.sampling
        assert size is not None, "only a problem with mini-batches has a next one"
        examples = self.template.data[self.template.minibatch_keys[0]].shape[0]
        count = SAMPLED_BATCHES if sampling == "replacement" else examples // size
        for slot in range(self.slots):
            epoch, position = divmod(self.steps[slot], count)
            current = self.epochs[slot]
            if current is None or current[0] != epoch:
                if sampling == "replacement":
                    indices = sampled_batches(self.seeds[slot], epoch, examples, (count, size))
                elif sampling == "epochs":
                    indices = batch_order(self.seeds[slot], epoch, examples)[: count * size]
                else:
                    indices = torch.arange(count * size)
                # copied once an epoch, so that a GPU never waits for a mini-batch
                current = epoch, indices.view(count, size).to(self.state["minibatch"].device)
                self.epochs[slot] = current
            self.state["minibatch"][slot].copy_(current[1][position])


def _name(path: tuple) -> str:
    return "/".join(str(entry.key) for entry in path)


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _compile(graph: torch.fx.GraphModule, arguments: list[Tensor]) -> Callable:
    """The graph as a program of Inductor's, loaded from disk if it was compiled before."""
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    determinism.enforce_when_compiling()
    # Not torch.compile: its guards and wrappers would cost a third of a small step. Inductor uses
    # its cache on disk only within a tracing context.
    fake_mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    with tracing(TracingContext(fake_mode)):
        return torch._inductor.compile(graph, [*arguments], options=UNCHECKED)


def _unloadable_file(error: BaseException | None) -> Path | None:
    """The library in Inductor's cache that could not be loaded, if that is what went wrong.

    A process that was killed while the C++ compiler wrote it leaves an incomplete one for all later
    runs.
    """
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    while error is not None:
        if isinstance(error, ImportError) and error.path:
            path = Path(error.path)
            return path if path.is_relative_to(cache_dir()) else None
        error = error.__cause__ or error.__context__
    return None


def _captured(call: Callable, state: list[Tensor]) -> Callable:
    """`call` as a CUDA graph; the trial calls that a capture needs are undone."""
    before = [tensor.clone() for tensor in state]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call()
    for tensor, old in zip(state, before, strict=True):
        tensor.copy_(old)

    def replay() -> Any:
        graph.replay()
        return result

    return replay
