"""Students and teachers without biases: linear, or with one hidden layer (Levi et al. 2023)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS = {"linear": lambda x: x, "tanh": torch.tanh}


class Student(nn.Module):
    """x W_1 .. W_L with an activation between; entries of W_l are N(0, 1 / (2 d_{l-1} d_l)).

    sizes: d_0 .. d_L. kind: "linear" or "tanh".
    """

    def __init__(self, sizes: list[int], kind: str):
        super().__init__()
        self.kind = kind
        self.layers = nn.ParameterList(
            torch.randn(a, b) / (2 * a * b) ** 0.5 for a, b in pairwise(sizes)
        )

    def extra_repr(self) -> str:
        return self.kind

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (N, d_L) for inputs (N, d_0)."""
        for index in range(len(self.layers) - 1):  # a slice would be a copy without gradient
            x = ACTIVATIONS[self.kind](x @ self.layers[index])
        return x @ self.layers[-1]
