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


def set_for(problems: Sequence[Problem]) -> None:
    """Treat denormal numbers as zero in all threads, or keep them in this one if problems need them.

    A thread has the setting that the one which started it had, so that those of a fused step, which
    each call starts, have that of this thread. PyTorch's own threads are started once: before any
    number is kept, so that they do not depend on what a process trained before.
    """
    torch.set_flush_denormal(True)
    if are_needed(problems):
        _start_threads()
        torch.set_flush_denormal(False)


def are_needed(problems: Sequence[Problem]) -> bool:
    """Whether one of these problems, of equal signature, has an eps for which denormal squares count."""
    dtypes = {parameter.dtype for parameter in problems[0].module.parameters()}
    largest_root = max(torch.finfo(dtype).tiny for dtype in dtypes) ** 0.5
    smallest_eps = min(group.eps for problem in problems for group in problem.optimizer.groups)
    return largest_root > NEGLIGIBLE * smallest_eps


def _start_threads() -> None:
    before, cores = torch.get_num_threads(), usable_cores()
    torch.set_num_threads(cores)
    torch.ones(cores * 2**16).square()  # so many that each thread gets some
    torch.set_num_threads(before)
