"""The scripts over selected runs: what they compute, and their errors on unusual runs."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy import stats

from analysis import convergence, correlation, export_table
from benchmarks import synthetic
from grok.analysis import groups, query, style
from grok.errors import UserError
from grok.paths import home
from tests.analysis.scripts import call_script

FIRST = 70_001
SCRIPTS = ("learning_curves", "compare", "convergence", "export_table")


@pytest.fixture(scope="module")
def made(store):
    """Runs 70001 to 70012: three learning rates, four seeds."""
    synthetic.fill(store.database, 12, steps=16, first=FIRST)
    for place in range(12):
        update = {"config.decoder_lr": 10.0 ** -(1 + place // 4), "config.seed": place % 4}
        store.database.runs.update_one({"_id": FIRST + place}, {"$set": update})
    yield store
    store.database.metrics.delete_many({"run_id": {"$gte": FIRST, "$lte": FIRST + 99}})
    store.database.runs.delete_many({"_id": {"$gte": FIRST, "$lte": FIRST + 99}})


def run_filter(low=1, high=12) -> str:
    return f"run={FIRST + low - 1}..{FIRST + high - 1}"


def grouped(store) -> tuple[pd.DataFrame, pd.DataFrame]:
    runs = groups.with_groups(query.selected_runs(store, [run_filter()]))
    return runs, groups.grouped_metrics(store, runs, ["test_accuracy"])


def test_runs_that_differ_in_the_seed_alone_are_one_group(made):
    runs, _ = grouped(made)
    assert runs.groupby("group").size().tolist() == [4, 4, 4]
    assert set(runs["group"]) == {"decoder_lr=0.1", "decoder_lr=0.01", "decoder_lr=0.001"}


def test_a_run_that_lacks_a_newer_config_key_stays_in_its_group(made):
    made.database.runs.update_one({"_id": FIRST}, {"$unset": {"config.stablemax": ""}})
    runs, _ = grouped(made)
    assert runs.groupby("group").size().tolist() == [4, 4, 4]


def test_statistics_are_those_of_the_curves(made):
    _, long = grouped(made)
    for run in (FIRST, FIRST + 5):
        curve = query.curves(made, run)["test_accuracy"]
        for kind in groups.STATISTICS:
            expected = curve.iloc[-1] if kind == "final" else getattr(curve, kind)()
            found = groups.run_statistics(long, kind).droplevel("group").loc[run, "test_accuracy"]
            assert np.isclose(found, expected)


def test_wide_is_long_pivoted(made):
    long = query.metrics(made, range(FIRST, FIRST + 5))
    wide = query.wide(long)
    expected = long.astype({"metric": str}).pivot(
        index=["run", "step"], columns="metric", values="value"
    )
    pd.testing.assert_frame_equal(wide, expected, check_column_type=False)


def test_a_run_that_ended_keeps_its_last_value_and_one_that_diverged_its_nan():
    rows = pd.DataFrame(
        {
            "run": [1, 1, 2, 2, 2, 3],
            "step": [0, 10, 0, 5, 20, 0],
            "value": [1, 2, 3, np.nan, 4, np.nan],
        }
    )
    found = groups.aligned_curves(rows)
    assert found.index.tolist() == [0, 5, 10, 20]
    np.testing.assert_array_equal(found[1], [1, 1, 2, 2])
    np.testing.assert_array_equal(found[2], [3, np.nan, np.nan, 4])
    np.testing.assert_array_equal(found[3], [np.nan] * 4)


def test_a_document_that_is_hardly_a_run_is_shown_too(made, tmp_path):
    made.database.runs.insert_one({"_id": FIRST + 70, "synthetic": True})
    try:
        done = call_script("show", f"run={FIRST + 70}", cwd=tmp_path)
        assert done.exit_code == 0 and str(FIRST + 70) in done.stdout, done.output
    finally:
        made.database.runs.delete_one({"_id": FIRST + 70})


def test_the_runs_of_one_sweep_are_shown_with_the_keys_that_it_varies(made, tmp_path):
    """Not with a parameter of one value; the seed is shown too where runs differ in it (--seeds)."""
    parameters = {
        "decoder_lr": {"distribution": "uniform", "min": 0.001, "max": 0.1},
        "p": {"value": 10},
        "decoder_weight_decay": {"values": [5]},
    }
    sweep = {"_id": "shown-1", "name": "shown", "config": {"parameters": parameters}}
    made.database.sweeps.insert_one(sweep)
    places = {"_id": {"$gte": FIRST, "$lt": FIRST + 6}}
    before = {run["_id"]: run["meta"] for run in made.database.runs.find(places)}

    def columns(runs: str) -> list[str]:
        """The names of the columns between the start time and the results."""
        lines = call_script("show", f"run={runs}", cwd=tmp_path).stdout.splitlines()
        header = lines[1 : next(i for i, line in enumerate(lines) if line.startswith("┡"))]
        cells = zip(*(line.strip("┃").split("┃") for line in header), strict=True)
        names = ["".join(map(str.strip, parts)) for parts in cells]  # long ones are folded
        return names[names.index("started") + 1 : names.index("phase")]

    try:
        made.database.runs.update_many(places, {"$set": {"meta.sweep.id": "shown-1"}})
        assert columns(f"{FIRST}..{FIRST + 5}") == ["decoder_lr", "seed"]
        assert columns(f"{FIRST}") == ["decoder_lr"]
        assert columns(f"{FIRST + 6}") == columns(f"{FIRST}..{FIRST + 6}") == []
        assert "0.1 " in call_script("show", f"run={FIRST}", cwd=tmp_path).stdout
    finally:
        made.database.sweeps.delete_one({"_id": "shown-1"})
        for run, meta in before.items():
            made.database.runs.update_one({"_id": run}, {"$set": {"meta": meta}})


def test_a_run_with_a_name_does_not_hide_the_numbered_ones(made):
    synthetic.fill(made.database, 1, steps=16, first=FIRST + 60)
    run = made.database.runs.find_one_and_delete({"_id": FIRST + 60})
    made.database.runs.insert_one({**run, "_id": "mine"})
    made.database.metrics.update_many({"run_id": FIRST + 60}, {"$set": {"run_id": "mine"}})
    try:
        long = query.metrics(made, [FIRST, "mine"], ["test_loss"])
        assert set(long["run"]) == {FIRST, "mine"} and len(query.wide(long)) == 32
    finally:
        made.database.runs.delete_one({"_id": "mine"})
        made.database.metrics.delete_many({"run_id": "mine"})


def test_steps_to_a_threshold_are_first_steps_or_censored_last_ones():
    long = pd.DataFrame(
        {
            "group": "g",
            "run": [1] * 4 + [2] * 4,
            "step": [0, 1, 10, 100] * 2,
            "metric": "m",
            "value": [0, 0.95, 0.2, 0.99, 0, 0.1, 0.2, np.nan],
        }
    )
    found = convergence.steps_to_threshold(long, 0.9, below=False)
    assert found.values.tolist() == [["g", 1, 1, True], ["g", 2, 100, False]]
    assert convergence.steps_to_threshold(long, 0.05, below=True)["step"].tolist() == [0, 0]


def test_the_best_is_the_least_loss_and_the_most_accuracy():
    means = pd.Series({"a": 1.0, "b": 2.0, "c": np.inf, "d": np.nan})
    assert groups.best_group(means.rename("test_accuracy")) == "b"
    assert groups.best_group(means.rename("test_loss")) == "a"
    assert groups.best_group(means[["d"]].rename("test_loss")) is None


def test_a_mean_over_some_runs_only_is_followed_by_their_number():
    index = pd.MultiIndex.from_tuples([("a_b", 1), ("a_b", 2), ("c", 3)], names=["group", "run"])
    values = pd.DataFrame({"result.steps_to_test": [100.0, np.nan, 300.0]}, index)
    cells = export_table.mean_cells(values, "latex", "final", 4, bold=True)
    latex = export_table.to_latex(cells)
    assert r"a\_b & \textbf{100 (1 of 2)} \\" in latex and r"c & 300 \\" in latex
    cells = export_table.mean_cells(values, "markdown", "final", 4, bold=False)
    markdown = export_table.to_markdown(cells)
    assert "| a_b | 100 (1 of 2) |" in markdown


def test_names_of_groups_are_text_in_latex():
    """An operation such as x^2 + y_1 is a group's name; ^ outside of mathematics ends LaTeX."""
    escaped = export_table.escape_latex(r"{x^2}_1 ~ 5 % & #\$")
    assert escaped == (
        r"\{x\textasciicircum{}2\}\_1 \textasciitilde{} 5 \% \& \#\textbackslash{}\$"
    )


def test_a_correlation_along_a_run_is_that_of_its_own_steps(made, tmp_path):
    """The coefficient and the number of steps are those of the run's curves, a row for each run."""
    wanted = run_filter(1, 2)
    runs = query.selected_runs(made, [wanted])
    points = correlation.points_along(made, runs, "train_loss", "test_accuracy")
    for run in (FIRST, FIRST + 1):
        curves = query.curves(made, run)[["train_loss", "test_accuracy"]].dropna()
        rows = points[points["run"] == run]
        assert rows["step"].tolist() == curves.index.tolist()
        expected = np.corrcoef(curves["train_loss"], curves["test_accuracy"])[0, 1]
        assert np.corrcoef(rows["x"], rows["y"])[0, 1] == pytest.approx(expected)
    axes = ("-x", "train_loss", "-y", "test_accuracy", "--along")
    done = call_script("correlation", wanted, *axes, "--trend", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    assert f"run {FIRST + 1}" in done.stdout and list(tmp_path.rglob("*.png"))


def test_correlation_is_that_of_the_points_and_undefined_for_constants():
    x = np.arange(8.0)
    line = pd.DataFrame({"x": x, "y": 2 * x})
    assert correlation.coefficient_cells(line, stats.pearsonr) == ("1.000", "1.00 to 1.00")
    noisy = line.assign(y=[0, 5, 1, 4, 2, 3, 7, 6])
    value, interval = correlation.coefficient_cells(noisy, stats.spearmanr)
    assert value == f"{stats.spearmanr(noisy['x'], noisy['y']).statistic:.3f}"
    low, high = map(float, interval.split(" to "))
    assert low < float(value) < high
    assert correlation.coefficient_cells(line.assign(y=1.0), stats.pearsonr) == ("-", "-")
    assert correlation.coefficient_cells(line[:2], stats.pearsonr) == ("-", "-")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_plot_selected_runs(made, name, tmp_path):
    done = call_script(
        name, run_filter(), "-o", "out", *(["--pdf"] if name == "compare" else []), cwd=tmp_path
    )
    assert done.exit_code == 0, done.stderr
    kinds = {path.suffix for path in (tmp_path / "out").iterdir()}
    extra = {".pdf"} if name == "compare" else set()
    assert kinds == ({".md"} if name == "export_table" else {".png", ".svg"} | extra)


def test_one_running_run_with_nan_and_missing_metrics_is_plotted(made, tmp_path):
    number = FIRST + 50
    synthetic.fill(made.database, 1, steps=16, first=number)
    made.database.runs.update_one({"_id": number}, {"$set": {"status": "RUNNING", "result": None}})
    wanted = {"run_id": number, "name": "test_accuracy"}
    odd = {"values.3": float("nan"), "values.5": float("inf")}
    made.database.metrics.update_one(wanted, {"$set": odd})
    made.database.metrics.delete_one({"run_id": number, "name": "train_accuracy"})
    for name in SCRIPTS:
        done = call_script(name, f"run={number}", "-M", "test_accuracy", cwd=tmp_path)
        assert done.exit_code == 0, done.stderr
    done = call_script("compare", f"run={number}", "-M", "train_accuracy", cwd=tmp_path)
    assert done.exit_code == 2 and done.stderr.startswith(
        "error: no train_accuracy in these 1 runs"
    )


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("learning_curves", ["p=999"], "no run with p=999"),
        (
            "learning_curves",
            ["-M", "test_acuracy"],
            "no test_acuracy in these 12 runs; did you mean test_accuracy?",
        ),
        ("compare", ["--by", "widht"], "--by widht: these runs have no such config key"),
        ("correlation", ["-x", "result.phase", "-y", "seed"], "no run of these 12 has both"),
        ("correlation", ["-x", "seed", "-y", "x", "--along"], "12 runs: --along shows at most 6"),
        ("layer_dynamics", [], "no metric norms/norm/... in these"),
        # "no config.lr in these runs" was said, although all had one, and --by was ignored
        ("correlation", ["-x", "config.lr", "-y", "y", "--along"], "config.lr: expected a metric"),
        ("correlation", ["-x", "x", "-y", "y", "--along", "--by", "p"], "--by p: expected none"),
        ("weights", [], f"run {FIRST} has kept no weights.safetensors"),
    ],
)
def test_what_cannot_be_plotted_is_one_line_and_exit_2(made, name, arguments, message, tmp_path):
    if name == "weights":
        arguments = [f"run={FIRST}"]
    elif "config.lr" in arguments:
        arguments = [f"run={FIRST}", *arguments]
    elif "p=999" not in arguments:
        arguments = [run_filter(), *arguments]
    done = call_script(name, *arguments, cwd=tmp_path)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {message}")
    assert not list(tmp_path.rglob("*.png"))


def test_a_run_goes_to_wandb_once(made, tmp_path):
    """Offline: one folder of W&B's a run; the second time none."""
    offline = {"WANDB_DIR": str(tmp_path), "GROK_HOME": str(home())}
    done = call_script("replay_to_wandb", run_filter(1, 2), "--offline", cwd=tmp_path, **offline)
    assert done.stdout.startswith("2 runs sent to W&B (offline), 0 left out"), done.stderr
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
    link = made.database.runs.find_one({"_id": FIRST})["info"]["wandb"]
    done = call_script("replay_to_wandb", run_filter(1, 2), "--offline", cwd=tmp_path, **offline)
    assert done.stdout.startswith("0 runs sent to W&B (offline), 2 left out")
    assert link["run"] in "".join(path.name for path in (tmp_path / "wandb").iterdir())


def test_histories_of_several_runs_have_a_folder_each(made, tmp_path):
    done = call_script("history", run_filter(1, 2), "-o", "h", cwd=tmp_path)
    assert done.exit_code == 0, done.stderr
    paths = sorted((tmp_path / "h").rglob("training_history.json"))
    assert [path.parent.name for path in paths] == [f"run_{FIRST}", f"run_{FIRST + 1}"]
    history = json.loads(paths[0].read_text())
    assert history["test_acc"] == query.curves(made, FIRST)["test_accuracy"].tolist()


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/../../outside"])
def test_a_name_leads_out_of_no_output_folder(tmp_path, monkeypatch, name):
    """Names of figures and tables have values of runs in them, such as the seed or the width, and a
    run may have come from an archive of anybody's."""
    monkeypatch.setattr(style.OUTPUT, "folder", tmp_path / "out")
    with pytest.raises(UserError, match=r"outside .*/out$"):
        style.write_text(name, "")
    with pytest.raises(UserError, match=r"outside .*/out$"):
        style.save(Figure(), name)
    assert not list(tmp_path.rglob("*"))


def test_a_folder_of_figures_that_takes_no_files_is_one_line(made, tmp_path):
    """It was a traceback: only the folder was made where an error is one line."""
    (tmp_path / "out" / "runs.md").mkdir(parents=True)
    (tmp_path / "out" / "runs.png").mkdir()
    for name in ("export_table", "compare"):
        done = call_script(name, run_filter(), "-o", "out", "--name", "runs", cwd=tmp_path)
        assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
        assert done.stderr.startswith("error: cannot write out/runs.")
