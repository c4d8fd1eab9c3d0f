"""Runs that a seed decides: draws of its own, and kernels that add in one order."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def enforce() -> None:
    """Only deterministic kernels from now on, in this process; torch raises where there is none.

    Otherwise threads race when they add up a table's gradient, and no two runs are alike.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS documents
    torch.use_deterministic_algorithms(True)
    # for debugging only, and slow
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010


@contextmanager
def drawing(seed: int, dtype: torch.dtype) -> Iterator[None]:
    """Within: torch's generator is seeded and `dtype` is the default; both are restored after."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)
