"""The figure of a map, and its comparison with grids whose cells are known."""

import itertools
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from analysis import phase_map
from grok.phases import PHASES
from grok.sweep.lattice import Lattice
from grok.sweep.mapping import survey

SIZE = 12
LATTICE = Lattice(
    ("decoder_lr", "decoder_weight_decay"),
    ([float(f"{1e-4 * 1.5**i:.6g}") for i in range(SIZE)], [i / 2 for i in range(SIZE)]),
    [{}],
    [3],
)


def phase_at(point: dict) -> str:
    return (
        PHASES[1] if point["decoder_lr"] < 1e-3 and point["decoder_weight_decay"] < 3 else PHASES[3]
    )


def store_sweep(store, name: str, points: list[dict], **entries) -> None:
    """A stored sweep with a finished run of each point."""
    document = {
        "_id": f"{name}-1",
        "name": name,
        "experiment": "liu_toy",
        "created": datetime.now(UTC),
        "config": {"parameters": {}},
        "points": points,
        **entries,
    }
    store.database.sweeps.replace_one({"_id": document["_id"]}, document, upsert=True)
    for number, point in enumerate(points):
        run = {
            "_id": f"{name}-{number}",
            "experiment": {"name": "liu_toy"},
            "status": "COMPLETED",
            "config": point,
            "result": {"ended": "budget", "phase": phase_at(point)},
            "meta": {"sweep": {"id": document["_id"], "point": number}},
        }
        store.database.runs.replace_one({"_id": run["_id"]}, run, upsert=True)


@pytest.fixture(scope="module")
def made(store):
    """A finished map, and a grid of every other cell of it."""
    results: dict = {}
    while (known := survey(LATTICE, results, LATTICE.size)).wanted:
        results |= {run: phase_at(LATTICE.point(run)) for run in known.wanted}
    store_sweep(
        store,
        "made_map",
        [LATTICE.point(run) for run in results],
        map=LATTICE.document(),
        limit=LATTICE.size,
    )
    cells = itertools.product(range(0, SIZE, 2), repeat=2)
    store_sweep(store, "made_grid", [LATTICE.point(((0, *cell), 0)) for cell in cells])
    yield known
    store.database.runs.delete_many({"_id": {"$regex": "^made_(map|grid)-"}})
    store.database.sweeps.delete_many({"name": {"$in": ["made_map", "made_grid"]}})


def test_a_map_is_drawn_and_agrees_with_what_it_was_made_from(made, tmp_path):
    """All of the cells of the full grid agree; of a published grid with one other cell, all but it.
    The cells that were run and those that were predicted are counted apart."""
    published = tmp_path / "published.csv"
    lines = ["decoder_lr,decoder_weight_decay,steps_to_train,steps_to_test"]
    for column, row in ((0, 0), (1, 1), (11, 11), (9, 4)):
        point = LATTICE.point(((0, column, row), 0))
        steps = "100,9000" if phase_at(point) == "grokking" else "99999,99999"
        steps = "100,200" if column == 9 else steps  # comprehension, which the map does not have
        lines.append(f"{point['decoder_lr']},{point['decoder_weight_decay']},{steps}")
    published.write_text("\n".join(lines))
    options = ["--full", "made_grid", "--reference", str(published), "-o", str(tmp_path)]
    result = CliRunner().invoke(phase_map.main, ["made_map", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    path, *lines = result.output.splitlines()
    assert (tmp_path / "phase_map_made_map-1.png").stat().st_size > 1000 and path.endswith(".png")
    assert lines[:-2] == made.describe()
    assert lines[-2].startswith("the published grid: 75.0% of 4 cells in the same phase")
    assert lines[-1].startswith(
        "sweep made_grid-1: 100.0% of 36 cells in the same phase; of these "
    )
    predicted = int((~made.is_run[0, ::2, ::2]).sum())
    assert lines[-1].endswith(f"{predicted} not run in the map, {predicted} in the same phase")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["made_grid"], "sweep made_grid-1 is no map; grok map makes one"),
        (["none"], "no sweep none in"),
        (["made_map", "--full", "none"], "no sweep none in"),
    ],
)
def test_what_is_no_map_is_one_line_and_exit_2(made, arguments, message, tmp_path):
    result = CliRunner().invoke(phase_map.main, [*arguments, "-o", str(tmp_path)])
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {message}") and result.output.count("\n") == 1
