"""The local learning coefficient: how fast the volume of small loss near weights shrinks with the loss.

Lau, Furman, Wang, Murfet & Wei 2023, arXiv:2308.12108. At a regular minimum of d weights it is d / 2;
it is less where the minimum is flat to higher order.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad_and_value, vmap
from torch.fx.experimental.proxy_tensor import make_fx

from grok.randomness import seed_of
from grok.tensors import Tensors


def local_learning_coefficient(
    loss: Callable[[Tensors], Tensor],
    weights: Tensors,
    n_beta: float,
    *,
    step_size: float = 1e-4,
    localization: float = 100.0,
    draws: int = 400,
    burn_in: int = 200,
    chains: int = 2,
    seed: int = 0,
) -> tuple[float, float]:
    """The estimate, and the standard deviation of its estimates from single chains.

    Each chain is Langevin dynamics that starts at the weights w*: w <- w - (step_size / 2) [n_beta
    grad L(w) + localization (w - w*)] + a normal random number of variance step_size. The estimate is
    n_beta (mean L - L(w*)) (section 4.2 of the paper).

    Arguments:
        loss: of parameters, the mean over the data.
        weights: the parameters w*.
        n_beta: number of data times inverse temperature; the paper's is `default_n_beta`.
        step_size: it must be small: step_size n_beta h / 4 is the relative error in a direction of
            curvature h.
        localization: strength of the pull towards w*.
        draws: steps of each chain whose losses count.
        burn_in: steps before them.
        chains: number of independent chains.
        seed: of the run.
    """
    device = next(iter(weights.values())).device
    generator = torch.Generator(device).manual_seed(seed_of(seed, 19))
    chain = {name: torch.stack([value] * chains) for name, value in weights.items()}
    # recorded once: the transformations of torch.func take longer than a small network's arithmetic
    gradient_and_loss = make_fx(lambda params: vmap(grad_and_value(loss))(params))(chain)
    total = torch.zeros(chains, dtype=torch.float64, device=device)
    for step in range(burn_in + draws):
        grads, losses = gradient_and_loss(chain)
        if step >= burn_in:
            total += losses
        for name, value in chain.items():
            pull = n_beta * grads[name] + localization * (value - weights[name])
            noise = torch.randn(value.shape, dtype=value.dtype, device=device, generator=generator)
            chain[name] = value - step_size / 2 * pull + math.sqrt(step_size) * noise
    estimates = n_beta * (total / draws - loss(weights).double())
    spread = float(estimates.std()) if chains > 1 else 0.0
    return float(estimates.mean()), spread


def default_n_beta(rows: int) -> float:
    """n / ln n, of Watanabe's WBIC (Lau et al. 2023, section 4.2)."""
    return rows / math.log(rows)
