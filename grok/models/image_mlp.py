"""A multilayer perceptron on images that exposes its pre-activations (Humayun et al. 2024)."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from grok.models.mlp import ACTIVATIONS, scaled

EPS = 1e-5  # added to the variance, as in torch's batch normalization


class ImageMLP(nn.Module):
    """Linear layers with an activation between them, initialized as by torch times `init_scale`.

    normalized: batch normalization before each activation. Its statistics are those of the
    `reference` inputs, not running means: in training the batch, in evaluation the train set.
    """

    def __init__(self, sizes: list[int], activation: str, init_scale: float, normalized: bool):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.activation, self.normalized = ACTIVATIONS[activation](), normalized
        scaled(self, init_scale)
        if normalized:
            self.gains = nn.ParameterList(torch.ones(size) for size in sizes[1:-1])
            self.shifts = nn.ParameterList(torch.zeros(size) for size in sizes[1:-1])

    def extra_repr(self) -> str:
        return f"normalized={self.normalized}"

    def layers(self, x: Tensor, reference: Tensor | None = None) -> list[Tensor]:
        """Pre-activations (n, H) of every hidden layer, then the outputs (n, C), for x (n, D)."""
        outputs = []
        for index, linear in enumerate(self.linears):
            x = linear(x)
            last = index == len(self.linears) - 1
            if self.normalized and not last:
                reference = linear(reference)
                mean, var = reference.mean(0), reference.var(0, unbiased=False)
                scale = self.gains[index] * (var + EPS).rsqrt()
                x, reference = (
                    (values - mean) * scale + self.shifts[index] for values in (x, reference)
                )
                reference = self.activation(reference)
            outputs.append(x)
            x = self.activation(x)
        return outputs

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        """Outputs (n, C) for x (n, D); reference (m, D): inputs whose statistics normalize."""
        return self.layers(x, reference)[-1]
