"""Errors that the user can correct."""

import contextlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

import click


class UserError(click.ClickException):
    """Bad input or a bad environment: shown as one line, exit code 2, no traceback."""

    exit_code = 2

    def __str__(self) -> str:
        return self.message

    def show(self, file: object = None) -> None:
        click.echo(f"error: {self.message}", err=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """While files are written at a path that the user has named: UserError if that cannot be done."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def near_match(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name that is most like `name`, or that it begins with; None if none is like it."""
    known = sorted(known)
    near = get_close_matches(name, known, n=1, cutoff=cutoff)
    return next(iter(near), None) or next((k for k in known if k and name.startswith(k)), None)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name X that is most like `name`; empty if none is like it."""
    near = near_match(name, known)
    return f"; did you mean {near}?" if near else ""
