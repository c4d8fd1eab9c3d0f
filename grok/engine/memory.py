"""How the C library returns freed memory."""

import contextlib
import ctypes
from functools import cache

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
DEFAULT_TRIM_THRESHOLD, DEFAULT_MMAP_MAX = 128 * 1024, 65_536  # of glibc's manual


def keep_freed(kept: bool = True) -> None:
    """Let the C library, if it is glibc, keep freed memory for reuse from now on, or return it.

    By default it returns blocks above 32 MB to the system at once, and every step has them cleared
    and mapped again: half of the time of a step with activations of that size. What it keeps is scattered,
    however: an evaluation in many large portions then takes several times the memory that it uses.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = _libc()
        libc.mallopt(M_MMAP_MAX, 0 if kept else DEFAULT_MMAP_MAX)
        libc.mallopt(M_TRIM_THRESHOLD, -1 if kept else DEFAULT_TRIM_THRESHOLD)


@cache
def _libc() -> ctypes.CDLL:
    """The C library, which evaluations ask for again and again."""
    return ctypes.CDLL("libc.so.6")
