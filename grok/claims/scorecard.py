"""The scorecard: claims checked on stored sweeps, their findings kept there and shown as tables."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database
from rich.table import Table
from rich.text import Text

from grok.claims import registry
from grok.claims.asked import unfinished
from grok.claims.model import (
    Claim,
    Finding,
    Runs,
    Verdict,
    evaluate_sweep,
    first_reason,
    judge,
    measured_numbers,
    run_of,
)
from grok.claims.past import CHECKED, checks_of, finding_of, is_restated
from grok.claims.versions import is_of_file, version_of
from grok.engine.events import DIVERGED
from grok.errors import check_names
from grok.experiment.environment import commit, machine
from grok.experiment.experiment import Experiment, load
from grok.experiment.progress import duration
from grok.experiment.show import format_number
from grok.paths import experiment_file, experiment_names
from grok.store.documents import commits_of, find_metrics
from grok.store.selection import of_sweeps
from grok.store.status import FINISHED

FINISHED_SWEEP = {"state": "finished"}
OTHER_VERSION = "the claim has changed since it was checked; grok papers --check checks it again"
WORDS = ("passed", "mostly", "failed", "not decided", "not run", "not tried")
COLORS = dict(zip(WORDS, ("green", "yellow", "red", "yellow", "dim", "dim"), strict=True))


def experiments(names: Iterable[str] = ()) -> list[Experiment]:
    """The experiments of these names, all if there are none; UserError for an unknown one."""
    check_names(names, experiment_names(), "paper")
    return [load(experiment_file(name)) for name in [*names] or experiment_names()]


def sweeps_of(experiment: Experiment) -> list[str]:
    """Names of the sweep files that `grok replicate` runs for the claims."""
    run = [claim for claim in experiment.claims if not (claim.report_only or claim.not_tried)]
    return list(dict.fromkeys(claim.sweep for claim in run))


def evidence(database: Database, experiment: Experiment, sweep: str) -> Runs:
    """The finished runs of a sweep, by its id; of runs with equal configurations the latest."""
    wanted = {**of_sweeps(sweep), **FINISHED}
    runs = database.runs.find(wanted, {"config": 1, "result": 1}).sort("_id", 1)
    latest = {json.dumps(run["config"], sort_keys=True, default=str): run for run in runs}
    series: dict[Any, dict] = {run["_id"]: {} for run in latest.values()}
    for metric in find_metrics(database.metrics, {"run_id": {"$in": list(series)}}):
        series[metric["run_id"]][metric["name"]] = metric["steps"], metric["values"]
    return Runs(
        run_of(experiment, run["config"], run["result"], series[run["_id"]])
        for run in latest.values()
    )


def check_sweep(
    database: Database, experiment: Experiment, sweep: Mapping[str, Any]
) -> list[Finding]:
    """Check the claims that are made on a sweep, and store the findings with it.

    A finding is stored with the version of its claim, and whether that version was registered only
    after the first of the runs began, finished or not, or after another version had been checked on
    one of their seeds. The findings of other versions move to `claims_before`. A sweep that is not the
    one of the project's file of its name runs no claim.
    """
    if not any(claim.sweep == sweep["name"] for claim in experiment.claims):
        return []  # most sweeps: their runs need not be read
    finished = evidence(database, experiment, sweep["_id"])
    runs = Runs(run for run in finished if run.result["ended"] != DIVERGED)
    findings = evaluate_sweep(
        experiment.claims, sweep["name"], runs, unfinished(database, experiment, sweep)
    )
    trained = _trained(database, of_sweeps(sweep["_id"]))
    registered = registry.read()
    of_sweep = [claim for claim in experiment.claims if claim.sweep == sweep["name"]]
    versions = {claim.id: version_of(experiment, claim) for claim in of_sweep}
    past = checks_of(database, of_sweep)
    restated = {
        claim.id: is_restated(
            registered, claim, versions[claim.id], trained["seeds"], past[claim.id]
        )
        for claim in of_sweep
    }

    def is_stated_after(version: str, claim: str) -> bool:
        stated = registry.stated_at(registered, claim, version)
        return stated is None or trained["first"] is None or stated > trained["first"]

    if not is_of_file(sweep):
        why = f"the sweep differs from sweeps/{sweep['name']}.yaml"
        findings = [replace(one, passed=False, state="not run", why=why) for one in findings]
    findings = [
        replace(
            finding,
            version=versions[finding.claim],
            stated_after=is_stated_after(versions[finding.claim], finding.claim),
            restated=restated[finding.claim],
        )
        for finding in findings
    ]
    stored = {
        "findings": [asdict(finding) for finding in findings],
        "checked": datetime.now(UTC),
        "commit": commit(),
        "runs": trained,
    }
    update: dict[str, Any] = {"$set": {"claims": stored}}
    before = (database.sweeps.find_one({"_id": sweep["_id"]}) or {}).get("claims")
    if before and _versions(before) != _versions(stored):
        update["$push"] = {"claims_before": before}
    database.sweeps.update_one({"_id": sweep["_id"]}, update)
    return findings


def _trained(database: Database, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """When the first and the last of these runs began, in UTC, their seeds, the commits of their code,
    and the machines that trained them."""
    fields = {
        "start_time": 1,
        "experiment.repositories": 1,
        "config.seed": 1,
        "info.environment": 1,
    }
    runs = [*database.runs.find(wanted, fields)]
    times = [run["start_time"].replace(tzinfo=UTC) for run in runs if run.get("start_time")]
    environments = [run.get("info", {}).get("environment") for run in runs]
    return {
        "first": min(times, default=None),
        "last": max(times, default=None),
        "seeds": sorted({run["config"]["seed"] for run in runs if "seed" in run.get("config", {})}),
        "commits": sorted({commit for run in runs for commit in commits_of(run)}),
        "machines": sorted({machine(one) for one in environments if one}),
    }


def _versions(checked: Mapping[str, Any]) -> dict[str, str | None]:
    return {one["claim"]: one.get("version") for one in checked["findings"]}


def check_again(database: Database, experiments: Iterable[Experiment]) -> None:
    """Check claims, as they are stated now, on the latest sweep of each of their files that is
    finished or was checked before."""
    for experiment in experiments:
        sweeps = _latest_sweeps(database, experiment, {"$or": [FINISHED_SWEEP, CHECKED]})
        for sweep in filter(None, sweeps.values()):
            check_sweep(database, experiment, sweep)


def checked_sweeps(database: Database, experiment: Experiment) -> dict[str, dict[str, Any] | None]:
    """The latest checked sweep of each file that claims are made on, by the file's name."""
    return _latest_sweeps(database, experiment, CHECKED)


def _latest_sweeps(
    database: Database, experiment: Experiment, wanted: Mapping[str, Any]
) -> dict[str, dict[str, Any] | None]:
    wanted = {"experiment": experiment.path, **wanted}
    return {
        name: database.sweeps.find_one({"name": name, **wanted}, sort=[("created", -1)])
        for name in {claim.sweep: None for claim in experiment.claims if not claim.not_tried}
    }


def latest(
    database: Database, experiment: Experiment
) -> tuple[dict[str, list[Finding]], float | None]:
    """The findings of each claim in the latest checked sweep of its file.

    A claim that has changed since is not run: what was found is not of its present form.

    Returns:
        findings by the claim's id, and the seconds that the sweeps of the claims that count took
        together, None until all of them have run.
    """
    findings: dict[str, list[Finding]] = {claim.id: [] for claim in experiment.claims}
    seconds: list[float | None] = []
    counted, registered = sweeps_of(experiment), registry.read()
    for name, sweep in checked_sweeps(database, experiment).items():
        if name in counted:
            seconds.append(None if sweep is None else sweep.get("seconds"))
        made = {
            claim.id: version_of(experiment, claim)
            for claim in experiment.claims
            if claim.sweep == name
        }
        for stored in sweep["claims"]["findings"] if sweep else ():
            if stored["claim"] in made:  # a claim may have moved to another sweep since
                finding = finding_of(stored)
                if not registry.is_same(
                    registered, finding.claim, finding.version, made[finding.claim]
                ):
                    finding = replace(finding, passed=False, state="not run", why=OTHER_VERSION)
                findings[finding.claim].append(finding)
    spent = [one for one in seconds if one is not None]
    return findings, sum(spent) if seconds and len(spent) == len(seconds) else None


def overview(database: Database) -> Table:
    """A table with one row for each paper: its claims, time of the CPU recipe, last run."""
    table = Table("paper", "what it is", "claims", "controls", "time of the recipe", "last run")
    for experiment in experiments():
        findings, seconds = latest(database, experiment)
        words = {
            claim.id: summary(claim, findings[claim.id]).verdict.word for claim in experiment.claims
        }
        wanted = {"experiment.name": experiment.path}
        run = database.runs.find_one(wanted, {"start_time": 1}, sort=[("start_time", -1)])
        table.add_row(
            experiment.path,
            experiment.doc.strip().splitlines()[0],
            counted(words[claim.id] for claim in experiment.claims if not claim.control),
            counted(words[claim.id] for claim in experiment.claims if claim.control),
            "-" if seconds is None else duration(seconds),
            f"{run['start_time']:%Y-%m-%d %H:%M}" if run else "never",
        )
    return table


def counted(words: Iterable[str]) -> str:
    """How many claims there are and how many have each verdict: "5: 3 passed, 2 failed"."""
    counts = Counter(words)
    listed = ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])
    return f"{counts.total()}: {listed}" if counts else "-"


def scorecard(experiments: Iterable[Experiment], database: Database) -> tuple[Table, bool]:
    """A table with one row for each claim, and whether the claims that `grok replicate` checks have
    passed, each on most seeds at least."""
    table = Table("claim", "statement", "verdict", "seeds", "measured", show_lines=True)
    is_complete = True
    for experiment in experiments:
        findings, _ = latest(database, experiment)
        for claim in sorted(experiment.claims, key=lambda claim: claim.control):
            card = summary(claim, findings[claim.id])
            is_required = not (claim.report_only or claim.not_tried)
            is_complete = is_complete and (card.has_passed or not is_required)
            kind = "our own: " if claim.control else ""
            table.add_row(
                claim.id,
                kind + claim.statement,
                Text.assemble((str(card.verdict), COLORS[card.verdict.word]), card.mark),
                card.seeds,
                card.measured,
            )
    return table, is_complete


@dataclass(frozen=True)
class Summary:
    """A claim's findings in one row.

    verdict: of all findings together.
    seeds: seeds passed of those asked for, as "2/3"; empty if there are none.
    measured: the numbers of the check, as median and range over the seeds, or with their confidence
        intervals; or why there are none.
    is_stated_after: whether the claim was registered in its present form only after its runs began.
    is_restated: whether it was registered in this form after another one had been checked on one of
        its seeds.
    """

    verdict: Verdict
    seeds: str
    measured: str
    is_stated_after: bool
    is_restated: bool

    @property
    def has_passed(self) -> bool:
        """Whether the claim passed on most seeds at least."""
        return self.verdict.word in ("passed", "mostly")

    @property
    def mark(self) -> str:
        """What is said beside the verdict of a claim whose results, or those of an earlier version on
        the same seeds, were known when it was stated."""
        return _mark(self.is_stated_after, self.is_restated)


def _mark(is_stated_after: bool, is_restated: bool) -> str:
    return " (stated after)" if is_stated_after else " (restated)" if is_restated else ""


def summary(claim: Claim, findings: Sequence[Finding]) -> Summary:
    """A claim's findings in one row of the scorecard or the report."""
    if claim.not_tried:
        return Summary(Verdict("not tried", 0, 0, 0), "", claim.not_tried, False, False)
    verdict = judge(findings)
    seeds = f"{verdict.passed}/{verdict.asked}" if findings else ""
    numbers = format_numbers(measured_numbers(findings))
    return Summary(
        verdict,
        seeds,
        "; ".join(filter(None, [numbers, first_reason(findings)])),
        any(finding.stated_after for finding in findings),
        any(finding.restated for finding in findings),
    )


def format_numbers(numbers: Mapping[str, tuple[float, float, float]]) -> str:
    """Measured numbers with their ranges over the seeds: "ratio 3 (2 to 5), gap 0.1"."""
    return ", ".join(f"{name} {format_range(*values)}" for name, values in numbers.items())


def format_range(median: float, low: float, high: float) -> str:
    """A number with its range over the seeds: "3 (2 to 5)"; the number alone if they agree."""
    shown = [format_number(value) for value in (median, low, high)]
    return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]} to {shown[2]})"


def history(experiment: Experiment, claim: Claim, database: Database) -> Table:
    """A table of the versions of a claim: when each was registered and why, and what was found."""
    table = Table("version", "registered", "statement", "runs began", "checked", "verdict")
    registrations = registry.read().get(claim.id, [])
    present = version_of(experiment, claim)
    checks: dict[str | None, list[tuple[str, str, str]]] = {}
    for check in checks_of(database, [claim])[claim.id]:
        began = f"{check.began:%Y-%m-%d}" if check.began else ""
        date = f"{check.checked:%Y-%m-%d}, commit {check.commit}"
        verdict = f"{check.verdict}{_mark(check.stated_after, check.restated)}"
        seeds = f"seeds {check.verdict.passed}/{check.verdict.asked}"
        numbers = format_numbers(check.measured)
        found = "; ".join(filter(None, [f"{verdict}, {seeds}", numbers, check.why]))
        checks.setdefault(check.version, []).append((began, date, found))
    known = [one.version for one in registrations]
    others = [
        version for version in {**dict.fromkeys(checks), present: None} if version not in known
    ]
    rows: list[tuple[str | None, str, str]] = [
        (one.version, one.date[:10], f"{one.statement}; {one.note}" if one.note else one.statement)
        for one in registrations
    ]
    rows += [(version, "not registered", "") for version in others if version]
    if None in checks:
        rows.insert(0, (None, "before the registry", ""))
    for version, registered, statement in rows:
        name = f"{version} (present)" if version == present else version or ""
        first, *more = checks.get(version) or [("", "", "not checked")]
        table.add_row(name, registered, statement, *first)
        for row in more:
            table.add_row("", "", "", *row)
    return table
