"""Where this project and its data are, and how a file is replaced."""

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from grok.errors import UserError

INSTALLED = Path(__file__).resolve().parent / "papers"  # the project that the package brings
APP_FOLDER = "grok-lab"  # of the user's data


def _is_project(folder: Path) -> bool:
    """Whether a folder is a project: it has `experiments` and `sweeps`.

    A folder that users share, such as /tmp, is not one: experiments are executed, and anybody could
    put some there.
    """
    has_parts = all(os.path.isdir(folder / part) for part in ("experiments", "sweeps"))
    return has_parts and not folder.stat().st_mode & stat.S_ISVTX


def project_of(path: Path) -> Path | None:
    """The project that a path is in: the nearest folder above it, or itself, that is one."""
    return next((folder for folder in (path, *path.parents) if _is_project(folder)), None)


def _project() -> Path:
    """The project of the working directory, else the checkout of this package, else its papers."""
    checkout = INSTALLED.parents[1]
    with contextlib.suppress(FileNotFoundError):  # the working directory was deleted
        found = project_of(Path.cwd())
        if found is not None:
            return found
    return checkout if _is_project(checkout) else INSTALLED


PROJECT = _project()


def own_project() -> Path:
    """The project, if it is the user's to write to; UserError if it is the installed package."""
    if PROJECT == INSTALLED:
        raise UserError("no project here: `grok init NAME` makes one; or change to its folder")
    return PROJECT


def home() -> Path:
    """The folder of runs and their store: GROK_HOME, else .grok in the project.

    Without a project of one's own, it is in the user's data folder.
    """
    if os.environ.get("GROK_HOME"):
        return Path(os.environ["GROK_HOME"]).resolve()
    if PROJECT != INSTALLED:
        return PROJECT / ".grok"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data).resolve() / APP_FOLDER


def experiment_file(name: str) -> Path:
    """The program of an experiment of this project."""
    return PROJECT / "experiments" / f"{name}.py"


def sweep_file(path: Path) -> Path:
    """A sweep file: the path itself if it exists, else the project's file of this path or name."""
    candidates = (path, PROJECT / path, PROJECT / "sweeps" / f"{path}.yaml")
    return next((each for each in candidates if os.path.exists(each)), path)


def project_path(name: str) -> Path:
    """The path of a file that a configuration names: from the working directory, else the project's."""
    path = Path(name)
    return path if os.path.exists(path) else PROJECT / path


def script_file(name: str) -> Path:
    """A script of the project's folder `analysis`, or else of the package's."""
    own = PROJECT / "analysis" / f"{name}.py"
    return own if own.is_file() else INSTALLED / "analysis" / f"{name}.py"


def relative_to_here(path: Path) -> str:
    """The path from the current folder, if it is below it; the absolute path otherwise."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def experiment_names() -> list[str]:
    """The names of all experiments of this project, sorted."""
    return _programs(PROJECT / "experiments")


def script_names() -> list[str]:
    """The names of all scripts of analysis, of the project and of the package, sorted."""
    folders = (PROJECT / "analysis", INSTALLED / "analysis")
    return sorted({name for folder in folders for name in _programs(folder)})


def _programs(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("_"))


def is_below(name: str) -> bool:
    """Whether a name, joined to a folder, is a path in it; one of a stored run may be anybody's."""
    path = PurePosixPath(name)
    return bool(path.parts) and not (path.is_absolute() or ".." in path.parts or "\0" in name)


def shortened(name: str, longest: int) -> str:
    """A file's name, or its beginning and a digest if it has more than `longest` bytes: file systems
    take 255."""
    content = name.encode()
    if len(content) <= longest:
        return name
    return f"{content[:100].decode(errors='ignore')}~{hashlib.sha256(content).hexdigest()[:8]}"


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
