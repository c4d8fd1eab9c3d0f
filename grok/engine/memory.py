"""Memory that updates use again and again."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed() -> None:
    """From now on the C library keeps what is freed, where it is glibc.

    It would give blocks above 32 MB back to the system at once, and every update would have them
    cleared and mapped anew: half of the time of an update with activations of that size.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)
