"""A sequence of symbols of Z/p as a signal: what an order of the data looks like from outside.

The data-set analysis of the OrderedLearning study (arXiv:2603.25047).
"""

import numpy as np

MOST_FREQUENCIES, MOST_LAGS = 500, 2000


def signals(x: np.ndarray, p: int, batch: int) -> dict[str, np.ndarray]:
    """Of a sequence (N,) of symbols: spectrum (one-sided, sum 1), autocorrelation by lag from 1,
    signed differences modulo p, and per batch entropy (1: uniform), distinct share, and mean power on
    Z/p by frequency from 1 (1: as of uniform symbols)."""
    centred = x - x.mean()
    power = np.abs(np.fft.rfft(centred)) ** 2
    double = np.fft.rfft(centred, 2 * len(x))
    lags = np.fft.irfft(np.abs(double) ** 2)[: min(MOST_LAGS, len(x) // 10) + 1]
    batch = min(batch, len(x))
    steps = (np.diff(x) + p // 2) % p - p // 2
    batches = x[: len(x) // batch * batch].reshape(-1, batch)
    counts = np.stack([np.bincount(one, minlength=p) for one in batches])
    shares = counts / batch
    entropy = -np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(1)
    on_circle = np.abs(np.fft.rfft(counts, axis=1)[:, 1 : min(p // 2, MOST_FREQUENCIES) + 1]) ** 2
    return {
        "spectrum": power[1:] / power[1:].sum(),
        "autocorrelation": lags[1:] / lags[0] * len(x) / (len(x) - np.arange(1, len(lags))),
        "steps": steps,
        "entropy": entropy / np.log(min(batch, p)),
        "distinct": (counts > 0).sum(1) / p,
        "circle": on_circle.mean(0) / batch,
    }


def summary(one: dict[str, np.ndarray], p: int, stride: int) -> dict[str, float | list]:
    """The numbers that tell orders apart."""
    spectrum, circle = one["spectrum"], one["circle"]
    peak = int(spectrum.argmax()) + 1
    harmonics = [h * stride for h in range(1, 6) if h * stride <= len(circle)]
    top = [int(k) + 1 for k in circle.argsort()[::-1][:5] if circle[k] > 10 * np.median(circle)]
    return {
        "flatness": float(np.exp(np.log(spectrum + 1e-30).mean()) / spectrum.mean()),
        "peak_frequency": peak,
        "peak_period": len(spectrum) * 2 / peak,
        "autocorrelation_1": float(one["autocorrelation"][0]),
        "entropy_mean": float(one["entropy"].mean()),
        "entropy_min": float(one["entropy"].min()),
        "distinct_mean": float(one["distinct"].mean()),
        "small_steps": float((np.abs(one["steps"]) < p / 20).mean()),
        "below_stride": float(circle[: stride - 1].mean()),
        "above_stride": float(circle[stride:].mean()),
        "harmonics": [float(circle[k - 1]) for k in harmonics],
        "peaks": top,
    }
