"""The multilayer perceptron of one replica."""

from itertools import pairwise

from torch import nn

ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU}


def mlp(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers (…, sizes[0]) -> (…, sizes[-1]) with the activation between them, torch's own init."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
