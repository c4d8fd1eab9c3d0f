"""Filters of the gradient before the optimizer: Grokfast (Lee et al. 2024, arXiv:2405.20233)."""

import torch
from torch import Tensor

from grok.engine.spec import Grokfast
from grok.tensors import Tensors


def initial_state(grokfast: Grokfast | None, params: Tensors) -> dict[str, Tensors]:
    """The state of the filter: an average, or the last `window` gradients, of every parameter."""
    if grokfast is None:
        return {}
    if grokfast.kind == "ema":
        return {"slow": {name: torch.zeros_like(value) for name, value in params.items()}}
    window = grokfast.window
    return {
        "past": {name: value.new_zeros((window, *value.shape)) for name, value in params.items()},
        # in float64, because it is updated, not recomputed, at every step of a run
        "sum": {
            name: torch.zeros_like(value, dtype=torch.float64) for name, value in params.items()
        },
    }


def amplified(
    grokfast: Grokfast, grads: Tensors, state: dict[str, Tensors], t: Tensor, gain: Tensor
) -> tuple[Tensors, dict[str, Tensors]]:
    """Gradients plus `gain` times their slow component, and what changes of the filter's state.

    "ema" (algorithm 2): the slow component is an exponential average that starts at the first
    gradient. "window" (algorithm 1): the mean of the last `window` gradients, zero before there are
    as many. `keep` puts the gradients into the window afterwards.

    Arguments:
        grokfast: kind of the filter, its alpha and window.
        grads: gradients of this step.
        state: from `initial_state` or the step before.
        t: number of the step, from 1.
        gain: what the slow component is multiplied by.
    """
    if grokfast.kind == "ema":
        first = t == 1
        slow = {
            name: torch.where(
                first, g, grokfast.alpha * state["slow"][name] + (1 - grokfast.alpha) * g
            )
            for name, g in grads.items()
        }
        return {name: g + gain * slow[name] for name, g in grads.items()}, {"slow": slow}
    index = ((t - 1) % grokfast.window).long().reshape(1)
    gain = torch.where(t >= grokfast.window, gain / grokfast.window, 0.0)
    out, total = {}, {}
    for name, g in grads.items():
        oldest = state["past"][name][index][0]
        total[name] = state["sum"][name] + g.double() - oldest.double()
        out[name] = g + (gain * total[name]).to(g.dtype)
    return out, {"sum": total}


def keep(grokfast: Grokfast, grads: Tensors, past: Tensors, t: int) -> None:
    """Put the gradients of step t in place of the oldest in a window, `state["past"]`.

    This is not a part of `amplified`: a compiled step would copy the whole window for it.
    """
    for name, g in grads.items():
        past[name][(t - 1) % grokfast.window].copy_(g)
