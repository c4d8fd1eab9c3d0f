"""The check of a bundle: checksums, verdicts computed again, and a sample of its runs trained again.

A bundle may come from anybody. Nothing in it is executed: its runs are imported as an archive into a
database of their own and trained by this project's experiments. A name in it never leads outside its
folder, and its size is limited before anything is unpacked.
"""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import stat
import tempfile
import uuid
import zipfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from math import isclose
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from grok.claims import registry, scorecard
from grok.claims.verdicts import claim_result
from grok.claims.versions import version_of
from grok.errors import UserError, read_text
from grok.experiment.experiment import Experiment
from grok.experiment.repeat import repeat
from grok.paths import experiment_names
from grok.reports.bundle import CONTENTS, FORMAT, RUNS, SUMS, check_name, checksums
from grok.store import archive
from grok.store.archive_schema import Count, Name, NamedId
from grok.store.connection import Store
from grok.store.status import FINISHED

MOST_FILES = 2000
MOST_BYTES = 4 << 30  # of all files together
SUM = re.compile(r"([0-9a-f]{64})  (.+)")
PIECE = 1 << 20  # bytes that are copied at once


class Entry(BaseModel):
    """A claim in bundle.json, with what was found on its sweep."""

    model_config = ConfigDict(strict=True)

    claim: Name
    paper: Name
    sweep: NamedId
    verdict: Name
    seeds_passed: Count
    seeds_run: Count
    seeds: Count
    measured: dict[Name, list[float | None]] | None
    version: Name | None


class Contents(BaseModel):
    """bundle.json."""

    format: int
    project: Name = ""  # earlier bundles do not name it
    commit: Name
    claims: Annotated[list[Entry], Field(max_length=1000)]


def verify(store: Store, path: Path, runs: int, seed: int | None) -> Iterator[tuple[bool, str]]:
    """Check a bundle.

    Arguments:
        store: where a database is made for the time of the check, and deleted again.
        path: a folder, or a zip file.
        runs: how many completed runs are trained again.
        seed: of the choice of these runs; None to draw one, which the author of a bundle does not know.

    Yields:
        for each part of the check whether the bundle is right, and a line that says so. After a wrong
        checksum nothing else is checked.

    Raises:
        UserError: it is no bundle, one that could do harm, or one of another project's experiments.
    """
    folder = path
    try:
        with _opened(path) as folder:
            yield from _verify(store, folder, runs, seed)
    except UserError as error:  # a file in the bundle is named by its path there
        raise UserError(f"{path}: {str(error).removeprefix(f'{folder}/')}") from error


def _verify(store: Store, folder: Path, runs: int, seed: int | None) -> Iterator[tuple[bool, str]]:
    """As `verify`, for a bundle that is a folder of regular files."""
    wrong = list(_wrong_sums(folder))
    digest = hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
    yield from ((False, line) for line in wrong)
    if wrong:
        return
    yield True, f"every file has its checksum; the SHA-256 of {SUMS} is {digest}"
    contents = _contents(folder)
    _check_project(contents)
    with _imported(store, folder / RUNS) as imported:
        names = {entry.paper for entry in contents.claims}
        papers = scorecard.experiments(names) if names else []
        for entry in contents.claims:
            yield _check_claim(imported, entry, papers)
        completed = imported.database.runs.find(FINISHED, {"_id": 1})
        ids = sorted(run["_id"] for run in completed if isinstance(run["_id"], int))
        if runs < len(ids):
            seed = random.randrange(2**31) if seed is None else seed
            ids = sorted(random.Random(seed).sample(ids, runs))
            yield True, f"--seed {seed} chooses runs {', '.join(map(str, ids))}"
        for number in ids:
            yield from _check_run(imported, number)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Path]:
    """The bundle as a folder of regular files with plain names; one from a zip file is temporary."""
    if path.is_dir():
        _check_folder(path)
        yield path
        return
    if not path.is_file() or path.stat().st_size > MOST_BYTES:  # reading a device may never end
        raise UserError(f"expected a folder, or a file of at most {MOST_BYTES >> 30} GiB")
    with tempfile.TemporaryDirectory(prefix="grok-bundle-") as temporary:
        folder = Path(temporary)
        try:
            with zipfile.ZipFile(path) as packed:
                _unpack(packed, folder)
        except UserError:
            raise
        except archive.ERRORS_OF_DAMAGE as error:
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise UserError(f"no bundle, or a damaged one ({reason})") from error
        yield folder


def _check_folder(folder: Path) -> None:
    """UserError unless a folder has only regular files with plain names, of a limited size."""
    sizes = []
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            place = Path(root, name)
            state = place.lstat()
            inside = place.relative_to(folder).as_posix()
            if not (stat.S_ISREG(state.st_mode) or stat.S_ISDIR(state.st_mode)):
                raise UserError(f"{inside} is neither a file nor a folder")
            check_name(inside)
            sizes.append(state.st_size if name in files else 0)
            _check_size(sizes)


def _unpack(packed: zipfile.ZipFile, folder: Path) -> None:
    """Write the members of a zip file to a folder, after their names and sizes have been checked."""
    members = [member for member in packed.infolist() if not member.is_dir()]
    names = [member.filename for member in members]
    for name in names:
        check_name(name)
    if len({*names}) < len(names):
        raise UserError("two files have the same name")
    _check_size([member.file_size for member in members])
    if sum(member.file_size for member in members) > shutil.disk_usage(folder).free:
        raise UserError(f"{folder} has no room for it")
    for member in members:
        place = folder / member.filename
        place.parent.mkdir(parents=True, exist_ok=True)
        with packed.open(member) as source, open(place, "xb") as target:
            shutil.copyfileobj(source, target, PIECE)  # never more than the size that was checked


def _check_size(sizes: list[int]) -> None:
    if len(sizes) > MOST_FILES or sum(sizes) > MOST_BYTES:
        raise UserError(f"more than {MOST_FILES} files or {MOST_BYTES >> 30} GiB")


def _wrong_sums(folder: Path) -> Iterator[str]:
    """A line for each file that is not as the list of checksums says."""
    if not (folder / SUMS).is_file():
        raise UserError(f"there is no {SUMS}")
    listed = {}
    for line in read_text(folder / SUMS).splitlines():
        match = SUM.fullmatch(line)
        if match is None or match[2] in listed:
            raise UserError(f"{SUMS} has the line {line!r:.200}")
        listed[match[2]] = match[1]
    found = checksums(folder)
    found.pop(SUMS)
    for name in sorted({*listed, *found}):
        if name not in found:
            yield f"{name} is missing"
        elif name not in listed:
            yield f"{name} is not in {SUMS}"
        elif found[name] != listed[name]:
            yield f"{name} was changed: it has another SHA-256"


def _contents(folder: Path) -> Contents:
    """What bundle.json says; UserError if it is of another form, or there are no runs."""
    for name in (CONTENTS, RUNS):
        if not (folder / name).is_file():
            raise UserError(f"there is no {name}")
    try:
        contents = Contents.model_validate(json.loads(read_text(folder / CONTENTS)))
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        raise UserError(f"{CONTENTS}: {place}: {error.errors()[0]['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{CONTENTS} is no JSON") from error
    if contents.format != FORMAT:
        raise UserError(f"format {contents.format}; this version reads {FORMAT}")
    return contents


def _check_project(contents: Contents) -> None:
    """UserError unless all experiments of a bundle are experiments of this project."""
    unknown = sorted({entry.paper for entry in contents.claims} - {*experiment_names()})
    if unknown:
        project = f"project {contents.project}" if contents.project else "the project it is of"
        raise UserError(
            f"no experiment {', '.join(unknown)} here; verify it in the folder of "
            f"{project}, at commit {contents.commit}"
        )


@contextlib.contextmanager
def _imported(store: Store, runs: Path) -> Iterator[Store]:
    """The runs of the bundle, in a database of their own that is deleted afterwards."""
    alone = replace(store, db_name=f"bundle_{uuid.uuid4().hex[:8]}", is_temporary=True)
    try:
        archive.import_(alone.database, runs)
        yield alone
    finally:
        alone.client.drop_database(alone.db_name)


def _check_claim(store: Store, entry: Entry, papers: list[Experiment]) -> tuple[bool, str]:
    """Whether a claim comes out as the bundle says, on the runs of the bundle."""
    paper = next((one for one in papers if one.path == entry.paper), None)
    claim = next((c for c in paper.claims if c.id == entry.claim), None) if paper else None
    if paper is None or claim is None:
        return False, f"claim {entry.claim}: {entry.paper} has no such claim here"
    here = version_of(paper, claim)
    if not registry.is_same(registry.read(), entry.claim, entry.version, here):
        return False, f"claim {entry.claim}: stated in version {entry.version}, and {here} here"
    sweep = store.database.sweeps.find_one({"_id": entry.sweep, "name": claim.sweep})
    if sweep is None:
        return False, f"claim {entry.claim}: the bundle has no sweep {entry.sweep} of {claim.sweep}"
    has_points = "points" in sweep or store.database.sweep_points.find_one({"sweep": entry.sweep})
    if not has_points:  # agents ran the sweep, and an earlier version wrote the bundle
        return True, f"claim {entry.claim}: not computed again, since the points are missing"
    try:
        findings = [
            one
            for one in scorecard.check_sweep(store.database, paper, sweep)
            if one.claim == claim.id
        ]
        now = claim_result(claim, findings)
    except Exception as error:  # values of any type may be in the runs of a stranger
        return False, f"claim {entry.claim}: cannot be computed: {type(error).__name__}: {error}"
    for key in ("verdict", "seeds_passed", "seeds_run", "seeds"):
        if now[key] != getattr(entry, key):
            written = getattr(entry, key)
            return (
                False,
                f"claim {entry.claim}: {key} {written} in the bundle, {now[key]} from its runs",
            )
    then = entry.measured or {}
    if not _are_close(then, _as_before(now["measured"] or {}, then, claim.effects)):
        return False, f"claim {entry.claim}: its measured numbers do not follow from the runs"
    seeds = f"{now['seeds_passed']} of {now['seeds']} seeds"
    return True, f"claim {entry.claim}: {now['verdict']} on {seeds}, as the bundle says"


def _as_before(
    now: Mapping[str, list[float | None]],
    then: Mapping[str, list[float | None]],
    effects: Collection[str],
) -> dict[str, list[float | None]]:
    """The measured numbers without the intervals of effects that an earlier version did not give."""
    has_none = {name for name in effects if len({*then.get(name, ())}) == 1}
    return {name: values[:1] * 3 if name in has_none else values for name, values in now.items()}


def _are_close(
    then: Mapping[str, list[float | None]], now: Mapping[str, list[float | None]]
) -> bool:
    """Whether the same numbers were measured, up to rounding."""
    pairs = [pair for name in now for pair in zip(then.get(name, []), now[name], strict=False)]
    are_alike = {*then} == {*now} and all(len(then[name]) == len(now[name]) for name in now)
    return are_alike and all(
        a == b or (a is not None and b is not None and isclose(a, b, rel_tol=1e-9))
        for a, b in pairs
    )


def _check_run(store: Store, number: int) -> Iterator[tuple[bool, str]]:
    """Whether a run has the same values when it is trained again, and what differs."""
    try:
        verdict = repeat(store, number)
    except UserError as error:
        yield False, f"run {number} cannot be repeated: {error}"
        return
    except Exception as error:  # as of a configuration that no run can have
        yield False, f"run {number} cannot be repeated: {type(error).__name__}: {error}"
        return
    if verdict.first is None:
        yield True, f"run {number}: {verdict.values} values trained again, equal bit for bit"
        return
    step, name, then, now = verdict.first
    where = "; ".join(verdict.environment) or "the same environment"
    yield False, f"run {number}: {name} at step {step} is {then!r}, trained again {now!r} ({where})"
