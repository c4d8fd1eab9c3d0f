"""Weight matrices: singular values, Fourier spectra over tokens, attention. Pure functions."""

import math

import torch
from torch import Tensor

from grok.measures.fourier import power_spectrum
from grok.measures.vectors import cosine, gini, slashed
from grok.tensors import Tensors

SIGNIFICANT_POWER = 10  # least power of a significant frequency, in units of the mean power
TOP_SINGULAR_VALUES = 20  # of a large matrix
LARGE_MATRIX = 64  # sides longer than this make a matrix large
MOST_HARMONICS = 9  # of the stride
SPARSE_NORM = 0.1  # a token's gradient is small below so many times the mean norm


def singular_values(matrix: Tensor, count: int = TOP_SINGULAR_VALUES) -> Tensor:
    """Singular values, largest first: all of them, or the first `count` if both sides exceed 64."""
    values = torch.linalg.svdvals(matrix)
    return values[:count] if min(matrix.shape) > LARGE_MATRIX else values


def effective_rank(values: Tensor) -> float:
    """(sum s)^2 / sum s^2 of singular values (K,)."""
    return float(values.sum() ** 2 / (values**2).sum())


def entropy_rank(values: Tensor) -> float:
    """exp of the entropy of s / sum s, for singular values s (K,) (Roy & Vetterli 2007)."""
    return float(_entropy(values).exp())


def spectral_entropy(matrix: Tensor) -> Tensor:
    """Entropy in nats of a matrix's singular values, divided by their sum; differentiable."""
    values = torch.linalg.svdvals(matrix)
    return _entropy(values.clamp(min=torch.finfo(values.dtype).eps * values.max().detach()))


def _entropy(values: Tensor) -> Tensor:
    shares = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
    return torch.special.entr(shares).sum()


def principal_shares(table: Tensor) -> Tensor:
    """Fractions of the variance of a table's rows (N, D) along its principal components, largest first."""
    variances = torch.linalg.svdvals(table - table.mean(0)) ** 2
    return variances / variances.sum().clamp(min=torch.finfo(variances.dtype).tiny)


def weight_tracking(
    weights: Tensors, mean_gradient: Tensors, components: int = TOP_SINGULAR_VALUES
) -> dict[str, float]:
    """Norm, largest singular value, effective rank and cosine with G of every matrix.

    Arguments:
        weights: by parameter name; vectors are left out.
        mean_gradient: G, by the same names.
        components: singular values of a large matrix that are counted, the largest.

    Returns:
        The values as METRIC/PARAMETER, their means over matrices as mean_METRIC,
        total_weight_norm and max_top_sv.
    """
    result: dict[str, float] = {}
    columns: dict[str, list[float]] = {}
    for name, matrix in weights.items():
        if matrix.ndim != 2:
            continue
        values = singular_values(matrix, components)
        metrics = {
            "weight_norm": float(matrix.norm()),
            "top_sv": float(values[0]),
            "effective_rank": effective_rank(values),
            "grad_weight_align": cosine(mean_gradient[name].flatten(), matrix.flatten()),
        }
        for key, value in metrics.items():
            result[f"{key}/{slashed(name)}"] = value
            columns.setdefault(key, []).append(value)
    means = {f"mean_{key}": sum(values) / len(values) for key, values in columns.items()}
    total = math.sqrt(sum(norm**2 for norm in columns["weight_norm"]))
    return {**result, **means, "total_weight_norm": total, "max_top_sv": max(columns["top_sv"])}


def relative_power(table: Tensor) -> Tensor:
    """Power (p,) of the frequencies 0..p-1 of a table (p, D), mean over columns, summing to 1."""
    power = power_spectrum(table, onesided=False).mean(1)
    return power / power.sum()


def fourier(
    table: Tensor, stride: int, significance: float = SIGNIFICANT_POWER
) -> dict[str, float]:
    """Spectral entropy, peak, power at low frequencies and at the stride's harmonics.

    n_significant_freqs is of all p frequencies: the constant one, and the others twice, as themselves
    and as their mirror images p - k. `significant` is of 1..p//2 alone.

    Arguments:
        table: token embeddings (p, D).
        stride: of the data's order; its harmonics are the multiples of it.
        significance: least power of a significant frequency, in units of the mean power.
    """
    power = relative_power(table)
    p = len(power)
    harmonics = [k * stride for k in range(1, min(MOST_HARMONICS, p // stride - 1) + 1)]
    return {
        "low_freq_power": float(power[: max(p // 20, 10)].sum()),
        "stride_harmonic_power": float(power[harmonics].sum()),
        **_peaks(power, significance),
    }


def decoder_fourier(table: Tensor, significance: float = SIGNIFICANT_POWER) -> dict[str, float]:
    """Spectral entropy, peak and number of significant frequencies of the output layer (p, D), as in
    `fourier`."""
    peaks = _peaks(relative_power(table), significance)
    return {f"decoder_{key}": value for key, value in peaks.items()}


def _peaks(power: Tensor, significance: float) -> dict[str, float]:
    p = len(power)
    peak = int(power[1 : p // 2 + 1].argmax()) + 1
    return {
        "spectral_entropy": float(torch.special.entr(power).sum()) / math.log(p),
        "peak_frequency": peak,
        "peak_power": float(power[peak]),
        "n_significant_freqs": int((power > significance / p).sum()),
    }


def circle_fraction(table: Tensor) -> float:
    """Fraction of the power of a table (p, D), constant aside, at its strongest frequency: 1 if the
    rows lie on a circle in their order."""
    power = relative_power(table)
    return float(2 * power[1 : len(power) // 2 + 1].max() / power[1:].sum())


def significant(table: Tensor, significance: float = SIGNIFICANT_POWER) -> Tensor:
    """Whether each frequency 1..p//2 of a table (p, D) has so many times the mean power, (p // 2,)."""
    power = relative_power(table)
    return power[1 : len(power) // 2 + 1] > significance / len(power)


def frequency_powers(table: Tensor, tracked: Tensor, new: Tensor) -> dict[str, float]:
    """The power of each frequency that has ever been significant.

    Arguments:
        table: token embeddings (p, D).
        tracked: whether each frequency 1..p//2 is or was significant, (p // 2,).
        new: whether it is so for the first time, (p // 2,).

    Returns:
        freq_power/K of the tracked frequencies K, their fractions of all power; acquired/K, the
        same number, of the new ones.
    """
    power = relative_power(table)
    return {
        f"{key}/{index + 1}": float(power[index + 1])
        for key, mask in (("freq_power", tracked), ("acquired", new))
        for index in mask.nonzero().flatten().tolist()
    }


def neuron_fourier(layers: list[Tensor], table: Tensor) -> dict[str, float]:
    """How concentrated the spectra of neurons over tokens are.

    Arguments:
        layers: W_in of every layer, (F, D).
        table: token embeddings (p, D); the neurons' inputs are W_in E^T (F, p).

    Returns:
        neuron_fourier_top1, the mean fraction of the power at the strongest of the frequencies
        1..p//2, and neuron_fourier_entropy, the mean entropy (1 for a flat spectrum).
    """
    layer_fractions = []
    for layer in layers:
        power = power_spectrum(layer.double() @ table.double().T, dim=1)[:, 1:]
        layer_fractions.append(power / power.sum(1, keepdim=True))
    count = len(layer_fractions)
    entropies = [
        torch.special.entr(f).sum(1).mean() / math.log(f.shape[1]) for f in layer_fractions
    ]
    return {
        "neuron_fourier_top1": float(sum(f.max(1).values.mean() for f in layer_fractions) / count),
        "neuron_fourier_entropy": float(sum(entropies) / count),
    }


def attention(
    blocks: list[Tensors], maps: list[Tensor], components: int = TOP_SINGULAR_VALUES
) -> dict[str, float]:
    """Spectra of the attention's matrices, entropy and variance of its weights.

    Arguments:
        blocks: W_Q, W_K and W_V (D, D) of every layer, by "q", "k", "v".
        maps: attention weights (N, H, S, S) of every layer.
        components: singular values of a large matrix that are counted, the largest.

    Returns:
        By METRIC/LAYER/MATRIX: sv_concentration, the largest singular value over their sum;
        effective_rank; top5_explained_var. By METRIC/LAYER: attn_entropy in units of log S,
        attn_variance between inputs. Means over all under the metric's name.
    """
    result: dict[str, float] = {}
    columns: dict[str, list[float]] = {}
    for layer, matrices in enumerate(blocks):
        for name, matrix in matrices.items():
            values = singular_values(matrix, components)
            energy = values**2
            metrics = {
                "sv_concentration": float(values[0] / values.sum()),
                "effective_rank": effective_rank(values),
                "top5_explained_var": float(energy[:5].sum() / energy.sum()),
            }
            for key, value in metrics.items():
                result[f"{key}/{layer}/{name}"] = value
                columns.setdefault(f"mean_{key}", []).append(value)
    for layer, weights in enumerate(maps):
        entropy = torch.special.entr(weights).sum(-1).mean() / math.log(weights.shape[-1])
        metrics = {"attn_entropy": float(entropy), "attn_variance": float(weights.var(0).mean())}
        for key, value in metrics.items():
            result[f"{key}/{layer}"] = value
            columns.setdefault(key, []).append(value)
    return {**result, **{key: sum(values) / len(values) for key, values in columns.items()}}


def token_gradient(rows: Tensor, stride: int, threshold: float = SPARSE_NORM) -> dict[str, float]:
    """How the gradient's norm is spread over tokens and over the stride's residue classes.

    Arguments:
        rows: G of the token embeddings, (p, D). The result is empty if it is zero.
        stride: number of residue classes.
        threshold: tokens with less norm than so many times the mean count for gradient_sparsity.
    """
    norms = rows.double().norm(dim=1)
    p, total = len(norms), float(norms.sum())
    if not total:
        return {}
    cumulative = norms.sort(descending=True).values.cumsum(0) / total
    groups = torch.stack([norms[k::stride].mean() for k in range(min(stride, p))])
    half, most = (min(int((cumulative < part).sum()) + 1, p) for part in (0.5, 0.9))
    return {
        "gradient_sparsity": float((norms < threshold * norms.mean()).double().mean()),
        "gradient_gini": gini(norms),
        "stride_group_variance": float(groups.var(unbiased=False)),
        "stride_group_max_ratio": float(groups.max() / groups.mean()),
        "tokens_for_50pct": half,
        "tokens_for_90pct": most,
        "concentration_ratio": half / p,
    }
