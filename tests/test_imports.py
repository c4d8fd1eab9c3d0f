"""Who may import whom (README, "Repository layout")."""

import ast
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
BOTTOM = {"grok.tasks", "grok.models", "grok.measures"}
BASE = {
    "grok.errors",
    "grok.paths",
    "grok.phases",
    "grok.randomness",
    "grok.interrupts",
    "grok.tensors",
    "grok.values",
}
MAY_IMPORT = {
    **{module: set() for module in BASE},
    "grok.tasks": {"grok.tasks", "grok.tensors", "grok.errors"},
    "grok.models": {"grok.models", "grok.randomness", "grok.tensors"},
    "grok.measures": {"grok.measures", "grok.tensors"},
    "grok.theory": {"grok.theory"},
    "grok.objectives": BOTTOM | {"grok.objectives", "grok.randomness", "grok.tensors"},
}
MAY_IMPORT["grok.engine"] = BASE | MAY_IMPORT["grok.objectives"] | {"grok.engine"}
MAY_IMPORT["grok.store"] = BASE | {"grok.store"}
MAY_IMPORT["grok.experiment"] = MAY_IMPORT["grok.engine"] | {"grok.store", "grok.experiment"}
MAY_IMPORT["grok.claims"] = MAY_IMPORT["grok.experiment"] | {"grok.claims"}
MAY_IMPORT["grok.reports"] = MAY_IMPORT["grok.claims"] | {"grok.reports"}
MAY_IMPORT["grok.sweep"] = MAY_IMPORT["grok.claims"] | {"grok.sweep"}
MAY_IMPORT["grok.cli"] = MAY_IMPORT["grok.reports"] | {"grok.sweep", "grok.cli"}
KNOW_SACRED = {
    "grok.store",
    "grok.experiment",
    "grok.claims",
    "grok.sweep",
    "grok.reports",
    "grok.cli",
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
def test_only_the_upper_packages_know_sacred_mongodb_and_wandb(path):
    here = ".".join(path.relative_to(PROJECT).with_suffix("").parts)
    if here.startswith("experiments") or room(here) in set(MAY_IMPORT) - KNOW_SACRED:
        assert not {name.split(".")[0] for name in imports(path)} & KEEPERS


def test_sweeps_is_no_package_so_it_does_not_hide_the_search_package():
    assert not list((PROJECT / "sweeps").rglob("*.py"))
