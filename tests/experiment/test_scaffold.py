"""A new paper's files run as they are written, and nothing is overwritten."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from grok.cli import main
from grok.errors import UserError
from grok.experiment import scaffold
from tests.conftest import PROJECT


@pytest.fixture
def root(tmp_path):
    for folder in ("experiments", "sweeps", "tests/papers"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("model", scaffold.MODELS)
def test_what_is_written_runs(root, model, home):
    measures = ["norms", "fourier"] if model == "transformer" else ["norms"]
    paths = scaffold.write(root, "my_paper", "Of numbers", "x_minus_y", model, measures)
    for path in (paths[0], paths[2]):
        name = path.relative_to(root)
        lint = [sys.executable, "-m", "ruff", "check", "--stdin-filename", name, "-"]
        text = path.read_text()
        done = subprocess.run(lint, cwd=PROJECT, input=text, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    assert len(paths[0].read_text().splitlines()) <= 150
    command = [sys.executable, paths[0], "with", "cpu", "p=7", "train_steps=20", "seed=1"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "steps_to_train" in done.stdout and "Of numbers." in paths[1].read_text()
    compile(paths[2].read_text(), paths[2], "exec")


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"name": "My-Paper"}, "small letters"),
        ({"name": "class"}, "small letters"),
        ({"operation": "__import__('os')"}, "operation"),
        ({"measures": ["norm"]}, "grok measures"),
        ({"says": 'quoted """'}, "without quotes"),
    ],
)
def test_bad_answers_write_nothing(root, changes, line):
    answers = {"name": "one", "says": "x", "operation": "x_plus_y", "model": "mlp", "measures": []}
    with pytest.raises(UserError, match=line):
        scaffold.write(root, **{**answers, **changes})
    assert not list(root.rglob("*.*"))


def test_existing_files_stay(root):
    (root / "sweeps" / "mine.yaml").write_text("mine")
    with pytest.raises(UserError, match=r"sweeps/mine.yaml exists"):
        scaffold.write(root, "mine", "x", "x_plus_y", "mlp", [])
    assert [path.name for path in root.rglob("*.*")] == ["mine.yaml"]


def test_it_asks_for_what_no_flag_says(root, monkeypatch):
    monkeypatch.setattr("grok.experiment.experiment.PROJECT", root)
    result = CliRunner().invoke(main, ["new", "asked"], input="Sums\n\nmlp\nnorms\n")
    assert result.exit_code == 0, result.output
    assert 'measures = ["norms"]' in (root / "experiments" / "asked.py").read_text().replace(
        "'", '"'
    )
