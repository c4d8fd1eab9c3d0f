"""Progress measures of Nanda et al. 2023 (arXiv:2301.05217), section 3.4 and appendix C.

Logits L are (p, p, p): over a, b and the label c. A direction is a unit vector over the p^2 grid
of inputs. w_k = 2 pi k / p for k = 1..(p-1)/2.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from grok.measures.vectors import gini

KEY_SHARE = 0.1  # of the largest power: what a frequency must have to be a key frequency
SINGLE = 0.85  # of a neuron's variance in one frequency's block: it has a single frequency


def fourier_basis(p: int) -> Tensor:
    """Orthonormal rows (p, p) in float64: constant, then cos and sin of w_k x for every k."""
    x = torch.arange(p, dtype=torch.float64)
    rows = [torch.full((p,), p**-0.5, dtype=torch.float64)]
    for k in range(1, (p - 1) // 2 + 1):
        angle = 2 * math.pi * k * x / p
        rows += [(2 / p) ** 0.5 * angle.cos(), (2 / p) ** 0.5 * angle.sin()]
    return torch.stack(rows)


def frequency_power(table: Tensor) -> Tensor:
    """Power ((p-1)/2,) of every frequency over the rows of a table (p, D)."""
    found = fourier_basis(len(table)) @ table.double()
    return (found[1:] ** 2).sum(1).view(-1, 2).sum(1)


def key_frequencies(neurons_to_logits: Tensor) -> Tensor:
    """The frequencies k (K,) with at least a tenth of the largest power in W_L (p, F), ascending."""
    power = frequency_power(neurons_to_logits)
    return (power >= KEY_SHARE * power.max()).nonzero().flatten() + 1


def spectrum_gini(table: Tensor) -> float:
    """Gini coefficient of the norms of a table's Fourier components (p, D)."""
    return gini((fourier_basis(len(table)) @ table.double()).norm(dim=1))


def directions(p: int, k: int) -> Tensor:
    """u_k, v_k: cos and sin of w_k (a + b) as unit vectors, (2, p, p)."""
    x = torch.arange(p, dtype=torch.float64)
    angle = 2 * math.pi * k * (x[:, None] + x) / p
    return 2**0.5 / p * torch.stack([angle.cos(), angle.sin()])


def projection(logits: Tensor, frequencies: Tensor) -> Tensor:
    """The part of L along u_k and v_k of these frequencies, (p, p, p)."""
    p = len(logits)
    part = torch.zeros_like(logits)
    for k in frequencies.tolist():
        along = directions(p, k).to(logits)
        part += torch.einsum("iab,ic->abc", along, torch.einsum("iab,abc->ic", along, logits))
    return part


def restricted(logits: Tensor, frequencies: Tensor) -> Tensor:
    """L with nothing but its mean over inputs and its part at these frequencies."""
    return logits.mean((0, 1)) + projection(logits, frequencies)


def excluded(logits: Tensor, frequencies: Tensor) -> Tensor:
    """L without its part at these frequencies."""
    return logits - projection(logits, frequencies)


def cosine_share(logits: Tensor, frequencies: Tensor) -> float:
    """Fraction of the variance of L that sum_k alpha_k cos(w_k (a + b - c)) explains, alpha fitted."""
    p = len(logits)
    x = torch.arange(p, dtype=torch.float64)
    centred = (logits - logits.mean()).double().flatten()
    rest = x[:, None, None] + x[None, :, None] - x
    waves = [(2 * math.pi * k * rest / p).cos().flatten() for k in frequencies.tolist()]
    # the waves of different k are orthogonal over the whole cube
    explained = sum((wave @ centred) ** 2 / (wave @ wave) for wave in waves)
    return float(explained / (centred @ centred))


def neuron_frequencies(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Of neurons (p, p, F) over all inputs: the frequency (F,) whose 3 x 3 block {1, cos, sin}^2 has
    most of the variance, and its share (F,)."""
    p = len(activations)
    basis = fourier_basis(p).to(activations)
    centred = activations - activations.mean((0, 1))
    power = torch.einsum("ia,jb,abf->ijf", basis, basis, centred) ** 2
    total = power.sum((0, 1)).clamp(min=1e-30)
    shares = []
    for k in range(1, (p - 1) // 2 + 1):
        block = [0, 2 * k - 1, 2 * k]
        shares.append(power[block][:, block].sum((0, 1)) / total)
    best = torch.stack(shares).max(0)
    return best.indices + 1, best.values


@dataclass(frozen=True)
class Circuit:
    """A one-layer network over all pairs below p, tokens a, b, =; in float64.

    logits (p, p, p); activations (p, p, F) of the MLP at the last position; embedding W_E (p, D);
    neurons_to_logits W_L (p, F), the output layer after the MLP's.
    """

    logits: Tensor
    activations: Tensor
    embedding: Tensor
    neurons_to_logits: Tensor


def circuit_of(module: nn.Module, weights: dict, p: int) -> Circuit:
    """What these weights make of every pair."""
    weights = {name: torch.as_tensor(value).double() for name, value in weights.items()}
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens = torch.cat([pairs, torch.full((p * p, 1), p)], 1).to(weights["tokens"].device)
    seen: list[Tensor] = []
    hook = module.blocks[0].activation.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    try:
        with torch.no_grad():
            logits = functional_call(module, weights, (tokens,))[:, -1, :p]
    finally:
        hook.remove()
    return Circuit(
        logits.view(p, p, p).cpu(),
        seen[0][:, -1].view(p, p, -1).cpu(),
        weights["tokens"][:p].cpu(),
        (weights["output.weight"] @ weights["blocks.0.down.weight"])[:p].cpu(),
    )


def measure(circuit: Circuit, frequencies: Tensor, train: Tensor) -> dict[str, float]:
    """The progress measures at given key frequencies. train: which pairs are (p, p) bool.

    restricted_loss over all pairs and over the test pairs, excluded_loss over the train pairs.
    """
    kept = restricted(circuit.logits, frequencies)
    left = excluded(circuit.logits, frequencies)
    every = torch.ones_like(train)
    return {
        "restricted_loss": loss_of(kept, every),
        "restricted_test_loss": loss_of(kept, ~train),
        "excluded_loss": loss_of(left, train),
        "embedding_gini": spectrum_gini(circuit.embedding),
        "neuron_logit_gini": spectrum_gini(circuit.neurons_to_logits),
        "cosine_share": cosine_share(circuit.logits, frequencies),
    }


def loss_of(logits: Tensor, pairs: Tensor) -> float:
    """Mean cross-entropy of L on the sums of the chosen pairs (p, p) bool."""
    p = len(logits)
    x = torch.arange(p)
    return float(cross_entropy(logits[pairs], ((x[:, None] + x) % p)[pairs]))


def summary(circuit: Circuit, train: Tensor) -> dict[str, float | list[int]]:
    """The final network: its key frequencies and how far they explain it; what each ablation costs."""
    keys = key_frequencies(circuit.neurons_to_logits)
    power = frequency_power(circuit.embedding)
    _, shares = neuron_frequencies(circuit.activations)
    whole = loss_of(circuit.logits, torch.ones_like(train))
    ablated = [loss_of(excluded(circuit.logits, k.view(1)), torch.ones_like(train)) for k in keys]
    return {
        "key_frequencies": keys.tolist(),
        "embedding_share": float(power[keys - 1].sum() / power.sum()),
        "single_frequency_neurons": float((shares >= SINGLE).double().mean()),
        "loss": whole,
        "least_ablated_loss": min(ablated),
        **measure(circuit, keys, train),
    }


def history(
    module: nn.Module, weights: list[dict], frequencies: list[int], train: Tensor
) -> dict[str, list[float]]:
    """The progress measures of every set of weights, by name."""
    circuits = (circuit_of(module, one, len(train)) for one in weights)
    rows = [measure(circuit, torch.tensor(frequencies), train) for circuit in circuits]
    return {name: [row[name] for row in rows] for name in rows[0]}


def grid_of(pairs: Tensor, p: int) -> Tensor:
    """Which pairs below p are among these (N, 2), (p, p) bool."""
    grid = torch.zeros(p, p, dtype=torch.bool)
    grid[pairs.unbind(1)] = True
    return grid
