"""What an update is made of: curvature, Adam's state, the order of the data. Pure functions.

way: reference weights minus the present ones (P,), None where there are none. A descent direction is
minus a gradient, so a positive cosine with the way is progress.
"""

from itertools import combinations

import torch
from torch import Tensor

from grok.measures.vectors import cosine

Way = Tensor | None


def hessian(
    before: Tensor, now: Tensor, curved: Tensor, lr: float, way: Way, last: Tensor | None
) -> tuple[dict, Tensor]:
    """The entanglement term lr H g of two successive gradients, and that vector.

    before, now: gradients of updates t-1 and t. curved: H before, the Hessian of batch t's loss at the
    weights of update t-1. last: the vector of update t-1, if measured. An update moves the gradient of
    batch t from content to content - entanglement (first order, SGD).
    """
    entanglement = lr * curved
    content = now + entanglement
    grad_norm, before_norm = float(now.norm()), float(before.norm())
    amplification = float(curved.norm()) / before_norm if before_norm else 0.0
    result = {
        "entanglement_norm": float(entanglement.norm()),
        "content_norm": float(content.norm()),
        "observed_grad_norm": grad_norm,
        "entanglement_content_cossim": cosine(entanglement, content),
        "amplification_ratio": amplification,
        "edge_of_stability": lr * amplification,  # unstable from 2 (gradient descent)
    }
    if grad_norm:
        result["entanglement_energy_ratio"] = float(entanglement.norm() / now.norm()) ** 2
    if before_norm:
        result["rayleigh_quotient"] = float(before @ curved) / before_norm**2
    if way is not None:
        result["entanglement_cossim_to_solution"] = cosine(-entanglement, way)
        result["content_cossim_to_solution"] = cosine(-content, way)
    if last is not None:
        result["entanglement_coherence"] = cosine(entanglement, last)
    return result, entanglement


def adam_dynamics(
    gradient: Tensor, momentum: Tensor, rates: Tensor, update: Tensor, lr: float, way: Way
) -> dict:
    """Adam's update (P,), decay excluded, beside the gradient. rates: lr / (sqrt(v) + eps), (P,)."""
    length = float(gradient.norm())
    along = gradient * ((update @ gradient) / length**2) if length else torch.zeros_like(update)
    result = {
        "momentum_grad_cossim": cosine(momentum, gradient),
        "update_deflection": float((update - along).norm() / update.norm()),
        "effective_lr_cv": float(rates.std() / rates.mean()),
    }
    if length and lr:
        result["amplification_ratio"] = float(update.norm()) / (lr * length)
    if way is not None:
        toward = {
            "momentum": cosine(-momentum, way),
            "update": cosine(-update, way),
            "grad": cosine(-gradient, way),
        }
        result |= {f"{key}_solution_cossim": value for key, value in toward.items()}
        result["optimizer_solution_amplification"] = toward["update"] - toward["grad"]
    return result


def counterfactual(observed: Tensor, shuffled: Tensor, way: Way) -> dict:
    """The epoch's G (P,) split along and across the mean of K shuffled epochs' G's (K, P).

    null_ordering_fraction: the same split of each shuffle against the mean of the others, which an
    order without any effect would give too.
    """
    mean = shuffled.mean(0)
    content, ordering = split(observed, mean)
    result = {
        "counterfactual_mean_norm": float(mean.norm()),
        "content_component_norm": float(content.norm()),
        "ordering_component_norm": float(ordering.norm()),
        "ordering_fraction": _share(ordering, observed),
        "ordering_alignment": cosine(observed, mean),
    }
    if len(shuffled) > 1:
        total = shuffled.sum(0)
        nulls = [
            _share(split(one, (total - one) / (len(shuffled) - 1))[1], one) for one in shuffled
        ]
        result["null_ordering_fraction"] = sum(nulls) / len(nulls)
    if way is not None:
        vectors = {"content": content, "ordering": ordering, "cf_grad": mean}
        for name, vector in vectors.items():
            result[f"{name}_cossim_to_solution"] = cosine(-vector, way)
    return result


def split(vector: Tensor, along: Tensor) -> tuple[Tensor, Tensor]:
    """The parts of a vector along another one and across it."""
    size = float(along @ along)
    part = along * ((vector @ along) / size) if size else torch.zeros_like(vector)
    return part, vector - part


def counterfactual_validator(shuffled: Tensor, way: Way) -> dict:
    """Has the mean over K shuffles settled? K+1 shuffles (K+1, P) against all subsets of K."""
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
    if way is not None:
        toward = torch.tensor([cosine(-subset, way) for subset in subsets])
        result["kp1_cossim_to_solution"] = cosine(-whole, way)
        result["k_cossim_to_solution_mean"] = float(toward.mean())
        result["k_cossim_to_solution_std"] = float(toward.std())
        result["k_cossim_to_solution_spread"] = float(toward.max() - toward.min())
    return result


def phases(norms: list[float], tables: list[Tensor], test_accuracy: float) -> dict:
    """Change of |G| between snapshots (the last three) and of the token table (the last two); a code
    of the test accuracy: below 5, 20, 80, 99 %, or above."""
    result: dict = {"phase_code": sum(test_accuracy >= edge for edge in (0.05, 0.2, 0.8, 0.99))}
    if len(norms) > 1:
        result["grad_velocity"] = norms[-1] - norms[-2]
    if len(norms) > 2:
        result["grad_acceleration"] = norms[-1] - 2 * norms[-2] + norms[-3]
    if len(tables) > 1:
        change = float((tables[-1] - tables[-2]).norm())
        result["embedding_change"] = change
        result["embedding_change_normalized"] = change / float(tables[-2].norm())
    return result


def _share(part: Tensor, whole: Tensor) -> float:
    size = float(whole @ whole)
    return float(part @ part) / size if size else 0.0
