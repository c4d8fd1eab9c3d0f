"""Regression of one target from rows of numbers: scikit-learn's diabetes, and QM9's molecules."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from grok.tasks.splits import split_rows
from grok.tensors import Tensors

ROWS = 442  # patients of the diabetes data
CHARGES = {"H": 1, "C": 6, "N": 7, "O": 8, "F": 9}
MOST_ATOMS = 29  # of a QM9 molecule
POLARIZABILITY = 6  # word in the second line of a QM9 file


def diabetes(train_count: int, seed: int) -> Tensors:
    """{train,test}_inputs (N, 10) and {train,test}_targets (N, 1), standardized.

    `train_count` of the 442 rows are the train set, by the seed alone.
    """
    from sklearn.datasets import load_diabetes  # two seconds, for those who need it

    data = load_diabetes()
    return _split(data.data, data.target, train_count, len(data.data), seed)


def qm9(train_count: int, test_count: int, seed: int, folder: Path) -> Tensors:
    """{train,test}_inputs (N, 29) and {train,test}_targets (N, 1), standardized.

    A molecule's polarizability, from the eigenvalues of its Coulomb matrix (Rupp et al. 2012).

    Arguments:
        train_count, test_count: numbers of molecules; both together are the first files.
        seed: of the split.
        folder: with dsgdb9nsd.xyz.tar.bz2 or its .xyz files.

    Raises:
        OSError: in one line, if the folder has too few files.
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
                    content = members.extractfile(member)
                    assert content is not None  # a file, by its name
                    yield content.read().decode()


def _molecule(text: str) -> tuple[np.ndarray, float]:
    """Eigenvalues (29,) of the Coulomb matrix, largest magnitude first, padded with zeros; and the
    polarizability."""
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
    inputs: np.ndarray, targets: np.ndarray, train_count: int, total: int, seed: int
) -> Tensors:
    """Random rows, standardized by the train rows' mean and standard deviation."""
    order = torch.randperm(total, generator=torch.Generator().manual_seed(seed)).numpy()
    columns = {}
    for name, values in (("inputs", inputs), ("targets", targets.reshape(-1, 1))):
        values = values[order]
        std = values[:train_count].std(0)
        values = (values - values[:train_count].mean(0)) / np.where(std > 0, std, 1.0)
        columns[name] = torch.tensor(values)
    return split_rows(columns, train_count)
