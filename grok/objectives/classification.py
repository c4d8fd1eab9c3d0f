"""Loss and metrics of models that predict classes: transformers over tokens, MLPs over pairs.

All are frozen dataclasses, so that two problems with equal objectives are trained as one program.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from grok.models.transformer import Transformer
from grok.objectives.losses import cross_entropy, in_dtype, squared_error, stablemax
from grok.randomness import uniform
from grok.tensors import Tensors

TEMPERATURE = "temperature"  # entry of the data that logits are divided by, where they are


class Logits(Protocol):
    """How a model's logits on one part of the data are computed.

    draws: whether they depend on random numbers in training (dropout). batched: the entries of the
    data that a mini-batch indexes.
    """

    @property
    def draws(self) -> bool: ...

    @property
    def batched(self) -> tuple[str, ...]: ...

    def __call__(self, model: Any, data: Tensors, part: str, training: bool) -> Tensor:
        """Logits (N, count, C) on the rows of PART, of a model of the kind that this reads."""


@dataclass(frozen=True)
class SequenceLogits:
    """Logits (N, count, C) of a transformer at the last `count` positions of each sequence.

    Data: prefixes (U, K), PART_prefix_index (N,), PART_suffixes (N, S - K), as `share_prefixes`
    returns them; with dropout the step's `key`.
    """

    count: int = 1
    dropout: bool = False
    batched = ("train_prefix_index", "train_suffixes", "train_labels")

    @property
    def draws(self) -> bool:
        return self.dropout

    def __call__(self, model: nn.Module, data: Tensors, part: str, training: bool) -> Tensor:
        index, suffixes = data[f"{part}_prefix_index"], data[f"{part}_suffixes"]
        key = data.get("key") if training and self.dropout else None
        return cast(Transformer, model).last_logits(
            data["prefixes"], index, suffixes, self.count, key
        )


@dataclass(frozen=True)
class InputLogits:
    """Logits (N, 1, C) of a model called on PART_NAME: pairs of symbols, images, tokens."""

    name: str = "pairs"
    draws = False

    @property
    def batched(self) -> tuple[str, ...]:
        return f"train_{self.name}", "train_labels"

    def __call__(self, model: nn.Module, data: Tensors, part: str, training: bool) -> Tensor:
        return model(data[f"{part}_{self.name}"]).unsqueeze(1)


@dataclass(frozen=True)
class DividedLogits:
    """Logits divided by data[TEMPERATURE], a number of each replica's own."""

    of: Logits

    @property
    def draws(self) -> bool:
        return self.of.draws

    @property
    def batched(self) -> tuple[str, ...]:
        return self.of.batched

    def __call__(self, model: nn.Module, data: Tensors, part: str, training: bool) -> Tensor:
        return self.of(model, data, part, training) / data[TEMPERATURE]


@dataclass(frozen=True)
class ClassificationLoss:
    """Mean loss over the rows and labels of one part of the data.

    Arguments:
        logits: computes the logits (N, count, C).
        kind: "cross_entropy", "stablemax" (cross-entropy of StableMax, Prieto et al. 2025), or
            "squared_error" to one-hot labels.
        loss_dtype: dtype in which the loss is computed; None for the logits' own.
        part: the part of the data, "train" as a rule. Data: PART_labels (N, count).
    """

    logits: Logits
    kind: str = "cross_entropy"
    loss_dtype: str | None = None
    part: str = "train"

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        return self.without_penalty(model, data)

    def without_penalty(self, model: nn.Module, data: Tensors) -> Tensor:
        """The loss without the penalty of the weights that a subclass may add to it in training."""
        logits = self.logits(model, data, self.part, True)
        return self.from_logits(logits, data[f"{self.part}_labels"])

    def from_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of logits (N, count, C) with labels (N, count)."""
        if self.kind == "cross_entropy":
            return cross_entropy(logits, labels, self.loss_dtype)
        if self.kind == "stablemax":
            return stablemax(logits, labels, self.loss_dtype)
        logits = in_dtype(logits, self.loss_dtype)
        classes = torch.arange(logits.shape[-1], device=labels.device)
        return squared_error(logits, (labels.unsqueeze(-1) == classes).to(logits.dtype))


@dataclass(frozen=True)
class ClassificationMetrics:
    """Loss and accuracy on the train and the test rows, {train,test}_{loss,accuracy}.

    A row is correct only if all of its labels are predicted.

    Arguments:
        loss: the loss, with which the logits are computed too.
        train_examples, test_examples: how many rows to evaluate on, sampled with replacement at
            each evaluation step; None for all rows.
        rows_at_once: how many rows are evaluated at a time, which bounds the memory; None for all.
    """

    loss: ClassificationLoss
    train_examples: int | None = None
    test_examples: int | None = None
    rows_at_once: int | None = None

    @property
    def draws(self) -> bool:
        return self.train_examples is not None or self.test_examples is not None

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = {}
        for split, count in (("train", self.train_examples), ("test", self.test_examples)):
            rows = _sample_rows(data, split, count) if count else data
            total = len(rows[f"{split}_labels"])
            size = self.rows_at_once or total
            if size >= total:
                means = self._evaluate(model, rows, split)
            else:
                starts = range(0, total, size)
                portions = [_rows(rows, split, slice(start, start + size)) for start in starts]
                weights = [len(portion[f"{split}_labels"]) / total for portion in portions]
                losses, accuracies = zip(
                    *(self._evaluate(model, portion, split) for portion in portions), strict=True
                )
                means = _weighted(weights, losses), _weighted(weights, accuracies)
            result[f"{split}_loss"], result[f"{split}_accuracy"] = means
        return result

    def _evaluate(self, model: nn.Module, rows: Tensors, split: str) -> tuple[Tensor, Tensor]:
        """Loss and accuracy on the rows of a split."""
        logits = self.loss.logits(model, rows, split, False)
        labels = rows[f"{split}_labels"]
        correct = (logits.argmax(-1) == labels).all(-1)
        return self.loss.from_logits(logits, labels), correct.double().mean()


def _weighted(weights: Sequence[float], values: Sequence[Tensor]) -> Tensor:
    """The weighted sum of some values."""
    terms = [weight * value for weight, value in zip(weights, values, strict=True)]
    return sum(terms[1:], terms[0])


def _sample_rows(data: Tensors, split: str, count: int) -> Tensors:
    """The data with `count` rows of a split, sampled with replacement."""
    total = data[f"{split}_labels"].shape[0]
    key = data["key"] + (0 if split == "train" else 1)
    rows = (uniform(key, (count,), torch.float64) * total).long()
    return _rows(data, split, rows)


def _rows(data: Tensors, split: str, rows: Tensor | slice) -> Tensors:
    """The data with these rows of a split only."""
    return {**data, **{k: v[rows] for k, v in data.items() if k.startswith(f"{split}_")}}
