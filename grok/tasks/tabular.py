"""Rows of numbers and one target: scikit-learn's diabetes, and QM9's molecules."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_diabetes
from torch import Tensor

ROWS = 442  # of diabetes
CHARGES = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
MOST_ATOMS = 29
POLARIZABILITY = 6  # place in the second line of a QM9 file


def diabetes(train_count: int, seed: int) -> dict[str, Tensor]:
    """{train,test}_inputs (N, 10) and _targets (N, 1), standardized; 442 rows, split by `seed` alone."""
    found = load_diabetes()
    return _split(found.data, found.target, train_count, len(found.data), seed)


def qm9(train_count: int, test_count: int, seed: int, folder: Path) -> dict[str, Tensor]:
    """{train,test}_inputs (N, 29) and _targets (N, 1), standardized: polarizability by the eigenvalues of
    the Coulomb matrix (Rupp et al. 2012), of molecules drawn from `seed` from the first so many files.

    folder: with dsgdb9nsd.xyz.tar.bz2 or its .xyz files. OSError, in one line, if it has none.
    """
    total = train_count + test_count
    inputs, targets = [], []
    for text in _molecules(folder):
        values, target = _molecule(text)
        inputs.append(values)
        targets.append(target)
        if len(targets) == total:
            return _split(np.array(inputs), np.array(targets), train_count, total, seed)
    raise OSError(f"{folder} has {len(targets)} of QM9's .xyz files, and {total} are wanted")


def _molecules(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.xyz")):
        yield path.read_text()
    for archive in sorted(folder.glob("*.tar*")):
        with tarfile.open(archive) as members:
            for member in members:
                if member.name.endswith(".xyz"):
                    yield members.extractfile(member).read().decode()


def _molecule(text: str) -> tuple[np.ndarray, float]:
    """Eigenvalues (29,) of the Coulomb matrix by falling size, zeros behind, and the polarizability."""
    lines = text.replace("*^", "e").splitlines()
    count = int(lines[0])
    atoms = [line.split() for line in lines[2 : 2 + count]]
    charges = np.array([CHARGES[atom[0]] for atom in atoms], dtype=float)
    places = np.array([[float(x) for x in atom[1:4]] for atom in atoms])
    distances = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(distances, 1.0)
    coulomb = np.outer(charges, charges) / distances
    np.fill_diagonal(coulomb, charges**2.4 / 2)
    values = np.linalg.eigvalsh(coulomb)
    result = np.zeros(MOST_ATOMS)
    result[:count] = values[np.argsort(-np.abs(values))]
    return result, float(lines[1].split()[POLARIZABILITY])


def _split(
    inputs: np.ndarray, targets: np.ndarray, count: int, total: int, seed: int
) -> dict[str, Tensor]:
    """Parts of drawn rows, by the train rows' mean and standard deviation."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).numpy()
    found = {}
    for name, values in (("inputs", inputs), ("targets", targets.reshape(-1, 1))):
        values = values[order]
        spread = values[:count].std(0)
        values = (values - values[:count].mean(0)) / np.where(spread > 0, spread, 1.0)
        found[f"train_{name}"] = torch.tensor(values[:count])
        found[f"test_{name}"] = torch.tensor(values[count:])
    return found
