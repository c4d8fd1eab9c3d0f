"""Threads: one where products are small, else one for each idle core; the user's choice wins."""

import os

import pytest
import torch
from torch import nn

from grok.engine import threads
from grok.engine.events import Start
from grok.engine.problem import Problem
from grok.engine.spec import Optimizer
from grok.engine.train import train
from tests.engine.toy import loss, metrics, problem

CORES = 8


@pytest.fixture
def machine(monkeypatch):
    """Eight cores, a load average that a test sets, and no OMP_NUM_THREADS."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "usable_cores", lambda: CORES)
    before = torch.get_num_threads()

    def set_load(load: float) -> None:
        monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))

    set_load(0.0)
    yield set_load
    torch.set_num_threads(before)


def large_problem() -> Problem:
    """A thousand rows through a million weights."""
    data = {"inputs": torch.zeros(1000, 1000), "targets": torch.zeros(1000, 1000)}
    return Problem(nn.Linear(1000, 1000), data, loss, metrics, Optimizer(), 1, [1])


@pytest.mark.parametrize(("load", "expected"), [(0.0, 8), (0.4, 8), (3.0, 5), (30.0, 1)])
def test_large_products_use_the_idle_cores(machine, load, expected):
    """A core that another program uses is left to it; at least one thread trains."""
    machine(load)
    assert threads.choose_threads(large_problem(), slots=1) == expected


def test_small_products_use_one_thread_and_a_batch_counts_as_a_whole(machine):
    """The toy multiplies 12 rows by 122 weights; so many replicas as reach the bound are large."""
    small = problem(0)
    assert threads.forward_multiplications(small) == 12 * (3 * 20 + 20 + 20 * 2 + 2)
    assert threads.choose_threads(small, slots=1) == 1
    slots = int(threads.LARGE_STEP / threads.forward_multiplications(small)) + 1
    assert threads.choose_threads(small, slots - 1) == 1
    assert threads.choose_threads(small, slots) == CORES


def test_a_mini_batch_counts_with_its_rows(machine):
    data = {"inputs": torch.zeros(1000, 1000), "targets": torch.zeros(1000, 1000)}
    keys = {"batch_size": 10, "minibatch_keys": ("inputs", "targets")}
    batch = Problem(nn.Linear(1000, 1000), data, loss, metrics, Optimizer(), 1, [1], **keys)
    assert threads.forward_multiplications(batch) == 10 * (1000 * 1000 + 1000)


def test_the_users_number_wins(machine, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    assert threads.choose_threads(large_problem(), slots=1) == 3
    assert threads.choose_threads(problem(0), slots=1) == 3


def test_the_number_is_used_and_told(machine):
    """A run records it, since sums over threads depend on it, and a repetition asks for it."""
    start = next(event for event in train([problem(0)], compiled=False))
    assert isinstance(start, Start) and start.threads == torch.get_num_threads() == 1
    start = next(event for event in train([problem(0)], compiled=False, threads=2))
    assert isinstance(start, Start) and start.threads == torch.get_num_threads() == 2
