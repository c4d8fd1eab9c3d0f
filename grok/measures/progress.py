"""Progress measures of Nanda et al. 2023 (arXiv:2301.05217), section 3.4 and appendix C.

Logits L are (p, p, p): over the operands a, b and the class c. A direction is a unit vector over the
p^2 pairs. Frequencies are k = 1..(p-1)/2, with w_k = 2 pi k / p.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from grok.measures.fourier import fourier_basis
from grok.measures.spectra import entropy_rank, principal_shares
from grok.measures.vectors import gini

KEY_FREQUENCY_POWER = 0.1  # least power of a key frequency, as a fraction of the largest
SINGLE_FREQUENCY_VARIANCE = 0.85  # fraction from which a neuron counts as of a single frequency


def frequency_power(table: Tensor) -> Tensor:
    """Power ((p-1)/2,) of every frequency k, summed over the columns of a table (p, D)."""
    components = fourier_basis(len(table)) @ table.double()
    return (components[1:] ** 2).sum(1).view(-1, 2).sum(1)


def key_frequencies(neurons_to_logits: Tensor) -> Tensor:
    """The frequencies (K,), ascending, with at least a tenth of the largest power in W_L (p, F)."""
    power = frequency_power(neurons_to_logits)
    return (power >= KEY_FREQUENCY_POWER * power.max()).nonzero().flatten() + 1


def spectrum_gini(table: Tensor) -> float:
    """Gini coefficient of the norms of the Fourier components of a table (p, D)."""
    return gini((fourier_basis(len(table)) @ table.double()).norm(dim=1))


def directions(p: int, k: int) -> Tensor:
    """The directions u_k and v_k, (2, p, p): cos and sin of w_k (a + b), as unit vectors."""
    x = torch.arange(p, dtype=torch.float64)
    angle = 2 * math.pi * k * (x[:, None] + x) / p
    return 2**0.5 / p * torch.stack([angle.cos(), angle.sin()])


def projection(logits: Tensor, frequencies: Tensor) -> Tensor:
    """The part (p, p, p) of L along u_k and v_k of these frequencies (K,)."""
    p = len(logits)
    part = torch.zeros_like(logits)
    for k in frequencies.tolist():
        along = directions(p, k).to(logits)
        part += torch.einsum("iab,ic->abc", along, torch.einsum("iab,abc->ic", along, logits))
    return part


def restricted(logits: Tensor, frequencies: Tensor) -> Tensor:
    """Restricted logits (p, p, p): the mean of L over pairs plus its part at these frequencies (K,)."""
    return logits.mean((0, 1)) + projection(logits, frequencies)


def excluded(logits: Tensor, frequencies: Tensor) -> Tensor:
    """Excluded logits (p, p, p): L without its part at these frequencies (K,)."""
    return logits - projection(logits, frequencies)


def cosine_variance(logits: Tensor, frequencies: Tensor) -> float:
    """Fraction of the variance of L that sum_k alpha_k cos(w_k (a + b - c)) explains, alpha fitted."""
    p = len(logits)
    x = torch.arange(p, dtype=torch.float64)
    centred = (logits - logits.mean()).double().flatten()
    differences = x[:, None, None] + x[None, :, None] - x
    waves = [(2 * math.pi * k * differences / p).cos().flatten() for k in frequencies.tolist()]
    # waves of different k are orthogonal over all a, b, c, so each is fitted alone
    explained = sum((wave @ centred) ** 2 / (wave @ wave) for wave in waves)
    return float(explained / (centred @ centred))


def neuron_frequencies(activations: Tensor) -> tuple[Tensor, Tensor]:
    """The frequency (F,) that explains most of each neuron's variance, and its fraction (F,).

    activations: (p, p, F) over all pairs. A frequency explains what lies in its 3 x 3 block
    {1, cos, sin}^2 of the two-dimensional Fourier basis.
    """
    p = len(activations)
    basis = fourier_basis(p).to(activations)
    centred = activations - activations.mean((0, 1))
    power = torch.einsum("ia,jb,abf->ijf", basis, basis, centred) ** 2
    total = power.sum((0, 1)).clamp(min=1e-30)
    fractions = []
    for k in range(1, (p - 1) // 2 + 1):
        block = [0, 2 * k - 1, 2 * k]
        fractions.append(power[block][:, block].sum((0, 1)) / total)
    best = torch.stack(fractions).max(0)
    return best.indices + 1, best.values


@dataclass(frozen=True)
class Circuit:
    """What a one-layer transformer computes of all pairs `a b =` below p, in float64.

    Attributes:
        logits: L (p, p, p).
        activations: of the MLP's neurons at the last position, (p, p, F).
        embedding: W_E of the operands, (p, D).
        neurons_to_logits: W_L (p, F), the unembedding after the MLP's output matrix.
    """

    logits: Tensor
    activations: Tensor
    embedding: Tensor
    neurons_to_logits: Tensor


def circuit_of(module: nn.Module, weights: Mapping[str, object], p: int) -> Circuit:
    """The circuit of a one-layer transformer with these weights, by parameter name."""
    params = {name: torch.as_tensor(value).double() for name, value in weights.items()}
    W_E, W_U, W_out = params["tokens"], params["output.weight"], params["blocks.0.down.weight"]
    pairs = torch.cartesian_prod(torch.arange(p), torch.arange(p))
    tokens = torch.cat([pairs, torch.full((p * p, 1), p)], 1).to(W_E.device)
    activations: list[Tensor] = []
    hook = module.get_submodule("blocks.0.activation").register_forward_hook(
        lambda module, inputs, output: activations.append(output)
    )
    try:
        with torch.no_grad():
            logits = functional_call(module, params, (tokens,))[:, -1, :p]
    finally:
        hook.remove()
    return Circuit(
        logits.view(p, p, p).cpu(),
        activations[0][:, -1].view(p, p, -1).cpu(),
        W_E[:p].cpu(),
        (W_U @ W_out)[:p].cpu(),
    )


def measure(circuit: Circuit, frequencies: Tensor, train: Tensor) -> dict[str, float]:
    """The progress measures of a circuit, by metric name.

    Arguments:
        circuit: at one step of training.
        frequencies: the key frequencies (K,) of the final network.
        train: (p, p) bool, the pairs of the train set.

    Returns:
        restricted_loss over all pairs, restricted_test_loss over the test pairs, excluded_loss over
        the train pairs, Gini coefficients of the spectra of W_E and W_L, and cosine_share. Of the
        principal components of W_E, the variance of the first two as a fraction of all
        (embedding_top_two), and the effective number, the exponential of the entropy of their
        fractions (embedding_dimension; Liu et al. 2022, arXiv:2205.10343, figure 7).
    """
    restricted_logits = restricted(circuit.logits, frequencies)
    shares = principal_shares(circuit.embedding)
    return {
        "restricted_loss": loss_of(restricted_logits, torch.ones_like(train)),
        "restricted_test_loss": loss_of(restricted_logits, ~train),
        "excluded_loss": loss_of(excluded(circuit.logits, frequencies), train),
        "embedding_gini": spectrum_gini(circuit.embedding),
        "neuron_logit_gini": spectrum_gini(circuit.neurons_to_logits),
        "cosine_share": cosine_variance(circuit.logits, frequencies),
        "embedding_top_two": float(shares[:2].sum()),
        "embedding_dimension": entropy_rank(shares),
    }


def loss_of(logits: Tensor, pairs: Tensor) -> float:
    """Mean cross-entropy of logits (p, p, p) for a + b mod p, over the chosen pairs (p, p) bool."""
    p = len(logits)
    x = torch.arange(p)
    return float(cross_entropy(logits[pairs], ((x[:, None] + x) % p)[pairs]))


def summary(circuit: Circuit, train: Tensor) -> dict[str, Any]:
    """Key frequencies of the final network, how much they explain, and its progress measures.

    Arguments:
        circuit: of the final weights.
        train: (p, p) bool, the pairs of the train set.

    Returns:
        key_frequencies; embedding_share, the fraction of W_E's power at them;
        single_frequency_neurons, the fraction of neurons of a single frequency; loss over all
        pairs; least_ablated_loss, the smallest loss without one key frequency; and those of
        `measure`.
    """
    keys = key_frequencies(circuit.neurons_to_logits)
    power = frequency_power(circuit.embedding)
    _, variances = neuron_frequencies(circuit.activations)
    all_pairs = torch.ones_like(train)
    ablated = [loss_of(excluded(circuit.logits, k.view(1)), all_pairs) for k in keys]
    single = (variances >= SINGLE_FREQUENCY_VARIANCE).double()
    return {
        "key_frequencies": keys.tolist(),
        "embedding_share": float(power[keys - 1].sum() / power.sum()),
        "single_frequency_neurons": float(single.mean()),
        "loss": loss_of(circuit.logits, all_pairs),
        "least_ablated_loss": min(ablated),
        **measure(circuit, keys, train),
    }


def history(
    module: nn.Module,
    weights: Sequence[Mapping[str, object]],
    frequencies: list[int],
    train: Tensor,
) -> dict[str, list[float]]:
    """The progress measures, by name, of the weights at several steps; arguments as in `measure`."""
    circuits = (circuit_of(module, step_weights, len(train)) for step_weights in weights)
    rows = [measure(circuit, torch.tensor(frequencies), train) for circuit in circuits]
    return {name: [row[name] for row in rows] for name in rows[0]}


def grid_of(pairs: Tensor, p: int) -> Tensor:
    """Whether each pair below p is among these pairs (N, 2), (p, p) bool."""
    grid = torch.zeros(p, p, dtype=torch.bool)
    grid[pairs.unbind(1)] = True
    return grid
