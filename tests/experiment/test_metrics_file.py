"""A run's metrics as a file, while it trains and from the store."""

import csv
import json

import pytest
from click.testing import CliRunner

from grok.cli import main as grok
from grok.engine.events import Record
from grok.errors import UserError
from grok.experiment import metrics_file
from grok.experiment.experiment import load
from grok.experiment.repeat import logged_values
from tests.conftest import PROJECT
from tests.helpers import SMALL_ORDERING

RECORDS = [
    Record(0, 0, {"b": 1.0, "a": 0.1}, {}, ()),
    Record(
        0, 4, {"b": float("nan")}, {}, ((2, {"m/x": 1.5}), (2, {"m/y": 2.0}), (4, {"m/x": 3.0}))
    ),
]
RUN = {
    **SMALL_ORDERING,
    "epochs": 3,
    "seed": 3,
    "measures": ["norms", "hessian"],
    "measure_options": {"hessian": {"every": 2, "burst": 2}},
}


def test_csv_has_a_line_for_each_value(tmp_path):
    path = tmp_path / "x.csv"
    assert list(metrics_file.written(RECORDS, path)) == RECORDS
    lines = path.read_text().splitlines()
    assert lines == [
        "step,metric,value",
        "0,a,0.1",
        "0,b,1.0",
        "2,m/x,1.5",
        "2,m/y,2.0",
        "4,b,nan",
        "4,m/x,3.0",
    ]


def test_json_lines_are_objects_of_standard_json(tmp_path):
    path = tmp_path / "x.jsonl"
    list(metrics_file.written(RECORDS, path))

    def refuse(constant):
        raise AssertionError(constant)

    lines = [json.loads(x, parse_constant=refuse) for x in path.read_text().splitlines()]
    assert lines == [
        {"step": 0, "a": 0.1, "b": 1.0},
        {"step": 2, "m/x": 1.5, "m/y": 2.0},
        {"step": 4, "b": None, "m/x": 3.0},
    ]


def test_values_are_there_before_the_next_step(tmp_path):
    path = tmp_path / "x.csv"
    events = metrics_file.written(RECORDS, path)
    next(events)
    assert path.read_text().endswith("0,b,1.0\n")
    events.close()


@pytest.mark.parametrize("suffix", metrics_file.SUFFIXES)
def test_the_file_of_a_stored_run_is_the_one_that_was_written(suffix, store, tmp_path):
    """Byte for byte; and its values are those of the store."""
    paper = load(PROJECT / "experiments" / "ordering.py")
    path, again = tmp_path / f"live{suffix}", tmp_path / f"stored{suffix}"
    words = [f"{key}={value}" for key, value in RUN.items()]
    run = paper.run_commandline(["ordering", "--metrics-file", str(path), "with", *words])
    done = CliRunner().invoke(grok, ["export", "metrics", str(run._id), str(again)])
    assert done.exit_code == 0, done.output
    assert again.read_bytes() == path.read_bytes()
    values = logged_values(store, run._id)
    if suffix == ".csv":
        rows = list(csv.DictReader(path.open()))
        assert len(rows) == sum(map(len, values.values()))
        assert all(values[r["metric"]][int(r["step"])] == float(r["value"]) for r in rows)
        assert any(r["metric"].startswith("hessian/") for r in rows)
    done = CliRunner().invoke(grok, ["export", "metrics", str(run._id), str(again)])
    assert done.exit_code == 2 and "exists already" in done.output


def test_another_suffix_is_refused_before_anything_runs(tmp_path):
    with pytest.raises(UserError, match=r"expected a name that ends in \.csv or \.jsonl"):
        metrics_file.check_name(tmp_path / "x.txt")


def test_a_folder_that_is_not_there_is_refused_before_anything_runs(tmp_path):
    """A run was recorded as failed, after it had been prepared."""
    with pytest.raises(UserError, match=r"there is no folder .*nowhere$"):
        metrics_file.check_name(tmp_path / "nowhere" / "x.csv")
