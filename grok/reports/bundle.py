"""A bundle: what a reviewer needs to check claims, as a folder or a zip file.

It has the runs as an archive, the papers' and sweeps' files, the scorecard, figures, environments, a
README with the commands that repeat each number, and the SHA-256 of every file.
"""

import hashlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from pymongo.database import Database

from grok.claims import scorecard
from grok.claims.model import Claim
from grok.claims.past import findings_in
from grok.claims.verdicts import claim_result
from grok.errors import UserError, check_names, writing
from grok.experiment.environment import commit, package_version, remote_of
from grok.experiment.experiment import Experiment
from grok.paths import INSTALLED, PROJECT, atomic_write, experiment_file
from grok.printable import printable
from grok.reports import figures
from grok.store import archive
from grok.store.documents import RUN_KEYS, commits_of, find_metrics, named_run, sweeps_of
from grok.store.selection import of_sweeps

FORMAT = 1
SUMS = "SHA256SUMS"
CONTENTS = "bundle.json"
RUNS = "runs.zip"
FILE_NAME = re.compile(r"[\w.+=,~-]{1,200}(/[\w.+=,~-]{1,200}){0,3}")
MOST_CURVES = 60  # of runs in one figure
Document = dict[str, Any]


@dataclass(frozen=True)
class Checked:
    """A claim with the sweep that it was checked on."""

    paper: Experiment
    claim: Claim
    sweep: Document


def write(database: Database, names: Iterable[str], path: Path) -> tuple[int, int, str]:
    """Write a bundle of claims; it is complete or not there.

    Arguments:
        names: ids of claims, and names of papers for all claims of theirs that were checked.
        path: a new folder, or a file that ends in .zip.

    Returns:
        the numbers of claims and runs, and the SHA-256 of the list of checksums.

    Raises:
        UserError: a name is unknown, a claim was not checked, or the path exists or cannot be written.
    """
    if os.path.lexists(path):
        raise UserError(f"{path} exists; choose a new name")
    chosen = _checked(database, names)
    with (
        writing(path),
        tempfile.TemporaryDirectory(prefix=".bundle-", dir=path.parent) as temporary,
    ):
        folder = Path(temporary) / "bundle"
        folder.mkdir()
        runs = _fill(database, chosen, folder)
        sums = checksums(folder)
        for name in sums:
            check_name(name)
        text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        (folder / SUMS).write_text(text)
        if path.suffix == ".zip":
            with atomic_write(path) as file, zipfile.ZipFile(file, "w") as packed:
                for name in (*sums, SUMS):
                    packed.write(folder / name, name, zipfile.ZIP_DEFLATED)
        else:
            folder.rename(path)
    return len(chosen), runs, hashlib.sha256(text.encode()).hexdigest()


def check_name(name: str) -> None:
    """UserError unless a file of a bundle can have this name: a path of plain parts below its folder."""
    if not FILE_NAME.fullmatch(name) or not {".", ".."}.isdisjoint(name.split("/")):
        raise UserError(f"{name!r:.200} is no name of a file of a bundle")


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file of a folder, by its path there, sorted."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {}
    for path in files:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        sums[path.relative_to(folder).as_posix()] = digest
    return sums


def _checked(database: Database, names: Iterable[str]) -> list[Checked]:
    """The claims of these names; UserError if one is unknown or was not checked."""
    papers = scorecard.experiments()
    known = {one.path for one in papers} | {c.id for one in papers for c in one.claims}
    wanted = [*dict.fromkeys(names)]
    check_names(wanted, known, "claim or paper")
    chosen = []
    for paper in papers:
        sweeps = scorecard.checked_sweeps(database, paper)
        for claim in paper.claims:
            sweep = sweeps.get(claim.sweep)
            if claim.id in wanted and sweep is None:
                reason = claim.not_tried or f"`grok replicate {paper.path}` checks it"
                raise UserError(f"claim {claim.id} was not checked: {reason}")
            if sweep and ({claim.id, paper.path} & {*wanted}):
                chosen.append(Checked(paper, claim, sweep))
    if not chosen:
        raise UserError(f"no claim of {', '.join(wanted)} was checked; `grok replicate` does so")
    return chosen


def _fill(database: Database, chosen: list[Checked], folder: Path) -> int:
    """Write all files but the checksums; the number of runs."""
    papers = {one.paper.path: one.paper for one in chosen}
    sweeps = {one.sweep["_id"]: one.sweep for one in chosen}
    runs = _runs(database, [*sweeps])
    wanted = {"_id": {"$in": [run["_id"] for run in runs]}}
    if archive.export(database, wanted, folder / RUNS) < len(runs):
        raise UserError("a bundle has all runs of its claims, and some of them cannot be exported")
    rows = [json.dumps(_row(run), default=str) for run in runs]
    (folder / "runs.jsonl").write_text("".join(f"{row}\n" for row in rows))
    (folder / "environments.json").write_text(json.dumps(_environments(runs), indent=1))
    packages = sorted({f"{one.name}=={one.version}" for one in distributions()})
    (folder / "packages.txt").write_text("".join(f"{one}\n" for one in packages))
    for name in ("experiments", "sweeps", "figures"):
        (folder / name).mkdir()
    for name in papers:
        (folder / "experiments" / f"{name}.py").write_bytes(experiment_file(name).read_bytes())
    for sweep in sweeps.values():
        name = sweep["name"]
        source = PROJECT / "sweeps" / f"{name}.yaml"
        if source.is_file():
            (folder / "sweeps" / source.name).write_bytes(source.read_bytes())
        curves = _curves(database, runs, sweep["_id"])
        if curves is not None:
            (folder / "figures" / f"curves_{name}.png").write_bytes(curves)  # no paper's own name
    for paper in papers.values():
        for name, drawn in figures.draw(database, paper).items():
            if isinstance(drawn, bytes):
                (folder / "figures" / f"{name}.png").write_bytes(drawn)
    contents = {
        "format": FORMAT,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        **_origin(),
        "runs": len(runs),
        "claims": [_entry(one) for one in chosen],
    }
    (folder / CONTENTS).write_text(json.dumps(contents, indent=1, allow_nan=False))
    (folder / "README.md").write_text(_readme(contents, chosen, runs))
    return len(runs)


def _origin() -> Document:
    """What bundle.json has of the project that the bundle is of, and of the version of grok-lab."""
    remote = remote_of(PROJECT) if _is_own() else ""
    return {
        "project": printable(PROJECT.name, kept="") if _is_own() else "grok-lab",
        "remote": printable(remote, kept="") or None,
        "commit": commit(),
        "grok_lab": package_version(),
    }


def _is_own() -> bool:
    """Whether the project is one of the user's own, and neither grok-lab's checkout nor its package."""
    return PROJECT not in (INSTALLED, INSTALLED.parents[1])


def _runs(database: Database, sweeps: list[str]) -> list[Document]:
    """The runs of sweeps that have ended, and the runs that these started from, by their ids."""
    has_ended = {"status": {"$nin": ["RUNNING", archive.IMPORTING]}}
    found = {run["_id"]: run for run in database.runs.find({**of_sweeps(*sweeps), **has_ended})}
    new = [*found.values()]
    while new:
        named = {named_run(run, key) for run in new for key in RUN_KEYS}
        new = [*database.runs.find({"_id": {"$in": [*(named - {None} - {*found})]}, **has_ended})]
        found.update((run["_id"], run) for run in new)
    return sorted(found.values(), key=lambda run: str(run["_id"]).zfill(12))


def _row(run: Document) -> Document:
    """What runs.jsonl has of a run."""
    return {
        "run": run["_id"],
        "experiment": run["experiment"]["name"],
        "sweep": next(iter(sweeps_of(run)), None),
        "status": run["status"],
        "start_time": run.get("start_time"),
        "commits": commits_of(run),
        "config": run.get("config"),
        "result": run.get("result"),
    }


def _environments(runs: list[Document]) -> list[Document]:
    """The different environments of runs, each with the ids of its runs."""
    groups: dict[str, list[Any]] = {}
    for run in runs:
        environment = run.get("info", {}).get("environment") or {}
        groups.setdefault(json.dumps(environment, sort_keys=True), []).append(run["_id"])
    return [{"environment": json.loads(text), "runs": ids} for text, ids in groups.items()]


def _entry(one: Checked) -> Document:
    """What bundle.json has of a claim: what `verdicts.claim_result` returns, and where it is from."""
    findings = findings_in(one.sweep["claims"], one.claim)
    return {
        "claim": one.claim.id,
        "paper": one.paper.path,
        "statement": one.claim.statement,
        "sweep": one.sweep["_id"],
        **claim_result(one.claim, findings),
    }


def _curves(database: Database, runs: list[Document], sweep: str) -> bytes | None:
    """A figure, as PNG, of the accuracies of a sweep's runs, or else of the losses; None if there
    are neither."""
    from matplotlib.figure import Figure

    ids = [run["_id"] for run in runs if sweep in sweeps_of(run)]
    wanted = {"run_id": {"$in": ids[:MOST_CURVES]}}
    logged = [*find_metrics(database.metrics, {**wanted, "name": {"$regex": "^(train|test)_"}})]
    kinds = [k for k in ("accuracy", "loss") if any(m["name"] == f"test_{k}" for m in logged)]
    if not kinds:
        return None
    figure, content = Figure(figsize=(10, 4), layout="constrained"), io.BytesIO()
    axes = dict(zip(("train", "test"), figure.subplots(1, 2, sharey=True), strict=True))
    for metric in logged:
        split, _, kind = metric["name"].partition("_")
        if kind == kinds[0]:
            axes[split].plot(metric["steps"], metric["values"], lw=0.8, alpha=0.6)
    for split, one in axes.items():
        one.set(
            xscale="symlog",
            xlabel="step",
            title=f"{split} {kinds[0]} of {len(ids[:MOST_CURVES])} runs",
        )
    figure.savefig(content, format="png", dpi=120)
    return content.getvalue()


def _readme(contents: Document, chosen: list[Checked], runs: list[Document]) -> str:
    """The text of README.md."""
    commits = sorted({one for run in runs for one in commits_of(run)}) or ["unknown"]
    rows = []
    for one, entry in zip(chosen, contents["claims"], strict=True):
        card = scorecard.summary(one.claim, findings_in(one.sweep["claims"], one.claim))
        verdict = f"{card.verdict}{card.mark}"
        cells = [
            one.claim.id,
            one.claim.statement,
            verdict,
            card.seeds,
            card.measured,
            entry["sweep"],
        ]
        rows.append(" | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in cells))
    table = "\n".join(f"| {row} |" for row in rows)
    sweeps = {one.sweep["_id"]: one for one in chosen}
    again = "\n".join(
        f"grok sweep run sweeps/{one.sweep['name']}.yaml   # the claims of {one.paper.path} on {one.sweep['name']}"
        for one in sweeps.values()
    )
    papers = " ".join(dict.fromkeys(one.paper.path for one in chosen))
    written, setup = _instructions(contents)
    return README.format(
        date=contents["date"],
        written=written,
        setup=setup,
        commits=", ".join(commits),
        count=len(runs),
        table=table,
        again=again,
        papers="\n".join(f"grok papers {paper}" for paper in papers.split()),
        run=runs[0]["_id"] if runs else 1,
    )


def _instructions(contents: Document) -> tuple[str, str]:
    """What README.md says of where the bundle was written, and of how to get to that state."""
    version, state = f"grok-lab {contents['grok_lab']}", f"commit {contents['commit']}"
    if PROJECT == INSTALLED:
        return f"by {version}", f"Install {version}, which has these experiments."
    if not _is_own():
        setup = "Install grok-lab at the commit above and work in its folder."
        return f"by {version} at {state}", setup
    project, place = f"project `{contents['project']}`", contents["remote"] or "its authors"
    steps = (
        f"1. Install {version}.",
        f"2. Get the {project} from {place}, at {state}.",
        "3. Run the commands below in the folder of the project.",
        "",
    )
    return f"in the {project} at {state} by {version}", "\n".join(steps)


README = """\
# A bundle of claims

Written on {date} {written}, with {count} runs. The runs were trained at
commit {commits}; `+` means that files differed from the commit. The sources that each run was made with
are in `runs.zip`.

| claim | statement | verdict | seeds | measured | sweep |
|---|---|---|---|---|---|
{table}

## Check it

{setup}
Nothing in this bundle is executed.

```bash
sha256sum -c SHA256SUMS            # in the bundle: every file is as it was written
grok bundle verify BUNDLE --runs 5 # checksums, verdicts computed again, five runs trained again
```

Each value of one run, and a verdict from the stored runs:

```bash
grok store import runs.zip         # runs keep their numbers if these are free
grok repeat {run}                      # trains the run again and compares every logged value
grok export metrics {run} values.csv
{papers}
```

All numbers of the table from nothing:

```bash
{again}
```

## Files

| file | content |
|---|---|
| `bundle.json` | the claims with their verdicts and measured numbers, the project, its commit, the version of grok-lab |
| `runs.zip` | the runs with metrics, files and sources, for `grok store import` |
| `runs.jsonl` | a line for each run: configuration, result, commit |
| `experiments/`, `sweeps/` | the papers' and the sweeps' files at the time of the bundle |
| `figures/` | the papers' own figures, and `curves_SWEEP.png` of each sweep |
| `environments.json` | versions, processor and threads of the runs |
| `packages.txt` | the packages that were installed where the bundle was written |
| `SHA256SUMS` | the SHA-256 of every other file, as `sha256sum` writes it |
"""
