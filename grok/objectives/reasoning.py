"""A transformer that infers from facts (Wang et al. 2024): accuracies, and how its predictions come about."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grok.measures import tracing
from grok.objectives.classification import ClassificationLoss
from grok.objectives.losses import accuracy
from grok.tensors import Tensors

PARTS = ("atomic", "train", "test", "ood")
BATCHED = ("rows_tokens", "rows_places", "rows_labels")
TRACED = 300  # train inferences that are looked into
PROBES = 3000  # rows of each part that accuracies are measured on, as published


@dataclass(frozen=True)
class FactLogits:
    """Logits (N, 1, C) at the place of each row's answer. Data: PART_tokens (N, S), PART_places (N,).

    dropout: in training.
    """

    dropout: bool = False
    batched = BATCHED

    @property
    def draws(self) -> bool:
        return self.dropout

    def __call__(self, model: nn.Module, data: Tensors, part: str, training: bool) -> Tensor:
        tokens = data[f"{part}_tokens"]
        key = data["key"] if training and self.dropout else None
        nothing = tokens[:, :0], tokens[:, 0]  # no prefix is shared
        logits = model.last_logits(*nothing, tokens, tokens.shape[1], key)
        places = data[f"{part}_places"].view(-1, 1, 1).expand(-1, 1, logits.shape[-1])
        return logits.gather(1, places)


@dataclass(frozen=True)
class FactMetrics:
    """Loss and accuracy on train and test inferences; accuracy on atomic facts and on ood inferences."""

    loss: ClassificationLoss

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = {}
        for part in PARTS:
            logits, labels = self.loss.logits(model, data, part, False), data[f"{part}_labels"]
            if part in ("train", "test"):
                result[f"{part}_loss"] = self.loss.from_logits(logits, labels)
            result[f"{part}_accuracy"] = accuracy(logits.argmax(-1), labels)
        return result


def with_rows(parts: Tensors) -> Tensors:
    """Up to 3000 rows of each part, labels (N, 1), and all that are trained on, atomic facts and train
    inferences alike: the part `rows`."""
    data = {k: v.view(-1, 1) if k.endswith("labels") else v for k, v in parts.items()}
    rows = {f"rows_{kind}": torch.cat([data[f"{part}_{kind}"] for part in ("atomic", "train")])
            for kind in ("tokens", "places", "labels")}  # fmt: skip
    return {**{name: values[:PROBES] for name, values in data.items()}, **rows}


def circuit(
    model: nn.Module, weights: Iterable[Tensors], parts: Tensors, seed: int
) -> dict[str, list]:
    """How two hops are made, by the weights of each time, of up to 300 train inferences h r1 r2 -> t by b.

    After layer l: lens_bridge_l, the reciprocal rank of b at r1; lens_relation_l, of r2 at r2; and
    causal_l, the causal strength of the state at r1, against another h.
    """
    rows = [parts[f"train_{name}"][:TRACED].cpu() for name in ("tokens", "labels", "bridges")]
    tokens, labels, bridges = rows[0], rows[1].flatten(), rows[2]
    known = parts["train_tokens"].cpu(), parts["train_labels"].cpu().flatten()
    corrupted, which = tracing.other_heads(tokens, labels, *known, seed)
    found: dict[str, list[float]] = {}
    model = copy.deepcopy(model).cpu().requires_grad_(False)
    for at in weights:
        model.load_state_dict({k: torch.as_tensor(v) for k, v in at.items()}, strict=False)
        states = model.residual_stream(tokens)
        for layer in range(1, len(states)):
            numbers = {
                "lens_bridge": tracing.reciprocal_rank(model, states[layer][:, 1], bridges),
                "lens_relation": tracing.reciprocal_rank(model, states[layer][:, 2], tokens[:, 2]),
            }
            # after the last nothing moves between places
            if layer < len(states) - 1 and len(which):
                numbers["causal"] = tracing.causal_strength(
                    model, tokens[which], corrupted, layer, [1], 2
                )
            for name, value in numbers.items():
                found.setdefault(f"{name}_{layer}", []).append(value)
    return found
