"""The registered claims: which version of each claim was stated when, in experiments/claims.json.

A claim is registered before its runs, so that a reader can tell a prediction from a description.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from grok.claims.versions import version_of
from grok.errors import UserError
from grok.experiment.experiment import Experiment
from grok.paths import PROJECT, atomic_write, own_project

REGISTRY = PROJECT / "experiments" / "claims.json"
REMOVED = "removed"  # the version of a claim that is no longer made


@dataclass(frozen=True)
class Registration:
    """One version of a claim.

    version: its hash (`grok.claims.versions`), or REMOVED.
    date: when it was registered, in UTC, in ISO 8601.
    statement: its sentence.
    note: why it differs from the version before it; empty for the first one.
    same_as: an earlier version that claims the same, where only the rule of the hash has changed;
        empty otherwise.
    """

    version: str
    date: str
    statement: str
    note: str = ""
    same_as: str = ""


def read(path: Path = REGISTRY) -> dict[str, list[Registration]]:
    """The versions of each claim by the claim's id, the earliest first."""
    if not path.exists():
        return {}
    content = json.loads(path.read_text())
    return {id: [Registration(**one) for one in versions] for id, versions in content.items()}


def changes(experiments: Iterable[Experiment], path: Path = REGISTRY) -> dict[str, Registration]:
    """The claims whose present version is not registered, by id, with today's date and no note.

    Arguments:
        experiments: all of them, since a claim that none of them makes counts as removed.
        path: of the registry.
    """
    registered = read(path)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    present = {
        claim.id: Registration(version_of(experiment, claim), date, claim.statement)
        for experiment in experiments
        for claim in experiment.claims
    }
    removed = {
        id: Registration(REMOVED, date, versions[-1].statement)
        for id, versions in registered.items()
        if id not in present
    }
    return {
        id: registration
        for id, registration in {**present, **removed}.items()
        if id not in registered or registered[id][-1].version != registration.version
    }


def register(experiments: Iterable[Experiment], note: str = "", path: Path = REGISTRY) -> list[str]:
    """The ids of the claims that were registered in their present version.

    Arguments:
        experiments: all of them.
        note: why registered claims were changed or removed.
        path: of the registry.

    Raises:
        UserError: a registered claim has changed, and there is no note; or there is no project.
    """
    own_project()  # the registry of an installed package is not the user's
    registered, changed = read(path), changes(experiments, path)
    known = [id for id in changed if id in registered]
    if known and not note:
        raise UserError(f"registered before: {', '.join(known)}; say why in --note")
    for id, registration in changed.items():
        is_first = id not in registered
        entry = Registration(**asdict(registration) | {"note": "" if is_first else note})
        registered.setdefault(id, []).append(entry)
    content = {id: [_entry(one) for one in versions] for id, versions in sorted(registered.items())}
    with atomic_write(path) as file:
        file.write(f"{json.dumps(content, indent=1, ensure_ascii=False)}\n".encode())
    return list(changed)


def _entry(registration: Registration) -> dict[str, str]:
    """A registration as the file has it, where `same_as` is left out if it is empty."""
    return {key: value for key, value in asdict(registration).items() if key != "same_as" or value}


def original(
    registered: dict[str, list[Registration]], claim: str, version: str | None
) -> str | None:
    """The earliest version of a claim that claims the same as this one; None for None.

    Arguments:
        registered: the versions of each claim (`read`).
        claim: its id.
        version: which may be one that was never registered.
    """
    same_as = {one.version: one.same_as for one in registered.get(claim, ())}
    while version is not None and (earlier := same_as.get(version)):
        version = earlier
    return version


def is_same(
    registered: dict[str, list[Registration]], claim: str, version: str | None, other: str
) -> bool:
    """Whether two versions of a claim claim the same; None is no version."""
    return original(registered, claim, version) == original(registered, claim, other)


def stated_at(
    registered: dict[str, list[Registration]], claim: str, version: str
) -> datetime | None:
    """When a version of a claim was registered last, None if it never was."""
    wanted = original(registered, claim, version)
    dates = [one.date for one in registered.get(claim, ()) if one.version == wanted]
    return datetime.fromisoformat(dates[-1]) if dates else None
