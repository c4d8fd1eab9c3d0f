"""Filters between the gradient and the optimizer: Grokfast (Lee et al. 2024, arXiv:2405.20233)."""

import torch
from torch import Tensor

from grok.training.problem import Grokfast

Tensors = dict[str, Tensor]


def initial_state(grokfast: Grokfast | None, params: Tensors) -> dict[str, Tensors]:
    """What the filter remembers: one average, or the last `window` gradients, of every parameter."""
    if grokfast is None:
        return {}
    if grokfast.kind == "ema":
        return {"slow": {name: torch.zeros_like(value) for name, value in params.items()}}
    window = grokfast.window
    return {
        "past": {name: value.new_zeros((window, *value.shape)) for name, value in params.items()}
    }


def amplified(
    grokfast: Grokfast, grads: Tensors, state: dict[str, Tensors], t: Tensor
) -> tuple[Tensors, dict[str, Tensors]]:
    """Gradients of update t (from 1) plus `gain` times their slow part, and the new memory.

    "ema" (algorithm 2): the slow part is an exponential average that starts at the first gradient.
    "window" (algorithm 1): the mean of the last `window` gradients, none before there are as many.
    """
    if grokfast.kind == "ema":
        first = t == 1
        slow = {
            name: torch.where(
                first, g, grokfast.alpha * state["slow"][name] + (1 - grokfast.alpha) * g
            )
            for name, g in grads.items()
        }
        return {name: g + grokfast.gain * slow[name] for name, g in grads.items()}, {"slow": slow}
    place = torch.arange(grokfast.window, device=t.device) == (t - 1) % grokfast.window
    past = {
        name: torch.where(place.view(-1, *[1] * g.ndim), g, state["past"][name])
        for name, g in grads.items()
    }
    gain = torch.where(t >= grokfast.window, grokfast.gain, 0.0)
    out = {name: g + (gain * past[name].mean(0)).to(g.dtype) for name, g in grads.items()}
    return out, {"past": past}
