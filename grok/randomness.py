"""Random numbers inside a training step, as functions of a key, and seeds of what is drawn outside it.

A replica draws the same numbers alone, in any batch, compiled or not, on any device.
"""

import math

import torch
from torch import Tensor

MASK_32_BITS = 0xFFFFFFFF


def seed_of(seed: int, part: int) -> int:
    """The seed of a part of a run's random numbers; the run's seed itself is that of its initial weights,
    which would otherwise repeat the numbers of the part.

    Arguments:
        part: 7 for normal inputs, 11 for a teacher, 13 for a random mask, 17 for texts, 19 for the chains
            of a learning coefficient; for batches the number of the epoch or block.
    """
    return 1_000_003 * seed + part


def key_of(seed: Tensor, step: Tensor, stream: int) -> Tensor:
    """The key of a stream of random numbers at one step, an int64 scalar.

    Arguments:
        seed: of the run, an int64 scalar.
        step: an int64 scalar.
        stream: number of what the random numbers are for.
    """
    return _mixed(_mixed(seed * 0x9E3779B1 + stream) ^ _mixed(step + 0x85EBCA6B))


def uniform(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Uniform random numbers in [0, 1), multiples of 2^-24."""
    count = math.prod(shape)
    counter = torch.arange(count, device=key.device)
    bits = _mixed((counter * 0x9E3779B1 & MASK_32_BITS) ^ _mixed(key * 0x2C1B3C6D + 0x297A2D39))
    return ((bits >> 8).to(dtype) * 2.0**-24).view(shape)


def normal(key: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Standard normal random numbers (Box and Muller 1958)."""
    radius = (-2 * (1 - uniform(key, shape, dtype)).log()).sqrt()
    return radius * (2 * math.pi * uniform(key + 0x5851F42D, shape, dtype)).cos()


def _mixed(x: Tensor) -> Tensor:
    """A bijection of 32 bits whose outputs look random (Wellons 2018, "lowbias32"), in int64."""
    x = x & MASK_32_BITS
    x = (x ^ (x >> 16)) * 0x7FEB352D & MASK_32_BITS
    x = (x ^ (x >> 15)) * 0x846CA68B & MASK_32_BITS
    return x ^ (x >> 16)
