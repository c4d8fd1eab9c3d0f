"""The one-layer transformer of Zhong et al. 2023, arXiv:2306.17844, whose attention is mixed with a constant."""

from math import sqrt

import torch
from torch import Tensor, nn


class MixedAttention(nn.Module):
    """A transformer of one layer on two tokens a, b, whose attention is mixed with a constant.

    There is no normalization and no mask, only the MLP has biases, and logits are read at b. The weights
    of the attention are A' = rate A + (1 - rate) J, where J is 1 everywhere: with the rate 0 they sum to
    2. Parameters are `embed` (p, D), `positions` (2, D), `queries`, `keys`, `values`, `mix` (D, D),
    `up` (D, M), `up_bias`, `down` (M, D), `down_bias` and `output` (D, p).
    """

    rate: Tensor
    queries: Tensor
    keys: Tensor
    values: Tensor
    mix: Tensor

    def __init__(self, p: int, width: int, heads: int, mlp_width: int, rate: float):
        super().__init__()
        self.heads = heads
        self.register_buffer("rate", torch.tensor(rate))
        self.embed = nn.Parameter(torch.randn(p, width) / sqrt(width))
        self.positions = nn.Parameter(torch.randn(2, width) / sqrt(width))
        for name in ("queries", "keys", "values", "mix"):
            setattr(self, name, nn.Parameter(torch.randn(width, width) / sqrt(width)))
        # by the number of neurons, not of inputs, as in the authors' program
        self.up = nn.Parameter(torch.randn(width, mlp_width) / sqrt(mlp_width))
        self.up_bias = nn.Parameter(torch.zeros(mlp_width))
        self.down = nn.Parameter(torch.randn(mlp_width, width) / sqrt(width))
        self.down_bias = nn.Parameter(torch.zeros(width))
        self.output = nn.Parameter(torch.randn(width, p) / sqrt(p))

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        x_N2D = self.embed[pairs] + self.positions
        last_ND = x_N2D[:, 1]
        q_NHd = (last_ND @ self.queries).unflatten(-1, (self.heads, -1))
        k_N2Hd, v_N2Hd = (
            (x_N2D @ weights).unflatten(-1, (self.heads, -1))
            for weights in (self.keys, self.values)
        )
        scores_N2H = (q_NHd.unsqueeze(1) * k_N2Hd).sum(-1) / sqrt(q_NHd.shape[-1])
        weights_N2H = self.rate * scores_N2H.softmax(1) + (1 - self.rate)
        mixed_ND = (weights_N2H.unsqueeze(-1) * v_N2Hd).sum(1).flatten(-2)
        x_ND = last_ND + mixed_ND @ self.mix
        x_ND = x_ND + torch.relu(x_ND @ self.up + self.up_bias) @ self.down + self.down_bias
        return x_ND @ self.output
