"""Which weights to keep: by size, at random, or by what training at initialization would tell.

Scores are by parameter name, of the parameters' shapes; the highest are kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jvp

Tensors = dict[str, Tensor]
TEMPERATURE = 200.0  # of GraSP's softmax, as published
ITERATIONS = 100  # of SynFlow


def mask_of(scores: Tensors, keep: float) -> Tensors:
    """Masks of 0 and 1: the `keep` share of all entries, over all parameters, with the highest scores."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    kept = torch.zeros_like(flat)
    kept[flat.topk(round(keep * len(flat))).indices] = 1  # exactly so many, ties or not
    parts = kept.split([score.numel() for score in scores.values()])
    return {k: part.view_as(scores[k]) for k, part in zip(scores, parts, strict=True)}


def magnitude(weights: Tensors) -> Tensors:
    """|w| (Han et al. 2015)."""
    return {name: w.abs() for name, w in weights.items()}


def at_random(weights: Tensors, seed: int) -> Tensors:
    """Uniform numbers drawn from `seed`."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator) for name, w in weights.items()}


def snip(weights: Tensors, loss: Callable[[Tensors], Tensor]) -> Tensors:
    """|w dL/dw| (Lee et al. 2019, eq. 6)."""
    return {name: (weights[name] * g).abs() for name, g in grad(loss)(weights).items()}


def grasp(weights: Tensors, loss: Callable[[Tensors], Tensor]) -> Tensors:
    """w (H g): what removing w would take from the gradient's norm (Wang et al. 2020, eq. 8, negated)."""
    slope = grad(loss)
    _, curved = jvp(slope, (weights,), (slope(weights),))
    return {name: weights[name] * hg for name, hg in curved.items()}


def synflow(weights: Tensors, flow: Callable[[Tensors], Tensor], keep: float) -> Tensors:
    """|w| dR/d|w|, R the sum of the outputs of the network of |w| (Tanaka et al. 2020, algorithm 1).

    flow: |weights| -> R. Pruned in 100 rounds, each to a share keep^(k/100), on what is left.
    """
    masks = {name: torch.ones_like(w) for name, w in weights.items()}
    for k in range(1, ITERATIONS + 1):
        left = {name: w.abs() * masks[name] for name, w in weights.items()}
        slopes = grad(flow)(left)
        scores = {name: left[name] * slopes[name] for name in left}
        if k < ITERATIONS:
            masks = mask_of(scores, keep ** (k / ITERATIONS))
    return scores
