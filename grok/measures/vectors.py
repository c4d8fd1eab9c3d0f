"""Gradients and weights as vectors: lengths, angles, spread. Pure functions.

G is the mean gradient over an interval, the steps between two evaluation steps; P the number of
weights.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from grok.tensors import Tensors

LAGS = (1, 2, 5, 10, 20, 50)  # steps between two batch gradients
WINDOWS = (2, 5, 10, 20, 50)  # numbers of last batch gradients
SUBSPACE_COMPONENTS = 20


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two vectors, 0 if one of them is 0."""
    lengths = float(a.double().norm() * b.double().norm())
    return float(a.double() @ b.double()) / lengths if lengths else 0.0


def flat(tensors: Tensors) -> Tensor:
    """All tensors as one vector (P,), in their order."""
    return torch.cat([value.flatten() for value in tensors.values()])


def gini(values: Tensor) -> float:
    """Gini coefficient of nonnegative values (N,): 0 if they are equal, near 1 if one is all of the sum."""
    x = values.double().sort().values
    ranks = torch.arange(1, len(x) + 1, dtype=torch.float64, device=x.device)
    return float((2 * ranks - len(x) - 1) @ x) / (len(x) * float(x.sum()))


def slashed(name: str) -> str:
    """A parameter's name as part of a metric's name, which has no dots."""
    return name.replace(".", "/")


def of_parameter(name: str, metrics: dict[str, float], wanted: Sequence[str]) -> dict[str, float]:
    """The wanted ones of the metrics of one parameter, by METRIC/PARAMETER."""
    return {f"{key}/{slashed(name)}": metrics[key] for key in wanted if key in metrics}


def rms_norms(weights: Tensors) -> dict[str, float]:
    """Norm / sqrt(number of entries) of every tensor (the published code of Power et al. 2022)."""
    return {slashed(k): float(v.square().mean().sqrt()) for k, v in weights.items()}


def diagnostics(
    losses: Tensor, norms: Tensor, rates: Tensor, weight_norms: Tensor
) -> dict[str, float]:
    """Statistics of the loss, the gradient norm and the update ratio lr |g| / |w| in an interval.

    Arguments:
        losses: of each step, (n,).
        norms: of each step's gradient, (n,).
        rates: learning rates, (n,).
        weight_norms: (n,).
    """
    ratios = rates * norms / weight_norms
    mean, spread = losses.mean(), _std(losses)
    deviation = losses - mean
    covariance = float((deviation[1:] * deviation[:-1]).sum())
    return {
        "loss_mean": float(mean),
        "loss_std": spread,
        "loss_volatility": _ratio(spread, abs(float(mean))),
        "loss_autocorrelation": _ratio(covariance, spread**2 * (len(losses) - 1)),
        "grad_norm_mean": float(norms.mean()),
        "grad_norm_std": _std(norms),
        "grad_norm_cv": _ratio(_std(norms), float(norms.mean())),
        "grad_norm_max": float(norms.max()),
        "update_ratio_mean": float(ratios.mean()),
        "update_ratio_std": _std(ratios),
        "weight_norm": float(weight_norms[-1]),
    }


def parameter_delta(now: Tensor, before: Tensor) -> dict[str, float]:
    """How far the weights (P,) have moved in an interval, absolute and relative to their norm."""
    moved = float((now - before).norm())
    return {
        "relative_delta": _ratio(moved, float(before.norm())),
        "absolute_delta": moved,
        "param_norm": float(now.norm()),
    }


def path(length: float, now: Tensor, initial: Tensor) -> dict[str, float]:
    """Length of the weights' path, distance from the initial weights (P,), and their ratio."""
    net = float((now - initial).norm())
    return {
        "path_length": length,
        "net_displacement": net,
        "path_efficiency": _ratio(net, length),
    }


def norms(mean_gradient: Tensors) -> dict[str, float]:
    """Norm of G, largest and mean magnitude of its components, and its norm per parameter."""
    whole = flat(mean_gradient)
    return {
        "total_norm": float(whole.norm()),
        "max_component": float(whole.abs().max()),
        "mean_component": float(whole.abs().mean()),
        **{f"norm/{slashed(name)}": float(g.norm()) for name, g in mean_gradient.items()},
    }


def consecutive(now: Tensor, before: Tensor) -> dict[str, float]:
    """Cosine and angle between the G's (P,) of two successive intervals."""
    cos = cosine(now, before)
    return {"cos_sim": cos, "angle_degrees": math.degrees(math.acos(max(-1.0, min(1.0, cos))))}


def variance(window: Tensor) -> dict[str, float]:
    """Mean squared deviation, mean pairwise cosine, |mean| / |std| and |mean| of the last G's (W, P)."""
    mean = window.mean(0)
    squares = ((window - mean) ** 2).mean(0)
    gram = (window @ window.T).double()
    lengths = gram.diagonal().clamp(min=0).sqrt()
    above = torch.triu_indices(len(window), len(window), 1, device=window.device)
    products, sizes = gram[*above], lengths[above[0]] * lengths[above[1]]
    cosines = torch.where(sizes > 0, products / sizes, 0.0)
    return {
        "gradient_variance": float(squares.mean()),
        "mean_pairwise_cos": float(cosines.mean()),
        "signal_to_noise": _ratio(float(mean.norm()), float(squares.sum().sqrt())),
        "window_mean_norm": float(mean.norm()),
    }


def batch_dynamics(
    gram: Tensor, new: int, lags: Sequence[int] = LAGS, windows: Sequence[int] = WINDOWS
) -> dict[str, float]:
    """Alignment of successive batch gradients.

    Arguments:
        gram: inner products of the gradients of T successive steps, (T, T); of the lower triangle
            the diagonal, the products at the lags, and those of the last steps are read.
        new: how many of the steps, the last, belong to this interval.
        lags: steps between two gradients.
        windows: numbers of last gradients.

    Returns:
        lag_L: mean cosine of gradients L steps apart, over the new ones; autocorrelation_mean.
        efficiency_W: |sum| / sum of norms of the last W (1: aligned, 1 / sqrt(W): a random walk).
        effective_rank, top1_variance: exp of the entropy of the spectrum of the last gradients,
            as many as the largest window has, and the fraction of its largest component.
    """
    gram = gram.double().tril()
    gram = gram + gram.tril(-1).T
    lengths = gram.diagonal().clamp(min=0).sqrt()
    result = {}
    for lag in lags:
        ends = range(max(len(gram) - new, lag), len(gram))
        cosines = [
            _ratio(float(gram[i, i - lag]), float(lengths[i] * lengths[i - lag])) for i in ends
        ]
        if cosines:
            result[f"lag_{lag}"] = sum(cosines) / len(cosines)
    if result:
        result["autocorrelation_mean"] = sum(result.values()) / len(result)
    for width in windows:
        if len(gram) >= width:
            resultant = gram[-width:, -width:].sum().clamp(min=0).sqrt()
            result[f"efficiency_{width}"] = _ratio(float(resultant), float(lengths[-width:].sum()))
    last = max(windows)
    energies = torch.linalg.eigvalsh(gram[-last:, -last:]).clamp(min=0)
    fractions = energies / energies.sum()
    return {
        **result,
        "effective_rank": float(torch.special.entr(fractions).sum().exp()),
        "top1_variance": float(fractions[-1]),
    }


def projection(
    now: Tensors, before: Tensors, mean_gradient: Tensors, reference: Tensors
) -> dict[str, float]:
    """Cosines of -G and of the displacement in an interval with the direction to reference weights.

    Arguments:
        now, before: weights at the end and at the start of the interval.
        mean_gradient: G, by parameter name.
        reference: weights of another run.

    Returns:
        {grad,disp}_cossim_to_solution/PARAMETER, their means as mean_layer_*, those of all
        weights together as overall_*; displacement_norm and distance_to_reference.
    """
    to_reference = {name: reference[name] - before[name] for name in mean_gradient}
    displacement = {name: now[name] - before[name] for name in mean_gradient}
    descent = {name: -g for name, g in mean_gradient.items()}
    result: dict[str, float] = {}
    for kind, vectors in (("grad", descent), ("disp", displacement)):
        cosines = {
            name: cosine(v.flatten(), to_reference[name].flatten()) for name, v in vectors.items()
        }
        label = f"{kind}_cossim_to_solution"
        result |= {f"{label}/{slashed(name)}": value for name, value in cosines.items()}
        result[f"overall_{label}"] = cosine(flat(vectors), flat(to_reference))
        result[f"mean_layer_{label}"] = sum(cosines.values()) / len(cosines)
    result["displacement_norm"] = float(flat(displacement).norm())
    gap = {name: reference[name] - now[name] for name in mean_gradient}
    return {**result, "distance_to_reference": float(flat(gap).norm())}


def subspace(
    window: Tensor, to_reference: Tensor | None, components: int = SUBSPACE_COMPONENTS
) -> dict[str, float]:
    """Spectrum of the last G's about their mean; empty if they are equal.

    Arguments:
        window: the G's, (W, P).
        to_reference: reference weights minus the present ones, (P,); None without a reference.
        components: how many principal components are counted, the first ones.

    Returns:
        dims_for_90pct, participation_ratio, top_sv_ratio, svd_total_variance, topK_explained; with
        a reference, the fractions of the energy along the direction to it.
    """
    centred = window - window.mean(0)
    energies, vectors = torch.linalg.eigh((centred @ centred.T).double())
    energies, vectors = energies.flip(0).clamp(min=0), vectors.flip(1)
    energies, vectors = energies[:components], vectors[:, :components]
    total, sizes = float(energies.sum()), energies.sqrt()
    if not total:
        return {}
    explained = energies.cumsum(0) / total
    result = {
        "dims_for_90pct": int((explained < 0.9).sum()) + 1,
        "participation_ratio": total**2 / float((energies**2).sum()),
        "top_sv_ratio": float(sizes[0] / sizes.sum()),
        "svd_total_variance": total,
        **{f"top{k}_explained": float(explained[min(k, len(explained)) - 1]) for k in (1, 5, 10)},
    }
    if to_reference is not None:
        direction = to_reference / to_reference.norm()
        along = (vectors.T @ (centred @ direction).double()) ** 2
        result["grad_energy_fraction_toward_solution"] = float(along.sum()) / total
        for k in (1, 5, 10):
            fraction = _ratio(float(along[:k].sum()), float(energies[:k].sum()))
            result[f"top{k}_energy_fraction_toward_solution"] = fraction
    return result


def _std(values: Tensor) -> float:
    return float(values.std()) if len(values) > 1 else 0.0


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
