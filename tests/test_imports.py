"""Who may import whom (README, "Repository layout"): downward only, without circles."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
# From the bottom up. A package may import those in the layers below its own, and itself.
LAYERS = (
    ("printable",),
    ("errors",),
    (
        "http_server",
        "interrupts",
        "paths",
        "phases",
        "randomness",
        "tensors",
        "theory",
        "values",
        "wandb_servers",
    ),
    ("console", "limited_yaml"),
    ("tasks", "models", "measures"),
    ("objectives",),
    ("store", "engine"),
    ("experiment",),
    ("claims",),
    ("sweep", "reports"),
    ("cli",),
    ("analysis",),
)
# Modules that stand alone: they import nothing of ours, but for the errors that they raise.
ALONE = LAYERS[2]
# Packages that know Sacred, MongoDB and W&B. A paper's file knows none of them.
KNOW_THE_STORE = ("store", "experiment", "claims", "sweep", "reports", "cli", "analysis")
STORE_LIBRARIES = {"sacred", "pymongo", "gridfs", "bson", "incense", "wandb", "sweeps"}
HEAVY = STORE_LIBRARIES | {"torch", "numpy", "pandas", "scipy", "matplotlib", "plotly", "rich"}
FILES = [
    path
    for folder in ("grok", "experiments", "analysis", "benchmarks")
    for path in sorted((PROJECT / folder).rglob("*.py"))
    if "new_project" not in path.parts  # what `grok init` copies
]
LIBRARY = [path for path in FILES if path.is_relative_to(PROJECT / "grok")]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(path) for path in LIBRARY}


def imports(tree: ast.AST) -> set[str]:
    """Names of the imported modules; `from package import module` names the module."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                names.add(name if name in MODULES else str(node.module))
    return names


def imports_of(path: Path) -> set[str]:
    return imports(ast.parse(path.read_text()))


def package_of(module: str) -> str:
    """The package, or module, of grok that a module belongs to; "" for grok itself."""
    return module.split(".")[1] if "." in module else ""


def layer_of(package: str) -> int:
    return next(i for i, packages in enumerate(LAYERS) if package in packages)


@pytest.mark.parametrize("path", LIBRARY, ids=module_of)
def test_imports_of_the_library_go_downward(path):
    """A lower package never needs a higher one, nor one beside it, so it can be read alone."""
    here = package_of(module_of(path))
    for module in imports_of(path):
        assert module.split(".")[0] not in ("experiments", "analysis", "benchmarks")
        there = package_of(module) if module.startswith("grok.") else here
        if there == here:
            continue
        assert layer_of(there) < layer_of(here), f"{here} imports {there}"
        assert here not in ALONE or there == "errors", f"{here} imports {there}"


def test_there_is_no_circle():
    """Type-only imports count: a circle is real to whoever reads the code."""
    graph = {module_of(path): imports_of(path) & MODULES for path in LIBRARY}
    graph = {module: names - {module} for module, names in graph.items()}
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_only_the_upper_packages_know_sacred_mongodb_and_wandb(path):
    """Models, training and papers can be tested and reused without a store."""
    module = module_of(path)
    is_lower = module.startswith("grok.") and package_of(module) not in KNOW_THE_STORE
    if is_lower or module.startswith("experiments"):
        assert not {name.split(".")[0] for name in imports_of(path)} & STORE_LIBRARIES


@pytest.mark.parametrize("path", (PROJECT / "grok" / "cli").glob("*.py"), ids=module_of)
def test_a_command_imports_what_it_needs_only_when_it_runs(path):
    """`grok --help` must not wait for torch: heavy imports stand inside the commands."""
    statements = ast.parse(path.read_text()).body
    top = [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
    names = imports(ast.Module(top, []))
    assert not {name.split(".")[0] for name in names} & HEAVY
    light = ("cli", "errors", "interrupts", "paths", "printable", "values")
    assert all(package_of(name) in light for name in names if name.startswith("grok."))


def test_analysis_reads_the_store_and_no_experiment():
    """Figures are made from stored runs alone, whatever has become of a paper's file."""
    for path in FILES:
        if module_of(path).startswith(("analysis", "grok.analysis")):
            assert not any(name.split(".")[0] == "experiments" for name in imports_of(path)), path


def test_sweeps_is_no_package():
    """It would hide W&B's search package of that name."""
    assert not list((PROJECT / "sweeps").rglob("*.py"))
