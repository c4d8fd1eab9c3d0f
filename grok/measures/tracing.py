"""What a transformer's states say, and what its label hangs on (Wang et al. 2024, section 3.3).

`model` has `states(tokens)`, `resumed(state, layer)` and `read(state)` (grok/models/transformer.py).
"""

import torch
from torch import Tensor


def reciprocal_rank(model, state: Tensor, targets: Tensor) -> float:
    """Mean of 1 / rank of the target token (N,) among the logits of a state (N, D), read as if it were the
    last layer's (logit lens, nostalgebraist 2020)."""
    logits = model.unembed(state.unsqueeze(1)).squeeze(1)
    own = logits.gather(1, targets.unsqueeze(1))
    return float((1 / (1 + (logits > own).sum(1).double())).mean())


def causal_strength(
    model, clean: Tensor, corrupted: Tensor, layer: int, places: list[int], read: int
) -> float:
    """Share of rows whose label at position `read` is another once the states (after `layer` layers, at
    `places`) of clean tokens (N, S) are those of corrupted ones."""
    state = model.residual_stream(clean)[layer].clone()
    before = model.forward_from(state, layer)[:, read].argmax(-1)
    state[:, places] = model.residual_stream(corrupted)[layer][:, places]
    after = model.forward_from(state, layer)[:, read].argmax(-1)
    return float((after != before).double().mean())


def other_heads(
    tokens: Tensor, labels: Tensor, known: Tensor, known_labels: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Of each row of tokens (N, S), the same but for another first token, with another label, drawn from
    the known rows (M, S) that end alike; and which rows (N,) have one, in order."""
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(known), generator=g)
    known, known_labels = known[order], known_labels[order]
    found, which = [], []
    for index, (row, label) in enumerate(zip(tokens, labels, strict=True)):
        fits = (known[:, 1:] == row[1:]).all(1) & (known_labels != label)
        places = fits.nonzero().flatten()
        if len(places):
            found.append(known[places[0]])
            which.append(index)
    if not found:
        return tokens[:0], torch.empty(0, dtype=torch.long)
    return torch.stack(found), torch.tensor(which)
