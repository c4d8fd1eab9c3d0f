"""The definition of one run before it has started, and the order of its mini-batches."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grok.engine.hopeless import HopelessRule
from grok.engine.spec import Group, Intervention, MeasureConfig, Optimizer, Stop
from grok.randomness import seed_of
from grok.tensors import Tensors


@dataclass(frozen=True)
class WeightsFile:
    """The file that initial weights come from.

    sha256: of its content.
    names: whose names its weights have: "own", or those of another program.
    """

    sha256: str
    names: str


@dataclass
class Problem:
    """Everything that defines one run; nothing has run yet.

    module: an initialized torch module for ONE replica. Parameters with requires_grad=False keep
        their values.
    data: tensors that the loss and the metrics read, by name.
    loss, metrics: `f(module, data)` -> scalar / dict of tensors. Module-level functions or frozen
        dataclasses, so that two problems can be compared for computing the same thing. A metric of
        more than zero dimensions is stored as an array (a trajectory).
    log_steps: steps at which the metrics are evaluated and logged, and the last one always.
    batch_size: examples of a mini-batch; None for full-batch training.
    minibatch_keys: the entries of `data` that mini-batches index by their first axis.
    sampling: of mini-batches: "epochs" (a new permutation for each epoch), "in_order" (every epoch
        goes through the data in its given order, or in those of `orders` in turn), or
        "replacement" (drawn independently).
    orders: indices (E, examples) for "in_order": epoch e has the order e mod E; None for the given
        order of the data.
    needs_rng: the loss or the metrics draw random numbers, with `data["key"]` as the key
        (grok/randomness.py).
    needs_previous_params: the metrics read `data["previous"]`, the parameters before the last step.
    stop: the early-stopping rule.
    hopeless: the rule by which the run is given up, if it is.
    interventions: changes at a step, or when a metric is at a value.
    saved_data: entries of `data` that are stored with the run.
    checkpoint_every: steps between the states that `train` yields; None for none.
    keep_weights: the records' arrays hold the weights, as WEIGHTS + name.
    arrays_every: only every so-many-th record, and the last, has arrays.
    measures: which measures the run takes; None for none.
    fused: the run may use a fused step (grok/engine/fused).
    parent_run: id of the run that the initial weights, or their mask, come from; None for none.
    weights_file: the file that the initial weights come from; None for none.
    reference_run: id of the run whose final weights are the reference of its measures; None for none.
    """

    module: nn.Module
    data: dict[str, Tensor]
    loss: Callable[[Any, Tensors], Tensor]  # of a module of this kind and data
    metrics: Callable[[Any, Tensors], Tensors]
    optimizer: Optimizer
    train_steps: int
    log_steps: list[int]
    seed: int = 0
    batch_size: int | None = None
    minibatch_keys: tuple[str, ...] = ()
    sampling: str = "epochs"
    orders: Tensor | None = None
    needs_rng: bool = False
    needs_previous_params: bool = False
    stop: Stop | None = None
    hopeless: HopelessRule | None = None
    interventions: tuple[Intervention, ...] = ()
    saved_data: tuple[str, ...] = ()
    checkpoint_every: int | None = None
    keep_weights: bool = False
    arrays_every: int = 1
    measures: MeasureConfig | None = None
    fused: bool = True
    parent_run: int | str | None = None
    weights_file: WeightsFile | None = None
    reference_run: int | None = None

    @property
    def device(self) -> torch.device:
        """Where the run is trained."""
        return next(self.module.parameters()).device

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the parameters that keep their values: those with requires_grad=False."""
        return tuple(n for n, p in self.module.named_parameters() if not p.requires_grad)

    def has_arrays(self, step: int) -> bool:
        """Whether the record of this logged step, if it is not the last, has arrays."""
        return self.arrays_every == 1 or self.log_steps.index(step) % self.arrays_every == 0

    def signature(self) -> tuple:
        """What two problems must have in common to be trained as one program: shapes and code."""
        optimizer = self.optimizer
        groups = tuple(
            Group(group.prefix, part=group.part, muon=group.muon, stacked=group.stacked)
            for group in optimizer.groups
        )
        numbers: dict[str, Any] = {"warmup_steps": 0, "anneal_steps": 0, "lr_floor": 0.0}
        numbers |= {"fixed_norm": optimizer.rescales, "norm_changes": False}
        if optimizer.grokfast is not None:
            numbers["grokfast"] = replace(optimizer.grokfast, gain=0.0)
        return (
            repr(self.module),
            _attributes(self.module),
            _shapes(dict(self.module.named_parameters())),
            self.frozen,
            _shapes(dict(self.module.named_buffers())),
            _shapes(self.data),
            self.loss,
            self.metrics,
            # without the numbers that each replica has of its own
            replace(optimizer, groups=groups, **numbers),
            self.batch_size,
            self.minibatch_keys,
            self.sampling,
            None if self.orders is None else len(self.orders),
            self.needs_rng,
            self.needs_previous_params,
            self.measures is not None,
            self.fused,
        )


def log_steps(train_steps: int, points: int) -> list[int]:
    """At most `points` + 1 logarithmically spaced steps: 0, 1, ..., train_steps, all different."""
    spaced = np.geomspace(1, train_steps, min(points, train_steps))
    return [0, *sorted({int(step) for step in np.round(spaced)})]


def _attributes(module: nn.Module) -> tuple:
    """What a module and its parts have besides parameters, buffers and parts: it may change what they
    compute, and a program has it from one replica only. The repr of torch's own modules shows it."""
    own = {*vars(nn.Module())} - {"training"}
    tensors = (*module.named_parameters(), *module.named_buffers())
    names = {id(tensor): name for name, tensor in tensors}
    return tuple(
        (path, type(part), name, _comparable(value, names))
        for path, part in module.named_modules()
        if not type(part).__module__.startswith("torch.")
        for name, value in vars(part).items()
        if name not in own
    )


def _comparable(value: Any, names: dict[int, str]) -> Any:
    """A hashable value that is equal for equal ones; for an object that cannot be compared, its identity.

    Arguments:
        names: of the module's own tensors, by their identities. Their values need not be equal.
    """
    if id(value) in names:
        return names[id(value)]
    if isinstance(value, Tensor):
        content = value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
        return tuple(value.shape), value.dtype, hash(content)
    if isinstance(value, list | tuple):
        return type(value), tuple(_comparable(each, names) for each in value)
    if isinstance(value, dict):
        return tuple((key, _comparable(each, names)) for key, each in value.items())
    is_plain = type(value).__hash__ in (None, object.__hash__) and not callable(value)
    if is_plain and hasattr(value, "__dict__"):
        return type(value), _comparable(vars(value), names)
    try:
        hash(value)
    except TypeError:
        return id(value)
    return value


def _shapes(tensors: dict[str, Tensor]) -> tuple:
    return tuple(
        (name, tuple(tensor.shape), tensor.dtype, tensor.device.type)
        for name, tensor in tensors.items()
    )


def batch_order(seed: int, epoch: int, examples: int) -> Tensor:
    """A permutation (examples,) that depends on seed and epoch alone, so that a run can resume anywhere."""
    return torch.randperm(examples, generator=_generator(seed, epoch))


def sampled_batches(seed: int, block: int, examples: int, shape: tuple[int, int]) -> Tensor:
    """Indices (batches, size) drawn with replacement: the block-th such sample of a run."""
    return torch.randint(examples, shape, generator=_generator(seed, block))


def _generator(seed: int, part: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(seed, part))
