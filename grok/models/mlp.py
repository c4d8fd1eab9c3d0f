"""Multilayer perceptrons of one replica."""

from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


def mlp(sizes: list[int], activation: str, bias: bool = True) -> nn.Sequential:
    """Linear layers (…, sizes[0]) -> (…, sizes[-1]) with the activation between them, torch's own init."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs, bias), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])


def scaled(module: nn.Module, factor: float) -> nn.Module:
    """The module, with all its parameters, biases too, multiplied by a factor (Omnigrok's alpha)."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(factor)
    return module


class PairMLP(nn.Module):
    """An MLP over two symbols: over their one-hot vectors, or over learned vectors of `embedding`.

    hidden: widths of the hidden layers. init_scale: factor of all initial parameters.
    """

    def __init__(
        self,
        symbols: int,
        classes: int,
        hidden: list[int],
        activation: str,
        embedding: int | None = None,
        init_scale: float = 1.0,
        bias: bool = True,
    ):
        super().__init__()
        self.embedding = None if embedding is None else nn.Embedding(symbols, embedding)
        self.net = mlp([2 * (embedding or symbols), *hidden, classes], activation, bias)
        scaled(self, init_scale)

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, C) for pairs (N, 2)."""
        # the first layer is computed for every symbol and then looked up, not for every pair
        layer = self.net[0]
        assert isinstance(layer, nn.Linear)
        left, right = (half.T for half in layer.weight.chunk(2, dim=1))
        if self.embedding is not None:
            left, right = self.embedding.weight @ left, self.embedding.weight @ right
        first = left[pairs[:, 0]] + right[pairs[:, 1]]
        return self.net[1:](first if layer.bias is None else first + layer.bias)
