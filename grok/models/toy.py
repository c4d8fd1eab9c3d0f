"""The toy model of Liu et al. 2022: a decoder of the combination of two symbols' vectors."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from grok.models.mlp import mlp


class Toy(nn.Module):
    """decoder(combine(E[a], E[b])).

    E is either a parameter, `symbols` (P, D) with `encoder` None, or encoder(symbols) of fixed
    vectors. The encoder runs on the P symbols, not on every pair. `combine`: "add", "concatenate",
    or "multiply", which reads the vectors as square matrices.
    """

    def __init__(
        self, symbols: Tensor, encoder: nn.Module | None, decoder: nn.Module, combine: str
    ):
        super().__init__()
        if encoder is None:
            self.table = nn.Parameter(symbols)
        else:
            self.register_buffer("symbols", symbols)
        self.encoder = encoder
        self.decoder = decoder
        self.combine = combine

    def extra_repr(self) -> str:
        return f"combine={self.combine}"

    def representation(self) -> Tensor:
        """E, (P, D)."""
        return self.table if self.encoder is None else self.encoder(self.symbols)

    def forward(self, pairs: Tensor) -> Tensor:
        """Outputs (N, K) for pairs (N, 2) of symbol indices."""
        vectors = self.representation()
        left, right = vectors[pairs[:, 0]], vectors[pairs[:, 1]]
        return self.decoder(_COMBINATIONS[self.combine](left, right))


def encoded_toy(
    vectors: Tensor, encoder: list[int], decoder: list[int], activation: str, combine: str
) -> Toy:
    """A toy over an encoder of fixed vectors; draws the encoder, then the decoder."""
    return Toy(vectors, mlp(encoder, activation), mlp(decoder, activation), combine)


def free_toy(
    shape: tuple[int, int],
    scale: float,
    decoder: list[int],
    activation: str,
    combine: str,
    unused: list[int] | None = None,
) -> Toy:
    """A toy over free vectors (P, D), uniform in +- scale / 2; draws the vectors, then the decoder.

    With `unused`, the sizes of an encoder that is not used, as in the authors' notebooks: draws that
    encoder, then the decoder, then the vectors.
    """
    if unused:
        mlp(unused, activation)
        net = mlp(decoder, activation)
        return Toy((torch.rand(shape) - 0.5) * scale, None, net, combine)
    table = (torch.rand(shape) - 0.5) * scale
    return Toy(table, None, mlp(decoder, activation), combine)


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    side = int(left.shape[-1] ** 0.5)
    return (left.unflatten(-1, (side, side)) @ right.unflatten(-1, (side, side))).flatten(-2)


_COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "concatenate": lambda left, right: torch.cat([left, right], -1),
    "multiply": _multiply,
}
