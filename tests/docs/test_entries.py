"""Every command, key, metric, instrument, claim and figure has its entry in the documentation."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

from grok.claims.scorecard import experiments
from grok.cli import main as grok
from grok.engine.events import Record
from grok.engine.instruments import MEASURES
from grok.engine.train import train
from grok.experiment.experiment import load
from grok.experiment.recording import Recorder
from grok.paths import experiment_file, experiment_names
from grok.store import archive_schema
from grok.store.connection import connect
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress
from grok.sweep.queue import SweepQueue
from tests.conftest import PROJECT
from tests.docs.blocks import PAGES
from tools.docs.markdown import code_spans, section_rows
from tools.docs.papers import verdicts
from tools.docs.reference import documented, documents

DOCS = PROJECT / "docs"
LARGEST_DOCS = 8_000_000  # bytes
LARGEST_PICTURE = 500_000  # bytes
WIDEST_PICTURE = 3000  # pixels
LONGEST_README = 150  # lines
HOOKS = 19  # of OrderedLearning
LEAST_WORDS = 4  # of a picture's alternative text
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)[^)]*\)")


def rows_of(page: str) -> set[str]:
    """The names in code in the first cells of a page's tables."""
    text = (DOCS / page).read_text()
    cells = re.findall(r"^\| *([^|]*)\|", text, re.MULTILINE)
    return {name for cell in cells for name in code_spans(cell)}


def subcommands(command: click.Command, path: str) -> Iterator[str]:
    """The words that call each command that is no group."""
    if not isinstance(command, click.Group):
        yield path
        return
    for name, part in command.commands.items():
        yield from subcommands(part, f"{path} {name}")


def test_every_metric_of_ordered_learning_has_a_test_here():
    """The page for its users names tests that exist, for each of its hooks."""
    page = (DOCS / "guides" / "from" / "ordered-learning.md").read_text()
    rows = section_rows(page, "Metrics")
    hooks = {code_spans(row["hook"])[0] for row in rows}
    assert len(hooks) == HOOKS and hooks <= {measure.name for measure in MEASURES}
    source = (PROJECT / "tests" / "engine" / "test_instruments_directly.py").read_text()
    for row in rows:
        if row["here"] != "none":
            (name,) = code_spans(row["test"])
            assert f"def {name}(" in source


def test_every_test_that_is_named_exists():
    """docs/design/promises.md names the tests of each promise as `path::name`."""
    text = "".join(page.read_text() for page in PAGES)
    named = set(re.findall(r"\b(tests/[\w/]+\.py)::(\w+)", text))
    assert len(named) > 50
    missing = [
        f"{path}::{name}"
        for path, name in sorted(named)
        if not (PROJECT / path).exists() or f"def {name}(" not in (PROJECT / path).read_text()
    ]
    assert missing == []


def test_every_command_has_its_entry():
    text = (DOCS / "reference" / "commands.md").read_text()
    headings = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert {*subcommands(grok, "grok")} <= headings
    scripts = {f"analysis/{p.name}" for p in (PROJECT / "analysis").glob("*.py")}
    programs = {s for s in scripts if "__main__" in (PROJECT / s).read_text()}
    assert len(programs) > 20 and programs <= headings


def test_every_shared_key_has_its_entry():
    shared = {"seed", *load(experiment_file("levi")).configurations[0]()}
    assert shared <= rows_of("reference/keys.md")


@pytest.mark.parametrize("paper", experiment_names())
def test_every_key_and_claim_of_a_paper_has_its_entry(paper):
    experiment = load(experiment_file(paper))
    entries = rows_of(f"papers/{paper}.md")
    shared = experiment.configurations[0]()
    assert {*experiment.defaults()} - {*shared} <= entries
    assert {claim.id for claim in experiment.claims} <= entries


def test_every_instrument_has_its_entry():
    rows = section_rows((DOCS / "reference" / "instruments.md").read_text(), "Instruments")
    for column in ("what it measures", "its metrics"):
        entries = [code_spans(row["instrument"])[0] for row in rows if column in row]
        assert entries == [measure.name for measure in MEASURES], column


def test_every_claim_has_its_verdict():
    """A claim that is new since the last replication is "not run" until the next."""
    ids = {experiment.path: {c.id for c in experiment.claims} for experiment in experiments()}
    assert {name: {*paper["claims"]} for name, paper in verdicts().items()} == ids


SMALL_SWEEP = """
program: experiments/liu_toy.py
method: grid
parameters:
  seed: {values: [0, 1]}
  p: {value: 5}
  train_steps: {value: 2}
"""
PRIVATE = {"chunkSize", "md5", "contentType"}  # of GridFS


def test_every_field_of_stored_documents_has_its_entry(home, tmp_path):
    """File formats are a public interface; the fields of a sweep's documents are in the reference."""
    path = tmp_path / "small.yaml"
    path.write_text(SMALL_SWEEP)
    store = connect()
    with SweepProgress(1, 1) as progress:
        LocalSweep.begin(files.read(path), store, None, None).run(progress)
    queue = SweepQueue(store)
    sweep = queue.create(files.read(path).config)
    queue.heartbeat(queue.add_agent(sweep, "node-1"), [])
    for collection, model in {
        "runs": archive_schema.Run,
        "metrics": archive_schema.Metric,
        "sweeps": archive_schema.Sweep,
        "sweep_points": archive_schema.SweepPoint,
        "fs.files": archive_schema.File,
    }.items():
        stored = {key for document in store.database[collection].find() for key in document}
        entries = {code_spans(row.split("|")[1])[0] for row in documents(model).splitlines()[2:]}
        assert len(stored) >= 4
        assert stored - PRIVATE <= entries, collection


# The named config and the updates of a small run of each paper.
TINY = {"p": 11}
RUNS: dict[str, tuple[list[str], dict]] = {
    **{name: (["cpu"], {}) for name in experiment_names()},
    "capacity": ([], {"p": 11, "batch_size": 32}),
    "circuit_efficiency": ([], TINY),
    "doshi": (["noisy"], {**TINY, "noisy_answers": 10}),
    "grokfast": (["cpu"], {**TINY, "batch_size": 32}),
    "minegishi": (["cpu"], {**TINY, "eval_steps": 1}),
    "mlp": ([], {**TINY, "batch_size": 32, "width": 16}),
    "muon": ([], {"p": 7}),
    "nanda": (["cpu"], TINY),
    "numerical_stability": (["cpu"], TINY),
    "ordering": (["cpu"], {**TINY, "train_count": 64, "test_count": 32, "batch_size": 16}),
    "power": (["cpu"], {**TINY, "batch_size": 32}),
}
LOG_METRICS_AT_END = ("doshi", "minegishi", "nanda", "wang")


def logged_metrics(paper: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The metrics at step 0 of a small run and, where there are any, those at its end."""
    experiment = load(experiment_file(paper))
    named, updates = RUNS[paper]
    problem = experiment.problem_of(experiment.full_config({**updates, "seed": 0}, named))
    short = replace(problem, log_steps=[0, 1], train_steps=1, stop=None)
    events = train([short], compiled=False)
    names = {*next(event for event in events if isinstance(event, Record)).metrics}
    if paper in LOG_METRICS_AT_END:
        monkeypatch.setattr(Recorder, "add", lambda self, name, *_: names.add(name))
        experiment.run(
            named_configs=named,
            config_updates={**updates, "seed": 0, "train_steps": 1},
            options={"--unobserved": True},
        )
    return names


@pytest.mark.parametrize("paper", experiment_names())
def test_every_metric_of_a_paper_has_its_entry(paper, monkeypatch):
    """In an entry's name, words in capital letters stand for anything."""
    page = (DOCS / "papers" / f"{paper}.md").read_text()
    entries = [name for name, _ in documented(page, "metric")]
    patterns = [re.sub(r"[A-Z]+", ".+", re.escape(entry)) for entry in entries]
    metrics = logged_metrics(paper, monkeypatch)
    assert len(metrics) >= 4
    missing = {name for name in metrics if not any(re.fullmatch(p, name) for p in patterns)}
    assert not missing


def test_explanations_stand_alone():
    """The reference sorts names, so that "the same" would refer to another row than on the page."""
    for page in sorted((DOCS / "papers").glob("*.md")):
        for column in ("metric", "entry"):
            for name, meaning in documented(page.read_text(), column):
                assert not re.match(r"the same\b", meaning), (page.name, name)


PARTS = [
    "How to run",
    "Figures",
    "Metrics",
    "What differs from the paper",
    "Claims",
    "Configuration",
]


@pytest.mark.parametrize("paper", experiment_names())
def test_the_page_of_a_paper_has_all_parts(paper):
    """docs/papers/index.md promises them; readers find the same part at the same place."""
    text = (DOCS / "papers" / f"{paper}.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert [heading for heading in headings if heading in PARTS] == PARTS
    tables = ["claims", "keys"] if load(experiment_file(paper)).claims else ["keys"]
    assert re.findall(r"^<!-- generated: ([\w-]+) -->$", text, re.MULTILINE) == tables
    run = text.split("## How to run")[1].split("\n## ")[0]
    assert "```bash" in run
    assert re.search(r"\bmin(utes)?\b|\bseconds\b|\d s\b|\bhours?\b", run), "no time is given"


# -- pictures and sizes --------------------------------------------------------------------------


def test_every_picture_is_shown_with_an_alternative_text():
    shown, short = set(), []
    for page in PAGES:
        for text, target in IMAGE.findall(page.read_text()):
            shown.add((page.parent / target).resolve())
            if len(text.split()) < LEAST_WORDS:
                short.append(f"{page.relative_to(PROJECT)}: ![{text}]({target})")
    pictures = {path for path in (DOCS / "images").rglob("*") if path.is_file()}
    assert not short
    assert {str(path.relative_to(DOCS)) for path in pictures - shown} == set()
    assert not [path for path in shown if not path.exists()]


def test_every_picture_has_the_command_that_draws_it():
    """In one of the sections that show it there is a script of analysis, or `grok report`.

    Pictures named board_* show the page of `grok board`.
    """
    shown: dict[Path, bool] = {}
    for page in PAGES:
        for section in re.split(r"^(?=#{1,3} )", page.read_text(), flags=re.MULTILINE):
            has_command = re.search(r"analysis/\w+\.py|grok report", section) is not None
            for _, target in IMAGE.findall(section):
                picture = (page.parent / target).resolve()
                shown[picture] = shown.get(picture, False) or has_command
    assert len(shown) > 40
    without = [picture.name for picture, has_command in shown.items() if not has_command]
    assert [name for name in without if not name.startswith("board_")] == []


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the site and code hosts make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_links_lead_to_files_and_headings(page):
    """`mkdocs build --strict` finds dead links too, but not those of README.md."""
    dead = []
    for target in re.findall(r"(?<!`)\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            dead.append(target)
    assert dead == []


def test_docs_are_small():
    sizes = {path: path.stat().st_size for path in DOCS.rglob("*") if path.is_file()}
    assert sum(sizes.values()) < LARGEST_DOCS


def test_pictures_are_sized_for_a_page():
    """A PNG file has its width in the bytes 16 to 19."""
    pictures = {path: path.read_bytes() for path in (DOCS / "images").rglob("*.png")}
    widths = {path.name: int.from_bytes(data[16:20], "big") for path, data in pictures.items()}
    assert [name for name, width in widths.items() if width > WIDEST_PICTURE] == []
    assert [path.name for path, data in pictures.items() if len(data) > LARGEST_PICTURE] == []


def test_readme_is_short():
    assert len((PROJECT / "README.md").read_text().splitlines()) <= LONGEST_README
