"""The runs that a stored sweep asked for and that have not finished, or have diverged."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from pymongo.database import Database
from sacred.utils import set_by_dotted_path

from grok.claims.model import Run, unfinished_run
from grok.engine.events import DIVERGED
from grok.errors import UserError
from grok.experiment.command_line import arguments_of
from grok.experiment.experiment import Experiment
from grok.store.selection import of_sweeps
from grok.store.status import FINISHED
from grok.values import parse_value

Point = Mapping[str, Any]


def unfinished(database: Database, experiment: Experiment, sweep: Mapping[str, Any]) -> list[Run]:
    """The runs of a sweep that have not finished or have diverged, with their configurations.

    A sweep asks for all points of its file: of a grid also for those that were left out with
    `--limit` or `--seeds`.
    """
    wanted = {**of_sweeps(sweep["_id"]), **FINISHED}
    fields = {"meta.sweep": 1, "info.wandb.run": 1, "result.ended": 1}
    runs = [*database.runs.find(wanted, fields)]
    if "points" in sweep:  # run by this machine; a run has the number of its point
        points = dict(enumerate(sweep["points"]))
        numbers = [run["meta"]["sweep"]["point"] for run in runs]
    else:
        stored = [*database.sweep_points.find({"sweep": sweep["_id"]})]
        points = {point["number"]: point["point"] for point in stored}
        names = {point["run"]: point["number"] for point in stored}
        numbers = [names.get(_agents_name(run)) for run in runs]
    finished: set[int | None] = set()
    diverged: set[int | None] = set()
    for run, number in zip(runs, numbers, strict=True):
        has_diverged = (run.get("result") or {}).get("ended") == DIVERGED
        (diverged if has_diverged else finished).add(number)
    left = [(point, n in diverged) for n, point in points.items() if n not in finished]
    left += [(point, False) for point in _left_out(sweep, list(points.values()))]
    return [
        unfinished_run(experiment, _config_of(experiment, sweep, point), has_diverged)
        for point, has_diverged in left
    ]


def _agents_name(run: Mapping[str, Any]) -> str | None:
    """The id that the agent of a served sweep gave a run, which its point names."""
    own = run.get("meta", {}).get("sweep", {}).get("run")
    return own or run.get("info", {}).get("wandb", {}).get("run")


def _left_out(sweep: Mapping[str, Any], points: Sequence[Point]) -> list[Point]:
    """The points of a sweep's grid that are not among these; of other searches none."""
    config = sweep["config"]
    specs = config.get("parameters", {})
    is_listed = all("values" in spec or "value" in spec for spec in specs.values())
    if config.get("method") != "grid" or "run_cap" in config or "map" in sweep or not is_listed:
        return []
    values = [spec["values"] if "values" in spec else [spec["value"]] for spec in specs.values()]
    known = {_as_text({key: point.get(key) for key in specs}) for point in points}
    grid = [dict(zip(specs, one, strict=True)) for one in product(*values)]
    return [point for point in grid if _as_text(point) not in known]


def _as_text(point: Point) -> str:
    return json.dumps(point, sort_keys=True, default=str)


def _config_of(experiment: Experiment, sweep: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """The full configuration of a sweep's point; the updates alone if the code refuses them."""
    named, fixed = arguments_of(sweep["config"].get("command", ()))
    updates: dict[str, Any] = {}
    for key, value in {**fixed, **point}.items():
        set_by_dotted_path(updates, key, parse_value(value))
    if "seed" not in updates:
        updates["seed"] = experiment.default_seed(named)
    try:
        return experiment.full_config(updates, named)
    except UserError:
        return updates
