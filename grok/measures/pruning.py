"""Scores by which weights are pruned: magnitude, random, and those of pruning at initialization.

Scores have the names and shapes of the parameters; the weights with the highest scores are kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jvp

from grok.tensors import Tensors

TEMPERATURE = 200.0  # of GraSP's softmax, as published
SYNFLOW_ROUNDS = 100  # as published


def mask_of(scores: Tensors, keep: float) -> Tensors:
    """Masks of 0 and 1 that keep the fraction `keep` of all entries with the highest scores, over all
    parameters together."""
    flat = torch.cat([score.flatten() for score in scores.values()])
    mask = torch.zeros_like(flat)
    mask[flat.topk(round(keep * len(flat))).indices] = 1  # exactly this many, also with ties
    parts = mask.split([score.numel() for score in scores.values()])
    return {k: part.view_as(scores[k]) for k, part in zip(scores, parts, strict=True)}


def magnitude(weights: Tensors) -> Tensors:
    """Scores |w| (Han et al. 2015)."""
    return {name: w.abs() for name, w in weights.items()}


def at_random(weights: Tensors, seed: int) -> Tensors:
    """Uniform random scores."""
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(w.shape, generator=generator) for name, w in weights.items()}


def snip(weights: Tensors, loss: Callable[[Tensors], Tensor]) -> Tensors:
    """Scores |w dL/dw| (SNIP, Lee et al. 2019, eq. 6)."""
    return {name: (weights[name] * g).abs() for name, g in grad(loss)(weights).items()}


def grasp(weights: Tensors, loss: Callable[[Tensors], Tensor]) -> Tensors:
    """Scores w (H g), the loss of gradient norm if w were removed (GraSP, Wang et al. 2020, eq. 8,
    negated)."""
    gradient = grad(loss)
    hessian_gradient = jvp(gradient, (weights,), (gradient(weights),))[1]
    return {name: weights[name] * hg for name, hg in hessian_gradient.items()}


def synflow(weights: Tensors, flow: Callable[[Tensors], Tensor], keep: float) -> Tensors:
    """Scores |w| dR/d|w| (SynFlow, Tanaka et al. 2020, algorithm 1).

    Arguments:
        weights: by parameter name.
        flow: |weights| -> R, the sum of the outputs of the network of |w|.
        keep: fraction that is kept in the end; pruned in 100 rounds, round k to keep^(k/100).
    """
    masks = {name: torch.ones_like(w) for name, w in weights.items()}
    for k in range(1, SYNFLOW_ROUNDS + 1):
        kept = {name: w.abs() * masks[name] for name, w in weights.items()}
        gradients = grad(flow)(kept)
        scores = {name: kept[name] * gradients[name] for name in kept}
        if k < SYNFLOW_ROUNDS:
            masks = mask_of(scores, keep ** (k / SYNFLOW_ROUNDS))
    return scores
