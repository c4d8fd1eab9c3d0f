"""Filters between the gradient and the optimizer: Grokfast (Lee et al. 2024, arXiv:2405.20233)."""

import torch
from torch import Tensor

from grok.engine.spec import Grokfast
from grok.tensors import Tensors


def initial_state(grokfast: Grokfast | None, params: Tensors) -> dict[str, Tensors]:
    """What the filter remembers: one average, or the last `window` gradients, of every parameter."""
    if grokfast is None:
        return {}
    if grokfast.kind == "ema":
        return {"slow": {name: torch.zeros_like(value) for name, value in params.items()}}
    window = grokfast.window
    return {
        "past": {name: value.new_zeros((window, *value.shape)) for name, value in params.items()},
        # their sum, in float64: it is kept up to date for a whole run
        "sum": {
            name: torch.zeros_like(value, dtype=torch.float64) for name, value in params.items()
        },
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
    place = ((t - 1) % grokfast.window).long().reshape(1)
    gain = torch.where(t >= grokfast.window, grokfast.gain / grokfast.window, 0.0)
    out, past, total = {}, {}, {}
    for name, g in grads.items():
        held = state["past"][name]
        total[name] = state["sum"][name] + g.double() - held[place][0].double()
        past[name] = held.index_put((place,), g.unsqueeze(0))
        out[name] = g + (gain * total[name]).to(g.dtype)
    return out, {"past": past, "sum": total}
