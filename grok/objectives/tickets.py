"""Subnetworks of a MaskedSumMLP: where their masks come from, and how they change while it trains.

Minegishi et al. 2023, arXiv:2310.19470, sections 3 and 4.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from grok.measures import pruning
from grok.measures.masks import graph_metrics, jaccard_distance
from grok.measures.periodicity import fourier_entropy
from grok.models.sum_mlp import logits
from grok.objectives.losses import cross_entropy
from grok.tensors import Tensors

AT_START = ("random", "magnitude", "snip", "grasp", "synflow")  # masks chosen before training
# From the weights of a run: its ticket; all weights, at the ticket's norm; its weights, to search in.
FROM_A_RUN = ("ticket", "l1_norm", "l2_norm", "search")
WANTED = f"an id or named config with mask={', '.join(FROM_A_RUN)}, and None else"
KINDS = ("none", *AT_START, *FROM_A_RUN)
APART = 2000  # updates between two tickets that are compared


def ticket(weights: Tensors, keep: float) -> Tensors:
    """Masks of the largest weights, over all matrices together."""
    return pruning.mask_of(pruning.magnitude(weights), keep)


def mask_at_start(kind: str, module: nn.Module, split: Tensors, keep: float, seed: int) -> Tensors:
    """Masks that are chosen before training: a kind of AT_START."""
    weights = {name: value.detach() for name, value in module.named_parameters()}
    pairs, labels = split["train_pairs"], split["train_labels"]

    def loss(of: Tensors, temperature: float = 1.0) -> Tensor:
        return cross_entropy(logits(of, pairs) / temperature, labels)

    def flow(of: Tensors) -> Tensor:  # both symbols at one, so twice every row of the embedding
        return (2 * of["embed"].sum(0) @ of["w_in"] @ of["w_out"] @ of["unembed"]).sum()

    scores = {
        # not the stream that the weights were drawn from
        "random": lambda: pruning.at_random(weights, 1_000_003 * seed + 13),
        "magnitude": lambda: pruning.magnitude(weights),
        "snip": lambda: pruning.snip(weights, loss),
        "grasp": lambda: pruning.grasp(weights, lambda of: loss(of, pruning.TEMPERATURE)),
        "synflow": lambda: pruning.synflow(weights, flow, keep),
    }[kind]()
    return pruning.mask_of(scores, keep)


def inherit(kind: str, module: nn.Module, weights: Tensors, keep: float) -> None:
    """Give an untrained module what it has from a run's weights: a kind of FROM_A_RUN."""
    if kind == "search":
        module.search_in(weights)
    elif kind == "ticket":
        module.keep(ticket(weights, keep))
    else:
        match(module, ticket(weights, keep), {"l1_norm": 1, "l2_norm": 2}[kind])


def match(module: nn.Module, masks: Tensors, order: int) -> None:
    """Scale all weights alike, so that their L1 or L2 norm, over all, is that of the masked ones."""
    with torch.no_grad():
        weights = dict(module.named_parameters())
        whole = sum((w.double().abs() ** order).sum() for w in weights.values())
        left = sum(((w * masks[k].to(w)).double().abs() ** order).sum() for k, w in weights.items())
        for weight in weights.values():
            weight.mul_((left / whole) ** (1 / order))


def history(kept: Mapping[int, dict[str, np.ndarray]], keep: float) -> dict[str, tuple]:
    """Steps and values, by name, from the weights at some steps, the first being 0.

    ticket_change: Jaccard distance to the ticket 2000 updates before. fourier_entropy: of E W_in, and
    ticket_fourier_entropy of the initial weights under the ticket. graph metrics of W_in under it.
    """
    weights = {step: {k: torch.from_numpy(w) for k, w in at.items()} for step, at in kept.items()}
    masks = {step: ticket(at, keep) for step, at in weights.items()}
    found: dict[str, dict[int, float]] = {"ticket_change": {}}
    for step, mask in masks.items():
        if step - APART in masks:
            found["ticket_change"][step] = jaccard_distance(masks[step - APART], mask)
        start = {k: w * mask[k] for k, w in weights[0].items()}
        now = weights[step]
        numbers = {
            "fourier_entropy": fourier_entropy(now["embed"] @ now["w_in"]),
            "ticket_fourier_entropy": fourier_entropy(start["embed"] @ start["w_in"]),
            **graph_metrics((now["w_in"] * mask["w_in"]).numpy()),
        }
        for name, value in numbers.items():
            found.setdefault(name, {})[step] = value
    return {name: (list(values), list(values.values())) for name, values in found.items() if values}


def turning(series: Mapping[str, tuple], generalized: float | None) -> dict[str, float]:
    """What happens as the network generalizes: ticket_change_rise, the largest ticket_change up to half
    as late again, less the smallest before it; entropy_ratio, of the Fourier entropy 2000 updates later
    to the first. Empty if it did not, or not in time."""
    if generalized is None or "ticket_change" not in series:
        return {}
    steps, values = (np.array(x) for x in series["ticket_change"])
    window = np.flatnonzero((steps >= generalized) & (steps <= 1.5 * generalized))
    if not len(window):
        return {}
    top = window[values[window].argmax()]
    at, entropies = (np.array(x) for x in series["fourier_entropy"])
    later = np.searchsorted(at, generalized + APART, side="right") - 1
    return {
        "ticket_change_rise": float(values[top] - values[: top + 1].min()),
        "entropy_ratio": float(entropies[later] / entropies[0]),
    }
