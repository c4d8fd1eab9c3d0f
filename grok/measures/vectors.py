"""Gradients and weights as vectors: lengths, angles, spread. Pure functions; G is a mean gradient."""

import math

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
LAGS = (1, 2, 5, 10, 20, 50)
WINDOWS = (2, 5, 10, 20, 50)


def cosine(a: Tensor, b: Tensor) -> float:
    """Cosine of the angle between two vectors, 0 if one of them is 0."""
    lengths = float(a.double().norm() * b.double().norm())
    return float(a.double() @ b.double()) / lengths if lengths else 0.0


def flat(tensors: Tensors) -> Tensor:
    """One vector of all tensors, in their order."""
    return torch.cat([value.flatten() for value in tensors.values()])


def gini(values: Tensor) -> float:
    """Gini coefficient of values (N,) that are not negative: 0 if equal, near 1 if one has all."""
    x = values.double().sort().values
    ranks = torch.arange(1, len(x) + 1, dtype=torch.float64, device=x.device)
    return float((2 * ranks - len(x) - 1) @ x) / (len(x) * float(x.sum()))


def slashed(name: str) -> str:
    """A parameter's name as a part of a metric's."""
    return name.replace(".", "/")


def diagnostics(losses: Tensor, norms: Tensor, rates: Tensor, weight_norms: Tensor) -> dict:
    """Of the updates (n,) since the last look: the loss's mean, spread and lag-1 autocorrelation, the
    gradient's norms, lr |g| / |w|."""
    ratios = rates * norms / weight_norms
    mean, spread = losses.mean(), _std(losses)
    away = losses - mean
    together = float((away[1:] * away[:-1]).sum())
    return {
        "loss_mean": float(mean),
        "loss_std": spread,
        "loss_volatility": _ratio(spread, abs(float(mean))),
        "loss_autocorrelation": _ratio(together, spread**2 * (len(losses) - 1)),
        "grad_norm_mean": float(norms.mean()),
        "grad_norm_std": _std(norms),
        "grad_norm_cv": _ratio(_std(norms), float(norms.mean())),
        "grad_norm_max": float(norms.max()),
        "update_ratio_mean": float(ratios.mean()),
        "update_ratio_std": _std(ratios),
        "weight_norm": float(weight_norms[-1]),
    }


def parameter_delta(now: Tensor, before: Tensor) -> dict:
    """How far the weights have moved since the last look."""
    moved = float((now - before).norm())
    return {
        "relative_delta": _ratio(moved, float(before.norm())),
        "absolute_delta": moved,
        "param_norm": float(now.norm()),
    }


def path(length: float, now: Tensor, initial: Tensor) -> dict:
    """Length of the way from the initial weights, distance as the crow flies, and their ratio."""
    net = float((now - initial).norm())
    return {
        "path_length": length,
        "net_displacement": net,
        "path_efficiency": _ratio(net, length),
    }


def norms(mean_gradient: Tensors) -> dict:
    """Norm, largest and mean magnitude of the components of G, and its norm per parameter."""
    whole = flat(mean_gradient)
    return {
        "total_norm": float(whole.norm()),
        "max_component": float(whole.abs().max()),
        "mean_component": float(whole.abs().mean()),
        **{f"norm/{slashed(name)}": float(g.norm()) for name, g in mean_gradient.items()},
    }


def consecutive(now: Tensor, before: Tensor) -> dict:
    """Angle between this G and the last one."""
    cos = cosine(now, before)
    return {"cos_sim": cos, "angle_degrees": math.degrees(math.acos(max(-1.0, min(1.0, cos))))}


def variance(window: Tensor) -> dict:
    """Of the last G's (W, P): mean squared deviation, mean pairwise cosine, |mean| / |std|, |mean|."""
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


def batch_dynamics(gradients: Tensor, new: int) -> dict:
    """Of successive gradients (T, P), the last `new` since the last look: cosines at lags, |sum| over
    sum of norms of the last w (1: aligned, 1/sqrt(w): a random walk), effective rank (exp of the
    entropy of the spectrum) and the first component's share of the last 50."""
    gram = (gradients @ gradients.T).double()
    lengths = gram.diagonal().clamp(min=0).sqrt()
    result = {}
    for lag in LAGS:
        ends = range(max(len(gram) - new, lag), len(gram))
        cosines = [
            _ratio(float(gram[i, i - lag]), float(lengths[i] * lengths[i - lag])) for i in ends
        ]
        if cosines:
            result[f"lag_{lag}"] = sum(cosines) / len(cosines)
    if result:
        result["autocorrelation_mean"] = sum(result.values()) / len(result)
    for width in WINDOWS:
        if len(gram) >= width:
            together = gram[-width:, -width:].sum().clamp(min=0).sqrt()
            result[f"efficiency_{width}"] = _ratio(float(together), float(lengths[-width:].sum()))
    shares = torch.linalg.eigvalsh(gram[-WINDOWS[-1] :, -WINDOWS[-1] :]).clamp(min=0)
    shares = shares / shares.sum()
    return {
        **result,
        "effective_rank": float(torch.special.entr(shares).sum().exp()),
        "top1_variance": float(shares[-1]),
    }


def projection(now: Tensors, before: Tensors, mean_gradient: Tensors, reference: Tensors) -> dict:
    """Cosines of -G and of the step since the last look with the way to the reference weights."""
    way = {name: reference[name] - before[name] for name in mean_gradient}
    step = {name: now[name] - before[name] for name in mean_gradient}
    descent = {name: -g for name, g in mean_gradient.items()}
    result = {}
    for kind, vectors in (("grad", descent), ("disp", step)):
        each = {name: cosine(v.flatten(), way[name].flatten()) for name, v in vectors.items()}
        label = f"{kind}_cossim_to_solution"
        result |= {f"{label}/{slashed(name)}": value for name, value in each.items()}
        result[f"overall_{label}"] = cosine(flat(vectors), flat(way))
        result[f"mean_layer_{label}"] = sum(each.values()) / len(each)
    result["displacement_norm"] = float(flat(step).norm())
    gap = {name: reference[name] - now[name] for name in mean_gradient}
    return {**result, "distance_to_reference": float(flat(gap).norm())}


def subspace(window: Tensor, way: Tensor | None) -> dict:
    """Spectrum of the last G's (W, P) about their mean, the first 20 components; with the way to the
    reference weights (P,), the share of their energy along it."""
    centred = window - window.mean(0)
    energies, vectors = torch.linalg.eigh((centred @ centred.T).double())
    energies, vectors = energies.flip(0)[:20].clamp(min=0), vectors.flip(1)[:, :20]
    total, sizes = float(energies.sum()), energies.sqrt()
    if not total:
        return {}
    shares = energies.cumsum(0) / total
    result = {
        "dims_for_90pct": int((shares < 0.9).sum()) + 1,
        "participation_ratio": total**2 / float((energies**2).sum()),
        "top_sv_ratio": float(sizes[0] / sizes.sum()),
        "svd_total_variance": total,
        **{f"top{k}_explained": float(shares[min(k, len(shares)) - 1]) for k in (1, 5, 10)},
    }
    if way is not None:
        along = (vectors.T @ (centred @ (way / way.norm())).double()) ** 2
        result["grad_energy_fraction_toward_solution"] = float(along.sum()) / total
        for k in (1, 5, 10):
            share = _ratio(float(along[:k].sum()), float(energies[:k].sum()))
            result[f"top{k}_energy_fraction_toward_solution"] = share
    return result


def _std(values: Tensor) -> float:
    return float(values.std()) if len(values) > 1 else 0.0


def _ratio(a: float, b: float) -> float:
    return a / b if b else 0.0
