"""What a step is made of: curvature, Adam's state, the order of the data. Pure functions.

`to_reference` is the weights of another run minus the present ones, (P,); None without a reference.
Descent directions are minus gradients, so a positive cosine with it is progress.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from grok.measures.vectors import cosine

PHASE_ACCURACIES = (0.05, 0.2, 0.8, 0.99)  # test accuracies that separate phase codes 0 to 4
# Metrics of `hessian` and `counterfactual` that are also computed for each parameter alone.
HESSIAN_OF_PARAMETERS = (
    "entanglement_norm",
    "content_norm",
    "observed_grad_norm",
    "entanglement_energy_ratio",
    "entanglement_cossim_to_solution",
    "content_cossim_to_solution",
)
COUNTERFACTUAL_OF_PARAMETERS = (
    "content_component_norm",
    "ordering_component_norm",
    "ordering_fraction",
    "ordering_alignment",
    "content_cossim_to_solution",
    "ordering_cossim_to_solution",
    "cf_grad_cossim_to_solution",
)


def hessian(
    before: Tensor,
    now: Tensor,
    hessian_before: Tensor,
    lr: float,
    to_reference: Tensor | None,
    last: Tensor | None,
) -> tuple[dict[str, float], Tensor]:
    """The entanglement lr H g of two successive batches.

    A step changes the gradient of the next batch from content to content - entanglement (to first
    order, for SGD).

    Arguments:
        before, now: batch gradients of steps t - 1 and t, (P,).
        hessian_before: H before, with the Hessian H of batch t's loss at the weights at which `before`
            was taken, those that step t - 1 started from.
        lr: learning rate of step t - 1.
        to_reference: see the module.
        last: the entanglement of step t - 1; None if it was not measured.

    Returns:
        Metrics by name, and the entanglement (P,).
    """
    entanglement = lr * hessian_before
    content = now + entanglement
    grad_norm, before_norm = float(now.norm()), float(before.norm())
    amplification = float(hessian_before.norm()) / before_norm if before_norm else 0.0
    result = {
        "entanglement_norm": float(entanglement.norm()),
        "content_norm": float(content.norm()),
        "observed_grad_norm": grad_norm,
        "entanglement_content_cossim": cosine(entanglement, content),
        "amplification_ratio": amplification,
        "edge_of_stability": lr * amplification,  # gradient descent is unstable from 2
    }
    if grad_norm:
        result["entanglement_energy_ratio"] = float(entanglement.norm() / now.norm()) ** 2
    if before_norm:
        result["rayleigh_quotient"] = float(before @ hessian_before) / before_norm**2
    if to_reference is not None:
        result["entanglement_cossim_to_solution"] = cosine(-entanglement, to_reference)
        result["content_cossim_to_solution"] = cosine(-content, to_reference)
    if last is not None:
        result["entanglement_coherence"] = cosine(entanglement, last)
    return result, entanglement


def adam_dynamics(
    gradient: Tensor,
    momentum: Tensor,
    rates: Tensor,
    update: Tensor,
    lr: float,
    to_reference: Tensor | None,
) -> dict[str, float]:
    """Adam's update compared with the gradient.

    Arguments:
        gradient, momentum: g and m, (P,).
        rates: lr / (sqrt(v) + eps) of every weight, (P,).
        update: Adam's update without weight decay, (P,).
        lr: learning rate.
        to_reference: see the module.
    """
    length = float(gradient.norm())
    along = gradient * ((update @ gradient) / length**2) if length else torch.zeros_like(update)
    result = {
        "momentum_grad_cossim": cosine(momentum, gradient),
        "update_deflection": float((update - along).norm() / update.norm()),
        "effective_lr_cv": float(rates.std() / rates.mean()),
    }
    if length and lr:
        result["amplification_ratio"] = float(update.norm()) / (lr * length)
    if to_reference is not None:
        cosines = {
            "momentum": cosine(-momentum, to_reference),
            "update": cosine(-update, to_reference),
            "grad": cosine(-gradient, to_reference),
        }
        result |= {f"{key}_solution_cossim": value for key, value in cosines.items()}
        result["optimizer_solution_amplification"] = cosines["update"] - cosines["grad"]
    return result


def counterfactual(
    observed: Tensor, shuffled: Tensor, to_reference: Tensor | None
) -> dict[str, float]:
    """An epoch's G, split along and across the mean G of the same epoch in shuffled orders.

    Arguments:
        observed: G of the epoch, (P,).
        shuffled: G's of K shuffled epochs, (K, P).
        to_reference: see the module.

    Returns:
        Norms of the content (along) and ordering (across) components, ordering_fraction, the
        fraction of the energy across; null_ordering_fraction, the same of each shuffle against
        the mean of the others, which an order without effect would have.
    """
    mean = shuffled.mean(0)
    content, ordering = split(observed, mean)
    result = {
        "counterfactual_mean_norm": float(mean.norm()),
        "content_component_norm": float(content.norm()),
        "ordering_component_norm": float(ordering.norm()),
        "ordering_fraction": _energy_fraction(ordering, observed),
        "ordering_alignment": cosine(observed, mean),
    }
    if len(shuffled) > 1:
        total, others = shuffled.sum(0), len(shuffled) - 1
        nulls = [_energy_fraction(split(g, (total - g) / others)[1], g) for g in shuffled]
        result["null_ordering_fraction"] = sum(nulls) / len(nulls)
    if to_reference is not None:
        vectors = {"content": content, "ordering": ordering, "cf_grad": mean}
        for name, vector in vectors.items():
            result[f"{name}_cossim_to_solution"] = cosine(-vector, to_reference)
    return result


def energy_fraction(vectors: Tensor, direction: Tensor) -> float:
    """The fraction of the energy of vectors (W, P) that lies along a direction (P,).

    It is the mean of their squared cosines with it, weighted by their energies, and equally that of
    their singular vectors, weighted by the squared singular values.
    """
    energy = float(vectors.double().square().sum())
    size = float(direction.double().square().sum())
    along = float((vectors @ direction).double().square().sum())
    return along / (size * energy) if size and energy else 0.0


def split(vector: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """The components (P,) of a vector parallel and orthogonal to another."""
    size = float(along @ along)
    part = along * ((vector @ along) / size) if size else torch.zeros_like(vector)
    return part, vector - part


def counterfactual_validator(shuffled: Tensor, to_reference: Tensor | None) -> dict[str, float]:
    """Whether the mean over K shuffles has converged: the mean over K + 1 shuffled G's (K+1, P)
    against the means over all subsets of K."""
    count = len(shuffled) - 1
    whole = shuffled.mean(0)
    subsets = [shuffled[list(kept)].mean(0) for kept in combinations(range(count + 1), count)]
    sizes = [float(subset.norm()) for subset in subsets]
    norm, mean = float(whole.norm()), sum(sizes) / len(sizes)
    cosines = [cosine(subset, whole) for subset in subsets]
    result = {
        "kp1_content_norm": norm,
        "k_content_norm_max": max(sizes),
        "k_content_norm_min": min(sizes),
        "k_content_norm_mean": mean,
        "kp1_norm_strictly_lower": float(norm < min(sizes)),
        "norm_convergence_gap": (mean - norm) / norm if norm else 0.0,
        "k_to_kp1_cossim_mean": sum(cosines) / len(cosines),
        "k_to_kp1_cossim_min": min(cosines),
    }
    if to_reference is not None:
        progress = torch.tensor(
            [cosine(-subset, to_reference) for subset in subsets], dtype=torch.float64
        )
        result["kp1_cossim_to_solution"] = cosine(-whole, to_reference)
        result["k_cossim_to_solution_mean"] = float(progress.mean())
        result["k_cossim_to_solution_std"] = float(progress.std())
        result["k_cossim_to_solution_spread"] = float(progress.max() - progress.min())
    return result


def phases(
    norms: list[float],
    tables: list[Tensor],
    test_accuracy: float,
    accuracies: Sequence[float] = PHASE_ACCURACIES,
) -> dict[str, float]:
    """Changes of |G| and of the token embeddings between snapshots, and a code of the accuracy.

    Arguments:
        norms: |G| at the last three snapshots, or fewer.
        tables: token embeddings (p, D) at the last two snapshots, or fewer.
        test_accuracy: gives phase_code, the number of `accuracies` that it has reached.
        accuracies: that separate the phases.
    """
    result: dict[str, float] = {"phase_code": sum(test_accuracy >= edge for edge in accuracies)}
    if len(norms) > 1:
        result["grad_velocity"] = norms[-1] - norms[-2]
    if len(norms) > 2:
        result["grad_acceleration"] = norms[-1] - 2 * norms[-2] + norms[-3]
    if len(tables) > 1:
        change = float((tables[-1] - tables[-2]).norm())
        result["embedding_change"] = change
        result["embedding_change_normalized"] = change / float(tables[-2].norm())
    return result


def _energy_fraction(part: Tensor, whole: Tensor) -> float:
    size = float(whole @ whole)
    return float(part @ part) / size if size else 0.0
