"""Runs that are determined by their seed: seeded initialization and deterministic kernels."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def enforce() -> None:
    """Let torch use deterministic kernels only, in this process, and raise where there is none.

    Otherwise the order in which threads add up an embedding's gradient varies from run to run.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS documents
    torch.set_deterministic_debug_mode("error")
    # for debugging only, and slow
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010


def enforce_when_compiling() -> None:
    """Let the compiler choose deterministic kernels too. This imports it, which takes a second."""
    torch.use_deterministic_algorithms(True)


@contextmanager
def drawing(seed: int, dtype: torch.dtype) -> Iterator[None]:
    """A context in which torch's generator is seeded and `dtype` is the default dtype."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
