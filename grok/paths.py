"""Where this project and its data are, and how a file is replaced."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PROJECT = Path(__file__).resolve().parents[1]


def home() -> Path:
    """The folder of the project's data: GROK_HOME, else .grok in the project, else .grok here."""
    if os.environ.get("GROK_HOME"):
        return Path(os.environ["GROK_HOME"]).resolve()
    return (PROJECT if (PROJECT / "setup.cfg").exists() else Path.cwd()) / ".grok"


def experiment_file(name: str) -> Path:
    """The program of an experiment of this project."""
    return PROJECT / "experiments" / f"{name}.py"


def relative_to_here(path: Path) -> str:
    """The path from the current folder, if it is below it; the absolute path otherwise."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def experiment_names() -> list[str]:
    """The names of all experiments of this project, sorted."""
    return sorted(path.stem for path in (PROJECT / "experiments").glob("*.py"))


def make_private_folder(path: Path) -> None:
    """Make a folder, and the missing ones above it, that only this user may enter."""
    for folder in (*reversed(path.parents), path):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path, mode: int = 0o600) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block has ended without an error.

    After a crash the old file or the whole new one is there. Links are not followed, neither at
    `path` nor at the temporary name.

    Arguments:
        mode: the file's permissions; without it only this user may read the file.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            yield file
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Replace a file by a text that only this user may read, as `atomic_write` does."""
    with atomic_write(path) as file:
        file.write(text.encode())
