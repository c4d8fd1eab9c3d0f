"""Token sequences to classify: random ones, and IMDb's film reviews."""

import re
from collections import Counter
from pathlib import Path

import torch
from torch import Tensor

from grok.randomness import seed_of
from grok.tasks.splits import split_rows
from grok.tensors import Tensors

VOCABULARY, LENGTH = 200, 32  # of the random sequences
CONTRAST = 0.5  # standard deviation of the logarithms of a class's token frequencies
IMDB_VOCABULARY, IMDB_LENGTH = 1000, 500
WORD = re.compile(r"[a-z']+")


def sequences(train_count: int, test_count: int, seed: int) -> Tensors:
    """Random sequences {train,test}_tokens (N, 32) of two classes, {train,test}_labels (N,).

    The tokens of each class have frequencies of their own, exponentials of normal numbers. All
    depends on the seed alone.
    """
    # with the weights' seed, the initial embedding would have the frequencies in it
    generator = torch.Generator().manual_seed(seed_of(seed, 17))
    frequencies = (CONTRAST * torch.randn(2, VOCABULARY, generator=generator)).exp()
    labels = torch.randint(2, (train_count + test_count,), generator=generator)
    tokens = frequencies[labels].multinomial(LENGTH, replacement=True, generator=generator)
    return split_rows({"tokens": tokens, "labels": labels}, train_count)


def imdb(train_count: int, test_count: int, seed: int, folder: Path) -> Tensors:
    """Reviews {train,test}_tokens (N, 500) and their sentiment {train,test}_labels (N,), 1 for positive.

    Tokens are the 1000 most frequent words of the train rows, numbered from 1; 0 is any other word
    and the padding.

    Arguments:
        train_count, test_count: numbers of rows.
        seed: of the choice of rows.
        folder: aclImdb with its {train,test}/{pos,neg}/*.txt, or one .csv of review and sentiment.

    Raises:
        OSError: in one line, if the folder has no or too few reviews.
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
        known = [numbers.get(word, 0) for word in review[:IMDB_LENGTH]]
        tokens[row, : len(known)] = torch.tensor(known, dtype=torch.long)
    return split_rows({"tokens": tokens, "labels": labels[order]}, train_count)


def _reviews(folder: Path) -> tuple[list[str], Tensor]:
    tables = sorted(folder.glob("*.csv"))
    if tables:
        import pandas as pd  # nothing else here needs it, and all papers' commands would wait for it

        table = pd.read_csv(tables[0])
        labels = torch.tensor((table["sentiment"] == "positive").to_numpy()).long()
        return list(table["review"]), labels
    paths = sorted(folder.glob("*/neg/*.txt")), sorted(folder.glob("*/pos/*.txt"))
    if not all(paths):
        raise OSError(f"no IMDb in {folder}: neither train/pos/*.txt and so on, nor a .csv")
    reviews = [path.read_text(encoding="utf-8") for kind in paths for path in kind]
    return reviews, torch.tensor([0] * len(paths[0]) + [1] * len(paths[1]))
