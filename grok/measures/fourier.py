"""Fourier transforms over the symbols 0..p-1."""

import math

import torch
from torch import Tensor


def power_spectrum(signals: Tensor, dim: int = 0, onesided: bool = True) -> Tensor:
    """Power |F_k|^2 of every frequency of real signals along `dim`, in float64, not normalized.

    Arguments:
        signals: real, of length p along `dim`; the other dimensions are a batch.
        dim: the dimension that is transformed.
        onesided: the frequencies k = 0..p//2; False: all of k = 0..p-1.

    Returns:
        The signals' shape, with the frequencies in place of `dim`.
    """
    transform = torch.fft.rfft if onesided else torch.fft.fft
    return transform(signals.double(), dim=dim).abs() ** 2


def fourier_basis(p: int) -> Tensor:
    """Orthonormal rows (p, p) in float64 for odd p: constant, then cos and sin of 2 pi k x / p for
    k = 1..(p-1)/2."""
    x = torch.arange(p, dtype=torch.float64)
    rows = [torch.full((p,), p**-0.5, dtype=torch.float64)]
    for k in range(1, (p - 1) // 2 + 1):
        angle = 2 * math.pi * k * x / p
        rows += [(2 / p) ** 0.5 * angle.cos(), (2 / p) ** 0.5 * angle.sin()]
    return torch.stack(rows)
