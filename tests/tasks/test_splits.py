"""Train and test sets: which rows are in which, and where noisy labels come from."""

import pytest
import torch

from grok.tasks.operations import Table, table
from grok.tasks.pairs import sample_pairs, split_table
from grok.tasks.splits import split_rows, train_size


def numbered(rows: int) -> Table:
    """A table whose label is the number of the row."""
    pairs = torch.stack([torch.arange(rows) // 10, torch.arange(rows) % 10], 1)
    return Table(pairs, torch.arange(rows), rows, rows)


@pytest.mark.parametrize("count", [0, 1, 3, 4])
def test_split_rows_gives_the_first_rows_and_the_others(count):
    columns = {"pairs": torch.arange(8).view(4, 2), "labels": torch.arange(4)}
    split = split_rows(columns, count)
    assert list(split) == ["train_pairs", "train_labels", "test_pairs", "test_labels"]
    for name, values in columns.items():
        assert split[f"train_{name}"].tolist() == values.tolist()[:count]
        assert split[f"test_{name}"].tolist() == values.tolist()[count:]


def test_train_size_rounds_down_but_not_by_an_error_of_rounding():
    assert train_size(55, 0.45) == 24
    assert train_size(10, 0.99999) == 9
    assert all(train_size(55, n / 55) == n for n in range(1, 55))


def test_splits_are_disjoint_nested_and_of_the_data_seed_alone():
    whole = table("x_plus_y", 11)
    small, large = split_table(whole, 30, 5), split_table(whole, 60, 5)
    assert len(small["train_pairs"]) == 30 and len(small["test_pairs"]) == 91
    assert (large["train_pairs"][:30] == small["train_pairs"]).all()
    rows = torch.cat([large["train_pairs"], large["test_pairs"]])
    assert len(torch.unique(rows, dim=0)) == 121
    for part in ("train", "test"):
        assert ((large[f"{part}_pairs"].sum(1) % 11) == large[f"{part}_labels"]).all()
    again, other = split_table(whole, 30, 5), split_table(whole, 30, 6)
    assert all((again[name] == values).all() for name, values in small.items())
    assert not (other["train_pairs"] == small["train_pairs"]).all()


def test_noisy_labels_are_those_of_train_rows_and_only_the_first_rows_have_them():
    clean, noisy = split_table(numbered(100), 40, 1), split_table(numbered(100), 40, 1, 25)
    for name in ("train_pairs", "test_pairs", "test_labels"):
        assert (clean[name] == noisy[name]).all()
    assert (clean["train_labels"][25:] == noisy["train_labels"][25:]).all()
    replaced = noisy["train_labels"][:25]
    assert set(replaced.tolist()) <= set(clean["train_labels"].tolist())
    # 25 random ones of 40 train rows: few are their own, and not only the first rows are copied
    assert (replaced != clean["train_labels"][:25]).sum() > 18
    assert set(replaced.tolist()) & set(clean["train_labels"][25:].tolist())


def test_all_train_rows_can_be_noisy_and_the_table_stays_as_it_was():
    whole = numbered(50)
    noisy = split_table(whole, 20, 3, 20)
    assert (whole.labels == torch.arange(50)).all()
    assert set(noisy["train_labels"].tolist()) <= set(
        split_table(whole, 20, 3)["train_labels"].tolist()
    )


def test_noisy_labels_are_as_many_as_asked_for():
    whole = table("x_plus_y", 31)
    clean, noisy = split_table(whole, 480, 1), split_table(whole, 480, 1, noisy_labels=100)
    changed = (clean["train_labels"] != noisy["train_labels"]).nonzero().flatten()
    assert changed.max() < 100 and 90 <= len(changed) <= 100


@pytest.mark.parametrize(
    ("p", "train", "test"),
    [(10, 40, 60), (10, 30, 20), (10, 31, 20), (50, 100, 150), (50, 1, 0), (7, 24, 0), (7, 25, 0)],
)
def test_sampled_pairs_are_different_pairs_below_p(p, train, test):
    first, second = sample_pairs(p, train, test, seed=2)
    assert first.shape == (train, 2) and second.shape == (test, 2)
    rows = torch.cat([first, second])
    assert len(torch.unique(rows, dim=0)) == train + test
    assert rows.min() >= 0 and rows.max() < p
    assert (sample_pairs(p, train, test, seed=2)[0] == first).all()


def test_sampled_pairs_are_uniform_and_of_their_seed():
    first, second = sample_pairs(40, 200, 200, seed=0)
    assert not torch.equal(first, sample_pairs(40, 200, 200, seed=1)[0])
    for rows in (first, second):  # the mean of 200 numbers below 40, +- 5 standard errors
        assert (rows.double().mean(0) - 19.5).abs().max() < 4.1
        assert rows[:, 0].unique().numel() > 35 and rows[:, 1].unique().numel() > 35


def test_noise_is_drawn_from_the_seed_alone():
    first = split_table(numbered(100), 40, 1, 25)["train_labels"]
    torch.rand(1)  # moves the global generator
    assert (split_table(numbered(100), 40, 1, 25)["train_labels"] == first).all()


@pytest.mark.parametrize(
    ("p", "seed", "train", "test"),
    [
        (4, 0, [[0, 0], [3, 3], [1, 3], [0, 3], [3, 0]], [[2, 0], [0, 2], [1, 0]]),
        (4, 1, [[1, 1], [3, 0], [2, 0], [0, 0], [1, 3]], [[3, 1], [2, 1], [2, 3]]),
        (2, 0, [[1, 1]], [[0, 0]]),
        (2, 1, [[0, 1]], [[1, 1]]),
        (2, 2, [[1, 1]], [[0, 0]]),
        (2, 3, [[1, 0]], [[0, 0]]),
        (2, 4, [[0, 1]], [[1, 0]]),
    ],
)
def test_sampled_pairs_of_a_seed_stay_as_stored_runs_have_them(p, seed, train, test):
    first, second = sample_pairs(p, len(train), len(test), seed)
    assert (first.tolist(), second.tolist()) == (train, test)
    assert first.dtype == second.dtype == torch.long
