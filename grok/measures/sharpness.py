"""How much the loss can grow near a set of weights."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters


def sharpness(
    module: nn.Module,
    loss: Callable[[nn.Module, dict[str, Tensor]], Tensor],
    data: dict[str, Tensor],
    weights: dict[str, Tensor],
    eps: float = 1e-3,
    iterations: int = 10,
) -> float:
    """100 (max L - L0) / (1 + L0), the maximum over |dw_i| <= eps (|w_i| + 1) (Keskar et al. 2017, eq. 4).

    L-BFGS-B in the full space; the loss is `loss(module, data)`. The published code of Power et al.
    2022 finds the minimum in that box by mistake.
    """
    trial = copy.deepcopy(module)
    trial.load_state_dict(weights, strict=False)  # the module has its own buffers
    parameters = list(trial.parameters())
    center = parameters_to_vector(parameters).detach()

    def negative(flat: np.ndarray) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.tensor(flat).to(center), parameters)
        value = loss(trial, data)
        grads = torch.autograd.grad(value, parameters)
        slope = torch.cat([grad.flatten() for grad in grads])
        return -float(value.detach()), -slope.double().cpu().numpy()

    start = center.double().cpu().numpy()
    radius = eps * (np.abs(start) + 1)
    bounds = np.stack([start - radius, start + radius], axis=1)
    value, slope = negative(start)
    before = -value
    # where the loss has saturated its gradient vanishes: begin in the corner that its signs name
    corner = np.where(slope <= 0, *bounds.T[::-1])
    options = {"maxiter": iterations}
    found = minimize(negative, corner, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return 100 * (max(-found.fun, before) - before) / (1 + before)
