"""Warnings of settings that can be trained, and are hardly ever meant."""

import sys
from functools import cache

from grok.engine.spec import Optimizer

LARGE_COUPLED_DECAY = 0.5  # weight decay of Adam, from which it overrides the loss's gradient


def warn_of_coupled_decay(optimizer: Optimizer) -> None:
    """Warn if Adam's weight decay, which is added to the gradient, will drive the weights to zero."""
    decay = max(group.weight_decay for group in optimizer.groups)
    if optimizer.kind == "adam" and decay >= LARGE_COUPLED_DECAY and not optimizer.fixed_norm:
        _warn_once(
            f"weight decay {decay:g} with optimizer=adam is added to the gradient, outweighs that of "
            "the loss and drives the weights to zero; with optimizer=adamw it is decoupled"
        )


@cache
def _warn_once(message: str) -> None:
    """Print a warning on stderr, once per process."""
    print(f"warning: {message}", file=sys.stderr)
