"""Weight matrices: singular values, Fourier spectra over tokens, attention. Pure functions."""

import math

import torch
from torch import Tensor

from grok.measures.vectors import Tensors, cosine, gini, slashed

SIGNIFICANT = 10  # times the mean power
KEPT = 20  # singular values of a large matrix
LARGE = 64


def singular_values(matrix: Tensor) -> Tensor:
    """All of a small matrix, the first 20 of one whose sides both exceed 64; largest first."""
    found = torch.linalg.svdvals(matrix)
    return found[:KEPT] if min(matrix.shape) > LARGE else found


def effective_rank(values: Tensor) -> float:
    """(sum s)^2 / sum s^2 of singular values."""
    return float(values.sum() ** 2 / (values**2).sum())


def weight_tracking(weights: Tensors, mean_gradient: Tensors) -> dict:
    """Of every matrix: norm, largest singular value, effective rank, cosine of G with it; means."""
    result, columns = {}, {}
    for name, matrix in weights.items():
        if matrix.ndim != 2:
            continue
        values = singular_values(matrix)
        mine = {
            "weight_norm": float(matrix.norm()),
            "top_sv": float(values[0]),
            "effective_rank": effective_rank(values),
            "grad_weight_align": cosine(mean_gradient[name].flatten(), matrix.flatten()),
        }
        for key, value in mine.items():
            result[f"{key}/{slashed(name)}"] = value
            columns.setdefault(key, []).append(value)
    means = {f"mean_{key}": sum(values) / len(values) for key, values in columns.items()}
    total = math.sqrt(sum(norm**2 for norm in columns["weight_norm"]))
    return {**result, **means, "total_weight_norm": total, "max_top_sv": max(columns["top_sv"])}


def power_spectrum(table: Tensor) -> Tensor:
    """Power of each frequency 0..p-1 over the rows of (p, D), mean over columns, summing to 1."""
    power = (torch.fft.fft(table.double(), dim=0).abs() ** 2).mean(1)
    return power / power.sum()


def fourier(table: Tensor, stride: int) -> dict:
    """Of a table of token vectors (p, D): entropy, peak, low frequencies, the stride's harmonics."""
    power = power_spectrum(table)
    p = len(power)
    harmonics = [k * stride for k in range(1, min(9, p // stride - 1) + 1)]
    return {
        "low_freq_power": float(power[: max(p // 20, 10)].sum()),
        "stride_harmonic_power": float(power[harmonics].sum()),
        **_peaks(power),
    }


def decoder_fourier(table: Tensor) -> dict:
    """Entropy, peak and significant frequencies of the output layer (p, D)."""
    return {f"decoder_{key}": value for key, value in _peaks(power_spectrum(table)).items()}


def _peaks(power: Tensor) -> dict:
    p = len(power)
    peak = int(power[1 : p // 2 + 1].argmax()) + 1
    return {
        "spectral_entropy": float(torch.special.entr(power).sum()) / math.log(p),
        "peak_frequency": peak,
        "peak_power": float(power[peak]),
        "n_significant_freqs": int((power > SIGNIFICANT / p).sum()),
    }


def circle_share(table: Tensor) -> float:
    """Share that the strongest frequency, constant aside, has of the power over the rows of (p, D)."""
    power = power_spectrum(table)
    return float(2 * power[1 : len(power) // 2 + 1].max() / power[1:].sum())


def significant(table: Tensor) -> Tensor:
    """Whether each frequency 1..p/2 of (p, D) has ten times the mean power, (p // 2,)."""
    power = power_spectrum(table)
    return power[1 : len(power) // 2 + 1] > SIGNIFICANT / len(power)


def neuron_fourier(layers: list[Tensor], table: Tensor) -> dict:
    """Of the neurons W E^T (F, p), over frequencies 1..p/2: mean largest share, mean entropy."""
    shares = []
    for layer in layers:
        power = torch.fft.rfft(layer.double() @ table.double().T, dim=1).abs()[:, 1:] ** 2
        shares.append(power / power.sum(1, keepdim=True))
    entropies = [torch.special.entr(s).sum(1).mean() / math.log(s.shape[1]) for s in shares]
    return {
        "neuron_fourier_top1": float(sum(s.max(1).values.mean() for s in shares) / len(shares)),
        "neuron_fourier_entropy": float(sum(entropies) / len(entropies)),
    }


def attention(blocks: list[dict[str, Tensor]], maps: list[Tensor]) -> dict:
    """Of each layer's Q, K, V (D, D): share of the first singular value, effective rank, first five's
    energy. Of its attention (N, H, S, S): entropy in units of log S, variance between inputs."""
    result, columns = {}, {}
    for layer, matrices in enumerate(blocks):
        for name, matrix in matrices.items():
            values = singular_values(matrix)
            energy = values**2
            mine = {
                "sv_concentration": float(values[0] / values.sum()),
                "effective_rank": effective_rank(values),
                "top5_explained_var": float(energy[:5].sum() / energy.sum()),
            }
            for key, value in mine.items():
                result[f"{key}/{layer}/{name}"] = value
                columns.setdefault(f"mean_{key}", []).append(value)
    for layer, weights in enumerate(maps):
        entropy = torch.special.entr(weights).sum(-1).mean() / math.log(weights.shape[-1])
        mine = {"attn_entropy": float(entropy), "attn_variance": float(weights.var(0).mean())}
        for key, value in mine.items():
            result[f"{key}/{layer}"] = value
            columns.setdefault(key, []).append(value)
    return {**result, **{key: sum(values) / len(values) for key, values in columns.items()}}


def token_gradient(rows: Tensor, stride: int) -> dict:
    """Of the token table's G (p, D): how its row norms are spread over tokens and stride groups."""
    sizes = rows.double().norm(dim=1)
    p, total = len(sizes), float(sizes.sum())
    if not total:
        return {}
    reached = sizes.sort(descending=True).values.cumsum(0) / total
    groups = torch.stack([sizes[k::stride].mean() for k in range(min(stride, p))])
    half, most = (min(int((reached < share).sum()) + 1, p) for share in (0.5, 0.9))
    return {
        "gradient_sparsity": float((sizes < 0.1 * sizes.mean()).double().mean()),
        "gradient_gini": gini(sizes),
        "stride_group_variance": float(groups.var(unbiased=False)),
        "stride_group_max_ratio": float(groups.max() / groups.mean()),
        "tokens_for_50pct": half,
        "tokens_for_90pct": most,
        "concentration_ratio": half / p,
    }
