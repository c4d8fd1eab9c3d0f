"""The toy of Liu et al. 2022: symbols become vectors, two vectors are combined, a decoder answers."""

import torch
from torch import Tensor, nn


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


def _multiply(left: Tensor, right: Tensor) -> Tensor:
    side = int(left.shape[-1] ** 0.5)
    return (left.unflatten(-1, (side, side)) @ right.unflatten(-1, (side, side))).flatten(-2)


_COMBINATIONS = {
    "add": torch.add,
    "concatenate": lambda left, right: torch.cat([left, right], -1),
    "multiply": _multiply,
}
