"""R slots of equal shape trained as one program: one step, one measurement, for all of them.

A paper writes a plain module for one replica; `torch.func.vmap` maps the whole step (forward,
backward, optimizer) over the slots, and the traced result is compiled once. Measured against the
same step written by hand with a leading replica axis, the mapped one is no slower (Liu toy, two
cores: 3.3 k against 2.8 k steps/s at R=1 in float64, 9.0 k against 8.6 k at R=16 in float32).
"""

import warnings
from collections.abc import Callable

import numpy as np
import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch._functorch.compile_utils import fx_graph_cse
from torch.func import grad, grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from grok import randomness
from grok.engine import filters, optimizers, products
from grok.engine.checkpoint import CheckpointError
from grok.engine.functional import run_with
from grok.engine.problem import Problem, batch_order, drawn_batches
from grok.interrupts import held_back

BLOCK = 256  # mini-batches that are drawn at once, with replacement
LASTING = ("params", "buffers", "optimizer", "filter", "goal", "previous")  # the rest follows
STREAMS = ("loss", "metrics", "weight_noise", "update_noise")
T = optimizers.SCALARS.index("t")
AHEAD = 256  # updates whose learning rates and corrections are computed at once
# A compiled function meets the tensors it was traced on and no others: nothing need be checked.
UNCHECKED = {"size_asserts": False}


class Program:
    """Slots 0..R-1, each holding one replica. `load` fills a slot, `step` advances all, `measure` looks.

    shared: names of data that are the same tensor in every problem and are held once.
    """

    def __init__(self, template: Problem, slots: int, shared: set[str], compiled: bool):
        self.template = template
        self.slots = slots
        self.compiled = compiled
        self.shared = {k: v for k, v in template.data.items() if k in shared}
        self.steps = [0] * slots
        self.orders: list[tuple[int, Tensor] | None] = [None] * slots
        self.seeds = [0] * slots
        self.numbers = np.stack([optimizers.settings(template.optimizer)] * slots)
        self.rates: Tensor | None = None  # of the next updates, (AHEAD, R, groups, 10)
        self.ahead = 0  # how many of them are still to come
        empty = self._replica(template)
        self.state = pytree.tree_map(lambda x: torch.stack([x] * slots), empty)
        self._traced: dict[str, Callable] = {}  # functions of all tensors, in their order
        self._bound: dict[str, Callable] = {}  # the same, on this program's own
        self._beside: Program | None = None

    def _replica(self, problem: Problem) -> dict:
        """The state of one replica before its first update."""
        params = {name: p.detach().clone() for name, p in problem.module.named_parameters()}
        first = next(iter(params.values()))
        device, dtype, groups = first.device, first.dtype, len(problem.optimizer.groups)
        state = {
            "params": params,
            "buffers": {name: b.clone() for name, b in problem.module.named_buffers()},
            "optimizer": optimizers.initial_state(problem.optimizer, params),
            "filter": filters.initial_state(problem.optimizer.grokfast, params),
            "seed": torch.tensor(problem.seed, device=device),
            "rates": torch.zeros(groups, len(optimizers.SCALARS), dtype=dtype, device=device),
            "data": {k: v for k, v in problem.data.items() if k not in self.shared},
        }
        if problem.measures is not None:
            state["gradient"] = {name: torch.zeros_like(value) for name, value in params.items()}
            state["loss"] = torch.zeros((), dtype=torch.float64, device=device)
        if problem.needs_previous_params:
            state["previous"] = {name: value.clone() for name, value in params.items()}
        if problem.optimizer.decay_to == "init":
            state["goal"] = {name: value.clone() for name, value in params.items()}
        if problem.optimizer.fixed_norm:
            state["norm"] = optimizers.norm_of(params)
        if problem.batch_size is not None:
            state["batch"] = torch.zeros(problem.batch_size, dtype=torch.long, device=device)
        return state

    def load(self, slot: int, problem: Problem) -> None:
        """Put a problem's initial state into a slot; its neighbours are not touched."""
        self.steps[slot], self.seeds[slot], self.orders[slot] = 0, problem.seed, None
        self.numbers[slot] = optimizers.settings(problem.optimizer)
        self.ahead = 0
        fresh = self._replica(problem)
        pytree.tree_map(lambda held, new: held[slot].copy_(new), self.state, fresh)

    def move(self, source: int, target: "Program", slot: int) -> None:
        """Copy a slot, whatever its step, into a slot of another program of the same problems."""
        target.steps[slot], target.seeds[slot] = self.steps[source], self.seeds[source]
        target.orders[slot] = self.orders[source]
        target.numbers[slot] = self.numbers[source]
        target.ahead = 0
        pytree.tree_map(lambda new, held: new[slot].copy_(held[source]), target.state, self.state)

    def step(self) -> None:
        """One update of every slot."""
        if self.template.batch_size is not None:
            self._draw_batches()
        if self.ahead == 0:
            self._look_ahead()
        self.state["rates"].copy_(self.rates[-self.ahead])
        self.ahead -= 1
        if (
            self.template.needs_previous_params
        ):  # not in the step: a compiled one may write the weights first
            pytree.tree_map(
                lambda old, now: old.copy_(now), self.state["previous"], self.state["params"]
            )
        with held_back:
            self._built("step", self._step_all)()
        for slot in range(self.slots):
            self.steps[slot] += 1

    def measure(self) -> dict[str, Tensor]:
        """Metrics of every slot after its last update, each (R, ...)."""
        with held_back:
            return self._built("measure", self._measure_all)()

    def beside(self, problem: Problem, slots: int) -> "Program":
        """A program with a state of its own, for problems that differ from these in order alone.

        Made once. It has at most `slots` slots, and runs our own compiled step where ours are no more.
        """
        if self._beside is None:
            same = self.slots <= slots
            count = self.slots if same else slots
            self._beside = Program(problem, count, set(self.shared), self.compiled)
            if same:
                self._beside._traced = self._traced
        return self._beside

    def weights(self, slot: int) -> dict[str, Tensor]:
        """A copy of a slot's parameters."""
        return {name: value[slot].clone() for name, value in self.state["params"].items()}

    def saved(self, slot: int) -> dict[str, Tensor]:
        """A copy of all that a slot has learned, by path: what `restore` needs."""
        return {name: leaf[slot].detach().cpu().clone() for name, leaf in self._lasting().items()}

    def _lasting(self) -> dict[str, Tensor]:
        """The tensors of all slots that a saved state consists of, by path."""
        lasting = {key: self.state[key] for key in LASTING if key in self.state}
        return {_name(path): leaf for path, leaf in pytree.tree_flatten_with_path(lasting)[0]}

    def restore(self, slot: int, step: int, tensors: dict[str, Tensor]) -> None:
        """Put a saved state after `step` updates into a slot that holds its problem.

        CheckpointError if it is not of this kind of problem.
        """
        leaves = self._lasting()
        for name in sorted({*leaves, *tensors}):
            if name not in leaves or name not in tensors:
                raise CheckpointError(f"{name} is in one of state and problem only")
            held, saved = leaves[name][slot], tensors[name]
            if (held.shape, held.dtype) != (saved.shape, saved.dtype):
                raise CheckpointError(f"{name} is {_kind(saved)} in the state, {_kind(held)} here")
        for name, leaf in leaves.items():
            leaf[slot].copy_(tensors[name])
        self.steps[slot], self.ahead = step, 0

    def objective(self, slot: int) -> Callable[[dict], Tensor]:
        """The loss that a slot's last update went down, as a function of its parameters."""
        return self._objective(pytree.tree_map(lambda x: x[slot], self.state), self.shared)

    # -- one replica, mapped over all ------------------------------------------------------------

    def run(self, function: Callable, params: dict, buffers: dict, data: dict):
        """function(module, data) with these parameters and buffers in the module."""
        return run_with(self.template.module, {**params, **buffers}, function, data)

    def _objective(self, state: dict, shared: dict) -> Callable[[dict], Tensor]:
        """The loss as a function of the parameters, on one replica's data and batch."""
        problem = self.template
        data = {**state["data"], **shared}
        if problem.batch_size is not None:
            data.update({name: data[name][state["batch"]] for name in problem.minibatch_keys})
        if problem.needs_rng:
            data["key"] = self._key(state, "loss")
        return lambda params: self.run(problem.loss, params, state["buffers"], data)

    def _step_one(self, state: dict, shared: dict) -> dict:
        settings = self.template.optimizer
        objective, losses = self._objective(state, shared), []

        def watched(params: dict) -> dict:
            grads, loss = grad_and_value(objective)(params)
            losses.append(loss)
            return grads

        of = grad(objective) if self.template.measures is None else watched
        noise = {name: self._key(state, name) for name in settings.noises()}
        grads = optimizers.gradient(settings, of, state["params"], noise)
        new = {}
        if losses:
            new |= {"gradient": grads, "loss": losses[0].double()}
        if settings.grokfast is not None:
            grads, new["filter"] = filters.amplified(
                settings.grokfast, grads, state["filter"], state["rates"][0, T]
            )
        new["params"], new["optimizer"] = optimizers.update(
            settings,
            state["params"],
            grads,
            state["optimizer"],
            state["rates"],
            state.get("goal"),
            noise,
        )
        if settings.fixed_norm:
            factor = state["norm"] / optimizers.norm_of(new["params"])
            new["params"] = {k: (v * factor).to(v.dtype) for k, v in new["params"].items()}
        return new

    def _key(self, state: dict, stream: str) -> Tensor:
        """What random numbers of this update depend on: the run's seed, the update, their use."""
        t = state["rates"][0, T].long()
        return randomness.key_of(state["seed"], t, STREAMS.index(stream))

    def _step_all(self, state: dict, shared: dict) -> tuple:
        new = vmap(self._step_one, in_dims=(0, None))(state, shared)
        for key, value in new.items():
            pytree.tree_map(lambda held, fresh: held.copy_(fresh), state[key], value)
        return ()

    def _measure_one(self, state: dict, shared: dict) -> dict:
        data = {**state["data"], **shared}
        if self.template.needs_rng:
            data["key"] = self._key(state, "metrics")
        if self.template.needs_previous_params:
            data["previous"] = state["previous"]
        with torch.no_grad():
            metrics = self.run(self.template.metrics, state["params"], state["buffers"], data)
            squares = [(value**2).sum() for value in state["params"].values()]
            return {**metrics, "weight_norm": sum(squares).sqrt()}

    def _measure_all(self, state: dict, shared: dict) -> dict:
        return vmap(self._measure_one, in_dims=(0, None))(state, shared)

    def _built(self, name: str, function: Callable) -> Callable:
        """`function` traced once, compiled if asked for, and bound to the state.

        On CUDA its kernels become one captured graph.
        """
        if name not in self._bound:
            arguments, spec = pytree.tree_flatten((self.state, self.shared))
            if name not in self._traced:
                self._traced[name] = self._trace(function, arguments, spec)
            traced = self._traced[name]
            if arguments[0].is_cuda:
                self._bound[name] = _captured(lambda: traced(*arguments), arguments)
            else:
                self._bound[name] = lambda: traced(*arguments)
        return self._bound[name]

    def _trace(self, function: Callable, arguments: list[Tensor], spec) -> Callable:
        """`function` of the state's tensors, recorded on copies of them."""

        def flat(*leaves):
            return function(*pytree.tree_unflatten(leaves, spec))

        graph = make_fx(flat)(*[leaf.clone() for leaf in arguments])
        # a third of the calls that an uncompiled step makes are repeated or unused
        graph.graph = fx_graph_cse(graph.graph)
        graph.graph.eliminate_dead_code()
        graph.recompile()
        if products.pay():
            products.replace_products(graph)
        if not self.compiled:
            return graph
        # Not torch.compile: its guards and wrappers would cost a third of a small step.
        return torch._inductor.compile(graph, [*arguments], options=UNCHECKED)

    def _look_ahead(self) -> None:
        """The optimizers' scalars of the next updates of every slot."""
        t = np.array(self.steps)[:, None] + np.arange(1, AHEAD + 1)[:, None, None]
        held = self.state["rates"]
        found = torch.from_numpy(optimizers.scalars(self.numbers, t))
        self.rates, self.ahead = found.to(held.device, held.dtype), AHEAD

    def _draw_batches(self) -> None:
        """Next mini-batch of every slot: through a permutation of the train set, or drawn afresh."""
        size = self.template.batch_size
        examples = self.template.data[self.template.minibatch_keys[0]].shape[0]
        sampling = self.template.sampling
        together = BLOCK if sampling == "replacement" else examples // size
        for slot in range(self.slots):
            epoch, position = divmod(self.steps[slot], together)
            if self.orders[slot] is None or self.orders[slot][0] != epoch:
                if sampling == "replacement":
                    fresh = drawn_batches(self.seeds[slot], epoch, examples, (together, size))
                elif sampling == "epochs":
                    fresh = batch_order(self.seeds[slot], epoch, examples)[: together * size]
                else:
                    fresh = torch.arange(together * size)
                # once an epoch, so that a GPU never waits for one
                self.orders[slot] = epoch, fresh.view(together, size).to(self.state["batch"].device)
            self.state["batch"][slot].copy_(self.orders[slot][1][position])


def _name(path: tuple) -> str:
    return "/".join(str(entry.key) for entry in path)


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype}"


def _captured(call: Callable, state: list[Tensor]) -> Callable:
    """`call` as a CUDA graph; the trial runs that a capture needs are undone."""
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

    def replay():
        graph.replay()
        return result

    return replay


def can_compile() -> bool:
    """Whether torch.compile works here (it needs a C++ compiler on CPU, Triton on CUDA)."""
    global _CAN_COMPILE
    if _CAN_COMPILE is None:
        with held_back, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                torch.compile(lambda x: x.sin() + 1, fullgraph=True)(torch.zeros(8))
                _CAN_COMPILE = True
            except Exception:
                _CAN_COMPILE = False
    return _CAN_COMPILE


_CAN_COMPILE: bool | None = None
