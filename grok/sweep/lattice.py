"""The cells of a phase diagram: two ranges of a sweep file divided into values, in one or more slices."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from grok.errors import UserError
from grok.sweep.file import SweepFile, is_whole
from grok.sweep.plan import default_seed
from grok.sweep.search import Point, check_count

LEAST_VALUES = 4  # of an axis: with fewer, the coarse grid is the whole diagram
DIGITS = 6  # of an axis's values
# Distributions of W&B that a range may have, and how the values of an axis are spaced then.
SPACINGS: dict[str, Callable[..., np.ndarray]] = {
    "uniform": np.linspace,
    "int_uniform": np.linspace,
    "q_uniform": np.linspace,
    "log_uniform_values": np.geomspace,
    "q_log_uniform_values": np.geomspace,
}

Cell = tuple[int, int, int]  # its slice, its column (index on the x axis), its row
RunKey = tuple[Cell, int]  # a cell, and the index of one of the lattice's seeds


@dataclass(frozen=True)
class Lattice:
    """The cells of a phase diagram, and the points of a sweep that they stand for.

    Attributes:
        keys: The config keys of the x and the y axis.
        axes: Their values, ascending.
        slices: The values of all other keys, one entry for each slice.
        seeds: The seeds that a cell may be run with, in this order.
    """

    keys: tuple[str, str]
    axes: tuple[list[float], list[float]]
    slices: list[Point]
    seeds: list[int]

    @classmethod
    def of(cls, file: SweepFile, resolution: tuple[int, int], seeds: int | None) -> "Lattice":
        """The lattice of a sweep file with two ranges.

        The ranges are the parameters with `min` and `max`, in the file's order. Every choice of the
        listed `values` of the others is a slice.

        Arguments:
            resolution: How many values the axes have. An axis of whole numbers, or of multiples of
                `q`, has fewer if the range does.
            seeds: How many seeds, from the sweep's own on; None for those of the file, or for one.

        Raises:
            UserError: There are not two ranges, an axis has too few values, or there are too many
                points.
        """
        if "early_terminate" in file.config:
            raise UserError(f"{file.name}: early_terminate: a map needs the phases of whole runs")
        parameters = dict(file.config["parameters"])
        seed = parameters.pop("seed", None)
        ranges = [key for key, spec in parameters.items() if "min" in spec]
        if len(ranges) != 2:
            names = f": {', '.join(ranges)}" if ranges else ""
            raise UserError(
                f"{file.name}: a map needs two parameters with min and max, not {len(ranges)}{names}"
            )
        x, y = ranges
        types = file.experiment.types
        axes = [
            _axis(key, parameters.pop(key), count, is_whole(types.get(key, Any)))
            for key, count in zip(ranges, resolution, strict=True)
        ]
        values = [_listed(key, spec) for key, spec in parameters.items()]
        slices = [
            dict(zip(parameters, choice, strict=True)) for choice in itertools.product(*values)
        ]
        if any(file.updates(each).get("stop_when_hopeless") for each in slices):
            raise UserError(
                f"{file.name}: stop_when_hopeless: a map needs the phases of whole runs"
            )
        if seed is None:
            first = default_seed(file)
            listed = [first + i for i in range(seeds or 1)]
        elif seeds is not None:
            raise UserError(f"{file.name} has a parameter seed: --seeds is for files without one")
        else:
            listed = _listed("seed", seed)
        lattice = cls((x, y), (axes[0], axes[1]), slices, listed)
        check_count(lattice.size * len(listed))
        return lattice

    @classmethod
    def of_document(cls, stored: dict[str, Any]) -> "Lattice":
        """The lattice that `document` has stored."""
        (x, y), (of_x, of_y) = stored["keys"], stored["axes"]
        return cls((x, y), (of_x, of_y), stored["slices"], stored["seeds"])

    def document(self) -> dict[str, Any]:
        """The lattice as an entry of a stored sweep."""
        return {key: list(value) for key, value in asdict(self).items()}

    @property
    def shape(self) -> tuple[int, int, int]:
        """The numbers of slices, columns and rows."""
        return len(self.slices), len(self.axes[0]), len(self.axes[1])

    @property
    def size(self) -> int:
        """The number of cells."""
        return math.prod(self.shape)

    def describe(self) -> str:
        """The size in words, as `64 x 64 cells` or `2 slices of 64 x 64 cells`."""
        slices, columns, rows = self.shape
        cells = f"{columns} x {rows} cells"
        return cells if slices == 1 else f"{slices} slices of {cells}"

    def point(self, run: RunKey) -> Point:
        """The point of the sweep for a cell and a seed."""
        (piece, column, row), seed = run
        (x, y), (of_x, of_y) = self.keys, self.axes
        values = {x: of_x[column], y: of_y[row], **self.slices[piece]}
        return {**values, "seed": self.seeds[seed]}

    def runs(self, points: Iterable[Point]) -> Iterator[RunKey]:
        """The cell and the seed of each of these points, which `point` has made.

        Raises:
            UserError: A point is of no cell, as one of an imported sweep may be.
        """
        (x, y), (columns, rows) = self.keys, (_indices(axis) for axis in self.axes)
        seeds = _indices(self.seeds)
        for point in points:
            others = {key: point[key] for key in point if key not in (x, y, "seed")}
            try:
                cell = self.slices.index(others), columns[point[x]], rows[point[y]]
                seed = seeds[point["seed"]]
            except (KeyError, ValueError, TypeError):
                raise UserError(f"the point {point} is no cell of the map") from None
            yield cell, seed


def _indices(values: Sequence[Any]) -> dict[Any, int]:
    return {value: index for index, value in enumerate(values)}


def _axis(key: str, spec: dict[str, Any], count: int, whole: bool) -> list[float]:
    """The values of a range, evenly spaced from its `min` to its `max`.

    They are rounded to DIGITS digits, or to what the range allows: whole numbers, multiples of `q`.
    """
    low, high = spec["min"], spec["max"]
    distribution = spec.get("distribution", "uniform")
    if distribution not in SPACINGS:
        expected = ", ".join(SPACINGS)
        raise UserError(f"{key}: distribution {distribution}: a map takes {expected}")
    values = SPACINGS[distribution](low, high, count).tolist()
    if "q" in spec:
        values = [round(value / spec["q"]) * spec["q"] for value in values]
    has_whole_bounds = isinstance(low, int) and isinstance(high, int)
    if whole or distribution == "int_uniform" or ("distribution" not in spec and has_whole_bounds):
        values = [round(value) for value in values]
    else:
        values = [float(f"{value:.{DIGITS}g}") for value in values]
    values = sorted({*values})
    if len(values) < LEAST_VALUES:
        raise UserError(f"{key}: {len(values)} values; a map needs at least {LEAST_VALUES}")
    return values


def _listed(key: str, spec: dict[str, Any]) -> list[Any]:
    """The different values of a parameter that is no axis; 1, 1.0 and true are equal."""
    if "value" in spec:
        return [spec["value"]]
    if "values" in spec:
        different: list[Any] = []
        for value in spec["values"]:
            if value not in different:
                different.append(value)
        return different
    raise UserError(f"{key}: a map takes min and max, values, or one value")
