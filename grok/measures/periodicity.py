"""How periodic the neurons of networks for modular arithmetic are (Gromov 2023, Doshi et al. 2024).

A network W (sum_s U_s[n_s])^S has inputs U (S, p, N) and outputs W (p, N): one column per neuron.
"""

import math

import torch
from torch import Tensor

from grok.measures.fourier import power_spectrum

PRUNING_STEPS = 10  # a tenth of the neurons each


def participation(table: Tensor) -> Tensor:
    """Inverse participation ratio (N,) of the columns of a table (p, N).

    The sum of squares of the fractions of the power at the frequencies 0..p//2: 1 for a cosine,
    about 4 / p for noise (Gromov 2023).
    """
    p = len(table)
    x = torch.arange(p, device=table.device, dtype=table.dtype)
    # by matrix products and not an FFT: a metric, compiled with the program, in the weights' dtype
    angle = 2 * math.pi / p * x[: p // 2 + 1, None] * x
    power = (angle.cos() @ table) ** 2 + (angle.sin() @ table) ** 2
    fractions = power / power.sum(0)
    return (fractions**2).sum(0)


def neuron_participation(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Inverse participation ratio (N,) of every neuron, the mean over its S input vectors and its
    output vector."""
    return torch.stack([participation(table) for table in (*inputs, outputs)]).mean(0)


def phase_gap(inputs: Tensor, outputs: Tensor) -> Tensor:
    """Violation of the analytic phase relation, |phi_u + phi_v - phi_w| on the circle, (N,).

    The phases are those at each neuron's strongest frequency; inputs (2, p, N).
    """
    spectra = torch.fft.rfft(torch.cat([inputs, outputs.unsqueeze(0)]).double(), dim=1)[:, 1:]
    strongest = spectra.abs().sum(0).argmax(0)  # (N,)
    phase = spectra.gather(1, strongest.expand(3, 1, -1)).squeeze(1).angle()
    gap = phase[0] + phase[1] - phase[2]
    return torch.atan2(gap.sin(), gap.cos()).abs()


def hidden_activations(inputs: Tensor, symbols: Tensor) -> Tensor:
    """Activations (M, N) of the neurons for symbols (M, S)."""
    preactivations = sum(table[column] for table, column in zip(inputs, symbols.T, strict=True))
    return preactivations ** len(inputs)


def predictions(inputs: Tensor, outputs: Tensor, symbols: Tensor) -> Tensor:
    """Predicted classes (M,) for symbols (M, S)."""
    return (hidden_activations(inputs, symbols) @ outputs.T).argmax(1)


def pruning_curves(
    inputs: Tensor, outputs: Tensor, order: Tensor, rows: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, list[float]]:
    """Accuracies after 0, 10, ..., 90 % of the neurons have been removed (Doshi et al. 2024).

    Arguments:
        inputs, outputs: the weights.
        order: (p,), the symbols in the order in which neurons are periodic.
        rows: symbols (M, S) and labels (M,) by the name of the part.

    Returns:
        By "low_NAME", the curve if the least periodic neurons are removed first, and by "high_NAME"
        the curve if the most periodic ones are.
    """
    ranked = neuron_participation(inputs[:, order], outputs[order]).argsort()
    curves: dict[str, list[float]] = {}
    for name, (symbols, labels) in rows.items():
        activations = hidden_activations(inputs, symbols)
        for first, sequence in (("low", ranked), ("high", ranked.flip(0))):
            curve = curves[f"{first}_{name}"] = []
            for step in range(PRUNING_STEPS):
                kept = sequence[len(ranked) * step // PRUNING_STEPS :]
                correct = (activations[:, kept] @ outputs[:, kept].T).argmax(1) == labels
                curve.append(float(correct.double().mean()))
    return curves


def fourier_entropy(table: Tensor) -> float:
    """Mean entropy, in nats, of the power of the columns of a table (p, N) over frequencies 1..p//2.

    0 for a pure tone, log(p // 2) at most; constant columns are left out (Minegishi et al. 2023,
    section 4.2).
    """
    power = power_spectrum(table)[1:]
    power = power[:, power.sum(0) > 0]
    fractions = power / power.sum(0)
    return float(torch.special.entr(fractions).sum(0).mean())
