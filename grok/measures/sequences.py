"""Statistics of a sequence of symbols of Z/p, to tell orders of a data set apart.

The data-set analysis of the OrderedLearning study (arXiv:2603.25047).
"""

import numpy as np

MOST_FREQUENCIES, MOST_LAGS = 500, 2000


def signals(x: np.ndarray, p: int, batch: int) -> dict[str, np.ndarray]:
    """Spectra, autocorrelation and statistics per batch of a sequence.

    Arguments:
        x: symbols (N,) below p.
        p: number of symbols.
        batch: batch size, at most N.

    Returns:
        spectrum: power at frequencies from 1, one-sided, summing to 1.
        autocorrelation: by lag from 1.
        steps: differences of successive symbols, signed, modulo p.
        entropy: of the symbols of every batch; 1 for uniform ones.
        distinct: fraction of the p symbols that occur, in every batch.
        circle: mean power on Z/p over batches, at frequencies from 1; 1 for uniform symbols.
    """
    centred = x - x.mean()
    power = np.abs(np.fft.rfft(centred)) ** 2
    padded = np.fft.rfft(centred, 2 * len(x))
    lags = np.fft.irfft(np.abs(padded) ** 2)[: min(MOST_LAGS, len(x) // 10) + 1]
    batch = min(batch, len(x))
    steps = (np.diff(x) + p // 2) % p - p // 2
    batches = x[: len(x) // batch * batch].reshape(-1, batch)
    counts = np.stack([np.bincount(symbols, minlength=p) for symbols in batches])
    fractions = counts / batch
    logs = np.log(np.where(fractions > 0, fractions, 1))
    entropy = -np.where(fractions > 0, fractions * logs, 0).sum(1)
    on_circle = np.abs(np.fft.rfft(counts, axis=1)[:, 1 : min(p // 2, MOST_FREQUENCIES) + 1]) ** 2
    return {
        "spectrum": power[1:] / power[1:].sum(),
        "autocorrelation": lags[1:] / lags[0] * len(x) / (len(x) - np.arange(1, len(lags))),
        "steps": steps,
        "entropy": entropy / np.log(min(batch, p)),
        "distinct": (counts > 0).sum(1) / p,
        "circle": on_circle.mean(0) / batch,
    }


def summary(signals: dict[str, np.ndarray], p: int, stride: int) -> dict[str, float | list]:
    """Scalars of the `signals` of a sequence, for a data set ordered with this stride."""
    spectrum, circle = signals["spectrum"], signals["circle"]
    peak = int(spectrum.argmax()) + 1
    harmonics = [h * stride for h in range(1, 6) if h * stride <= len(circle)]
    top = [int(k) + 1 for k in circle.argsort()[::-1][:5] if circle[k] > 10 * np.median(circle)]
    return {
        "flatness": float(np.exp(np.log(spectrum + 1e-30).mean()) / spectrum.mean()),
        "peak_frequency": peak,
        "peak_period": len(spectrum) * 2 / peak,
        "autocorrelation_1": float(signals["autocorrelation"][0]),
        "entropy_mean": float(signals["entropy"].mean()),
        "entropy_min": float(signals["entropy"].min()),
        "distinct_mean": float(signals["distinct"].mean()),
        "small_steps": float((np.abs(signals["steps"]) < p / 20).mean()),
        "below_stride": float(circle[: stride - 1].mean()),
        "above_stride": float(circle[stride:].mean()),
        "harmonics": [float(circle[k - 1]) for k in harmonics],
        "peaks": top,
    }
