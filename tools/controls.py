"""`python -m tools.controls PAPER ...`: train and store the negative controls of papers' claims.

The negative control of a claim is a set of runs on which it must fail. They are the runs of the
first seed of the claim's sweep, with config updates or changed by a function (`fails_on` of
`grok.claims.model.Claim`). tests/fixtures/controls has what the claims read of them.

Runs are trained in the store of GROK_HOME, and those that are stored there are not trained again.
Negative controls of tests/fixtures/controls that are still as specified are kept, unless `--all` is given.
"""

import gzip
import hashlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from grok.claims.model import Claim, Finding, NegativeControl, Run, Runs, evaluate
from grok.claims.scorecard import experiments
from grok.claims.versions import NOT_OF_A_RECIPE
from grok.errors import UserError
from grok.experiment.experiment import KEYS_OF_ANY_VALUE, Experiment
from grok.paths import PROJECT, atomic_write
from grok.store import connection
from grok.store.connection import Store
from grok.store.documents import find_metrics
from grok.store.status import FINISHED
from grok.sweep import file as files
from grok.sweep.file import SweepFile
from grok.sweep.local import LocalSweep, points_of
from grok.sweep.plan import default_seed
from grok.sweep.progress import SweepProgress

FOLDER = PROJECT / "tests" / "fixtures" / "controls"
DIGITS = 5  # of a stored number
Document = dict[str, Any]
Key = tuple[str, str]  # name of the sweep file, config updates as JSON


@click.command()
@click.argument("paper", nargs=-1)
@click.option(
    "--all", "retrain", is_flag=True, help="Train those that are still as specified, too."
)
def main(paper: tuple[str, ...], retrain: bool) -> None:
    """Train and store the negative controls of papers (of all, if none is named)."""
    store = connection.connect()
    for experiment in experiments(paper):
        if not any(claim.fails_on is not None for claim in experiment.claims):
            continue
        kept = {} if retrain else up_to_date(experiment)
        groups = list(trained_groups(experiment, store, kept))
        path = path_of(experiment)
        text = json.dumps(groups, separators=(",", ":"))
        FOLDER.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(gzip.compress(text.encode(), mtime=0))
        click.echo(f"{path.relative_to(PROJECT)}: {path.stat().st_size / 1000:.0f} kB")
        for id, (finding, control) in evaluated(experiment).items():
            click.echo(f"{id} {word(finding)}: {control}")


# -- what is stored ------------------------------------------------------------------------------


def path_of(experiment: Experiment) -> Path:
    """The file of an experiment's negative controls."""
    return FOLDER / f"{experiment.path}.json.gz"


def stored_groups(experiment: Experiment) -> dict[Key, Document]:
    """What is stored of the negative controls of an experiment."""
    path = path_of(experiment)
    stored = json.loads(gzip.decompress(path.read_bytes())) if path.exists() else []
    return {(group["sweep"], group["updates"]): group for group in stored}


def up_to_date(experiment: Experiment) -> dict[Key, Document]:
    """The stored groups on which all their claims can be evaluated, in their present form."""
    findings = evaluated(experiment)
    outdated = {
        key_of(claim)
        for claim in experiment.claims
        if claim.id in findings and ((found := findings[claim.id][0]) is None or found.why)
    }
    groups = stored_groups(experiment)
    return {key: group for key, group in groups.items() if key not in outdated}


def evaluated(experiment: Experiment) -> dict[str, tuple[Finding | None, str]]:
    """What each claim finds on its negative control, by the claim's id.

    Returns:
        for each claim that has a negative control, its finding, None if its runs are not stored as
        they are specified now; and what the negative control is.
    """
    groups = stored_groups(experiment)
    findings: dict[str, tuple[Finding | None, str]] = {}
    for claim in experiment.claims:
        if claim.fails_on is None:
            continue
        group = groups.get(key_of(claim))
        finding = None
        if group is not None and group["recipe"] == recipe(experiment, claim.sweep):
            finding = evaluate(claim, controlled(claim, runs_of(experiment, group)))
        findings[claim.id] = finding, description(claim.fails_on)
    return findings


def runs_of(experiment: Experiment, group: Mapping[str, Any]) -> Runs:
    """The runs of one sweep that are stored, as claims see them."""
    defaults = experiment.defaults()
    return Runs(
        Run(
            {**defaults, **run["config"]},
            run["result"],
            run["series"],
            frozenset(run["named_configs"]),
        )
        for run in group["runs"]
    )


def controlled(claim: Claim, runs: Runs) -> Runs:
    """The negative control of a claim, from the stored runs."""
    return claim.fails_on(runs) if callable(claim.fails_on) else runs


def description(control: NegativeControl) -> str:
    """What a negative control is, in a few words."""
    if callable(control):
        return (control.__doc__ or "").split("\n\n")[0].strip().removesuffix(".")
    return ", ".join(f"{key} = {value}" for key, value in control.items())


def word(finding: Finding | None) -> str:
    """The outcome of a claim on its negative control, in a few words."""
    if finding is None:
        return "not trained as it is specified now"
    if finding.why:
        return f"cannot be decided: {finding.why}"
    return "passes" if finding.passed else "fails"


def key_of(claim: Claim) -> Key:
    """The sweep file of a claim, and the config updates of its negative control, as JSON."""
    updates = {} if callable(claim.fails_on) else claim.fails_on
    return claim.sweep, json.dumps(updates, sort_keys=True)


def recipe(experiment: Experiment, sweep: str) -> str:
    """A hash of the configurations of a sweep's runs of the first seed."""
    file = _file(sweep)
    parameters = {k: v for k, v in file.config["parameters"].items() if k != "seed"}
    named = {*file.named_configs, *parameters.get("preset", {}).get("values", ())}
    left_out = (*NOT_OF_A_RECIPE, "parameters")
    content = {
        "sweep": {k: v for k, v in file.config.items() if k not in left_out},
        "parameters": parameters,
        "fixed": file.fixed,
        "configs": {name: experiment.named_configs[name]() for name in sorted(named)},
    }
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _file(sweep: str) -> SweepFile:
    return files.read(PROJECT / "sweeps" / f"{sweep}.yaml")


# -- training ------------------------------------------------------------------------------------


def trained_groups(
    experiment: Experiment, store: Store, kept: Mapping[Key, Document]
) -> Iterator[Document]:
    """The negative controls of an experiment, as they are stored; those that are not kept are trained."""
    claims: dict[Key, list[Claim]] = defaultdict(list)
    for claim in experiment.claims:
        if claim.fails_on is not None:
            claims[key_of(claim)].append(claim)
    for (sweep, updates), of_group in claims.items():
        if (sweep, updates) in kept:
            yield kept[sweep, updates]
            continue
        runs = [
            Tracked(run)
            for run in trained_runs(experiment, store, _file(sweep), json.loads(updates))
        ]
        for claim in of_group:
            evaluate(claim, controlled(claim, Runs(run.run for run in runs)))
        defaults = experiment.defaults()
        yield {
            "sweep": sweep,
            "updates": updates,
            "recipe": recipe(experiment, sweep),
            "runs": [run.document(defaults) for run in runs],
        }


def trained_runs(
    experiment: Experiment, store: Store, file: SweepFile, updates: Mapping[str, Any]
) -> Iterator[Run]:
    """The runs of the first seed of a sweep, each with the outcome of its run with the updates."""
    points = points_of(file, file.config.get("run_cap"), None)
    first = points[0].get("seed")
    points = [point for point in points if point.get("seed") == first]
    configs = [_config(file, point) for point in points]
    outcomes = _outcomes(experiment, store, file, [{**point, **updates} for point in points])
    for config, (result, series) in zip(configs, outcomes, strict=True):
        named = experiment.matching_named_configs(config)
        yield Run(config, result, series, named)


def _config(file: SweepFile, point: Mapping[str, Any]) -> Document:
    updates = {"seed": default_seed(file), **file.updates(dict(point))}
    return file.experiment.full_config(updates, file.named_configs)


def _outcomes(
    experiment: Experiment, store: Store, file: SweepFile, points: Sequence[Document]
) -> list[tuple[Document, Document]]:
    """Result and metrics of each point's run, which is trained if it is not stored."""
    wanted = {_identity(_config(file, point)): point for point in points}
    stored = _stored(experiment, store)
    missing = [point for key, point in wanted.items() if key not in stored]
    if missing:
        _train_parents(experiment, store, [_config(file, point) for point in missing])
        _train(store, file, missing)
        stored = _stored(experiment, store)
    documents = [stored[_identity(_config(file, point))] for point in points]
    series: dict[Any, Document] = {document["_id"]: {} for document in documents}
    for metric in find_metrics(store.database.metrics, {"run_id": {"$in": list(series)}}):
        series[metric["run_id"]][metric["name"]] = metric["steps"], metric["values"]
    return [(document["result"], series[document["_id"]]) for document in documents]


def _stored(experiment: Experiment, store: Store) -> dict[str, Document]:
    """The latest finished run of each configuration."""
    wanted = {"experiment.name": experiment.path, **FINISHED}
    runs = store.database.runs.find(wanted, {"config": 1, "result": 1}).sort("_id", 1)
    return {_identity(run["config"]): run for run in runs}


def _identity(config: Mapping[str, Any]) -> str:
    """A configuration without the keys that do not change the training, as text."""
    left_out = {*KEYS_OF_ANY_VALUE} - {"seed", "measures"}
    kept = {key: value for key, value in config.items() if key not in left_out}
    return json.dumps(kept, sort_keys=True, default=list)


def _train_parents(experiment: Experiment, store: Store, configs: Sequence[Document]) -> None:
    """Train the runs of named configs from which others start."""
    parents = {(config["initial_run"], config["seed"]) for config in configs}
    for name, seed in parents:
        if isinstance(name, str):
            content = {
                "program": f"experiments/{experiment.path}.py",
                "method": "grid",
                "parameters": {"preset": {"value": name}, "seed": {"value": seed}},
            }
            file = files.check(content, name, experiment.path)
            _outcomes(experiment, store, file, [{"preset": name, "seed": seed}])


def _train(store: Store, file: SweepFile, points: Sequence[Document]) -> None:
    """Train points as a sweep of its own, on which no claim is checked."""
    document = {
        "_id": f"controls-{uuid.uuid4().hex[:6]}",
        "name": "controls",
        "config": file.config,
        "experiment": file.experiment.path,
        "created": datetime.now(UTC),
        "points": [*points],
        "limit": None,
    }
    sweep = LocalSweep(replace(file, name="controls"), store, document, None, 1)
    store.database.sweeps.insert_one(document)
    steps = sum(run.problem.train_steps for group in sweep.groups for run in group)
    with SweepProgress(steps, len(points)) as progress:
        sweep.run(progress)
    for failed in sweep.pending().values():
        raise UserError(f"this run has not finished: {failed}")


class TrackedMapping(dict):
    """A mapping that remembers which of its keys were read."""

    def __init__(self, content: Mapping[str, Any]):
        super().__init__(content)
        self.read: set[str] = set()

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a key, or the default."""
        self.read.add(key)
        return super().get(key, default)


class Tracked:
    """A run, and what is read of it."""

    def __init__(self, run: Run):
        self.result, self.series = TrackedMapping(run.result), TrackedMapping(run.series)
        self.run = replace(run, result=self.result, series=self.series)

    def document(self, defaults: Mapping[str, Any]) -> Document:
        """What is stored: of the result and the metrics what was read, of the configuration what
        differs from the defaults."""
        return {
            "config": {
                key: value
                for key, value in self.run.config.items()
                if key not in defaults or value != defaults[key]
            },
            "named_configs": sorted(self.run.named_configs),
            "result": {k: _rounded(dict.get(self.result, k)) for k in sorted(self.result.read)},
            "series": {
                k: _rounded(dict.get(self.series, k))
                for k in sorted(self.series.read)
                if k in self.series
            },
        }


def _rounded(value: Any) -> Any:
    """The value with numbers of DIGITS digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, Mapping):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_rounded(one) for one in value]
    return value


if __name__ == "__main__":
    main()
