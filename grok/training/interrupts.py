"""Signals that end a run, held back while compiled code runs.

An exception that a signal handler raises inside a function of `torch.compile` is swallowed, or
comes out as a compiler's error (torch 2.13); so it waits for the end of the call.
"""

import signal


class _HeldBack:
    """Context in which `end_on`'s exceptions wait. Not nested; entered once a step, so kept light."""

    def __init__(self):
        self.is_held = False
        self.pending: BaseException | None = None

    def __enter__(self) -> None:
        self.is_held = True

    def __exit__(self, *_) -> None:
        self.is_held = False
        if self.pending is not None:
            pending, self.pending = self.pending, None
            raise pending

    def arrive(self, error: BaseException) -> None:
        if not self.is_held:
            raise error
        self.pending = error


held_back = _HeldBack()


def end_on(signum: int, error: type[BaseException]) -> None:
    """From now on the signal raises `error` in the main thread, between compiled calls."""
    signal.signal(signum, lambda *_: held_back.arrive(error()))
