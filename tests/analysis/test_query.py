"""Queries and figures on real runs in a real store."""

import json
import xml.etree.ElementTree as xml

import numpy as np
import pandas as pd
import pytest

from analysis import phase_diagram
from grok.analysis import query
from grok.errors import UserError
from grok.reports.history import training_history
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress
from tests.analysis.scripts import call_script, run_script
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def run(store):
    from grok.experiment.experiment import load

    experiment = load(PROJECT / "experiments" / "liu_toy.py")
    return experiment.run(config_updates={"train_steps": 40, "p": 6, "seed": 11})


def test_frames_hold_what_was_logged(store, run):
    row = query.run(store, run._id)
    assert row["config.p"] == 6 and row["result.phase"] == run.result["phase"]
    curves = query.curves(store, run._id)
    assert curves.index[0] == 0 and curves.index[-1] == 40
    assert curves["train_loss"].iloc[-1] == run.result["train_loss"]
    arrays = query.arrays(store, run._id)
    assert arrays["representation"].shape == (len(curves), 6, 1)
    assert arrays["data_train"].sum() == 16  # 0.8 of 21 pairs


def test_training_history_has_equal_lists(store, run):
    history = json.loads(json.dumps(training_history(store.database, run._id)))
    summary = history.pop("grokking_summary")
    assert summary["train_acc_step"] == run.result["steps_to_train"]
    assert summary["rqi_step"] == run.result["steps_to_rqi"]
    assert set(history) == {"epoch", "train_loss", "train_acc", "test_loss", "test_acc", "rqi"}
    assert len({len(values) for values in history.values()}) == 1
    assert history["epoch"][-1] == 40 and 0 <= history["train_acc"][-1] <= 1
    with pytest.raises(UserError, match="no run 99999"):
        training_history(store.database, 99999)


def test_scripts_write_png_and_svg_and_print_where(store, run, tmp_path):
    done = run_script("liu_run", str(run._id), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    paths = [tmp_path / line for line in done.stdout.splitlines()]
    assert len(paths) == 3
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert xml.parse(path.with_suffix(".svg")).getroot().tag.endswith("svg")
    shown = call_script("show", cwd=tmp_path)
    assert str(run._id) in shown.stdout and run.result["phase"] in shown.stdout


@pytest.mark.parametrize(
    ("name", "arguments"), [("phase_diagram", ["nothing"]), ("liu_figures", [])]
)
def test_nothing_to_plot_is_one_line_and_exit_2(store, name, arguments, tmp_path):
    done = call_script(name, *arguments, cwd=tmp_path)
    assert done.exit_code == 2
    assert done.stderr.startswith("error: no ") and done.stderr.count("\n") == 1


def test_an_error_is_one_line_and_exit_2_in_a_process_of_its_own(store, tmp_path):
    done = run_script("liu_run", "99999", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no ") and done.stderr.count("\n") == 1


def test_phase_diagram_of_a_sweep_and_its_agreement(store, tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(
        "program: experiments/liu_toy.py\nmethod: grid\n"
        "command: ['${program}', with, authors_seed58, train_steps=30]\n"
        "parameters: {decoder_lr: {values: [0.001, 0.01]}, decoder_weight_decay: {values: [0, 1]}}\n"
    )
    sweep = LocalSweep.begin(files.read(path), store, None, None)
    with SweepProgress(1, 4) as progress:
        sweep.run(progress)
    _, runs = query.sweep(store, "small")
    x, y = phase_diagram.axis_keys(runs)
    assert (x, y) == ("config.decoder_lr", "config.decoder_weight_decay")
    table = phase_diagram.grid_cells(runs, x, y, 1000)
    assert set(table["phase"]) <= {"confusion", "memorization", "comprehension"}
    published = pd.DataFrame(
        {
            "x": table.x,
            "y": table.y,
            "train": [5.0, 5, 5, np.nan],
            "test": [10.0, 5000, np.nan, np.nan],
        }
    )
    published = phase_diagram.with_phases(published, 1000)
    assert published["phase"].tolist() == ["comprehension", "grokking", "memorization", "confusion"]
    assert phase_diagram.describe_agreement(table, table).startswith("100.0% of 4 cells")
    done = call_script("phase_diagram", sweep.id, cwd=tmp_path)
    assert done.exit_code == 0 and "seed 58:" in done.stdout


def test_a_store_that_names_a_collection_is_refused():
    """The rest of the argument was dropped: the table was that of all runs of the database."""
    for argument in ("sacred.mine", "localhost:27017:sacred.mine:3", "sacred!5"):
        with pytest.raises(UserError, match="expected no collection, id or priority"):
            query.connect(argument)
