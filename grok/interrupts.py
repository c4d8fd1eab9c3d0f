"""How SIGTERM and Ctrl-C end a run or a command.

An exception that a signal handler raises inside a function of `torch.compile` is swallowed, or
comes out as an error of the compiler (torch 2.13). It is therefore held back until the end of the
call.
"""

import atexit
import contextlib
import signal
import sys
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM reached the process. Sacred marks a run that it ends as INTERRUPTED."""


class _HeldBack:
    """Context in which the exceptions of signals wait. Not nested; entered at every step."""

    def __init__(self) -> None:
        self.is_held = False
        self.pending: BaseException | None = None

    def __enter__(self) -> None:
        self.is_held = True

    def __exit__(self, *_: object) -> None:
        self.is_held = False
        if self.pending is not None:
            pending, self.pending = self.pending, None
            raise pending

    def arrive(self, error: BaseException) -> None:
        if not self.is_held:
            raise error
        self.pending = error


held_back = _HeldBack()


def raise_on_signals() -> None:
    """From now on SIGTERM raises Terminated, and Ctrl-C KeyboardInterrupt, in the main thread.

    While the process exits, when nothing could catch the exception, a signal ends it at once.
    """
    atexit.unregister(_end_on_signals)
    atexit.register(_end_on_signals)  # the last one registered is called first
    _raise_on(signal.SIGTERM, Terminated)
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # nohup, or a shell's background job
        _raise_on(signal.SIGINT, KeyboardInterrupt)


@contextlib.contextmanager
def exit_on_interrupt(message: str) -> Iterator[None]:
    """Ends the process when a signal arrives: one line on stderr, exit code 130 or 143."""
    raise_on_signals()
    try:
        yield
    except KeyboardInterrupt as error:
        print(message, file=sys.stderr)
        sys.exit(exit_code(error))


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code of a process that a signal has ended."""
    return 143 if isinstance(error, Terminated) else 130


def _end_on_signals() -> None:
    for signum in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def _raise_on(signum: int, error: type[BaseException]) -> None:
    signal.signal(signum, lambda *_: held_back.arrive(error()))
