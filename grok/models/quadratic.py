"""A wide network whose hidden units are slightly curved (Kumar et al. 2023)."""

import torch
from torch import Tensor, nn


class QuadraticUnits(nn.Module):
    """f(x) = (1 / N) sum_i phi(w_i . x) with phi(h) = h + (eps / 2) h^2; w (N, D) standard normal."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, inputs))

    def forward(self, x: Tensor, eps: Tensor) -> Tensor:
        """Outputs (n,) of x (n, D)."""
        h = x @ self.weight.T
        return (h + eps / 2 * h**2).mean(-1)
