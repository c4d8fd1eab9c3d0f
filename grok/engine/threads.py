"""How many threads train on the CPU."""

import os

import torch

from grok.engine.problem import Problem

# Multiplications of a step's forward pass from which several threads are used. Measured on two cores,
# a second thread makes a step of the Liu toy 1.25 times faster alone (3e6 multiplications) and 1.9
# times in a batch of four (1.3e7), of `ordering` 1.6 times (5e7), of `power` 1.1 times and of `nanda`
# 0.8 times alone (1e8), and of three of `nanda` 1.6 times (3e8).
LARGE_STEP = 1e7
# Of a compiled step with one thread, from the same measurements.
SECONDS_OF_STEP = 3e-4
SECONDS_OF_MULTIPLICATION = 1.5e-10


def choose_threads(problem: Problem, slots: int) -> int:
    """The number of threads for a program of so many slots.

    It is one where the products of a step are small: threads wait for each other after every
    product, which takes most of the time when other programs use the cores. Otherwise it is the
    number of cores that are idle when the program starts. OMP_NUM_THREADS takes precedence.
    """
    if forward_multiplications(problem) * slots < LARGE_STEP:
        return single_thread()
    return available_cores()


def single_thread() -> int:
    """The number of threads of a program that needs no other: 1, or what OMP_NUM_THREADS says."""
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else 1


def available_cores() -> int:
    """The cores that a program may keep busy: those that are idle, or what OMP_NUM_THREADS says."""
    return torch.get_num_threads() if "OMP_NUM_THREADS" in os.environ else idle_cores()


def idle_cores() -> int:
    """Cores that this process may use and that were idle in the last minute; at least 1."""
    return max(1, usable_cores() - round(os.getloadavg()[0]))


def forward_multiplications(problem: Problem) -> int:
    """Multiplications of one replica's forward pass, if each row uses each weight once."""
    weights = sum(parameter.numel() for parameter in problem.module.parameters())
    rows = problem.batch_size or max(len(value) for value in problem.data.values() if value.dim())
    return weights * rows


def step_seconds(problem: Problem, slots: int) -> float:
    """Roughly the seconds of one step with one thread."""
    return SECONDS_OF_STEP + SECONDS_OF_MULTIPLICATION * forward_multiplications(problem) * slots


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))
