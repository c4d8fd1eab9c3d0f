"""How much the loss can grow near a set of weights."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor, nn
from torch.func import functional_call


class _Call(nn.Module):
    def __init__(self, module: nn.Module, loss: Callable):
        super().__init__()
        self.module, self.loss = module, loss

    def forward(self, data):
        return self.loss(self.module, data)


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
    call = _Call(module, loss)
    names = list(weights)
    device = next(iter(weights.values())).device
    start = np.concatenate([weights[name].detach().cpu().numpy().ravel() for name in names])
    start = start.astype(np.float64)

    def negative(flat: np.ndarray) -> tuple[float, np.ndarray]:
        parts, place = {}, 0
        for name in names:
            like = weights[name]
            part = torch.from_numpy(flat[place : place + like.numel()]).to(device, like.dtype)
            parts[f"module.{name}"] = part.view_as(like).requires_grad_()
            place += like.numel()
        value = functional_call(call, parts, (data,))
        grads = torch.autograd.grad(value, list(parts.values()))
        flat_grad = np.concatenate([g.cpu().numpy().ravel() for g in grads])
        return -float(value.detach()), -flat_grad.astype(np.float64)

    radius = eps * (np.abs(start) + 1)
    bounds = np.stack([start - radius, start + radius], axis=1)
    before = -negative(start)[0]
    # where the loss has saturated its gradient vanishes: begin in the corner that its signs name
    corner = np.where(negative(start)[1] <= 0, *bounds.T[::-1])
    options = {"maxiter": iterations}
    found = minimize(negative, corner, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return 100 * (max(-found.fun, before) - before) / (1 + before)
