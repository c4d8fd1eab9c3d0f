"""The type of named tensors: weights, gradients, data."""

from torch import Tensor

Tensors = dict[str, Tensor]
