"""Logit lens and causal tracing of a transformer's residual stream (Wang et al. 2024, section 3.3)."""

from typing import Protocol

import torch
from torch import Tensor


class TracedModel(Protocol):
    """What is traced: grok.models.transformer.Transformer has these methods."""

    def residual_stream(self, tokens: Tensor) -> list[Tensor]:
        """(N, S, D) before the first layer and after each, for tokens (N, S)."""

    def forward_from(self, x: Tensor, layer: int) -> Tensor:
        """Logits (N, S, C), given the residual stream (N, S, D) after `layer` layers."""

    def unembed(self, x: Tensor) -> Tensor:
        """Logits (..., C) of a residual stream (..., D)."""


def reciprocal_rank(model: TracedModel, x: Tensor, targets: Tensor) -> float:
    """Mean reciprocal rank of target tokens by the logit lens (nostalgebraist 2020).

    Arguments:
        model: its unembedding is applied to x as if it were the last layer's.
        x: residual stream at one position, (N, D).
        targets: tokens (N,).
    """
    logits = model.unembed(x.unsqueeze(1)).squeeze(1)
    target_logits = logits.gather(1, targets.unsqueeze(1))
    return float((1 / (1 + (logits > target_logits).sum(1).double())).mean())


def causal_strength(
    model: TracedModel,
    clean: Tensor,
    corrupted: Tensor,
    layer: int,
    patched: list[int],
    output: int,
) -> float:
    """Fraction of rows whose prediction changes if part of the residual stream is replaced.

    Arguments:
        model: the transformer.
        clean: tokens (N, S).
        corrupted: tokens (N, S), whose residual stream is patched in.
        layer: the residual stream after so many layers is replaced,
        patched: at these positions.
        output: position of the prediction.
    """
    x = model.residual_stream(clean)[layer].clone()
    before = model.forward_from(x, layer)[:, output].argmax(-1)
    x[:, patched] = model.residual_stream(corrupted)[layer][:, patched]
    after = model.forward_from(x, layer)[:, output].argmax(-1)
    return float((after != before).double().mean())


def other_heads(
    tokens: Tensor, labels: Tensor, known: Tensor, known_labels: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """For each row, a random known row with another first token and label but equal other tokens.

    Arguments:
        tokens: (N, S).
        labels: (N,).
        known: the rows to choose from, (M, S).
        known_labels: (M,).
        seed: of the choice.

    Returns:
        The rows found (K, S), and the indices (K,) of the rows of `tokens` that have one, ascending.
    """
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(known), generator=g)
    known, known_labels = known[order], known_labels[order]
    others, rows = [], []
    for index, (row, label) in enumerate(zip(tokens, labels, strict=True)):
        fits = (known[:, 1:] == row[1:]).all(1) & (known_labels != label)
        candidates = fits.nonzero().flatten()
        if len(candidates):
            others.append(known[candidates[0]])
            rows.append(index)
    if not others:
        return tokens[:0], torch.empty(0, dtype=torch.long)
    return torch.stack(others), torch.tensor(rows)
