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
) -> tuple[float, float]:
    """100 (max L - L0) / (1 + L0), the maximum over |dw_i| <= eps (|w_i| + 1) (Keskar et al. 2017, eq. 4);
    and what the published code of Power et al. 2022 computes by mistake, 100 (L0 - min L) / (1 - L0).

    L-BFGS-B in the full space; the loss is `loss(module, data)`.
    """
    trial = copy.deepcopy(module)
    trial.load_state_dict(weights, strict=False)  # the module has its own buffers
    parameters = list(trial.parameters())
    center = parameters_to_vector(parameters).detach()

    def height(flat: np.ndarray, sign: int) -> tuple[float, np.ndarray]:
        vector_to_parameters(torch.tensor(flat).to(center), parameters)
        value = loss(trial, data)
        grads = torch.autograd.grad(value, parameters)
        slope = torch.cat([grad.flatten() for grad in grads])
        return sign * float(value.detach()), sign * slope.double().cpu().numpy()

    def extreme(sign: int, begin: np.ndarray) -> float:
        how = {"jac": True, "method": "L-BFGS-B", "options": {"maxiter": iterations}}
        bounds = np.stack([start - radius, start + radius], axis=1)
        return minimize(height, begin, (sign,), bounds=bounds, **how).fun

    start = center.double().cpu().numpy()
    radius = eps * (np.abs(start) + 1)
    before, slope = height(start, 1)
    # where the loss has saturated its gradient vanishes: begin in the corner that its signs name
    highest = -extreme(-1, np.where(slope >= 0, start + radius, start - radius))
    lowest = extreme(1, start)
    return (
        100 * (max(highest, before) - before) / (1 + before),
        100 * (before - min(lowest, before)) / (1 - before),
    )
