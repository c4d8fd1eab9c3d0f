"""The scorecard: claims checked on stored sweeps, their findings kept there and shown as tables."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database
from rich.table import Table
from rich.text import Text

from grok.claims.model import Finding, Runs, evaluate_sweep, has_passed, run_of
from grok.errors import check_names
from grok.experiment.experiment import Experiment, load
from grok.experiment.progress import duration
from grok.experiment.show import format_numbers
from grok.paths import experiment_file, experiment_names
from grok.store.documents import find_metrics
from grok.store.status import FINISHED

CHECKED = {"claims": {"$exists": True}}
FINISHED_SWEEP = {"state": "finished"}
FINDING_FIELDS = tuple(field.name for field in fields(Finding))
VERDICTS = {True: ("passed", "green"), False: ("failed", "red"), None: ("not checked", "")}


def experiments(names: Iterable[str] = ()) -> list[Experiment]:
    """The experiments of these names, all if there are none; UserError for an unknown one."""
    check_names(names, experiment_names(), "paper")
    return [load(experiment_file(name)) for name in [*names] or experiment_names()]


def sweeps_of(experiment: Experiment) -> list[str]:
    """Names of the sweep files that the claims that count are checked on."""
    counted = [claim for claim in experiment.claims if not claim.report_only]
    return list(dict.fromkeys(claim.sweep for claim in counted))


def of_sweep(id: str) -> dict[str, Any]:
    """The filter for the runs of a sweep, by its id; an agent's runs have it in another field."""
    return {"$or": [{"meta.sweep.id": id}, {"info.wandb.sweep": id}]}


def evidence(database: Database, experiment: Experiment, sweep: str) -> Runs:
    """The finished runs of a sweep, by its id; of runs with equal configurations the latest."""
    wanted = {**of_sweep(sweep), **FINISHED}
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
    """Check the claims that are made on a sweep, and store the findings with it."""
    if not any(claim.sweep == sweep["name"] for claim in experiment.claims):
        return []  # most sweeps: their runs need not be read
    runs = evidence(database, experiment, sweep["_id"])
    findings = evaluate_sweep(experiment.claims, sweep["name"], runs)
    stored = {"findings": [asdict(one) for one in findings], "checked": datetime.now(UTC)}
    database.sweeps.update_one({"_id": sweep["_id"]}, {"$set": {"claims": stored}})
    return findings


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
        for name in {claim.sweep: None for claim in experiment.claims}
    }


def latest(
    database: Database, experiment: Experiment
) -> tuple[dict[str, list[Finding]], float | None]:
    """The findings of each claim in the latest checked sweep of its file.

    Returns:
        findings by the claim's id, and the seconds that the sweeps of the claims that count took
        together, None until all of them have run.
    """
    findings: dict[str, list[Finding]] = {claim.id: [] for claim in experiment.claims}
    seconds: list[float | None] = []
    counted = sweeps_of(experiment)
    for name, sweep in checked_sweeps(database, experiment).items():
        if name in counted:
            seconds.append(None if sweep is None else sweep.get("seconds"))
        made = {claim.id for claim in experiment.claims if claim.sweep == name}
        for stored in sweep["claims"]["findings"] if sweep else ():
            if stored["claim"] in made:  # a claim may have moved to another sweep since
                known = {key: stored[key] for key in FINDING_FIELDS if key in stored}
                findings[stored["claim"]].append(Finding(**known))
    spent = [one for one in seconds if one is not None]
    return findings, sum(spent) if seconds and len(spent) == len(seconds) else None


def overview(database: Database) -> Table:
    """A table with one row for each paper: claims passed, time of the CPU recipe, last run."""
    table = Table("paper", "what it is", "claims passed", "time of the recipe", "last run")
    for experiment in experiments():
        findings, seconds = latest(database, experiment)
        counted = [claim for claim in experiment.claims if not claim.report_only]
        passed = sum(has_passed(findings[claim.id]) for claim in counted)
        wanted = {"experiment.name": experiment.path}
        run = database.runs.find_one(wanted, {"start_time": 1}, sort=[("start_time", -1)])
        table.add_row(
            experiment.path,
            experiment.doc.strip().splitlines()[0],
            f"{passed}/{len(counted)}" if counted else "-",
            "-" if seconds is None else duration(seconds),
            f"{run['start_time']:%Y-%m-%d %H:%M}" if run else "never",
        )
    return table


def scorecard(experiments: Iterable[Experiment], database: Database) -> tuple[Table, bool]:
    """A table with one row for each claim, and whether every claim that counts has passed."""
    table = Table("claim", "what the paper says", "verdict", "seeds", "measured", show_lines=True)
    is_complete = True
    for experiment in experiments:
        findings, _ = latest(database, experiment)
        for claim in experiment.claims:
            card = summary(findings[claim.id])
            is_complete = is_complete and (bool(card.passed) or claim.report_only)
            note = " (report only)" if claim.report_only else ""
            verdict = Text.assemble(VERDICTS[card.passed], note)
            table.add_row(claim.id, claim.statement, verdict, card.seeds, card.measured)
    return table, is_complete


@dataclass(frozen=True)
class Summary:
    """A claim's findings in one row.

    passed: None if there are none.
    seeds: seeds passed of all, as "2/3".
    measured: the numbers of the first finding that agrees with `passed`, or what was missing.
    """

    passed: bool | None
    seeds: str
    measured: str


def summary(findings: Sequence[Finding]) -> Summary:
    """A claim's findings in one row of the scorecard or the report."""
    if not findings:
        return Summary(None, "", "")
    shown = shown_finding(findings)
    seeds = f"{sum(finding.passed for finding in findings)}/{len(findings)}"
    return Summary(has_passed(findings), seeds, shown.why or format_numbers(shown.measured))


def shown_finding(findings: Sequence[Finding]) -> Finding:
    """The first of a claim's findings that agrees with the verdict on all of them."""
    passed = has_passed(findings)
    return next(finding for finding in findings if finding.passed == passed)
