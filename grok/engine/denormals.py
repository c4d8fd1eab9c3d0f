"""Denormal numbers on the CPU: those below the smallest normal one, 1.2e-38 in float32.

Saturated losses have denormal gradients, which make steps eight times slower, so they are treated as
zero. But Adam divides by the root of the mean square of the gradient plus eps: with an eps that is
far below the root of the smallest normal number, a square that is treated as zero makes the step too
large, by up to seven orders of magnitude for an eps of 1e-25.
"""

from collections.abc import Sequence

import torch

from grok.engine.problem import Problem
from grok.engine.threads import usable_cores

NEGLIGIBLE = 1e-4  # a root that is smaller than this times eps does not change a step


def are_needed(problems: Sequence[Problem]) -> bool:
    """Whether one of these problems, of equal signature, has an eps for which denormal squares count."""
    dtypes = {parameter.dtype for parameter in problems[0].module.parameters()}
    largest_root = max(torch.finfo(dtype).tiny for dtype in dtypes) ** 0.5
    smallest_eps = min(group.eps for problem in problems for group in problem.optimizer.groups)
    return largest_root > NEGLIGIBLE * smallest_eps


def flush() -> None:
    """Treat denormal numbers as zero, in this thread and those that it starts."""
    torch.set_flush_denormal(True)


def keep() -> bool:
    """Keep denormal numbers in this thread; whether the other threads of PyTorch keep them, too.

    PyTorch starts its threads once, with the setting that the thread which starts them has.
    """
    torch.set_flush_denormal(False)
    before = torch.get_num_threads()
    torch.set_num_threads(usable_cores())
    rows = usable_cores() * 2**16  # so many that each thread gets some
    squares = torch.full((rows,), torch.finfo(torch.float32).tiny ** 0.5 / 2).square()
    torch.set_num_threads(before)
    return bool((squares > 0).all())
