"""What Sacred asks the machine and the interpreter for, answered once and cheaply."""

import contextlib
import functools
from collections.abc import Iterator
from types import FrameType, SimpleNamespace
from typing import Any

import sacred
import sacred.initialize
from sacred.host_info import HostInfoGetter, get_host_info


@functools.cache
def _machine() -> dict[str, Any]:
    return get_host_info()


def host_info(additional_host_info: list[HostInfoGetter] | None = None) -> dict[str, Any]:
    """What Sacred stores of the machine, which it would ask several programs about for every run."""
    return dict(_machine())


sacred.initialize.get_host_info = host_info


@contextlib.contextmanager
def stack_of_sacred(caller: FrameType) -> Iterator[None]:
    """A context in which Sacred, which asks for the globals of its caller, is told this one.

    `inspect.stack` would read the sources of all modules (0.4 CPU s).
    """
    module: Any = sacred.experiment
    inspect = module.inspect
    module.inspect = SimpleNamespace(stack=lambda: [None, (caller,)])
    try:
        yield
    finally:
        module.inspect = inspect
