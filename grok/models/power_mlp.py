"""Two layers with a power between them, on sums of symbols' vectors (Gromov 2023, Doshi et al. 2024)."""

import torch
from torch import Tensor, nn


class PowerMLP(nn.Module):
    """factor W (sum_s U_s[n_s])^S for S symbols n_s below p, no biases.

    `inputs` is U (S, p, N), `outputs` is W (p, N). kind: how they are drawn. "gromov": N(0, 1), with
    factor 1 / (S p N); "doshi": std 0.5 / (2 N)^(1/3), factor 1.
    """

    def __init__(self, p: int, width: int, terms: int, kind: str):
        super().__init__()
        std = 1.0 if kind == "gromov" else 0.5 / (2 * width) ** (1 / 3)
        self.factor = 1 / (terms * p * width) if kind == "gromov" else 1.0
        self.inputs = nn.Parameter(std * torch.randn(terms, p, width))
        self.outputs = nn.Parameter(std * torch.randn(p, width))

    def extra_repr(self) -> str:
        return f"{tuple(self.inputs.shape)}, factor={self.factor}"

    def forward(self, symbols: Tensor) -> Tensor:
        """Outputs (N, p) for symbols (N, S)."""
        total = sum(table[column] for table, column in zip(self.inputs, symbols.T, strict=True))
        return self.factor * total ** len(self.inputs) @ self.outputs.T

    @torch.no_grad()
    def set(self, inputs: Tensor, outputs: Tensor) -> "PowerMLP":
        """Itself, with these weights."""
        self.inputs.copy_(inputs)
        self.outputs.copy_(outputs)
        return self
