"""What the page shows of the experiments themselves, which are loaded for it."""

from functools import cache
from pathlib import Path
from typing import Any

from pymongo.database import Database

from grok.claims import scorecard
from grok.experiment.experiment import Experiment
from grok.paths import experiment_names
from grok.reports.page.collect import drawn_pictures, paper_of, pictures_of
from grok.reports.page.values import flat
from grok.reports.page.views import json_value


@cache
def experiment(name: str) -> Experiment:
    """The experiment of this project with this name, loaded once."""
    (found,) = scorecard.experiments([name])
    return found


def defaults(name: str) -> dict[str, Any] | None:
    """The default configuration of an experiment, by dotted keys; None if this project has none."""
    if name not in experiment_names():
        return None
    return json_value(flat(experiment(name).defaults()))


def papers(database: Database, folders: list[Path]) -> list[dict[str, Any]]:
    """The papers with their claims and findings, and the names and addresses of their pictures."""
    return [_paper(database, experiment(name), folders) for name in experiment_names()]


def _paper(database: Database, paper: Experiment, folders: list[Path]) -> dict[str, Any]:
    files = {
        path.stem: {"name": path.stem, "address": f"figures/{path.name}"}
        for path in pictures_of(paper.path, folders)
    }
    return paper_of(database, paper, [*{**files, **drawn_pictures(database, paper)}.values()])
