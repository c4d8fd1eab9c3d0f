"""The weights and arrays that a run has kept, in a size that a page can draw."""

import io
import zipfile
from typing import Any

import numpy as np
import safetensors.numpy
from pymongo.database import Database
from safetensors import SafetensorError

from grok.errors import UserError
from grok.reports.page.views import finite
from grok.store.connection import file_content, find_run

FINAL, TRAJECTORY = "weights.safetensors", "trajectory.npz"
MOST_BYTES = 2**28  # of a file, and of an array in it
MOST_SHOWN = 96  # rows, and columns, of a matrix that is drawn
MOST_POINTS = 400  # rows of which the principal components are drawn


def listing(database: Database, run_id: int | str) -> list[dict[str, Any]]:
    """The matrices that a run has kept: `name`, `file`, `shape`, and the `steps` of a trajectory."""
    found = [
        {"name": name, "file": FINAL, "shape": list(array.shape), "steps": []}
        for name, array in _final(database, run_id).items()
        if array.ndim >= 2
    ]
    trajectory = _trajectory(database, run_id)
    if trajectory is not None and "steps" in trajectory.files:
        steps = [int(step) for step in _member(trajectory, "steps").ravel()]
        for name in trajectory.files:
            shape = _shape(trajectory, name)
            if len(shape) >= 3 and shape[0] == len(steps):
                found.append({"name": name, "file": TRAJECTORY, "shape": shape[1:], "steps": steps})
    return found


def matrix(
    database: Database, run_id: int | str, file: str, name: str, place: int
) -> dict[str, Any]:
    """One matrix as it is drawn.

    Arguments:
        place: of a trajectory, which of its steps.

    Returns:
        `values`, of evenly spaced `rows` and `columns` where it is large; `points`, the first two
        principal components of its rows, and the fraction of the variance that each `explains`.

    Raises:
        UserError: the run has kept no such matrix.
    """
    if file == FINAL:
        array = _final(database, run_id).get(name)
    else:
        trajectory = _trajectory(database, run_id)
        stored = None
        if trajectory is not None and name in trajectory.files:
            stored = _member(trajectory, name)
        is_there = stored is not None and stored.ndim >= 3 and place < len(stored)
        array = stored[place] if stored is not None and is_there else None
    if array is None or array.ndim < 2 or 0 in array.shape or not np.isrealobj(array):
        raise UserError(f"run {run_id} has kept no matrix {name}")
    table = array.reshape(-1, array.shape[-1]).astype(np.float64)
    rows, columns = (_spread(count) for count in table.shape)
    points, explains = _principal_components(table[:MOST_POINTS])
    return {
        "rows": rows,
        "columns": columns,
        "values": [
            [finite(value) for value in row] for row in table[np.ix_(rows, columns)].tolist()
        ],
        "points": points,
        "explains": explains,
    }


def _final(database: Database, run_id: int | str) -> dict[str, np.ndarray]:
    content = _file(database, run_id, FINAL)
    if content is None:
        return {}
    try:
        return safetensors.numpy.load(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"the weights of run {run_id} cannot be read: {error}") from error


def _trajectory(database: Database, run_id: int | str) -> Any:
    content = _file(database, run_id, TRAJECTORY)
    if content is None:
        return None
    try:
        return np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"the trajectory of run {run_id} cannot be read: {error}") from error


def _file(database: Database, run_id: int | str, name: str) -> bytes | None:
    """The content of a file that a run keeps; None if there is none, or it is too large to be drawn."""
    for entry in find_run(database, run_id).get("artifacts") or ():
        if entry["name"] == name:
            too_large = {"_id": entry["file_id"], "length": {"$gt": MOST_BYTES}}
            if database["fs.files"].find_one(too_large, {"_id": 1}) is not None:
                return None
            return file_content(database, run_id, name, entry["file_id"])
    return None


def _shape(trajectory: Any, name: str) -> list[int]:
    """The shape of an array, read from its header alone; empty if it cannot be read."""
    try:
        with trajectory.zip.open(f"{name}.npy") as file:
            version = np.lib.format.read_magic(file)
            header = getattr(np.lib.format, f"read_array_header_{version[0]}_0")(file)
    except (ValueError, KeyError, OSError, AttributeError, zipfile.BadZipFile):
        return []
    return [int(length) for length in header[0]]


def _member(trajectory: Any, name: str) -> np.ndarray:
    if trajectory.zip.getinfo(f"{name}.npy").file_size > MOST_BYTES:
        raise UserError(f"{name} is too large to be drawn")
    try:
        return trajectory[name]
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{name} cannot be read: {error}") from error


def _spread(count: int) -> list[int]:
    return np.unique(np.linspace(0, count - 1, min(count, MOST_SHOWN)).astype(int)).tolist()


def _principal_components(table: np.ndarray) -> tuple[list[list[float | int | None]], list[float]]:
    if min(table.shape) < 2 or not np.isfinite(table).all():
        return [], []
    centred = table - table.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    total = float((s**2).sum()) or 1.0
    points = (u[:, :2] * s[:2]).tolist()
    explains = [round(float(value**2) / total, 4) for value in s[:2]]
    return [[finite(value) for value in point] for point in points], explains
