"""What cannot be recorded as a program: executed call by call, for one replica at a time.

A module that draws random numbers from torch's generator (dropout), changes its buffers (batch
normalization) or decides by the values of tensors has a program of its own at every step.
"""

import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from grok.tensors import Tensors

LONGEST_REASON = 160  # characters
# What torch says of modules that change their own tensors, and the cause in words of ours.
MUTATES = "would mutate a captured Tensor"
CHANGES_TENSORS = "it changes tensors of its own, as batch normalization does"


class Unrecordable(Exception):
    """Why a function cannot be recorded once and repeated."""


@contextmanager
def drawing_nothing(device: torch.device) -> Iterator[None]:
    """A context whose end raises Unrecordable if torch's generator was used meanwhile; it is put back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        before = _generator_states(device)
        yield
        if not all(map(torch.equal, before, _generator_states(device))):
            raise Unrecordable("it draws random numbers from torch's generator")


def _generator_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def grad_and_value(objective: Callable[[Tensors], Tensor]) -> Callable[[Tensors], tuple]:
    """As `torch.func.grad_and_value`, by plain autograd, which lets a module change its buffers."""

    def gradient(params: Tensors) -> tuple[Tensors, Tensor]:
        leaves = {name: value.detach().requires_grad_() for name, value in params.items()}
        with torch.enable_grad():
            loss = objective(leaves)
        grads = torch.autograd.grad(loss, [*leaves.values()], materialize_grads=True)
        return dict(zip(leaves, grads, strict=True)), loss.detach()

    return gradient


def grad(objective: Callable[[Tensors], Tensor]) -> Callable[[Tensors], Tensors]:
    """As `torch.func.grad`, by plain autograd."""
    return lambda params: grad_and_value(objective)(params)[0]


@contextmanager
def drawing_from(key: Tensor) -> Iterator[None]:
    """A context in which torch's generators are seeded by a key, so that a resumed run draws the same."""
    devices = [key.device] if key.is_cuda else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(int(key))
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A context in which a module is evaluated: without dropout, and with its running statistics."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def reason(error: BaseException) -> str:
    """The first sentence of an error, which ends at a word if it is long."""
    text = next(iter(str(error).splitlines()), "") or type(error).__name__
    if MUTATES in text:
        return CHANGES_TENSORS
    return textwrap.shorten(
        text.partition(". ")[0].removesuffix("."), LONGEST_REASON, placeholder=" ..."
    )
