"""Small pictures that come with scikit-learn, as a train and a test set."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor

DIGITS = 1797


def digits(train_count: int, seed: int) -> dict[str, Tensor]:
    """train_images (N, 64) and train_answers (N,), the rest as test_images and test_answers.

    DIGITS handwritten digits of 8 x 8 pixels, divided by 16; the split is drawn from `seed` alone.
    """
    found = load_digits()
    images = torch.tensor(found.data / 16, dtype=torch.float64)
    answers = torch.tensor(found.target, dtype=torch.long)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    train, test = order[:train_count], order[train_count:]
    return {
        "train_images": images[train],
        "train_answers": answers[train],
        "test_images": images[test],
        "test_answers": answers[test],
    }
