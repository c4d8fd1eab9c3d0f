"""A run's files: taken out of the store, added after the run, deleted.

What is added after a run is marked with the date: a file in its entry of `artifacts`, a value in
`added`. What the run itself has stored is never replaced.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

import bson
import gridfs
from bson import ObjectId
from bson.errors import InvalidDocument

from grok.errors import UserError, writing
from grok.paths import atomic_write, is_below, make_private_folder
from grok.store import maintenance
from grok.store.archive_schema import check_plain
from grok.store.connection import Store, file_content, find_run
from grok.store.lease import is_alive

OUTPUT = "captured_out.txt"
FILES, SOURCES = "files", "sources"  # folders of an exported run


def export(store: Store, number: int | str, folder: Path, parts: Iterable[str]) -> list[Path]:
    """Write a run's artifacts and output to FOLDER/files, and its sources to FOLDER/sources.

    Arguments:
        parts: FILES, SOURCES or both.

    Returns:
        the paths of the files.

    Raises:
        UserError: there is no such run, or a file cannot be read or written; nothing is written
            outside the folder.
    """
    run = find_run(store.database, number)
    contents = {FILES: _files_of, SOURCES: _sources_of}
    written = []
    for part in parts:
        for name, content in contents[part](store, run):
            _check_inside(name, number)
            path = folder / part / name
            with writing(path):
                make_private_folder(path.parent)
                with atomic_write(path) as file:
                    file.write(content)
            written.append(path)
    return written


def _files_of(store: Store, run: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a run's artifacts, and its output."""
    names = set()
    for entry in run.get("artifacts") or ():
        names.add(entry["name"])
        content = file_content(store.database, run["_id"], entry["name"], entry["file_id"])
        yield entry["name"], content
    if run.get("captured_out") and OUTPUT not in names:  # a long one is an artifact
        yield OUTPUT, run["captured_out"].encode()


def _sources_of(store: Store, run: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the source files that a run was made with."""
    for name, file_id, *_ in (run.get("experiment") or {}).get("sources") or ():
        yield name, file_content(store.database, run["_id"], name, file_id)


def _check_inside(name: str, number: int | str) -> None:
    """UserError unless the name is that of a file below the folder that it is exported to."""
    if not is_below(name):
        raise UserError(f"run {number}: the file {name!r} would be written outside the folder")


def attach_file(store: Store, number: int | str, name: str, content: bytes) -> None:
    """Store a file with a run that has ended, marked with today's date.

    A file of this name that was added before is replaced.

    Raises:
        UserError: there is no such run, it is still running, or the name is that of a file of its own.
    """
    before = check_file_name(store, number, name)
    file_id = gridfs.GridFS(store.database).put(content, filename=name, _id=ObjectId())
    entry = {"name": name, "file_id": file_id, "added": datetime.now(UTC)}
    replaced = [one["file_id"] for one in before]
    # each change names its own entry, so that two processes that add files do not undo each other
    store.database.runs.update_one({"_id": number}, {"$push": {"artifacts": entry}})
    old = {"artifacts": {"file_id": {"$in": replaced}}}
    store.database.runs.update_one({"_id": number}, {"$pull": old})
    maintenance.delete_files(store.database, replaced)


def check_file_name(store: Store, number: int | str, name: str) -> list[dict[str, Any]]:
    """The entries of files that were added to a run under a name before.

    Raises:
        UserError: no file can be added under it, see `attach_file`.
    """
    run = _ended_run(store, number)
    _check_inside(name, number)
    before = [entry for entry in run.get("artifacts") or () if entry["name"] == name]
    if any("added" not in entry for entry in before):
        raise UserError(f"run {number} has stored {name} itself; choose another name")
    if PurePosixPath(name) == PurePosixPath(OUTPUT):
        raise UserError(f"{name} is the name of a run's own output; choose another name")
    return before


def check_name(name: str) -> None:
    """UserError unless a value can be attached under this name."""
    if not name.isidentifier():
        raise UserError(f"value {name}: expected a name of letters, digits and _")


def attach_value(store: Store, number: int | str, name: str, value: Any) -> None:
    """Store a result of a later analysis with a run that has ended, marked with today's date.

    It is in the run's document as added.NAME, with `value` and `date`; a value that was added before
    is replaced. `grok.analysis.query.runs` has it in the column added.NAME.

    Arguments:
        name: a word of letters, digits and _.
        value: a number, a text, True, False or None, or a list or a mapping of such values.

    Raises:
        UserError: there is no such run, it is still running, or the name or the value cannot be used.
    """
    _ended_run(store, number)
    check_name(name)
    added = {"value": value, "date": datetime.now(UTC)}
    try:
        check_plain(bson.decode(bson.encode({"added": {name: added}})))
        store.database.runs.update_one({"_id": number}, {"$set": {f"added.{name}": added}})
    except (InvalidDocument, OverflowError, ValueError) as error:
        raise UserError(f"value {name}: it cannot be stored: {error}") from error


def _ended_run(store: Store, number: int | str) -> dict[str, Any]:
    run = find_run(store.database, number)
    if is_alive(store, store.database.runs, run):
        raise UserError(f"run {number} is still running; add to it when it has ended")
    return run


def delete(store: Store, wanted: dict[str, Any], patterns: Iterable[str]) -> tuple[int, int, int]:
    """Delete the files whose names match one of the patterns from the runs that match a query.

    Arguments:
        patterns: as in a shell: `trajectory.npz`, `*.png`.

    Returns:
        how many files were deleted, of how many runs, and how many runs were left because they are
        still running.

    Raises:
        UserError: a pattern is empty, or no file of these runs matches.
    """
    patterns = list(patterns)
    _check_no_empty(patterns)
    count = runs = alive = 0
    fields = {"artifacts": 1, "status": 1, "lease": 1, "uid": 1}
    for run in list(store.database.runs.find(wanted, fields)):
        chosen = _matching(run, patterns)
        if not chosen:
            continue
        if is_alive(store, store.database.runs, run):
            alive += 1
            continue
        pulled = {"$pull": {"artifacts": {"file_id": {"$in": chosen}}}}
        store.database.runs.update_one({"_id": run["_id"]}, pulled)
        maintenance.delete_files(store.database, chosen)
        count, runs = count + len(chosen), runs + 1
    if not runs and not alive:
        raise _no_match(patterns)
    return count, runs, alive


def check_patterns(store: Store, wanted: dict[str, Any], patterns: Sequence[str]) -> None:
    """UserError if a pattern is empty, or no file of the runs that match a query has such a name."""
    _check_no_empty(patterns)
    runs = store.database.runs.find(wanted, {"artifacts": 1})
    if not any(_matching(run, patterns) for run in runs):
        raise _no_match(patterns)


def _check_no_empty(patterns: Sequence[str]) -> None:
    if "" in patterns:
        raise UserError("an empty pattern: expected the name of a file, or one as *.png")


def _no_match(patterns: Sequence[str]) -> UserError:
    return UserError(f"no file of the selected runs matches {' or '.join(patterns)}")


def _matching(run: Mapping[str, Any], patterns: Iterable[str]) -> list[Any]:
    """The GridFS ids of a run's files whose names match one of the patterns."""
    return [
        entry["file_id"]
        for entry in run.get("artifacts") or ()
        if any(fnmatchcase(entry["name"], pattern) for pattern in patterns)
    ]
