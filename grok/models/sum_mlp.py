"""A perceptron over the sum of two symbols' vectors: dense, masked, or with learned masks.

Minegishi et al. 2023, arXiv:2310.19470, section 3.
"""

import torch
from torch import Tensor, nn

MATRICES = ("embed", "w_in", "w_out", "unembed")


def logits(weights: dict[str, Tensor], pairs: Tensor) -> Tensor:
    """relu((E_a + E_b) W_in) W_out U, (N, p), for pairs (N, 2)."""
    embed, w_in, w_out, unembed = (weights[name] for name in MATRICES)
    table = embed @ w_in  # for every symbol, not for every pair
    hidden = torch.relu(table[pairs[:, 0]] + table[pairs[:, 1]])
    return hidden @ (w_out @ unembed)


class SumMLP(nn.Module):
    """Matrices without biases: embed (p, D), w_in (D, H), w_out (H, D), unembed (D, p), each normal
    with std 1 / sqrt(its rows)."""

    def __init__(self, p: int, embedding: int, hidden: int):
        super().__init__()
        shapes = (p, embedding), (embedding, hidden), (hidden, embedding), (embedding, p)
        for name, shape in zip(MATRICES, shapes, strict=True):
            setattr(self, name, nn.Parameter(torch.randn(shape) / shape[0] ** 0.5))

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        return logits(dict(self.named_parameters()), pairs)


class MaskedSumMLP(SumMLP):
    """A SumMLP with a mask kept_NAME of 0 and 1 on each matrix; at first all ones."""

    def __init__(self, p: int, embedding: int, hidden: int):
        super().__init__(p, embedding, hidden)
        for name, value in list(self.named_parameters()):
            self.register_buffer(f"kept_{name}", torch.ones_like(value))

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        weights = {name: getattr(self, name) * getattr(self, f"kept_{name}") for name in MATRICES}
        return logits(weights, pairs)

    def keep(self, masks: dict[str, Tensor]) -> None:
        """Let these masks count; the other weights are zero from now on, and stay so."""
        with torch.no_grad():
            for name, mask in masks.items():
                getattr(self, f"kept_{name}").copy_(mask)
                own = getattr(self, name)
                own.mul_(mask.to(own))


class SearchedSumMLP(nn.Module):
    """Fixed weights, under a mask of the `keep` largest |scores| of each matrix; the scores are what
    is learned (edge-popup, Ramanujan et al. 2020). Buffers weight_NAME, parameters NAME."""

    def __init__(self, p: int, embedding: int, hidden: int, keep: float):
        super().__init__()
        self.share = keep
        for name, value in SumMLP(p, embedding, hidden).named_parameters():
            bound = value.shape[0] ** -0.5  # Kaiming's uniform with a = sqrt(5)
            self.register_buffer(f"weight_{name}", value.detach())
            setattr(self, name, nn.Parameter((2 * torch.rand(value.shape) - 1) * bound))

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        return logits(
            {name: getattr(self, f"weight_{name}") * self.mask(name) for name in MATRICES}, pairs
        )

    def search_in(self, weights: dict[str, Tensor]) -> None:
        """Let these be the fixed weights."""
        for name, value in weights.items():
            getattr(self, f"weight_{name}").copy_(value)

    def mask(self, name: str) -> Tensor:
        """0 or 1 at every weight of a matrix; its gradient goes to |score| as if it were that."""
        score = getattr(self, name).abs()
        count = max(round(self.share * score.numel()), 1)
        least = score.detach().flatten().topk(count).values[-1]
        return (score >= least).to(score.dtype).detach() + score - score.detach()

    def extra_repr(self) -> str:
        return f"share={self.share}"
