"""Papers and how their claims came out: checked on stored sweeps, kept with them, shown as tables."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.table import Table

from grok.claims import model as claims
from grok.claims.model import Claim, Finding, Runs
from grok.experiment.experiment import Paper, load
from grok.experiment.validation import check_names
from grok.paths import PROJECT
from grok.store.status import FINISHED

CHECKED, FINISHED_SWEEP = {"claims": {"$exists": True}}, {"state": "finished"}
VERDICTS = {True: "[green]passed[/]", False: "[red]failed[/]", None: "not checked"}


def papers() -> list[Paper]:
    """All papers of this house, by name."""
    return [load(path) for path in sorted((PROJECT / "experiments").glob("*.py"))]


def named(names: Iterable[str]) -> list[Paper]:
    """The papers of these names, all if there are none; UserError for an unknown one."""
    known = {paper.path: paper for paper in papers()}
    check_names(names, known, "paper")
    return [known[name] for name in names] or list(known.values())


def sweeps_of(paper: Paper) -> list[str]:
    """Names of the sweep files that the claims that count are checked on."""
    return list(dict.fromkeys(claim.sweep for claim in paper.claims if not claim.report_only))


def evidence(database, paper: Paper, sweep: str) -> Runs:
    """The finished runs of a sweep of a paper, by its id; of runs with the same config the latest."""
    of_sweep = {"$or": [{"meta.sweep.id": sweep}, {"info.wandb.sweep": sweep}]}
    found = database.runs.find({**of_sweep, **FINISHED}, {"config": 1, "result": 1}).sort("_id", 1)
    latest = {json.dumps(run["config"], sort_keys=True, default=str): run for run in found}
    series: dict[Any, dict] = {run["_id"]: {} for run in latest.values()}
    for metric in database.metrics.find({"run_id": {"$in": list(series)}}):
        series[metric["run_id"]][metric["name"]] = metric["steps"], metric["values"]
    return Runs(
        paper.evidence(run["config"], run["result"], series[run["_id"]]) for run in latest.values()
    )


def check_sweep(database, paper: Paper, sweep: dict[str, Any]) -> list[Finding]:
    """Check the claims that are made on a sweep, and store with it how they came out."""
    if not any(claim.sweep == sweep["name"] for claim in paper.claims):
        return []  # most sweeps: their runs need not be read
    found = claims.of_sweep(paper.claims, sweep["name"], evidence(database, paper, sweep["_id"]))
    stored = {"findings": [asdict(one) for one in found], "checked": datetime.now(UTC)}
    database.sweeps.update_one({"_id": sweep["_id"]}, {"$set": {"claims": stored}})
    return found


def check_again(database, papers: Iterable[Paper]) -> None:
    """Check the claims of papers, as they are stated now, on the latest sweep of each of their files,
    finished or checked before."""
    for paper in papers:
        found = _sweeps(database, paper, {"$or": [FINISHED_SWEEP, CHECKED]})
        for sweep in filter(None, found.values()):
            check_sweep(database, paper, sweep)


def checked_sweeps(database, paper: Paper) -> dict[str, dict[str, Any] | None]:
    """The latest checked sweep of each file that a paper's claims are made on, by name."""
    return _sweeps(database, paper, CHECKED)


def _sweeps(database, paper: Paper, wanted: dict) -> dict[str, dict[str, Any] | None]:
    names = {claim.sweep: None for claim in paper.claims}
    wanted, latest_first = {"experiment": paper.path, **wanted}, [("created", -1)]
    return {n: database.sweeps.find_one({"name": n, **wanted}, sort=latest_first) for n in names}


def latest(database, paper: Paper) -> tuple[dict[str, list[Finding]], float | None]:
    """What came of each claim in the latest checked sweep of its file, and how long the sweeps took,
    in seconds (None until all of them have run)."""
    findings: dict[str, list[Finding]] = {claim.id: [] for claim in paper.claims}
    seconds: list[float | None] = []
    recipe = sweeps_of(paper)
    for name, sweep in checked_sweeps(database, paper).items():
        if name in recipe:
            seconds.append(None if sweep is None else sweep.get("seconds"))
        made = {claim.id for claim in paper.claims if claim.sweep == name}
        for stored in sweep["claims"]["findings"] if sweep else ():
            if stored["claim"] in made:  # a claim may have moved to another sweep since
                findings[stored["claim"]].append(Finding(**stored))
    return findings, None if not seconds or None in seconds else sum(seconds)


def overview(database) -> Table:
    """One row a paper: claims passed, time of the CPU recipe, last run."""
    table = Table("paper", "what it is", "claims passed", "time of the recipe", "last run")
    for paper in papers():
        findings, seconds = latest(database, paper)
        counted = [claim for claim in paper.claims if not claim.report_only]
        passed = sum(claims.stands(findings[claim.id]) for claim in counted)
        wanted = {"experiment.name": paper.path}
        run = database.runs.find_one(wanted, {"start_time": 1}, sort=[("start_time", -1)])
        table.add_row(
            paper.path,
            paper.doc.strip().splitlines()[0],
            f"{passed}/{len(counted)}" if counted else "-",
            "-" if seconds is None else duration(seconds),
            f"{run['start_time']:%Y-%m-%d %H:%M}" if run else "never",
        )
    return table


def scorecard(papers: Iterable[Paper], database) -> tuple[Table, bool]:
    """One row a claim, and whether every claim that counts has passed."""
    table = Table("claim", "what the paper says", "verdict", "seeds", "measured", show_lines=True)
    complete = True
    for paper in papers:
        findings, _ = latest(database, paper)
        for claim in paper.claims:
            found = findings[claim.id]
            passed = claims.stands(found) if found else None
            complete = complete and (bool(passed) or claim.report_only)
            table.add_row(claim.id, claim.says, _verdict(claim, passed), *_cells(found))
    return table, complete


def _verdict(claim: Claim, passed: bool | None) -> str:
    return VERDICTS[passed] + (" (report only)" if claim.report_only else "")


def _cells(found: list[Finding]) -> tuple[str, str]:
    """Seeds passed of all, and the numbers of the first of those with the commoner verdict."""
    if not found:
        return "", ""
    passed = claims.stands(found)
    shown = next(one for one in found if one.passed == passed)
    return f"{sum(f.passed for f in found)}/{len(found)}", shown.why or claims.numbers(
        shown.measured
    )


def duration(seconds: float) -> str:
    """Minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
