"""How much the loss can grow near a set of weights."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from grok.tensors import Tensors


def sharpness(
    module: nn.Module,
    loss: Callable[[nn.Module, Tensors], Tensor],
    data: Tensors,
    weights: Tensors,
    eps: float = 1e-3,
    iterations: int = 10,
    adaptive: bool = False,
) -> tuple[float, float]:
    """Keskar's sharpness, and what the published code of Power et al. 2022 computes in its place.

    Arguments:
        module: the network; its own weights are not read.
        loss: loss(module, data).
        data: what the loss reads.
        weights: L0 is the loss here.
        eps: size of the box |dw_i| <= eps (|w_i| + 1), in which L is searched.
        iterations: of L-BFGS-B, in the full space.
        adaptive: the box is |dw_i| <= eps |w_i|, which is as large for weights of any scale (Kwon
            et al. 2021).

    Returns:
        100 (max L - L0) / (1 + L0) (Keskar et al. 2017, eq. 4), and the published code's
        100 (L0 - min L) / (1 - L0), a mistake of sign.
    """
    trial = copy.deepcopy(module)
    trial.load_state_dict(weights, strict=False)  # buffers are not among the weights
    parameters = list(trial.parameters())
    center = parameters_to_vector(parameters).detach()

    def signed_loss(flat: np.ndarray, sign: int) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.tensor(flat).to(center), parameters)
        value = loss(trial, data)
        grads = torch.autograd.grad(value, parameters)
        gradient = torch.cat([grad.flatten() for grad in grads])
        return sign * float(value.detach()), sign * gradient.double().cpu().numpy()

    from scipy.optimize import minimize  # imported here, since all commands import this module

    def minimum(sign: int, begin: np.ndarray) -> float:
        bounds = np.stack([start - radius, start + radius], axis=1)
        options = {"maxiter": iterations}
        return minimize(
            signed_loss, begin, (sign,), jac=True, method="L-BFGS-B", bounds=bounds, options=options
        ).fun

    start = center.double().cpu().numpy()
    radius = eps * (np.abs(start) + (not adaptive))
    before, gradient = signed_loss(start, 1)
    # a saturated loss has a vanishing gradient: begin in the corner that the gradient's signs give
    highest = -minimum(-1, np.where(gradient >= 0, start + radius, start - radius))
    lowest = minimum(1, start)
    return (
        100 * (max(highest, before) - before) / (1 + before),
        100 * (before - min(lowest, before)) / (1 - before),
    )


def top_eigenvalue(
    module: nn.Module,
    loss: Callable[[nn.Module, Tensors], Tensor],
    data: Tensors,
    weights: Tensors,
    iterations: int = 100,
    tolerance: float = 1e-3,
) -> float:
    """The eigenvalue of the loss's Hessian that is largest in absolute value, by power iteration.

    Arguments:
        module, loss, data, weights: as in `sharpness`.
        iterations: products with the Hessian at most.
        tolerance: relative change of the Rayleigh quotient at which the iteration ends.
    """
    trial = copy.deepcopy(module)
    trial.load_state_dict(weights, strict=False)
    parameters = list(trial.parameters())
    grads = torch.autograd.grad(loss(trial, data), parameters, create_graph=True)
    gradient = torch.cat([grad.flatten() for grad in grads])
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(len(gradient), generator=generator).to(gradient)
    vector /= vector.norm()
    eigenvalue = 0.0
    for _ in range(iterations):
        products = torch.autograd.grad(gradient, parameters, vector, retain_graph=True)
        product = torch.cat([part.flatten() for part in products])
        before, eigenvalue = eigenvalue, float(vector @ product)
        norm = product.norm()
        if norm == 0 or abs(eigenvalue - before) <= tolerance * abs(eigenvalue):
            break
        vector = product / norm
    return eigenvalue
