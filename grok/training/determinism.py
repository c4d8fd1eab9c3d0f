"""Draws that depend on a seed alone and leave torch's global state as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


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
