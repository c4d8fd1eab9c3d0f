"""Which cells of a phase diagram to run next, and the phases of the cells that are not run.

A cell that is not run has the phase of the run cells around it. Cells next to another phase are run,
first far apart and then nearer to each other, until every cell at the boundary has been run. Test
cells, drawn at random and run first, take no part in this: how many of those that were not asked for
are predicted wrongly is an unbiased estimate of the error of all cells that are not run.

All of it is computed again from the phases of the runs each time, without any other state. So a map
that was killed continues as if it had not been.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.spatial import KDTree

from grok.errors import UserError
from grok.phases import PHASES
from grok.sweep.lattice import Cell, Lattice, RunKey

UNKNOWN = -1  # in place of the index of a phase
FIRST_SEEDS = 2  # that each cell is run with, if there are more than one
NEIGHBOURS = 8  # run cells that predict another one
POWER = 4  # of the distance: their weights are distance ** -POWER
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What is known of a phase diagram.

    Attributes:
        lattice: Its cells.
        phases: Index in PHASES of each cell (slice, column, row), measured or predicted.
        is_run: Whether a cell has a run with a phase.
        differs: Whether the seeds of a cell have different phases.
        wanted: The runs to do next; none if the map has ended.
        rounds: How many times runs have been asked for.
        runs: How many runs have been asked for, those wanted included.
        budget: The largest number of runs.
        open: How many cells at the boundary are not run.
        failed: How many cells at the boundary have no phase, since their runs failed.
        tested, wrong: How many test cells were predicted from the other runs, and how many of these
            in a wrong phase.
    """

    lattice: Lattice
    phases: np.ndarray
    is_run: np.ndarray
    differs: np.ndarray
    wanted: list[RunKey]
    rounds: int
    runs: int
    budget: int
    open: int
    failed: int
    tested: int
    wrong: int

    @property
    def fraction_run(self) -> float:
        """The fraction of the cells that are run."""
        return float(self.is_run.mean())

    @property
    def error(self) -> float:
        """The estimated error of the cells that are not run; NaN without test cells."""
        return self.wrong / self.tested if self.tested else math.nan

    @property
    def most_error(self) -> float:
        """The upper bound of that error, of confidence CONFIDENCE (Clopper and Pearson 1934)."""
        if self.wrong == self.tested:
            return 1.0
        from scipy.stats import beta  # takes a second to import

        return float(beta.ppf(CONFIDENCE, self.wrong + 1, self.tested - self.wrong))

    def describe(self) -> list[str]:
        """The result in sentences, one a line."""
        size = self.lattice.size
        left = size - int(self.is_run.sum())
        lines = [
            f"{size - left:,} of {size:,} cells run ({self.fraction_run:.1%}), {self.runs:,} runs",
            self._describe_boundary(),
        ]
        if len(self.lattice.seeds) > 1:
            lines.append(f"seeds differ in {int(self.differs.sum()):,} cells")
        if left and self.tested:
            whole = 1 - left / size * self.most_error
            lines += [
                f"error of the {left:,} cells not run: {self.error:.1%}, at most {self.most_error:.1%} "
                f"({CONFIDENCE:.0%} confidence; {self.wrong} of {self.tested} random cells were wrong)",
                f"so at least {whole:.1%} of all cells are in the right phase",
            ]
        elif left and not self.wanted:
            lines.append(
                f"error of the {left:,} cells not run: not known, as no random cell tells it"
            )
        return lines

    def _describe_boundary(self) -> str:
        if not self.is_run.any():
            return "the boundary is not known: no run has ended with a phase"
        if self.open:
            return f"the boundary is not yet known: {self.open:,} cells at it are not run"
        if self.wanted:
            return f"the boundary is not yet known: {len(self.wanted):,} runs have not ended"
        but = f" (cells at it whose runs failed: {self.failed:,})" if self.failed else ""
        return f"the boundary is known to one cell{but}"


def least_budget(lattice: Lattice) -> int:
    """How many runs a map has at least: those of the coarse grid and of the test cells."""
    return len(_first_runs(lattice, [*_coarse_cells(lattice), *_test_cells(lattice)]))


def check_budget(lattice: Lattice, budget: int) -> None:
    """UserError if a map of this lattice cannot even begin with this many runs."""
    least = least_budget(lattice)
    if budget < least:
        raise UserError(
            f"a budget of {budget} runs is too small: the coarse grid and the test cells of "
            f"{lattice.describe()} are {least}"
        )


def survey(lattice: Lattice, results: Mapping[RunKey, str | None], budget: int | None) -> Survey:
    """What is known of a phase diagram by its finished runs, and which runs to do next.

    Arguments:
        results: The phase of each run that has ended, None for one that failed. All wanted runs must
            have ended before others are asked for.
        budget: The largest number of runs; None for as many as there are cells.
    """
    budget = lattice.size if budget is None else budget
    replay = _replay(lattice, results, budget)
    ended = {run for run in results if run in replay.asked}
    phases, differs = _measured(lattice, ended, results)
    predicted, _ = predict(phases) if (phases != UNKNOWN).any() else (phases, None)
    is_run = phases != UNKNOWN
    is_open = _is_beside_another(predicted) & ~is_run
    has_ended = np.zeros(lattice.shape, bool)
    for cell, _ in results:
        has_ended[cell] = True  # a run that failed is not tried again
    return Survey(
        lattice=lattice,
        phases=predicted,
        is_run=is_run,
        differs=differs,
        wanted=[run for run in replay.asked if run not in results],
        rounds=replay.rounds,
        runs=len(replay.asked),
        budget=budget,
        open=int((is_open & ~has_ended).sum()),
        failed=int((is_open & has_ended).sum()),
        tested=replay.tested,
        wrong=replay.wrong,
    )


@dataclass
class _Replay:
    """The runs that a map asks for, round after round, as far as their phases are known.

    Attributes:
        asked: The runs, a set that keeps its order.
        rounds, tested, wrong: As in Survey.
    """

    asked: dict[RunKey, None]
    rounds: int = 1
    tested: int = 0
    wrong: int = 0


def _replay(lattice: Lattice, results: Mapping[RunKey, str | None], budget: int) -> _Replay:
    """The rounds of a map: the coarse grid, then cells at the boundary, and those that the test cells,
    which are not seen before, show to be at it."""
    coarse, test = _coarse_cells(lattice), _test_cells(lattice)
    replay = _Replay(dict.fromkeys(_first_runs(lattice, [*coarse, *test])))
    is_visible = np.zeros(lattice.shape, bool)  # what predictions are made from
    is_visible[tuple(zip(*coarse, strict=True))] = True
    has_tested = False
    while all(run in results for run in replay.asked):
        phases, _ = _measured(lattice, replay.asked, results)
        predicted, margins = predict(np.where(is_visible, phases, UNKNOWN))
        cells = _boundary_cells(predicted, margins, is_visible)
        runs = [*_next_seeds(lattice, replay.asked, results), *_first_runs(lattice, cells)]
        new = [run for run in runs if run not in replay.asked][: max(budget - len(replay.asked), 0)]
        replay.asked |= dict.fromkeys(new)
        reached = [cell for cell in cells if (cell, 0) in replay.asked]
        for cell in reached:
            is_visible[cell] = True
        replay.rounds += bool(new)
        if new or reached:  # of the cells that are reached, test cells have runs already
            continue
        if has_tested:
            break
        has_tested = True
        hidden = [cell for cell in test if not is_visible[cell] and phases[cell] != UNKNOWN]
        replay.tested = len(hidden)
        replay.wrong = sum(bool(predicted[cell] != phases[cell]) for cell in hidden)
        for cell in test:
            is_visible[cell] = True
    return replay


def _coarse_cells(lattice: Lattice) -> list[Cell]:
    """A grid of cells about as far apart as the square root of each axis's length, ends included."""
    slices, *lengths = lattice.shape
    columns, rows = (
        np.linspace(0, n - 1, math.ceil((n - 1) / _spacing(n)) + 1).round().astype(int).tolist()
        for n in lengths
    )
    return [(piece, x, y) for piece in range(slices) for x in columns for y in rows]


def _spacing(length: int) -> int:
    """The largest power of two up to the square root of an axis's length."""
    return 2 ** int(math.log2(math.sqrt(length)))


def _test_cells(lattice: Lattice) -> list[Cell]:
    """Random cells outside the coarse grid: in 64 x 64 cells 128, which tells an error of 3 %."""
    coarse = {*_coarse_cells(lattice)}
    cells = [cell for cell in np.ndindex(*lattice.shape) if cell not in coarse]
    count = min(len(cells), math.ceil(2 * math.sqrt(lattice.size)))
    return random.Random(0).sample(cells, count)  # the same ones in every process


def _first_runs(lattice: Lattice, cells: Iterable[Cell]) -> list[RunKey]:
    """The runs that a cell begins with."""
    seeds = range(min(FIRST_SEEDS, len(lattice.seeds)))
    return [(cell, seed) for cell in cells for seed in seeds]


def _by_cell(
    runs: Iterable[RunKey], results: Mapping[RunKey, str | None]
) -> Iterator[tuple[Cell, int, Counter[str]]]:
    """Each cell of these runs with the number of its runs and how often they have each phase."""
    phases: dict[Cell, list[str | None]] = {}
    for run in sorted(runs):
        phases.setdefault(run[0], []).append(results[run])
    for cell, each in phases.items():
        yield cell, len(each), Counter(phase for phase in each if phase in PHASES)


def _measured(
    lattice: Lattice, runs: Iterable[RunKey], results: Mapping[RunKey, str | None]
) -> tuple[np.ndarray, np.ndarray]:
    """The phase of each cell with runs, UNKNOWN for the others; whether its seeds differ.

    The phase is the most frequent one of the cell's seeds, and of equally frequent ones the one that
    came first.
    """
    phases = np.full(lattice.shape, UNKNOWN)
    differs = np.zeros(lattice.shape, bool)
    for cell, _, counts in _by_cell(runs, results):
        if counts:
            phases[cell] = PHASES.index(counts.most_common(1)[0][0])
            differs[cell] = len(counts) > 1
    return phases, differs


def _next_seeds(
    lattice: Lattice, runs: Iterable[RunKey], results: Mapping[RunKey, str | None]
) -> list[RunKey]:
    """The next seed of each cell whose seeds differ, unless the seeds left cannot change its phase."""
    more: list[RunKey] = []
    for cell, count, counts in _by_cell(runs, results):
        left = len(lattice.seeds) - count
        if len(counts) > 1 and left:
            (_, most), (_, second), *_ = counts.most_common()
            if most - second <= left:
                more.append((cell, count))
    return more


def predict(phases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phase of every cell, and how clear it is.

    A cell with a phase keeps it. Others have the phase of most weight among the nearest cells with
    one, in the same slice, weighted by the inverse distance to the power of POWER.

    Arguments:
        phases: Indices in PHASES (slices, columns, rows), UNKNOWN for cells without one.

    Returns:
        Indices in PHASES, and their fractions of the weight, both of the same shape.
    """
    predicted, margins = phases.copy(), np.ones(phases.shape)
    for piece, one in enumerate(phases):
        known, unknown = np.argwhere(one != UNKNOWN), np.argwhere(one == UNKNOWN)
        if not len(known) or not len(unknown):
            continue
        # ranks, as the query returns no axis of neighbours for a single one
        ranks = range(1, min(NEIGHBOURS, len(known)) + 1)
        distances, nearest = KDTree(known).query(unknown, k=[*ranks])
        weights = distances**-POWER
        of_nearest = one[tuple(known[nearest].transpose(2, 0, 1))]
        votes = np.stack(
            [(weights * (of_nearest == phase)).sum(1) for phase in range(len(PHASES))], axis=1
        )
        where = piece, *unknown.T
        predicted[where] = votes.argmax(1)
        margins[where] = votes.max(1) / votes.sum(1)
    return predicted, margins


def _is_beside_another(phases: np.ndarray) -> np.ndarray:
    """Whether one of the four neighbours of a cell in its slice has another phase."""
    beside = np.zeros(phases.shape, bool)
    for axis in (1, 2):
        changes = np.diff(phases, axis=axis) != 0
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        beside[tuple(before)] |= changes
        beside[tuple(after)] |= changes
    return beside


def _boundary_cells(
    predicted: np.ndarray, margins: np.ndarray, is_visible: np.ndarray
) -> list[Cell]:
    """The cells at the predicted boundary to run next, the least clear ones first.

    They are as far as possible, by halves of the coarse grid's spacing, from all cells that
    predictions are made from, and farther than that from each other: most runs are then near the
    final boundary. None is left if all cells at the boundary are visible.
    """
    candidates = np.argwhere(_is_beside_another(predicted) & ~is_visible)
    candidates = candidates[np.argsort(margins[tuple(candidates.T)], kind="stable")]
    distance = max(_spacing(length) for length in predicted.shape[1:]) // 2
    while distance:
        is_free = ~_is_within(distance - 1, is_visible)
        chosen = []
        for piece, x, y in candidates.tolist():
            if is_free[piece, x, y]:
                chosen.append((piece, x, y))
                columns, rows = (slice(max(i - distance, 0), i + distance + 1) for i in (x, y))
                is_free[piece, columns, rows] = False
        if chosen:
            return chosen
        distance //= 2
    return []


def _is_within(distance: int, marked: np.ndarray) -> np.ndarray:
    """Whether a cell is at most so many columns and rows from a marked cell of its slice."""
    from scipy.ndimage import maximum_filter

    return maximum_filter(marked, size=(1, 2 * distance + 1, 2 * distance + 1), mode="constant")
