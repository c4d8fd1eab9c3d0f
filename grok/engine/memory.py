"""How the C library returns freed memory."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> None:
    """Let the C library, if it is glibc, keep freed memory for reuse from now on.

    By default it returns blocks above 32 MB to the system at once, and every step has them cleared
    and mapped again: half of the time of a step with activations of that size.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
