"""Who may import whom (see the README's plan of the house)."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
BOTTOM = {"grok.tasks", "grok.models", "grok.measures"}
MAY_IMPORT = {
    "grok.tasks": {"grok.tasks"},
    "grok.models": {"grok.models"},
    "grok.measures": {"grok.measures"},
    "grok.theory": {"grok.theory"},
    "grok.phases": set(),
    "grok.training": BOTTOM | {"grok.training"},
    "grok.lab": BOTTOM | {"grok.training", "grok.lab", "grok.phases"},
    "grok.sweep": BOTTOM | {"grok.training", "grok.lab", "grok.phases", "grok.sweep"},
}
KEEPERS = {"sacred", "pymongo", "gridfs", "bson", "incense", "wandb", "sweeps"}
FILES = [
    path
    for folder in ("grok", "experiments", "analysis", "benchmarks")
    for path in sorted((PROJECT / folder).rglob("*.py"))
]


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(name: str) -> str:
    return ".".join(name.split(".")[:2])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_imports_go_downward(path):
    here = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    names = imports(path)
    if room(here) in MAY_IMPORT:
        ours = {room(name) for name in names if name.startswith("grok.")}
        assert ours <= MAY_IMPORT[room(here)]
        assert not any(name.split(".")[0] in ("experiments", "analysis") for name in names)
    if here.startswith("analysis"):
        assert not any(name.split(".")[0] == "experiments" for name in names)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_only_lab_and_sweep_know_the_keepers_of_runs(path):
    here = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    if here.startswith("experiments") or room(here) in set(MAY_IMPORT) - {"grok.lab", "grok.sweep"}:
        assert not {name.split(".")[0] for name in imports(path)} & KEEPERS


def test_sweeps_is_no_package_so_it_does_not_hide_the_search_package():
    assert not list((PROJECT / "sweeps").rglob("*.py"))


LIBRARY = {"query.py"}  # of analysis/: what the scripts stand on
SCRIPTS = [p for p in (PROJECT / "analysis").glob("*.py") if p.name not in LIBRARY]


@pytest.mark.parametrize(
    "path", sorted([*(PROJECT / "experiments").glob("*.py"), *SCRIPTS]), ids=lambda p: p.stem
)
def test_a_paper_or_a_script_is_one_file_of_at_most_150_lines(path):
    assert len(path.read_text().splitlines()) <= 150
