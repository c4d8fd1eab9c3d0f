"""MLPs over the sum of two symbols' embeddings: of Minegishi et al. 2023, and a smaller one."""

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
    """The network of Minegishi et al. 2023, arXiv:2310.19470, section 3.

    Matrices without biases: embed (p, D), w_in (D, H), w_out (H, D), unembed (D, p), each normal
    with std 1 / sqrt(its rows).
    """

    def __init__(self, p: int, embedding: int, hidden: int):
        super().__init__()
        shapes = (p, embedding), (embedding, hidden), (hidden, embedding), (embedding, p)
        for name, shape in zip(MATRICES, shapes, strict=True):
            setattr(self, name, nn.Parameter(torch.randn(shape) / shape[0] ** 0.5))

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        return logits(dict(self.named_parameters()), pairs)


class Sums(nn.Module):
    """relu((E_a + E_b) W_1) W_2, without biases: 3-homogeneous in its weights.

    Parameters are `embed` (p, D), `hidden` (D, H) and `output` (H, p).
    """

    def __init__(self, p: int, embedding_width: int, width: int, embedding_std: float):
        super().__init__()
        self.embed = nn.Parameter(embedding_std * torch.randn(p, embedding_width))
        self.hidden = nn.Parameter(
            torch.randn(embedding_width, width) * (2 / embedding_width) ** 0.5
        )
        self.output = nn.Parameter(torch.randn(width, p) / width**0.5)

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        table = self.embed @ self.hidden  # for every symbol, not for every pair
        return torch.relu(table[pairs[:, 0]] + table[pairs[:, 1]]) @ self.output
