"""How periodic neurons are: inverse participation ratio of their spectra (Gromov 2023)."""

import math

import torch
from torch import Tensor


def participation(table: Tensor) -> Tensor:
    """Inverse participation ratio (N,) of the columns of a table (p, N): the sum of squares of the
    shares that the frequencies 0..p/2 have of the power. 1 for a cosine, about 2 / (p / 2) for noise."""
    p = len(table)
    place = torch.arange(p, device=table.device, dtype=table.dtype)
    angle = 2 * math.pi / p * place[: p // 2 + 1, None] * place
    power = (angle.cos() @ table) ** 2 + (angle.sin() @ table) ** 2
    shares = power / power.sum(0)
    return (shares**2).sum(0)


def neurons(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Mean ratio (N,) over a neuron's vectors: of U (S, p, N) and of W (p, N)."""
    return torch.stack([participation(table) for table in (*inputs, outputs)]).mean(0)


def phase_gap(inputs: Tensor, outputs: Tensor) -> Tensor:
    """|phi_u + phi_v - phi_w| on the circle (N,), at each neuron's strongest frequency: 0 where a
    learned neuron obeys the analytic phase relation. U (2, p, N), W (p, N)."""
    spectra = torch.fft.rfft(torch.cat([inputs, outputs.unsqueeze(0)]).double(), dim=1)[:, 1:]
    best = spectra.abs().sum(0).argmax(0)  # (N,)
    phase = spectra.gather(1, best.expand(3, 1, -1)).squeeze(1).angle()
    gap = phase[0] + phase[1] - phase[2]
    return torch.atan2(gap.sin(), gap.cos()).abs()


def pruned_accuracy(
    inputs: Tensor, outputs: Tensor, symbols: Tensor, answers: Tensor, order: Tensor, steps: int
) -> list[float]:
    """Accuracy on symbols (M, S) with answers (M,) after 0, 1/steps, .., all but one share of the
    neurons, taken in `order` (N,), have been removed."""
    total = sum(table[column] for table, column in zip(inputs, symbols.T, strict=True))
    hidden, found = total ** len(inputs), []
    for step in range(steps):
        kept = order[step * len(order) // steps :]
        guesses = (hidden[:, kept] @ outputs[:, kept].T).argmax(1)
        found.append(float((guesses == answers).double().mean()))
    return found
