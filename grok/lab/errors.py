"""Errors that are the user's to mend."""

import contextlib
from collections.abc import Iterator
from pathlib import Path


class UserError(Exception):
    """Bad input or environment: shown as one line, exit code 2, no traceback."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """While files are written at a path that the user has named: UserError if that cannot be done."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
