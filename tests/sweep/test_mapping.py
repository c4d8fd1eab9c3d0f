"""The cells that `grok map` runs, on diagrams whose every cell is known."""

from collections.abc import Callable

import numpy as np
import pytest

from grok.errors import UserError
from grok.phases import PHASES
from grok.sweep import file as files
from grok.sweep.lattice import Lattice, RunKey
from grok.sweep.mapping import Survey, check_budget, least_budget, predict, survey
from tests.conftest import PROJECT

PhaseOf = Callable[[RunKey], str | None]


def lattice_of(columns: int, rows: int, slices: int = 1, seeds: int = 1) -> Lattice:
    axes = list(map(float, range(columns))), list(map(float, range(rows)))
    return Lattice(("x", "y"), axes, [{"k": k} for k in range(slices)], list(range(seeds)))


def curves(size: int) -> np.ndarray:
    """Four phases with borders like those of Liu et al. 2022, figure 5b; indices (column, row)."""
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    phases = np.full((size, size), PHASES.index("memorization"))
    phases[(y > 1.25 - 1.05 * x) & (x > 0.6) | (y > 0.5) & (x > 0.55 + 0.02 * np.sin(9 * y))] = 3
    learns = (x < 0.45 - 0.03 * np.sin(6 * y)) & (y < 0.8)
    phases[learns] = PHASES.index("comprehension")
    phases[learns & ((x < 0.25 + 0.2 * y**2) | (y > 0.82 - 0.2 * x))] = PHASES.index("grokking")
    return phases


def circle(size: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 1, size), np.linspace(0, 1, size), indexing="ij")
    return np.where((x - 0.5) ** 2 + (y - 0.4) ** 2 < 0.1, 0, 2)


def exactly(truth: np.ndarray) -> PhaseOf:
    """Runs of every seed have the phase of their cell."""
    return lambda run: PHASES[truth[run[0][1], run[0][2]]]


def mapped(
    lattice: Lattice, phase_of: PhaseOf, budget: int | None = None
) -> tuple[Survey, dict[RunKey, str | None]]:
    """The map when it has ended, and all its runs."""
    results: dict[RunKey, str | None] = {}
    while (known := survey(lattice, results, budget or lattice.size)).wanted:
        results |= {run: phase_of(run) for run in known.wanted}
    return known, results


def at_border(truth: np.ndarray) -> np.ndarray:
    """Whether one of the four neighbours of a cell has another phase."""
    padded = np.pad(truth, 1, mode="edge")
    neighbours = [padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]
    return np.any([each != truth for each in neighbours], axis=0)


@pytest.mark.parametrize("truth", [curves(64), circle(64), circle(64).T])
def test_a_diagram_of_64_x_64_cells_is_recovered_from_a_fifth_of_them(truth):
    """The promise of the command: every cell right, every cell at the border run, few others."""
    known, results = mapped(lattice_of(64, 64), exactly(truth))
    assert (known.phases[0] == truth).all()
    assert known.is_run[0][at_border(truth)].all()
    assert known.open == 0 and known.wrong == 0 and known.tested > 100
    assert known.fraction_run == len(results) / truth.size < 0.2
    assert known.most_error < 0.03


def test_an_island_that_the_coarse_grid_misses_is_found_by_a_test_cell():
    """Test cells are predicted before they count, so the error that they found is reported; the
    island around them is then mapped whole."""
    truth = circle(32)
    lattice = lattice_of(32, 32)
    first = {cell for cell, _ in survey(lattice, {}, lattice.size).wanted}
    coarse = {(0, x, y) for x in range(0, 32, 4) for y in range(0, 32, 4)}
    _, x, y = next(
        cell for cell in first - coarse if truth[cell[1:]] == 2 and min(cell[1:]) in range(1, 5)
    )
    truth[x - 1 : x + 2, y - 1 : y + 2] = 3
    known, _ = mapped(lattice, exactly(truth))
    island = known.phases[0][x - 1 : x + 2, y - 1 : y + 2]
    assert (island == 3).all() and known.open == 0
    assert known.wrong >= 1 and known.error > 0


def test_the_stated_bound_holds_on_diagrams_with_noise():
    """Of 20 diagrams whose cells flip at random, the error of the cells not run is above the bound of
    95 % confidence in at most three; the probability of more is below 2 %."""
    exceeded = 0
    for number in range(20):
        flips = np.random.default_rng(number)
        truth = circle(24)
        truth = np.where(flips.random(truth.shape) < 0.01 + 0.004 * number, 3, truth)
        known, _ = mapped(lattice_of(24, 24), exactly(truth), 288)
        left = ~known.is_run[0]
        exceeded += (known.phases[0] != truth)[left].mean() > known.most_error
    assert exceeded <= 3


def test_cells_whose_seeds_differ_get_more_seeds():
    """With up to five seeds that are wrong in one of twenty runs, the phase of most seeds is right
    where single seeds are not, and only cells in doubt have more than two."""
    truth = circle(32)
    flips = np.random.default_rng(0).random((32, 32, 5)) < 0.05

    def phase_of(run: RunKey) -> str:
        (_, x, y), seed = run
        return PHASES[3] if flips[x, y, seed] else PHASES[truth[x, y]]

    known, results = mapped(lattice_of(32, 32, seeds=5), phase_of, 2048)
    seeds = np.zeros((32, 32), int)
    for (_, x, y), _ in results:
        seeds[x, y] += 1
    disagree = flips[..., 0] != flips[..., 1]
    assert set(np.unique(seeds)) <= {0, 2, 3, 4, 5}
    assert (seeds[known.is_run[0] & disagree] > 2).all()
    assert (seeds[~disagree & ~(flips[..., 0] & flips[..., 1])] <= 2).all()
    assert (known.phases[0] == truth).mean() > 0.99
    assert known.differs[0].sum() == (known.is_run[0] & disagree).sum()


@pytest.mark.parametrize("budget", [150, 200, 260])
def test_a_budget_is_never_exceeded_and_the_error_is_told(budget):
    """A map that had to stop says that the boundary is not known, and still has an honest error."""
    truth = curves(32)
    known, results = mapped(lattice_of(32, 32), exactly(truth), budget)
    assert len(results) == known.runs == budget
    assert known.open > 0 and "not yet known" in " ".join(known.describe())
    left = ~known.is_run[0]
    assert known.tested > 30
    assert (known.phases[0] != truth)[left].mean() <= known.most_error


def test_a_larger_budget_later_gives_the_same_map_as_at_once():
    """What is run next follows from the phases alone, so a map can be continued at any time."""
    truth, lattice = curves(32), lattice_of(32, 32)
    at_once, results_at_once = mapped(lattice, exactly(truth))
    _, results = mapped(lattice, exactly(truth), 200)
    while (known := survey(lattice, results, lattice.size)).wanted:
        # one run after the other: a round may be interrupted anywhere
        results[known.wanted[0]] = exactly(truth)(known.wanted[0])
    assert results == results_at_once
    assert (known.phases == at_once.phases).all() and known.wrong == at_once.wrong


def test_slices_are_mapped_side_by_side():
    """Each slice has a boundary of its own, and no slice predicts another."""
    truths = [circle(16), np.zeros((16, 16), int)]
    known, _ = mapped(
        lattice_of(16, 16, slices=2), lambda run: PHASES[truths[run[0][0]][run[0][1:]]]
    )
    assert all((known.phases[k] == truth).all() for k, truth in enumerate(truths))
    assert known.is_run[0].sum() > known.is_run[1].sum()


def test_a_failed_run_is_left_out_and_not_asked_for_again():
    truth, lattice = circle(16), lattice_of(16, 16)
    failed = survey(lattice, {}, 256).wanted[30]
    known, results = mapped(
        lattice, lambda run: None if run == failed else exactly(truth)(run), 256
    )
    assert results[failed] is None and not known.is_run[failed[0]]
    assert known.open == 0


def test_a_map_says_that_its_boundary_is_known_only_when_it_is():
    """A map that has just begun, whose first runs all have one phase, or whose runs have failed, has
    no open cell; it said that its boundary was known to one cell."""
    lattice, truth = lattice_of(16, 16), circle(16)

    def said(results: dict[RunKey, str | None]) -> str:
        return survey(lattice, results, 256).describe()[1]

    first = survey(lattice, {}, 256).wanted
    assert said({}) == "the boundary is not known: no run has ended with a phase"
    assert said(dict.fromkeys(first)) == said({})
    left = f"the boundary is not yet known: {len(first) - 5} runs have not ended"
    assert said(dict.fromkeys(first[:5], "confusion")) == left
    known, results = mapped(lattice, exactly(truth))
    assert known.describe()[1] == "the boundary is known to one cell"
    at_boundary = next(run for run in results if at_border(truth)[run[0][1:]])
    known, _ = mapped(lattice, lambda run: None if run == at_boundary else exactly(truth)(run))
    assert known.failed == 1 and known.describe()[1].endswith("whose runs failed: 1)")


def test_a_map_without_random_cells_to_test_says_that_its_error_is_not_known():
    """It said nothing, as if there were none."""
    phases = np.indices((6, 6)).sum(0) % 3  # the boundary is everywhere: it asks for the test cells
    known = next(
        known
        for budget in range(30, 36)
        if not (known := mapped(lattice_of(6, 6), exactly(phases), budget)[0]).tested
    )
    assert "cells not run: not known" in known.describe()[-1]


def test_what_an_imported_map_may_have_is_no_traceback():
    """Archives come from anywhere: an unknown phase is none, a small budget asks for nothing more, and
    a point outside the map is one line."""
    lattice = lattice_of(8, 8)
    first = survey(lattice, {}, 3).wanted
    known = survey(lattice, {run: PHASES[run[0][1] % 2] for run in first}, 3)
    assert not known.wanted and known.runs == len(first)
    assert not survey(lattice, dict.fromkeys(first, "magic"), None).is_run.any()
    for point in ({"x": 0.5, "y": 1.0, "k": 0, "seed": 0}, {"x": [], "y": 1.0}, {}):
        with pytest.raises(UserError, match="is no cell of the map"):
            list(lattice.runs([point]))


def test_a_prediction_is_that_of_the_nearest_cells():
    phases = np.full((1, 4, 5), -1)
    phases[0, 0, 0], phases[0, 3, 4] = 1, 2
    predicted, margins = predict(phases)
    assert predicted[0, 0, 1] == 1 and predicted[0, 3, 3] == 2
    assert predicted[0, 0, 0] == 1 and margins[0, 0, 0] == 1
    assert margins[0, 0, 1] > margins[0, 1, 2] >= 0.5


def test_a_budget_that_is_too_small_for_the_first_round_is_refused():
    lattice = lattice_of(16, 16)
    check_budget(lattice, least_budget(lattice))
    with pytest.raises(UserError, match="too small: the coarse grid and the test cells of 16 x 16"):
        check_budget(lattice, least_budget(lattice) - 1)


def test_the_map_of_the_regression_diagram_has_the_published_cells():
    """The 16 learning rates and 11 weight decays that the authors published are among its values, to
    the last digit, and so are all values of the full grid that it is compared with."""
    sweeps = PROJECT / "sweeps"
    file = files.read(sweeps / "liu_regression_map.yaml")
    lattice = Lattice.of(file, (64, 64), None)
    assert lattice.keys == ("decoder_lr", "decoder_weight_decay") and lattice.shape == (1, 64, 64)
    assert lattice.seeds == [58]
    for name, counts in (("liu_regression_grid", (16, 11)), ("liu_regression_grid32", (32, 32))):
        parameters = files.read(sweeps / f"{name}.yaml").config["parameters"]
        for key, axis, count in zip(lattice.keys, lattice.axes, counts, strict=True):
            assert len(parameters[key]["values"]) == count
            assert {*parameters[key]["values"]} <= {*axis}


MAP = {
    "program": "experiments/liu_toy.py",
    "method": "random",
    "parameters": {
        "decoder_lr": {"distribution": "log_uniform_values", "min": 1e-4, "max": 1e-1},
        "train_count": {"min": 5, "max": 11},
    },
}


def changed(parameters: dict, **entries) -> files.SweepFile:
    config = {**MAP, **entries, "parameters": {**MAP["parameters"], **parameters}}
    return files.check({**config, "parameters": _given(config["parameters"])}, "sweep", "sweep")


def _given(parameters: dict) -> dict:
    return {key: spec for key, spec in parameters.items() if spec is not None}


def test_axes_slices_and_seeds_are_those_of_the_file():
    """Ranges are divided as their distribution says, whole numbers stay whole, lists are slices."""
    file = changed(
        {
            "optimizer": {"values": ["adam", "adamw"]},
            "p": {"value": 6},
            "seed": {"values": [3, 4, 5]},
        }
    )
    lattice = Lattice.of(file, (4, 20), None)
    assert lattice.axes == ([0.0001, 0.001, 0.01, 0.1], [5, 6, 7, 8, 9, 10, 11])
    assert lattice.slices == [{"optimizer": each, "p": 6} for each in ("adam", "adamw")]
    assert lattice.seeds == [3, 4, 5]
    assert Lattice.of_document(lattice.document()) == lattice
    run = ((1, 2, 3), 1)
    point = {"decoder_lr": 0.01, "train_count": 8, "optimizer": "adamw", "p": 6, "seed": 4}
    assert lattice.point(run) == point
    assert list(lattice.runs([point])) == [run]
    assert Lattice.of(changed({}), (4, 4), 3).seeds == [0, 1, 2]


def test_equal_values_are_one_slice():
    """A run of the second slice was found again as one of the first, so the map asked for it for ever,
    beyond its budget."""
    lattice = Lattice.of(changed({"init_scale": {"values": [1, 1.0, 2]}}), (4, 4), None)
    assert lattice.slices == [{"init_scale": 1}, {"init_scale": 2}]
    _, results = mapped(lattice, lambda run: PHASES[run[0][0]])
    assert [*lattice.runs(map(lattice.point, results))] == [*results]


@pytest.mark.parametrize(
    ("parameters", "entries", "message"),
    [
        ({"train_count": None}, {}, "needs two parameters with min and max, not 1: decoder_lr"),
        (
            {"encoder_lr": {"min": 0.0, "max": 1.0}},
            {},
            "not 3: decoder_lr, train_count, encoder_lr",
        ),
        (
            {"train_count": {"min": 5, "max": 7}},
            {},
            "train_count: 3 values; a map needs at least 4",
        ),
        (
            {"decoder_lr": {"distribution": "inv_log_uniform_values", "min": 0.1, "max": 1.0}},
            {},
            "decoder_lr: distribution inv_log_uniform_values: a map takes uniform, int_uniform",
        ),
        (
            {"train_count": {"distribution": "q_normal", "mu": 9.0, "sigma": 1.0}},
            {},
            "needs two parameters with min and max, not 1",
        ),
        (
            {"encoder_lr": {"distribution": "normal", "mu": 9.0, "sigma": 1.0}},
            {},
            "encoder_lr: a map takes min and max, values, or one value",
        ),
        (
            {},
            {
                "metric": {"name": "test_accuracy", "goal": "maximize"},
                "early_terminate": {"type": "hyperband", "min_iter": 3},
            },
            "early_terminate: a map needs the phases of whole runs",
        ),
        (
            {"stop_when_hopeless": {"values": [False, True]}},
            {},
            "stop_when_hopeless: a map needs the phases of whole runs",
        ),
    ],
)
def test_a_file_that_cannot_be_mapped_is_one_clear_line(parameters, entries, message):
    with pytest.raises(UserError) as raised:
        Lattice.of(changed(parameters, **entries), (8, 8), None)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_seeds_are_given_once():
    with pytest.raises(UserError, match="has a parameter seed: --seeds is for files without one"):
        Lattice.of(changed({"seed": {"values": [1, 2]}}), (8, 8), 2)
