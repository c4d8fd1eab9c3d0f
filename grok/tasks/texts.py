"""Two kinds of token sequences: drawn ones, and IMDb's film reviews."""

import re
from collections import Counter
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

VOCABULARY, LENGTH = 200, 32  # of the drawn sequences
CONTRAST = 0.5  # std of the logarithms of a class's token frequencies
IMDB_VOCABULARY, IMDB_LENGTH = 1000, 500
WORD = re.compile(r"[a-z']+")


def sequences(train_count: int, test_count: int, seed: int) -> dict[str, Tensor]:
    """{train,test}_tokens (N, 32) and _labels (N,): each of two classes draws its tokens with frequencies
    of its own, the exponentials of normal numbers, from `seed` alone."""
    generator = torch.Generator().manual_seed(seed)
    frequencies = (CONTRAST * torch.randn(2, VOCABULARY, generator=generator)).exp()
    labels = torch.randint(2, (train_count + test_count,), generator=generator)
    tokens = frequencies[labels].multinomial(LENGTH, replacement=True, generator=generator)
    return _parts(tokens, labels, train_count)


def imdb(train_count: int, test_count: int, seed: int, folder: Path) -> dict[str, Tensor]:
    """{train,test}_tokens (N, 500) and _labels (N,): rows drawn from `seed`, the 1000 commonest words of
    the train rows numbered from 1, 0 for others and the end.

    folder: aclImdb with its {train,test}/{pos,neg}/*.txt, or with one .csv of review and sentiment.
    OSError, in one line, if neither is there.
    """
    reviews, labels = _reviews(folder)
    total = train_count + test_count
    if len(reviews) < total:
        raise OSError(f"{folder} has {len(reviews)} of IMDb's reviews, and {total} are wanted")
    order = torch.randperm(len(reviews), generator=torch.Generator().manual_seed(seed))[:total]
    words = [WORD.findall(reviews[i].lower()) for i in order.tolist()]
    common = Counter(w for review in words[:train_count] for w in review)
    numbers = {w: i for i, (w, _) in enumerate(common.most_common(IMDB_VOCABULARY), start=1)}
    tokens = torch.zeros(total, IMDB_LENGTH, dtype=torch.long)
    for row, review in enumerate(words):
        found = [numbers.get(word, 0) for word in review[:IMDB_LENGTH]]
        tokens[row, : len(found)] = torch.tensor(found, dtype=torch.long)
    return _parts(tokens, labels[order], train_count)


def _reviews(folder: Path) -> tuple[list[str], Tensor]:
    tables = sorted(folder.glob("*.csv"))
    if tables:
        found = pd.read_csv(tables[0])
        return list(found["review"]), torch.tensor(
            (found["sentiment"] == "positive").to_numpy()
        ).long()
    paths = sorted(folder.glob("*/neg/*.txt")), sorted(folder.glob("*/pos/*.txt"))
    if not all(paths):
        raise OSError(f"no IMDb in {folder}: neither train/pos/*.txt and so on, nor a .csv")
    reviews = [path.read_text(encoding="utf-8") for kind in paths for path in kind]
    return reviews, torch.tensor([0] * len(paths[0]) + [1] * len(paths[1]))


def _parts(tokens: Tensor, labels: Tensor, count: int) -> dict[str, Tensor]:
    return {
        "train_tokens": tokens[:count],
        "train_labels": labels[:count],
        "test_tokens": tokens[count:],
        "test_labels": labels[count:],
    }
