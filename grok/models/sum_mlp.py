"""A perceptron over the sum of two symbols' vectors (Minegishi et al. 2023, section 3)."""

import torch
from torch import Tensor, nn


class SumMLP(nn.Module):
    """logits = relu((E_a + E_b) W_in) W_out U without biases: embed (p, D), W_in (D, H), W_out (H, D),
    U (D, p), each normal with std 1 / sqrt(its rows)."""

    def __init__(self, p: int, embedding: int, hidden: int):
        super().__init__()
        shapes = {
            "embed": (p, embedding), "w_in": (embedding, hidden),
            "w_out": (hidden, embedding), "unembed": (embedding, p),
        }  # fmt: skip
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(shape) / shape[0] ** 0.5))

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        table = self.embed @ self.w_in  # of the symbols, not of every pair
        hidden = torch.relu(table[pairs[:, 0]] + table[pairs[:, 1]])
        return hidden @ (self.w_out @ self.unembed)
