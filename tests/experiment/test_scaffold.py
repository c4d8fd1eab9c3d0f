"""A new paper's files run as they are written, and no file is overwritten.

All of it happens in a temporary folder: nothing is left in the checkout, even if a test is killed.
"""

import os
import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from grok.cli import main
from grok.engine.instruments import BY_NAME, GROUPS
from grok.errors import UserError
from grok.experiment import scaffold
from grok.experiment.experiment import load
from tests.conftest import PROJECT

MEASURES = {
    "transformer": ["norms", "fourier", "path_length", "variance"],  # more than fit in a line
    "mlp": ["norms"],
}
DESCRIPTIONS = {
    "transformer": "A line that is longer than one of a docstring. " * 3,
    "mlp": "Short",
}
FOLDERS = ("experiments", "sweeps", "tests/papers")


def make_folders(root):
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
    return root


@pytest.fixture
def root(tmp_path):
    return make_folders(tmp_path)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A copy of what the tests of papers need, and the files of one new paper for each model."""
    root = make_folders(tmp_path_factory.mktemp("project"))
    for name in ("tests/__init__.py", "tests/conftest.py", "tests/helpers.py", "ruff.toml"):
        shutil.copy(PROJECT / name, root / name)
    for model, measures in MEASURES.items():
        scaffold.write(root, f"my_{model}", DESCRIPTIONS[model], "x_minus_y", model, measures)
    return root


def run(root, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def test_the_formatter_and_the_linter_accept_what_is_written(written):
    ours = f"src = ['.', '{PROJECT}']"  # where the modules are that are not third-party ones
    for command in (["format", "--check", "--diff"], ["check"]):
        done = run(written, "-m", "ruff", *command, "--no-cache", "--config", ours, *FOLDERS)
        assert done.returncode == 0, done.stdout
    paths = [path for path in written.rglob("*my_*") if path.suffix in (".py", ".yaml")]
    assert len(paths) == 6
    assert max(len(line) for path in paths for line in path.read_text().splitlines()) <= 100


# Each process imports torch and traces a model, so each model is run in one of these two tests.
def test_a_written_experiment_runs(written, home):
    settings = ("p=7", "train_steps=20", "seed=1")
    done = run(written, "experiments/my_transformer.py", "with", "cpu", *settings)
    assert done.returncode == 0, done.stderr
    assert "steps_to_train" in done.stdout


def test_a_written_test_passes(written):
    options = ("-q", "-p", "no:cacheprovider", "--import-mode=importlib")
    done = run(written, "-m", "pytest", *options, "tests/papers/test_my_mlp.py")
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout


@pytest.mark.parametrize("model", scaffold.MODELS)
def test_the_example_claim_has_a_sweep_file(written, model):
    """A claim is checked on sweeps/NAME_cpu.yaml, unless it names another file."""
    experiment = load(written / "experiments" / f"my_{model}.py")
    sweeps = [written / "sweeps" / f"{claim.sweep}.yaml" for claim in experiment.claims]
    assert len(sweeps) == 1
    assert sweeps[0].read_text().startswith(f"# {DESCRIPTIONS[model][:40]}")


@pytest.mark.parametrize("model", scaffold.MODELS)
def test_every_key_has_a_type_and_a_comment(written, model):
    experiment = load(written / "experiments" / f"my_{model}.py")
    assert set(experiment.types) == {*experiment.defaults(), "seed"}
    for scope in experiment.configurations:
        assert set(scope.types) <= set(scope._var_docs)
    assert all(scope.__doc__ for scope in experiment.named_configs.values())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "My-Paper"}, "small letters"),
        ({"name": "a" * 300}, "name aaaaaaaaaaaaaaaaaaaa...: expected at most 100 characters"),
        ({"name": "class"}, "name 'class': it is a keyword of Python"),
        ({"name": "torch"}, "hide the Python module"),
        ({"name": "json"}, "hide the Python module"),
        ({"operation": "__import__('os')"}, "operation"),
        ({"measures": ["norm"]}, "grok measures"),
        ({"description": 'quoted """'}, "without quotes"),
    ],
)
def test_bad_values_write_nothing(root, changes, line):
    values = {
        "name": "one",
        "description": "x",
        "operation": "x_plus_y",
        "model": "mlp",
        "measures": [],
    }
    with pytest.raises(UserError, match=line):
        scaffold.write(root, **{**values, **changes})
    assert not list(root.rglob("*.*"))


def test_files_that_cannot_be_written_leave_none(root):
    """The experiment was there then, and the next attempt said that it exists already."""
    values = ("one", "x", "x_plus_y", "mlp", [])
    (root / "tests" / "papers").rmdir()
    (root / "tests").rmdir()
    (root / "tests").touch()
    with pytest.raises(UserError, match=r"^cannot write .*tests/test_one\.py: "):
        scaffold.write(root, *values)
    assert not list(root.rglob("*one*"))
    (root / "tests").unlink()
    assert len(scaffold.write(root, *values)) == 3


@pytest.mark.parametrize("model", scaffold.MODELS)
def test_measures_run_or_are_refused(tmp_path, model):
    """A paper whose measures its runs cannot take would be refused at its first run, and so would
    its test; of a group without any such measure, nothing would be logged."""
    refused = set()
    for name in {**BY_NAME, **GROUPS}:
        root = make_folders(tmp_path / name)
        try:
            scaffold.write(root, "one", "x", "x_plus_y", model, [name])
        except UserError as error:
            refused.add(name)
            assert str(error).startswith(f"measures=['{name}']: expected measures that this run")
            assert " needs " in str(error)
            assert not list(root.rglob("*.*"))
            continue
        experiment = load(root / "experiments" / "one.py")
        for updates in ({"p": 7, "train_steps": 20}, {"preset": "cpu"}, {"preset": "paper"}):
            problem = experiment.problem_of(experiment.full_config({**updates, "device": "cpu"}))
            assert problem.measures.measures
    of_every_model = {"gradient_projection", "reference"}
    of_every_model |= {"counterfactual", "counterfactual_validator", "order"}
    of_tokens = {"fourier", "attention", "token_gradient", "phases", "addition_circuits"}
    assert refused == of_every_model | (of_tokens if model == "mlp" else set())


def test_a_measure_of_another_task_is_refused(root, monkeypatch):
    """What a measure needs of the task is checked, too; the command says so in one line."""
    monkeypatch.setattr("grok.paths.PROJECT", root)
    options = ["--operation", "x_minus_y", "--model", "transformer"]
    options += ["--measures", "addition_circuits"]
    result = CliRunner().invoke(main, ["new", "one", "--says", "x", *options])
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "addition_circuits needs the addition of two numbers" in result.output
    assert not list(root.rglob("*.*"))


def test_existing_files_stay(root):
    (root / "sweeps" / "mine_cpu.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"sweeps/mine_cpu.yaml exists"):
        scaffold.write(root, "mine", "x", "x_plus_y", "mlp", [])
    assert [path.name for path in root.rglob("*.*")] == ["mine_cpu.yaml"]


def test_it_asks_for_what_no_flag_says(root, monkeypatch):
    monkeypatch.setattr("grok.paths.PROJECT", root)
    result = CliRunner().invoke(main, ["new", "asked"], input="Sums\n\nmlp\nnorms\n")
    assert result.exit_code == 0, result.output
    text = (root / "experiments" / "asked.py").read_text()
    assert 'measures: str | Texts = ["norms"]' in text
    assert not (PROJECT / "experiments" / "asked.py").exists()


@pytest.mark.parametrize(
    ("given", "missing"),
    [("", "--says"), ("Sums\n", "--operation"), ("Sums\n\nmlp\n", "--measures")],
)
def test_it_says_what_is_missing_where_nobody_answers(root, monkeypatch, given, missing):
    """A script without a terminal got "Aborted!" and exit code 1, and nothing of what to give."""
    monkeypatch.setattr("grok.paths.PROJECT", root)
    result = CliRunner().invoke(main, ["new", "asked"], input=given)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {missing} is missing: expected the option")
    assert result.stderr.count("\n") == 1
    assert not list(root.rglob("*.*"))
