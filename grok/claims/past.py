"""What was found of claims before: by the project's replications, and on the sweeps of a store.

A claim that was changed after it had been checked on some seeds does not predict what these seeds give,
even if they are trained again. So the versions that were checked before are kept, with their seeds.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Any

from pymongo.database import Database

from grok.claims import registry
from grok.claims.model import Claim, Finding, Verdict, first_reason, judge, measured_numbers
from grok.paths import PROJECT

VERDICTS = PROJECT / "docs" / "verdicts.json"
CHECKED = {"claims": {"$exists": True}}  # sweeps on which claims were checked
FINDING_FIELDS = tuple(field.name for field in fields(Finding))


@dataclass(frozen=True)
class PastCheck:
    """What one check of a sweep found of a claim.

    version: of the claim; None if it was checked before claims had versions.
    began: when the first of the runs began, in UTC; None if that is not known.
    checked: when it was checked, in UTC.
    commit: of the code that checked it.
    sweep: name of the sweep file.
    seeds: of the runs.
    verdict, measured: as `judge` and `measured_numbers` return them.
    why: why the claim could not be evaluated or decided, if so and if that is known.
    stated_after, restated: as in Finding.
    """

    version: str | None
    began: datetime | None
    checked: datetime
    commit: str
    sweep: str
    seeds: frozenset[int]
    verdict: Verdict
    measured: Mapping[str, tuple[float, float, float]]
    why: str | None
    stated_after: bool
    restated: bool


def checks_of(
    database: Database, claims: Iterable[Claim], path: Path = VERDICTS
) -> dict[str, list[PastCheck]]:
    """The checks of each of these claims by its id, the earliest first.

    Arguments:
        database: whose sweeps of the files that the claims are made on are read.
        claims: as they are now.
        path: of the verdicts of the project's replications (`grok.claims.verdicts`), if there are any.
    """
    papers = json.loads(path.read_text())["papers"].values() if path.exists() else ()
    checks = {}
    for claim in claims:
        found = (*_published(papers, claim), *_stored(database, claim))
        by_time = {check.checked: check for check in found}
        checks[claim.id] = [by_time[checked] for checked in sorted(by_time)]
    return checks


def _published(papers: Iterable[Mapping[str, Any]], claim: Claim) -> Iterator[PastCheck]:
    for paper in papers:
        present = paper["claims"].get(claim.id, {})
        for result in (*paper.get("earlier", {}).get(claim.id, ()), present):
            if result.get("checked"):
                yield PastCheck(
                    version=result["version"],
                    began=None,
                    checked=datetime.fromisoformat(result["checked"]),
                    commit=result["commit"],
                    sweep=result["sweep"],
                    seeds=frozenset(result["seed_values"]),
                    verdict=verdict_of(result),
                    measured=measured_of(result),
                    why=None,
                    stated_after=result["stated_after"],
                    restated=result["restated"],
                )


def verdict_of(result: Mapping[str, Any]) -> Verdict:
    """The verdict that an entry of docs/verdicts.json contains."""
    counts = (result[key] for key in ("seeds", "seeds_run", "seeds_passed"))
    return Verdict(result["verdict"], *counts)


def measured_of(result: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """The numbers that an entry of docs/verdicts.json contains, in which None stands for inf."""
    measured = (result.get("measured") or {}).items()
    numbers = {name: [inf if one is None else one for one in values] for name, values in measured}
    return {name: (median, low, high) for name, (median, low, high) in numbers.items()}


def _stored(database: Database, claim: Claim) -> Iterator[PastCheck]:
    for sweep in database.sweeps.find({"name": claim.sweep, **CHECKED}):
        for checked in (*sweep.get("claims_before", ()), sweep["claims"]):
            findings = findings_in(checked, claim)
            if not findings:
                continue
            runs = checked.get("runs") or {}
            own = {finding.seed for finding in findings} - {None}
            yield PastCheck(
                version=findings[0].version,
                began=runs.get("first"),
                checked=checked["checked"].replace(tzinfo=UTC, microsecond=0),  # as published
                commit=checked.get("commit", "unknown"),
                sweep=claim.sweep,
                seeds=frozenset(runs.get("seeds", own)),
                verdict=judge(findings),
                measured=measured_numbers(findings),
                why=first_reason(findings),
                stated_after=any(finding.stated_after for finding in findings),
                restated=any(finding.restated for finding in findings),
            )


def findings_in(checked: Mapping[str, Any], claim: Claim) -> list[Finding]:
    """The findings of a claim in a stored check, perhaps by another release."""
    return [finding_of(one) for one in checked["findings"] if one["claim"] == claim.id]


def finding_of(stored: Mapping[str, Any]) -> Finding:
    """A finding as it was stored, perhaps by another release."""
    return Finding(**{key: stored[key] for key in FINDING_FIELDS if key in stored})


def is_restated(
    registered: dict[str, list[registry.Registration]],
    claim: Claim,
    version: str,
    seeds: Collection[int],
    past: Iterable[PastCheck],
) -> bool:
    """Whether a version of a claim was registered after another version had been checked on one of
    its seeds, on the same sweep file.

    Arguments:
        registered: the versions of each claim (`registry.read`).
        claim: as it is now.
        version: of the claim as it is now.
        seeds: of the runs that it is checked on.
        past: earlier checks of the claim (`checks_of`).
    """
    stated = registry.stated_at(registered, claim.id, version)
    return any(
        check.sweep == claim.sweep
        and not check.seeds.isdisjoint(seeds)
        and not registry.is_same(registered, claim.id, check.version, version)
        and (stated is None or check.checked < stated)
        for check in past
    )
