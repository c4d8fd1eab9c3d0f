"""Numbers of a set of weights."""

from torch import Tensor

from grok.measures.vectors import slashed


def rms_norms(weights: dict[str, Tensor]) -> dict[str, float]:
    """||W|| / sqrt(entries) of every tensor (Power et al. 2022's code); dots become slashes."""
    return {slashed(k): float(v.square().mean().sqrt()) for k, v in weights.items()}
