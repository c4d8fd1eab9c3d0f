"""How many threads train on the CPU."""

import os

import torch

from grok.engine.problem import Problem

# Multiplications of a step's forward pass from which a second thread pays. Measured on two cores: it
# makes the Liu toy 1.25 times faster alone (3e6 multiplications) and 1.9 times in a batch of four
# (1.3e7), and the perceptron of `ordering` 1.6 times (5e7).
LARGE_STEP = 1e7


def choose_threads(problem: Problem, slots: int) -> int:
    """Threads for a program of so many slots: one where its products are small.

    Threads wait for each other after every product. If products are small, this costs as much as a
    second thread saves, and far more while other programs use the cores. Otherwise there is one
    thread for each core that is idle when the program starts. OMP_NUM_THREADS takes precedence.
    """
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    if forward_multiplications(problem) * slots < LARGE_STEP:
        return 1
    return max(1, usable_cores() - round(os.getloadavg()[0]))


def forward_multiplications(problem: Problem) -> float:
    """About how many multiplications the loss of one replica takes: each weight once for each row."""
    weights = sum(parameter.numel() for parameter in problem.module.parameters())
    rows = problem.batch_size or max(len(value) for value in problem.data.values() if value.dim())
    return weights * rows


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
