"""The verdicts of the replications of each paper, as the file that the documentation reads.

docs/verdicts.json holds for each paper: `sources` (titles and arXiv ids) and `subject` (a phrase),
written by hand; what its last replication gave: `commit`, `date` and `machines` of its runs, `runs`,
`seconds`, and `claims`, for each claim an entry (`results`); and `earlier`, the entries of
replications before it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from pymongo.database import Database

from grok.claims.model import Claim, Finding, measured_numbers
from grok.claims.scorecard import checked_sweeps, latest, summary, sweeps_of
from grok.experiment.experiment import Experiment
from grok.paths import atomic_write
from grok.store.selection import of_sweeps
from grok.store.status import FINISHED

COMMIT_DIGITS = 7  # as `git describe` abbreviates


def update(path: Path, experiments: Iterable[Experiment], database: Database, commit: str) -> None:
    """Write what the latest checked sweeps of these papers gave; other papers' entries stay, and those of
    claims that `grok replicate` does not check, where the store has not checked them.

    Arguments:
        path: of the file, which need not exist.
        commit: of the code, for runs that do not have it. Where they were trained with several, as by
            `grok replicate --resume` after a change, all are listed.
    """
    papers = json.loads(path.read_text())["papers"] if path.exists() else {}
    for experiment in experiments:
        if not any(checked_sweeps(database, experiment).values()):
            continue
        title = experiment.doc.strip().split("\n")[0]
        before = {"sources": {}, "subject": title} | papers.get(experiment.path, {})
        now = _state(experiment, database, commit) | results(experiment, database)
        reported = {claim.id for claim in experiment.claims if claim.report_only}
        for id in reported & before.get("claims", {}).keys():
            if "checked" not in now["claims"][id]:
                now["claims"][id] = before["claims"][id]
        papers[experiment.path] = before | now | {"earlier": _earlier(before, now)}
    with atomic_write(path, 0o644) as file:
        text = json.dumps({"papers": papers}, indent=1, ensure_ascii=False, allow_nan=False)
        file.write(f"{text}\n".encode())


def _earlier(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The entries of each claim that are not of the last replication, the earliest first."""
    earlier = {id: [*entries] for id, entries in before.get("earlier", {}).items()}
    for id, entry in before.get("claims", {}).items():
        if entry.get("checked") and entry["checked"] != now["claims"].get(id, {}).get("checked"):
            earlier.setdefault(id, []).append(entry)
    return earlier


def _state(experiment: Experiment, database: Database, commit: str) -> dict[str, Any]:
    """The commits and machines of the runs that a paper's claims were checked on, and the day of the
    last run."""
    sweeps = [sweep for sweep in checked_sweeps(database, experiment).values() if sweep]
    trained = [sweep["claims"].get("runs") or {} for sweep in sweeps]
    commits = {_abbreviated(one) for runs in trained for one in runs.get("commits", ())}
    last = max((runs["last"] for runs in trained if runs.get("last")), default=datetime.now(UTC))
    return {
        "commit": ", ".join(sorted(commits)) or commit,
        "date": f"{last:%Y-%m-%d}",
        "machines": sorted({one for runs in trained for one in runs.get("machines", ())}),
    }


def _abbreviated(commit: str) -> str:
    """A commit with seven digits, and "+" if files differed from it."""
    return commit[:COMMIT_DIGITS] + "+" * commit.endswith("+")


def results(experiment: Experiment, database: Database) -> dict[str, Any]:
    """The entries runs, seconds and claims of a paper.

    runs: of the sweeps of the claims that count.
    seconds: that these sweeps took together, None until all of them have run.
    claims: for each claim what `claim_result` and, if it was checked, `_origin` return.
    """
    findings, seconds = latest(database, experiment)
    sweeps = checked_sweeps(database, experiment)
    counted = [sweep for name in sweeps_of(experiment) if (sweep := sweeps[name])]
    runs = [
        database.runs.count_documents({**of_sweeps(sweep["_id"]), **FINISHED}) for sweep in counted
    ]
    return {
        "runs": sum(runs),
        "seconds": None if seconds is None else round(seconds),
        "claims": {
            claim.id: claim_result(claim, findings[claim.id])
            | (_origin(sweeps[claim.sweep]) if findings[claim.id] else {})
            for claim in experiment.claims
        },
    }


def _origin(sweep: Mapping[str, Any] | None) -> dict[str, Any]:
    """Where the results of the claims that are checked on a sweep are from.

    checked: when, in UTC, in ISO 8601.
    commit: of the code that checked it; in entries from before 2026-11-28 19:00, of the runs.
    sweep: name of the sweep file.
    seed_values: the seeds of the runs.
    """
    assert sweep is not None
    checked = sweep["claims"]
    return {
        "checked": checked["checked"].replace(tzinfo=UTC).isoformat(timespec="seconds"),
        "commit": checked.get("commit", "unknown"),
        "sweep": sweep["name"],
        "seed_values": (checked.get("runs") or {}).get("seeds", []),
    }


def claim_result(claim: Claim, findings: Sequence[Finding]) -> dict[str, Any]:
    """The entry of one claim.

    verdict: a word of `grok.claims.model.Verdict`.
    seeds_passed, seeds_run, seeds: on how many seeds it passed, how many ran, how many were asked for.
    measured: the numbers of `measured_numbers`; None if there are none. A number that is not finite,
        such as a step that is never reached, is None.
    version: as in Finding, of the first of the findings.
    stated_after, restated: as in Finding, of any of them.
    """
    card = summary(claim, findings)
    numbers = {
        name: [value if isfinite(value) else None for value in values]
        for name, values in measured_numbers(findings).items()
    }
    return {
        "verdict": card.verdict.word,
        "seeds_passed": card.verdict.passed,
        "seeds_run": card.verdict.run,
        "seeds": card.verdict.asked,
        "measured": numbers or None,
        "version": findings[0].version if findings else None,
        "stated_after": card.is_stated_after,
        "restated": card.is_restated,
    }
