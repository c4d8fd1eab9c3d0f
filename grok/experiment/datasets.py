"""Data that is not a table of an operation: images, texts, rows of numbers, as `dataset` says."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from grok.engine.determinism import drawing
from grok.experiment.parts import count_of, data_seed_of
from grok.experiment.validation import ConfigError
from grok.models.mlp import mlp
from grok.objectives.losses import DTYPES
from grok.paths import home
from grok.tasks import gaussian, messy, texts
from grok.tasks.images import DIGITS, digits, mnist
from grok.tasks.splits import split_rows
from grok.tasks.tabular import ROWS, diabetes, qm9
from grok.tensors import Tensors

TOKENS = {"sequences": texts.VOCABULARY, "imdb": texts.IMDB_VOCABULARY + 1}
SOURCES = {  # of Omnigrok: the paper's own data, or what stands in for it offline
    "mnist": "published", "teacher": "published", "addition": "published", "imdb": "published",
    "qm9": "published", "sums": "published", "digits": "substitute", "sequences": "substitute", "diabetes": "substitute",
}  # fmt: skip


def digits_of(c: SimpleNamespace) -> Tensors:
    """`train_count` handwritten digits to train on, the rest to test on: images and answers."""
    return in_dtype(c, digits(_some_of(c, DIGITS, "digits"), data_seed_of(c)))


def images_of(c: SimpleNamespace) -> Tensors:
    """Digits or MNIST, images and answers."""
    if c.dataset == "digits":
        return digits_of(c)
    count = count_of(c, 60_000, least=0)
    return from_files(c, lambda folder: mnist(count, data_seed_of(c), folder))


def tidied_images_of(c: SimpleNamespace) -> Tensors:
    """Digits or MNIST as messy as `messiness` says, images and answers."""
    split = images_of(c)
    for part in ("train", "test"):
        images, answers = split[f"{part}_images"], split[f"{part}_labels"]
        split[f"{part}_images"] = messy.tidied(images, answers, c.messiness)
    return split


def texts_of(c: SimpleNamespace) -> Tensors:
    """Drawn sequences or IMDb's reviews, tokens and answers."""
    if c.dataset == "sequences":
        return texts.sequences(*_drawn(c))
    return from_files(c, lambda folder: texts.imdb(*_drawn(c), folder))


def rows_of(c: SimpleNamespace) -> Tensors:
    """A teacher's answers to normal inputs, sums, diabetes or QM9, inputs and targets."""
    if c.dataset == "teacher":
        return _taught(c)
    if c.dataset == "sums":
        count = _some_of(c, messy.PAIRS, "sums", messy.SUMS)
        return in_dtype(c, messy.sums(count, c.messiness, data_seed_of(c)))
    if c.dataset == "diabetes":
        return in_dtype(c, diabetes(_some_of(c, ROWS, "patients"), data_seed_of(c)))
    return from_files(c, lambda folder: qm9(*_drawn(c), folder))


def _taught(c: SimpleNamespace) -> Tensors:
    """Standard normal inputs (N, 5), and what a perceptron 5-width-width-5 makes of them."""
    *counts, seed = _drawn(c)
    with drawing(1_000_003 * seed + 11, DTYPES[c.dtype]):  # not what the student is drawn from
        teacher = mlp([5, c.width, c.width, 5], c.activation)
    inputs = gaussian.inputs(sum(counts), 5, seed).to(DTYPES[c.dtype])
    split = split_rows({"inputs": inputs}, counts[0])
    targets = {
        f"{part}_targets": teacher(split[f"{part}_inputs"]).detach() for part in ("train", "test")
    }
    return {**split, **targets}


def from_files(c: SimpleNamespace, load: Callable[[Path], Tensors]) -> Tensors:
    """What `load` finds in data_folder, .grok/DATASET if that is None; ConfigError if it cannot be had."""
    folder = Path(c.data_folder) if c.data_folder else home() / c.dataset
    try:
        return in_dtype(c, load(folder))
    except (OSError, KeyError, ValueError, tarfile.TarError) as error:
        offline = {"mnist": "digits", "imdb": "sequences", "qm9": "diabetes"}[c.dataset]
        raise ConfigError("dataset", c.dataset, f"{offline}, or its files: {error}") from error


def in_dtype(c: SimpleNamespace, split: Tensors) -> Tensors:
    """The split, its numbers in the run's dtype."""
    return {k: v.to(DTYPES[c.dtype]) if v.is_floating_point() else v for k, v in split.items()}


def _drawn(c: SimpleNamespace) -> tuple[int, int, int]:
    """train_count, test_count and the seed of what is drawn; ConfigError if there is no train_count."""
    if not c.train_count:
        raise ConfigError("train_count", c.train_count, "a whole number from 1 up")
    return c.train_count, c.test_count, data_seed_of(c)


def _some_of(c: SimpleNamespace, total: int, of: str, least: int = 1) -> int:
    """train_count; ConfigError if not one at least is left to test on."""
    if not c.train_count or not least <= c.train_count < total:
        raise ConfigError("train_count", c.train_count, f"{least} to {total - 1} of the {of}")
    return c.train_count
