"""Errors that the user can correct."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from pathlib import Path

import click

from grok.printable import printable

MAX_BYTES = 2**20  # of a text that is read as a whole


class UserError(click.ClickException):
    """Bad input or a bad environment: shown as one line, exit code 2, no traceback."""

    exit_code = 2

    def __str__(self) -> str:
        return self.message

    def show(self, file: object = None) -> None:
        click.echo(f"error: {printable(self.message, kept='')}", err=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """While files are written at a path that the user has named: UserError if that cannot be done."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def check_file(path: Path) -> None:
    """UserError if there is something other than a file, such as a device: reading may never end."""
    if os.path.exists(path) and not path.is_file():
        raise UserError(f"{path}: expected a file, not a folder, pipe or device")


def read_text(path: Path, what: str = "") -> str:
    """The text of a file that the user has named.

    Arguments:
        what: what the file is, for the error message.

    Raises:
        UserError: it cannot be read, or has more than MAX_BYTES.
    """
    try:
        with open(path, "rb") as file:  # which may have no end
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UserError(f"{what}{path}: more than {MAX_BYTES:,} bytes")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", "not a text in UTF-8")
        raise UserError(f"{what}{path}: {reason}") from error


def near_match(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """The known name that is most like `name`, or that it begins with; None if none is like it.

    Upper and lower case are alike, and each part of a name may be abbreviated (`train_frac`).
    """
    names = {each.lower(): each for each in sorted(known, reverse=True)}
    name = name.lower()
    near = [name] if name in names else [each for each in sorted(names) if _abbreviates(name, each)]
    near = near or get_close_matches(name, names, n=1, cutoff=cutoff)
    near = near or [
        each for each in names if each and name.startswith(each) and len(name) <= 2 * len(each)
    ]
    return names[near[0]] if near else None


def _abbreviates(name: str, known: str) -> bool:
    parts, known_parts = name.split("_"), known.split("_")
    return len(parts) == len(known_parts) and all(
        len(part) > 1 and known_part.startswith(part)
        for part, known_part in zip(parts, known_parts, strict=True)
    )


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known name X that is most like `name`; empty if none is like it."""
    near = near_match(name, known)
    return f"; did you mean {near}?" if near else ""


def check_names(
    names: Iterable[str],
    known: Iterable[str],
    kind: str,
    meant: Callable[[str, list[str]], str | None] = near_match,
) -> None:
    """UserError that names the first unknown name and what may be `meant`, of the known names."""
    known = sorted(known)
    for name in names:
        if name not in known:
            near = meant(name, known)
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
            shown = name if name.split() == [name] else repr(name)
            raise UserError(f"unknown {kind} {shown}; {hint}")
