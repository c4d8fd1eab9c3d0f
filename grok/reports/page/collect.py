"""What a report shows, read from the store into columns that compress well."""

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pymongo.database import Database

from grok.claims import scorecard
from grok.experiment.environment import commit
from grok.experiment.experiment import Experiment
from grok.reports.figures import draw
from grok.reports.page.values import flat, part_of, plain
from grok.reports.page.views import (
    CURVE,
    FIELDS,
    commands_of,
    decided_alone,
    json_value,
    parents_of,
    sweep_id_of,
    sweep_of,
    trace_of,
)
from grok.store.connection import Store
from grok.store.status import dead

RESULT_COLUMNS = (
    "phase",
    "steps_to_train",
    "steps_to_test",
    "train_accuracy",
    "test_accuracy",
    "seconds",
)


def summary_of(store: Store, wanted: dict[str, Any], figures: list[Path]) -> dict[str, Any]:
    """Papers with claims and pictures, sweeps, and a table of runs by columns."""
    database = store.database
    runs = list(database.runs.find(wanted, {"captured_out": 0, "info.metrics": 0}).sort("_id", -1))
    without_heartbeat = dead(database)
    for run in runs:
        if run["_id"] in without_heartbeat:
            run["status"] = "DEAD"
    about = {
        "store": store.describe(),
        "made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
        "runs": len(runs),
    }
    ids_of_sweeps = {sweep_id_of(run) for run in runs}
    sweeps = [
        sweep
        for sweep in database.sweeps.find().sort("created", -1)
        if sweep["_id"] in ids_of_sweeps
    ]
    results = [
        {key: value for key, value in result_of(run).items() if key not in RESULT_COLUMNS}
        for run in runs
    ]
    papers = scorecard.experiments()
    return {
        "about": about,
        "papers": [
            paper_of(database, paper, pictures(database, paper, figures)) for paper in papers
        ],
        "defaults": {paper.path: json_value(flat(paper.defaults())) for paper in papers},
        "sweeps": [sweep_of(sweep) for sweep in sweeps],
        "columns": [*FIELDS, CURVE],
        "resultColumns": RESULT_COLUMNS,
        "runs": columns_of(runs),
        "config": coded([flat(part_of(run, "config")) for run in runs]),
        "results": coded([flat(result) for result in results]),
        "environment": coded([part_of(run, "info").get("environment") or {} for run in runs]),
        "tags": coded_column([tags_of(run) for run in runs]),
        "claims": coded_column([claims_of(run) for run in runs]),
        "trace": coded_column([trace_of(run) for run in runs]),
        "host": coded_column([part_of(run, "host").get("hostname") for run in runs]),
        "notes": coded_column([part_of(run, "omniboard").get("notes") or "" for run in runs]),
        "parents": coded_column([json.dumps(parents_of(run)) for run in runs]),
        "commands": [commands_of(run) for run in runs],
    }


def paper_of(
    database: Database, paper: Experiment, figures: list[dict[str, str]]
) -> dict[str, Any]:
    """A paper's claims, how they came out, and its pictures."""
    findings, seconds = scorecard.latest(database, paper)
    rows = []
    for claim in paper.claims:
        card = scorecard.summary(claim, findings[claim.id])
        rows.append(
            {
                "id": claim.id,
                "statement": claim.statement,
                "verdict": card.verdict.word,
                "detail": f"{card.verdict}{card.mark}",
                "control": claim.control,
                "seeds": card.seeds,
                "measured": card.measured,
            }
        )
    return {
        "name": paper.path,
        "description": paper.doc.strip().splitlines()[0],
        "seconds": plain(seconds),
        "claims": rows,
        "figures": figures,
    }


def pictures_of(name: str, folders: list[Path]) -> list[Path]:
    """The paper's PNG files, whose names begin as its own, up to "_"; of equal names the one in the
    first folder."""
    prefix = name.partition("_")[0]
    pictures = {
        path.stem: path
        for folder in folders[::-1]
        for path in sorted(folder.glob(f"{prefix}*.png"))
    }
    return list(pictures.values())


def pictures(database: Database, paper: Experiment, folders: list[Path]) -> list[dict[str, str]]:
    """The paper's pictures: files, and the figures that it draws itself from stored runs."""
    files = {
        path.stem: picture(path.stem, path.read_bytes())
        for path in pictures_of(paper.path, folders)
    }
    return [*{**files, **drawn_pictures(database, paper)}.values()]


def drawn_pictures(database: Database, paper: Experiment) -> dict[str, dict[str, str]]:
    """The figures that the paper draws itself from stored runs, by name."""
    drawn = draw(database, paper).items()
    return {name: picture(name, image) for name, image in drawn if isinstance(image, bytes)}


def picture(name: str, png: bytes) -> dict[str, str]:
    """A PNG as a data URI, with its name."""
    address = "data:image/png;base64," + base64.b64encode(png).decode()
    return {"name": name, "address": address}


def columns_of(runs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The table of runs: a list for each column; start_time in milliseconds since 1970.

    A result is "" where a run has none (yet), and None for a step that was never reached.
    """
    starts = [run.get("start_time") for run in runs]
    results = [result_of(run) for run in runs]
    return {
        "run": [run["_id"] for run in runs],
        "experiment": [part_of(run, "experiment").get("name", "") for run in runs],
        "status": [run.get("status", "") for run in runs],
        "started": [f"{start:%Y-%m-%d %H:%M}" if start else "" for start in starts],
        "start_time": [
            round(1000 * start.replace(tzinfo=UTC).timestamp()) if start else None
            for start in starts
        ],
        "sweep": [sweep_id_of(run) for run in runs],
        "seed": [plain(part_of(run, "config").get("seed")) for run in runs],
        **{key: [plain(result.get(key, "")) for result in results] for key in RESULT_COLUMNS},
    }


def result_of(run: dict[str, Any]) -> dict[str, Any]:
    """The run's result; empty if it has none (yet)."""
    return part_of(run, "result")


def tags_of(run: dict[str, Any]) -> list[str]:
    """The run's named configs, and the tags it was given in Omniboard."""
    tags = part_of(run, "omniboard").get("tags") or []
    return [*(part_of(run, "meta").get("named_configs") or []), *tags]


def claims_of(run: dict[str, Any]) -> list[str]:
    """The claims that the run decided at its end, those that failed with a minus sign."""
    return [
        finding["claim"] if finding.get("passed") else f"-{finding['claim']}"
        for finding in decided_alone(run)
    ]


MISSING = object()


def coded(rows: list[dict[str, Any]]) -> dict[str, dict[str, list[Any]]]:
    """The coded column of each key, over all rows."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: coded_column([row.get(key, MISSING) for row in rows]) for key in keys}


def coded_column(values: list[Any]) -> dict[str, list[Any]]:
    """The different values "v", and for each row the index "i" of its value, -1 where it is MISSING."""
    different: list[Any] = []
    index_of: dict[str, int] = {}
    known: dict[tuple[type, Any], int] = {(object, MISSING): -1}  # what repr() need not write again
    indices = []
    for value in values:
        try:
            index = known.get((type(value), value))
        except TypeError:  # of lists and dictionaries
            index = None
        if index is None:
            shown = plain(value)
            index = index_of.setdefault(repr(shown), len(different))
            if index == len(different):
                different.append(shown)
            if isinstance(value, str | int):
                known[type(value), value] = index
        indices.append(index)
    return {"v": different, "i": indices}
