"""The shortest description of weights: rank, rounding and what must stay."""

import bz2

import numpy as np
import torch

from grok.measures.description_length import (
    KEPT,
    UNITS,
    compressed_size,
    naive_size,
    shortest_description,
)


def made(rank: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randn(40, rank, generator=generator) for _ in range(2))
    return left @ right.T


def described(weight: torch.Tensor, tolerance: float = 1.0):
    """With a loss that counts squared errors of the weights themselves."""
    return shortest_description({"w": weight}, lambda w: ((w["w"] - weight) ** 2).sum(), tolerance)


def test_weights_that_do_not_matter_take_no_bytes():
    """Everything is rounded to zero: what an untrained network compresses to."""
    found = shortest_description({"w": made(40) / 100}, lambda w: torch.zeros(()), 1.0)
    assert found.size < 60 and (found.kept, found.unit) == (KEPT[0], UNITS[0])


def test_a_matrix_of_low_rank_is_shorter_than_one_of_full_rank():
    """Two factors of rank 2 have a tenth of the numbers of the matrix."""
    low, full = described(made(2)), described(made(40) / 40**0.5)
    assert low.size < full.size / 4
    assert naive_size({"w": made(2)}) > 5000


def test_a_smaller_tolerance_takes_more_bytes_and_none_finds_nothing():
    weight = made(3)
    sizes = [described(weight, tolerance).size for tolerance in (100.0, 1.0, 0.01)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert described(weight, 0.0) is None


def test_the_loss_is_kept_and_vectors_are_rounded_only():
    """The description that is counted is one whose loss is within the tolerance."""
    weights = {"w": made(3), "bias": torch.linspace(-1, 1, 7)}
    seen = []

    def loss(w):
        value = sum(((w[name] - weights[name]) ** 2).sum() for name in weights)
        seen.append((float(value), w["bias"]))
        return value

    found = shortest_description(weights, loss, 0.5)
    kept = [bias for value, bias in seen if value < 0.5]
    rounded = {float(torch.frac((bias / found.unit).double()).abs().max()) for bias in kept[1:]}
    assert 0.0 in rounded


def test_sizes_are_those_of_bzip2_on_the_smallest_integers():
    numbers = torch.arange(100.0).double()
    assert compressed_size({"w": [numbers]}) == len(bz2.compress(np.arange(100, dtype=np.int8)))
    large = [numbers, numbers * 100]
    joined = np.concatenate([np.arange(100), np.arange(100) * 100]).astype(np.int16)
    assert compressed_size({"w": large}) == len(bz2.compress(joined))
    larger = np.array([2**15, -(2**15)])
    found = compressed_size({"w": [torch.from_numpy(larger).double()]})
    assert found == len(bz2.compress(larger.astype(np.int32)))
