"""What can be trained and is hardly ever meant is said in one line, once."""

from types import SimpleNamespace

import psutil
import pytest

from grok.experiment import advice
from grok.experiment.experiment import load
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def nothing_said_before():
    advice._warn_once.cache_clear()


def test_coupled_decay_that_collapses_the_network(liu_toy, capsys):
    """Adam adds the decay to the gradient: at 1.0 the network becomes the mean predictor."""
    for optimizer, decay in (("adam", 1.0), ("adam", 1.0), ("adam", 0.01), ("adamw", 1.0)):
        updates = {"optimizer": optimizer, "decoder_weight_decay": decay, "seed": 0}
        liu_toy.problem_of(liu_toy.full_config(updates))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: weight decay 1 with optimizer=adam") and "adamw" in line


def test_a_batch_with_more_rows_than_the_train_set(capsys):
    """Drawn with replacement it trains, on repeated rows; elsewhere it is refused."""
    mlp = load(PROJECT / "experiments" / "mlp.py")
    for size in (12, 13, 13):
        mlp.problem_of(mlp.full_config({"p": 5, "train_count": 12, "batch_size": size, "seed": 0}))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: batch_size=13 draws from 12 train rows with replacement")


PYTHON = "/x/bin/python3"
AGENTS = (
    [PYTHON, "/x/bin/wandb", "agent", "grok/x"],
    [PYTHON, "/x/bin/grok", "sweep", "agent", "grok/x"],
    [PYTHON, "-m", "grok.cli", "sweep", "agent", "grok/x"],
)
OTHERS = ([PYTHON, "/x/bin/grok", "sweep", "run", "agent"], ["vim", "wandb", "agents.md"], [])


@pytest.mark.parametrize(("cores", "warned"), [({0, 1}, True), ({0, 1, 2}, False)])
def test_more_agents_than_cores(monkeypatch, capsys, cores, warned):
    """Only agents on this process's own cores count: a Slurm node has those of other users."""
    elsewhere = SimpleNamespace(info={"cmdline": AGENTS[0], "cpu_affinity": [7]})
    here = [
        SimpleNamespace(info={"cmdline": words, "cpu_affinity": [0, 1, 2]})
        for words in (*AGENTS, *OTHERS)
    ]
    monkeypatch.setattr(psutil, "process_iter", lambda _: [elsewhere, *here])
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _: sorted(cores))
    advice.warn_of_crowded_cores()
    said = capsys.readouterr().err
    assert said.startswith("warning: 3 sweep agents share 2 cores") == warned
    assert said.count("\n") == warned
