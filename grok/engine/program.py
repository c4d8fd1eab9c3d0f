"""R slots of equal shape trained as one program: one step, one evaluation, for all of them.

A paper writes a plain module for one replica; `torch.func.vmap` maps the whole step (forward,
backward, optimizer) over the slots, and the traced result is compiled once. Measured against the
same step written by hand with a leading replica axis, the mapped one is no slower (Liu toy, two
cores: 3.3 k against 2.8 k steps/s at R=1 in float64, 9.0 k against 8.6 k at R=16 in float32).
"""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.func import grad, grad_and_value

from grok import randomness
from grok.engine import determinism, eager, filters, optimizers, products
from grok.engine.checkpoint import CheckpointError
from grok.engine.functional import for_all, run_with, running_statistics
from grok.engine.fused import FusedStep
from grok.engine.graph import (
    record,
    separate_biases,
    write_in_place,
)
from grok.engine.optimizers import Hyperparameters, StepScalars
from grok.engine.problem import Problem, batch_order, sampled_batches
from grok.engine.spec import Intervention
from grok.interrupts import held_back
from grok.objectives.classification import TEMPERATURE

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
READ_BY_METRICS = ("params", "buffers", "previous_params", "data", "seed", "scalars")
CALL_SECONDS = 0.25  # of a call of the fused step at most; signals wait for its end
# Options of Inductor. Two checks are left out: a compiled function is called with tensors like those it
# was traced on only, and the vector instructions of the CPU need not be tried in a process of their
# own. On a CPU all kernels and their calls are one C++ file: it is compiled in half of the time, and a
# step makes no call from Python.
COMPILER_OPTIONS = {"size_asserts": False, "cpp.vec_isa_ok": True}
CPU_COMPILER_OPTIONS = {**COMPILER_OPTIONS, "cpp_wrapper": True}


class Program:
    """Slots 0..R-1, each holding one replica: `load` fills a slot, `step` and `evaluate` do all.

    template: one of the problems; all have its signature.
    slots: R.
    shared: names of data that are the same tensor in every problem and are held once.
    compiled: whether step and evaluation are compiled; becomes false if the compiler fails. False
        with a fused step: compiling an evaluation, which is products for the most part, saves less
        time than it takes. An evaluation in portions is not compiled either: of `ordering with paper`
        that took 150 s and had many portions in memory at once, to save a quarter of its time.
    traced: traced functions of another program of equal shape, to be used here too.
    fused: makes the steps; None where the traced or compiled step does.
    is_eager: whether nothing is traced (`grok.engine.eager`), which only one slot alone can do.

    `state` is a nested dictionary of tensors whose first axis is R. `threads` is how many threads
    the fused step uses.
    """

    def __init__(
        self,
        template: Problem,
        slots: int,
        shared: set[str],
        compiled: bool,
        traced: dict[str, Callable] | None = None,
        fused: FusedStep | None = None,
        is_eager: bool = False,
    ):
        self.template = template
        self.frozen = template.frozen
        self.is_eager = is_eager
        self.slots = slots
        self.compiled = compiled
        self.evaluates_portions = getattr(template.metrics, "rows_at_once", None) is not None
        self.fused = fused
        self.threads = 1
        self.steps_of_call = 1  # that the fused step makes in about CALL_SECONDS
        self.shared = {k: v for k, v in template.data.items() if k in shared}
        self.steps = [0] * slots
        self.seeds = [0] * slots
        self.orders: list[Tensor | None] = [None] * slots
        # of each slot, the epoch (or the block of sampled mini-batches) and its indices
        self.epochs: list[tuple[int, Tensor] | None] = [None] * slots
        numbers = optimizers.hyperparameters(template.optimizer)
        self.hyperparameters_RG = Hyperparameters(*(np.stack([x] * slots) for x in numbers))
        self.schedule_TRGC = torch.empty(0)  # StepScalars of SCHEDULED_STEPS steps
        self.scheduled = 0  # how many of them are still to come
        empty = self._replica(template)
        self.state = pytree.tree_map(lambda x: torch.stack([x] * slots), empty)
        self._fused_steps = None if fused is None else fused.bind(self.state, self.shared)
        # functions of all tensors of state and shared data, by name; and calls on our own tensors
        self._traced: dict[str, Callable] = {} if traced is None else traced
        self._calls: dict[str, Callable] = {}
        self._graphs: dict[
            str, torch.fx.GraphModule
        ] = {}  # recorded by `check`, until they are used
        self.preparing_seconds = 0.0  # of tracing, compiling and capturing, all calls together
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
        if problem.optimizer.grokfast is not None:
            gain = problem.optimizer.grokfast.gain
            state["grokfast_gain"] = torch.tensor(gain, dtype=dtype, device=device)
            if problem.optimizer.grokfast.kind == "window":
                state["newest"] = {name: torch.zeros_like(value) for name, value in params.items()}
        if problem.optimizer.rescales:
            state["fixed_norm"] = optimizers.fixed_norm(problem.optimizer, params)
        if problem.batch_size is not None:
            state["minibatch"] = torch.zeros(problem.batch_size, dtype=torch.long, device=device)
        return state

    def load(self, slot: int, problem: Problem) -> None:
        """Put a problem's initial state into a slot; the other slots are not touched."""
        self.steps[slot], self.seeds[slot], self.epochs[slot] = 0, problem.seed, None
        self.orders[slot] = problem.orders
        self._set_hyperparameters(slot, optimizers.hyperparameters(problem.optimizer))
        initial = self._replica(problem)
        pytree.tree_map(lambda old, new: old[slot].copy_(new), self.state, initial)

    def move(self, source: int, target: "Program", slot: int) -> None:
        """Copy a slot, whatever its step, into a slot of another program of the same problems."""
        target.steps[slot], target.seeds[slot] = self.steps[source], self.seeds[source]
        target.epochs[slot], target.orders[slot] = self.epochs[source], self.orders[source]
        numbers = Hyperparameters(*(column[source] for column in self.hyperparameters_RG))
        target._set_hyperparameters(slot, numbers)
        pytree.tree_map(lambda new, old: new[slot].copy_(old[source]), target.state, self.state)

    def _set_hyperparameters(self, slot: int, numbers: Hyperparameters) -> None:
        for column, value in zip(self.hyperparameters_RG, numbers, strict=True):
            column[slot] = value
        self.scheduled = 0

    def advance(self, most: int, slots: Sequence[int]) -> int:
        """Make at least one and at most so many steps; return how many.

        Arguments:
            most: steps until the state is to be read.
            slots: that need be trained; others may be.
        """
        if self._fused_steps is None:
            self._step_all_slots()
            return 1
        count = min(most, self.steps_of_call)
        if self.template.needs_previous_params:
            if count == most > 1:
                count -= 1  # the last step is a call of its own
            elif most == 1:
                self._keep_previous_params()
        return self._call_fused(count, slots)

    def step(self) -> None:
        """One step of every slot."""
        self.advance(1, range(self.slots))

    def _step_all_slots(self) -> None:
        if self.template.batch_size is not None:
            self._next_minibatches(1)
        self.state["scalars"].copy_(self._next_scalars(1)[0])
        if self.template.needs_previous_params:
            # not inside the step: a compiled one may write the weights first
            self._keep_previous_params()
        with held_back:
            self._call("step", self._step_all)
            for slot in range(self.slots):
                self.steps[slot] += 1
            if "newest" in self.state:
                self._keep_newest_gradients()

    def _call_fused(self, most: int, slots: Sequence[int]) -> int:
        """As many of `most` steps as one call makes; return how many."""
        assert self._fused_steps is not None, "this program has a fused step"
        scalars_TRGC = self._next_scalars(most)
        count = len(scalars_TRGC)
        minibatches_TRB = None
        if self.template.batch_size is not None:
            minibatches_TRB = self._next_minibatches(count)
        self.state["scalars"].copy_(scalars_TRGC[-1])
        began = time.perf_counter()
        with held_back:
            self._fused_steps(slots, scalars_TRGC, minibatches_TRB, self.threads)
        seconds = (time.perf_counter() - began) / count
        self.steps_of_call = max(1, int(CALL_SECONDS / seconds))
        for slot in slots:
            self.steps[slot] += count
        return count

    def _keep_previous_params(self) -> None:
        pytree.tree_map(
            lambda old, now: old.copy_(now), self.state["previous_params"], self.state["params"]
        )

    def _keep_newest_gradients(self) -> None:
        grokfast = self.template.optimizer.grokfast
        assert grokfast is not None, "only a filter has a window"
        past = self.state["filter"]["past"]
        for slot, step in enumerate(self.steps):
            newest, of_slot = (
                {name: value[slot] for name, value in tree.items()}
                for tree in (self.state["newest"], past)
            )
            filters.keep(grokfast, newest, of_slot, step)

    def evaluate(self, slots: Sequence[int]) -> list[dict[str, Tensor]]:
        """The metrics of these slots after their last step, on the CPU.

        A program with a fused step evaluates each slot on its own, so that neither its metrics nor
        its weights depend on its neighbours.
        """
        with held_back:
            if self.fused is not None:
                return [self._evaluate_slot(slot) for slot in slots]
            metrics = self._call("evaluate", self._mapped(self._evaluate_one))
            metrics = {name: value.cpu() for name, value in metrics.items()}
        if self.slots == 1:
            return [metrics]
        return [{name: value[slot] for name, value in metrics.items()} for slot in slots]

    def reordered(self, problem: Problem, slots: int) -> "Program":
        """A program with a state of its own, for problems that differ from these in order only.

        It is made at the first call, with R slots or `slots`, whichever is less; with R it runs our
        own traced functions.
        """
        if self._reordered is None:
            count = min(self.slots, slots)
            traced = self._traced if count == self.slots else None
            shared = set(self.shared)
            self._reordered = Program(
                problem, count, shared, self.compiled, traced, self.fused, self.is_eager
            )
        return self._reordered

    def weights(self, slot: int) -> dict[str, Tensor]:
        """A copy of a slot's parameters, and of the statistics of its batch normalization."""
        statistics = running_statistics(self.template.module)
        kept = self.state["params"] | {name: self.state["buffers"][name] for name in statistics}
        return {name: value[slot].clone() for name, value in kept.items()}

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

    def norm(self, slot: int) -> float:
        """The norm of a slot's weights."""
        return float(optimizers.norm_of(self.weights(slot)))

    def change(self, slot: int, problem: Problem, change: Intervention, norm: float) -> None:
        """Give a slot the new settings of an intervention.

        Arguments:
            problem: of the slot.
            norm: of its weights when the intervention happened.
        """
        names = [name for name in self.state["params"] if name.startswith(change.parameters)]
        groups = {problem.optimizer.group_of(name) for name in names}
        for name, value in change.settings:
            if name == "lr":
                self.hyperparameters_RG.lr[slot, [*groups]] = value
            elif name == "weight_decay":
                decayed = [
                    i for i in groups if change.parameters or problem.optimizer.groups[i].decayed
                ]
                self.hyperparameters_RG.weight_decay[slot, decayed] = value
            elif name == "temperature":
                self.state["data"][TEMPERATURE][slot] = value
            elif name == "fixed_norm":
                self.state[name][slot] = norm if value is True else value
            else:
                self.state[name][slot] = value
        self.scheduled = 0

    def reset(self, slot: int, problem: Problem, prefix: str) -> None:
        """Put parameters back to their initial values, with an empty optimizer state.

        Arguments:
            problem: of the slot.
            prefix: the beginning of their names.
        """
        initial = self._replica(problem)
        for key in ("params", "optimizer", "filter"):
            for path, leaf in pytree.tree_flatten_with_path(self.state[key])[0]:
                if _name(path).rpartition("/")[2].startswith(prefix):
                    leaf[slot].copy_(_at(initial[key], path))

    def copy_settings(self, source: int, target: "Program", slot: int) -> None:
        """Copy what interventions can set from a slot to one of another program of such problems."""
        numbers = Hyperparameters(*(column[source] for column in self.hyperparameters_RG))
        target._set_hyperparameters(slot, numbers)
        pairs = [(self.state, target.state, name) for name in ("fixed_norm", "grokfast_gain")]
        pairs.append((self.state["data"], target.state["data"], TEMPERATURE))
        for old, new, name in pairs:
            if name in old:
                new[name][slot].copy_(old[name][source])

    def objective(self, slot: int) -> Callable[[dict], Tensor]:
        """The loss that a slot's last step lowered, as a function of its parameters."""
        return self._objective(pytree.tree_map(lambda x: x[slot], self.state), self.shared)

    # -- one replica, mapped over all ------------------------------------------------------------

    def run(self, function: Callable, params: dict, buffers: dict, data: Any) -> Any:
        """function(module, data) with these parameters and buffers in the module."""
        return run_with(self.template.module, {**params, **buffers}, function, data)

    def _objective(self, state: dict, shared: dict) -> Callable[[dict], Tensor]:
        """The loss as a function of the parameters, on one replica's data and batch.

        It does not depend on parameters that are not trained, so that their gradient is zero.
        """
        problem = self.template
        frozen = {name: state["params"][name] for name in self.frozen}
        data = {**state["data"], **shared}
        if problem.batch_size is not None:
            data.update({name: data[name][state["minibatch"]] for name in problem.minibatch_keys})
        if problem.needs_rng:
            data["key"] = self._key(state, "loss")
        return lambda params: self.run(problem.loss, {**params, **frozen}, state["buffers"], data)

    def _step_one(self, state: dict, shared: dict) -> dict:
        settings = self.template.optimizer
        objective = self._objective(state, shared)
        grads_of = eager.grad if self.is_eager else grad
        grads_and_value = eager.grad_and_value if self.is_eager else grad_and_value
        losses: list[Tensor] = []

        def gradient_and_loss(params: dict) -> dict:
            grads, loss = grads_and_value(objective)(params)
            losses.append(loss)
            return grads

        gradient_at = grads_of(objective) if self.template.measures is None else gradient_and_loss
        noise = {name: self._key(state, name) for name in settings.noises()}
        grads = optimizers.gradient(settings, gradient_at, state["params"], noise)
        new: dict[str, Any] = {}
        if losses:
            new |= {"gradient": grads, "loss": losses[0].double()}
        if settings.grokfast is not None:
            if "newest" in state:
                new["newest"] = grads
            grads, new["filter"] = filters.amplified(
                settings.grokfast,
                grads,
                state["filter"],
                optimizers.step_number(state["scalars"]),
                state["grokfast_gain"],
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
        if settings.rescales:
            new["params"] = optimizers.rescaled(new["params"], state["fixed_norm"])
        new["params"] |= {name: state["params"][name] for name in self.frozen}
        return new

    def _key(self, state: dict, stream: str) -> Tensor:
        """The key of this step's random numbers: of the run's seed, the step and their purpose."""
        t = optimizers.step_number(state["scalars"]).long()
        return randomness.key_of(state["seed"], t, RNG_STREAMS.index(stream))

    def _mapped(self, function: Callable[[dict, dict], dict]) -> Callable[[dict, dict], dict]:
        """`function` of a slot's state and the shared data, for all slots.

        One slot alone is not mapped, since vmap makes more calls: products in batches of one, and
        biases added apart from them.
        """
        return function if self.slots == 1 else for_all(function)

    def _step_all(self, state: dict, shared: dict) -> tuple:
        new = self._mapped(self._step_one)(state, shared)
        for key, value in new.items():
            # of the filter only what has changed
            kept = {name: state[key][name] for name in value} if key == "filter" else state[key]
            pytree.tree_map(lambda old, fresh: old.copy_(fresh), kept, value)
        return ()

    def _evaluate_one(self, state: dict, shared: dict) -> dict:
        data = {**state["data"], **shared}
        if self.template.needs_rng:
            data["key"] = self._key(state, "metrics")
        if self.template.needs_previous_params:
            data["previous"] = state["previous_params"]
        with torch.no_grad():
            metrics = self.run(self.template.metrics, state["params"], state["buffers"], data)
            _check_metrics(metrics)
            norms = [torch.linalg.vector_norm(value) for value in state["params"].values()]
            weight_norm = torch.linalg.vector_norm(torch.stack(norms))
            return {**metrics, "weight_norm": weight_norm}

    def _call(self, name: str, function: Callable) -> Any:
        """`function` of state and shared data: traced at its first call, compiled if asked for.

        The state is that of all slots, or of a single one without the slots' axis. On CUDA the
        kernels become one captured graph.
        """
        if self.is_eager:
            return self._call_eagerly(name, function, self._state_of_call())
        if name not in self._calls:
            with self._timed_preparation():
                arguments, spec = pytree.tree_flatten((self._state_of_call(), self.shared))
                if name not in self._traced:
                    self._traced[name] = self._trace(name, function, arguments, spec)
                call = partial(self._traced[name], *arguments)
                self._calls[name] = _captured(call, arguments) if arguments[0].is_cuda else call
        return self._calls[name]()

    @contextlib.contextmanager
    def _timed_preparation(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.preparing_seconds += time.perf_counter() - began

    def _state_of_call(self) -> dict:
        """The state of all slots, or of a single one without the slots' axis."""
        return self.state if self.slots > 1 else pytree.tree_map(lambda x: x[0], self.state)

    def _call_eagerly(self, name: str, function: Callable, state: dict) -> Any:
        stream = "loss" if name == "step" else "metrics"
        with eager.drawing_from(self._key(state, stream)):
            if name == "step":
                return function(state, self.shared)
            with eager.evaluating(self.template.module):
                return function(state, self.shared)

    def check(self) -> None:
        """Record, or if eager execute, an evaluation and a step on a copy of the state.

        Raises whatever error keeps them from being recorded for all slots, or executed.
        """
        functions = {"evaluate": self._mapped(self._evaluate_one), "step": self._step_all}
        for name, function in functions.items():
            if name in self._traced:
                continue
            state = pytree.tree_map(torch.clone, self._state_of_call())
            if self.is_eager:
                self._call_eagerly(name, function, state)
            else:
                arguments, spec = pytree.tree_flatten((state, self.shared))
                with eager.drawing_nothing(self.template.device):
                    self._graphs[name] = self._recorded(function, arguments, spec)

    def _recorded(
        self, function: Callable, arguments: list[Tensor], spec: Any
    ) -> torch.fx.GraphModule:
        """`function` as a graph of the flat list of tensors; it may change these."""

        def flat(*leaves: Tensor) -> Any:
            return function(*pytree.tree_unflatten(leaves, spec))

        graph = record(flat, arguments)
        if products.pay():
            products.replace_products(graph)
        return graph

    def _evaluate_slot(self, slot: int) -> dict[str, Tensor]:
        """The metrics of one slot."""
        read = self._read_by_metrics[slot]
        if slot > 0:  # a copy, which is aligned as slot 0 is: sums of MKL's depend on that
            torch._foreach_copy_(self._copy, read)
            read = self._copy
        arguments = [*read, *self.shared.values()]
        if "evaluate" not in self._traced:
            with self._timed_preparation():
                spec = pytree.tree_structure((self._state_of_metrics(slot), self.shared))
                function = self._trace("evaluate", self._evaluate_one, arguments, spec)
                self._traced["evaluate"] = function
        return self._traced["evaluate"](*arguments)

    def _state_of_metrics(self, slot: int) -> dict:
        """What the metrics of one slot read."""
        state = {key: self.state[key] for key in READ_BY_METRICS if key in self.state}
        return pytree.tree_map(lambda x: x[slot], state)

    @cached_property
    def _read_by_metrics(self) -> list[list[Tensor]]:
        """The tensors that the metrics of each slot read; beside a fused step they stay in place."""
        return [pytree.tree_leaves(self._state_of_metrics(slot)) for slot in range(self.slots)]

    @cached_property
    def _copy(self) -> list[Tensor]:
        """Room for what the metrics of one slot read."""
        return [torch.empty_like(tensor) for tensor in self._read_by_metrics[0]]

    def _trace(self, name: str, function: Callable, arguments: list[Tensor], spec: Any) -> Callable:
        """`function` as one of the flat list of tensors, recorded on copies of them."""

        def recorded() -> torch.fx.GraphModule:
            graph = self._graphs.pop(name, None)
            copies = [leaf.clone() for leaf in arguments]
            return graph or self._recorded(function, copies, spec)

        deleted: set[Path] = set()
        options = CPU_COMPILER_OPTIONS if arguments[0].device.type == "cpu" else COMPILER_OPTIONS
        while self.compiled and not (name == "evaluate" and self.evaluates_portions):
            try:
                return _compile(recorded(), arguments, options)
            except Exception as error:  # no C++ compiler, or a fault of Inductor's
                path = _unloadable_file(error)
                if path is not None and path not in deleted:
                    path.unlink(missing_ok=True)
                    deleted.add(path)
                    continue
                if options is not COMPILER_OPTIONS:  # the one C++ file fails on some operations
                    options = COMPILER_OPTIONS
                    continue
                reason = next(iter(str(error).splitlines()), type(error).__name__)
                print(f"warning: training uncompiled, slower: {reason}", file=sys.stderr)
                self.compiled = False
        graph = recorded()  # again where the compiler has failed, since it changes the graph
        write_in_place(graph)
        return graph

    def _next_scalars(self, most: int) -> Tensor:
        """The StepScalars (T, R, groups, 10) of the next T steps of every slot, 1 <= T <= most."""
        if self.scheduled == 0:
            t_TR1 = np.array(self.steps)[:, None] + np.arange(1, SCHEDULED_STEPS + 1)[:, None, None]
            scalars = torch.from_numpy(
                optimizers.step_scalars(
                    self.hyperparameters_RG, t_TR1, self.template.optimizer.schedule
                )
            )
            current = self.state["scalars"]
            self.schedule_TRGC = scalars.to(current.device, current.dtype)
            self.scheduled = SCHEDULED_STEPS
        first = SCHEDULED_STEPS - self.scheduled
        rows = self.schedule_TRGC[first : first + most]
        self.scheduled -= len(rows)
        return rows

    def _next_minibatches(self, count: int) -> Tensor:
        """Indices (count, R, B) of the next mini-batches; the last becomes the state's."""
        slots = [self._minibatches(slot, count) for slot in range(self.slots)]
        minibatches_TRB = torch.stack(slots, 1)
        self.state["minibatch"].copy_(minibatches_TRB[-1])
        return minibatches_TRB

    def _minibatches(self, slot: int, count: int) -> Tensor:
        """Indices (count, B) of a slot's next mini-batches: of permutations, or sampled."""
        size, sampling = self.template.batch_size, self.template.sampling
        assert size is not None, "only a problem with mini-batches has a next one"
        examples = self.template.data[self.template.minibatch_keys[0]].shape[0]
        of_epoch = SAMPLED_BATCHES if sampling == "replacement" else examples // size
        parts: list[Tensor] = []
        step, end = self.steps[slot], self.steps[slot] + count
        while step < end:
            epoch, position = divmod(step, of_epoch)
            current = self.epochs[slot]
            if current is None or current[0] != epoch:
                if sampling == "replacement":
                    indices = sampled_batches(self.seeds[slot], epoch, examples, (of_epoch, size))
                elif sampling == "epochs":
                    indices = batch_order(self.seeds[slot], epoch, examples)[: of_epoch * size]
                else:
                    orders = self.orders[slot]
                    order = (
                        torch.arange(examples) if orders is None else orders[epoch % len(orders)]
                    )
                    indices = order[: of_epoch * size]
                # copied once an epoch, so that a GPU never waits for a mini-batch
                current = epoch, indices.view(of_epoch, size).to(self.state["minibatch"].device)
                self.epochs[slot] = current
            parts.append(current[1][position : position + end - step])
            step += len(parts[-1])
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _check_metrics(metrics: Any) -> None:
    """Raise TypeError or ValueError if this is not what the metrics of a problem have to be."""
    if not isinstance(metrics, dict) or not all(isinstance(v, Tensor) for v in metrics.values()):
        kinds = {name: type(value).__name__ for name, value in dict(metrics or {}).items()}
        raise TypeError(f"the metrics are {kinds or metrics!r}; expected a dict of tensors by name")
    if "train_loss" not in metrics:
        raise ValueError(f"the metrics are {sorted(metrics)}; expected train_loss among them")


def _at(tree: Any, path: tuple) -> Tensor:
    """The tensor at a path of nested dictionaries."""
    for entry in path:
        tree = tree[entry.key]
    return tree


def _name(path: tuple) -> str:
    return "/".join(str(entry.key) for entry in path)


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _compile(
    graph: torch.fx.GraphModule, arguments: list[Tensor], options: dict[str, bool]
) -> Callable:
    """The graph as a program of Inductor's, loaded from disk if it was compiled before."""
    from torch._guards import TracingContext, tracing
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    determinism.enforce_when_compiling()
    if arguments[0].device.type == "cpu":
        separate_biases(graph)
    # Not torch.compile: its guards and wrappers would cost a third of a small step. Inductor uses
    # its cache on disk only within a tracing context.
    fake_mode = FakeTensorMode(shape_env=ShapeEnv(), static_shapes=True)
    with tracing(TracingContext(fake_mode)):
        return torch._inductor.compile(graph, [*arguments], options=options)


def _unloadable_file(error: BaseException | None) -> Path | None:
    """The library in Inductor's cache that could not be loaded, if that is what went wrong.

    A process that was killed while the C++ compiler wrote it leaves an incomplete one for all later
    runs. The linker writes what is loaded first and the header last, so that an incomplete file is
    refused and never loaded: of 850 linkers that were killed, none left one that loads in part.
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
