"""Pictures of digits as a train and a test set: scikit-learn's small ones, and MNIST."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import requests
import torch
from sklearn.datasets import load_digits
from torch import Tensor

DIGITS = 1797
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
MNIST = {  # MD5 of each file
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
TIMEOUT = 20.0  # seconds until the server must have replied


def digits(train_count: int, seed: int) -> dict[str, Tensor]:
    """train_images (N, 64) and train_labels (N,), the rest as test_images and test_labels.

    DIGITS handwritten digits of 8 x 8 pixels, divided by 16; the split is drawn from `seed` alone.
    """
    found = load_digits()
    images = torch.tensor(found.data / 16, dtype=torch.float64)
    labels = torch.tensor(found.target, dtype=torch.long)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:train_count], order[train_count:]
    return {
        "train_images": images[train],
        "train_labels": labels[train],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def mnist(train_count: int, seed: int, folder: Path) -> dict[str, Tensor]:
    """train_images (N, 784) and train_labels (N,), `train_count` of the 60,000 drawn from `seed`, and the
    10,000 of the test set; pixels in [0, 1].

    The files are looked for in `folder`, else downloaded to it. OSError, in one line, if they cannot be
    had or are not MNIST's.
    """
    arrays = {name: _idx(_file(folder, name)) for name in MNIST}
    found = {}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images = torch.from_numpy(arrays[f"{prefix}-images-idx3-ubyte.gz"])
        found[f"{split}_images"] = images.flatten(1).double() / 255
        found[f"{split}_labels"] = torch.from_numpy(arrays[f"{prefix}-labels-idx1-ubyte.gz"]).long()
    total = len(found["train_images"])
    rows = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:train_count]
    return {k: v[rows] if k.startswith("train") else v for k, v in found.items()}


def relabelled(labels: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The labels (N,), a share of them drawn anew from the ten digits."""
    drawn = torch.randint(10, labels.shape, generator=generator)
    anew = torch.rand(labels.shape, generator=generator) < share
    return torch.where(anew, drawn, labels)


def _file(folder: Path, name: str) -> bytes:
    """The content of one of MNIST's files, its checksum verified."""
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
        path.write_bytes(content)
    return content


def _idx(content: bytes) -> np.ndarray:
    """The array of a gzipped IDX file of bytes."""
    raw = gzip.decompress(content)
    shape = np.frombuffer(raw, ">i4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()
