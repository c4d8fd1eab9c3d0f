"""Where this project and its data are, and how a file is replaced."""

import contextlib
import os
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


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which takes the place of `path` when the block has ended without an error.

    After a crash the old file or the whole new one is there.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
