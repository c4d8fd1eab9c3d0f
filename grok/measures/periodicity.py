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


def hidden(inputs: Tensor, symbols: Tensor) -> Tensor:
    """What the neurons make of symbols (M, S), (M, N)."""
    total = sum(table[column] for table, column in zip(inputs, symbols.T, strict=True))
    return total ** len(inputs)


def predictions(inputs: Tensor, outputs: Tensor, symbols: Tensor) -> Tensor:
    """Answers (M,) to symbols (M, S)."""
    return (hidden(inputs, symbols) @ outputs.T).argmax(1)


def pruning(
    inputs: Tensor, outputs: Tensor, order: Tensor, rows: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, list[float]]:
    """Accuracies after 0, 10, .. 90 % of the neurons have been removed, by "low_NAME" (the least
    periodic first) and "high_NAME", on rows NAME: symbols (M, 2) and labels (M,)."""
    ranked = neurons(inputs[:, order], outputs[order]).argsort()
    found: dict[str, list[float]] = {}
    for name, (symbols, labels) in rows.items():
        active = hidden(inputs, symbols)
        for end, sequence in (("low", ranked), ("high", ranked.flip(0))):
            for cut in range(0, len(ranked), len(ranked) // 10):
                kept = sequence[cut:]
                right = (active[:, kept] @ outputs[:, kept].T).argmax(1) == labels
                found.setdefault(f"{end}_{name}", []).append(float(right.double().mean()))
    return found


def fourier_entropy(table: Tensor) -> float:
    """Mean over columns of a table (p, N) of the entropy, in nats, of their power over the frequencies
    1..p/2: 0 for a tone, log(p // 2) for noise (Minegishi et al. 2023, section 4.2)."""
    power = torch.fft.rfft(table.double(), dim=0)[1:].abs() ** 2
    power = power[:, power.sum(0) > 0]
    shares = power / power.sum(0)
    return float(torch.special.entr(shares).sum(0).mean())
