"""Loss and accuracies of models that answer with classes: transformers over tokens, MLPs over pairs.

Frozen dataclasses: two problems with equal objectives can be trained as one program.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grok.objectives.losses import accuracy, cross_entropy, in_dtype, squared_error, stablemax
from grok.randomness import uniform

Data = dict[str, Tensor]


@dataclass(frozen=True)
class Sequences:
    """Logits (N, count, C) of a transformer at the last `count` positions. dropout: in training."""

    count: int = 1
    dropout: bool = False
    batched = ("train_which", "train_rest", "train_answers")

    @property
    def draws(self) -> bool:
        return self.dropout

    def __call__(self, model: nn.Module, data: Data, split: str, training: bool) -> Tensor:
        which, rest = data[f"{split}_which"], data[f"{split}_rest"]
        key = data.get("key") if training and self.dropout else None
        return model.answers(data["prefixes"], which, rest, self.count, key)


@dataclass(frozen=True)
class Inputs:
    """Logits (N, 1, C) of a model of {train,test}_NAME: of pairs, of images."""

    name: str = "pairs"
    draws = False

    @property
    def batched(self) -> tuple[str, str]:
        return f"train_{self.name}", "train_answers"

    def __call__(self, model: nn.Module, data: Data, split: str, training: bool) -> Tensor:
        return model(data[f"{split}_{self.name}"]).unsqueeze(1)


@dataclass(frozen=True)
class AnswerLoss:
    """Cross-entropy in `loss_dtype`, of softmax or of StableMax, or squared error to one-hot answers, on
    the rows of a part of the data.

    Data: PART_answers (N, count) beside what `read` needs.
    """

    read: Sequences | Inputs
    kind: str = "cross_entropy"
    loss_dtype: str | None = None
    part: str = "train"

    def __call__(self, model: nn.Module, data: Data) -> Tensor:
        return self.of(self.read(model, data, self.part, True), data[f"{self.part}_answers"])

    def of(self, logits: Tensor, answers: Tensor) -> Tensor:
        """Mean loss of logits (N, count, C) whose answers are (N, count)."""
        if self.kind == "cross_entropy":
            return cross_entropy(logits, answers, self.loss_dtype)
        if self.kind == "stablemax":
            return stablemax(logits, answers, self.loss_dtype)
        logits = in_dtype(logits, self.loss_dtype)
        classes = torch.arange(logits.shape[-1], device=answers.device)
        return squared_error(logits, (answers.unsqueeze(-1) == classes).to(logits.dtype))


@dataclass(frozen=True)
class AnswerMetrics:
    """Loss and accuracy on the train and the test rows; a row is right if all its answers are.

    train_examples, test_examples: how many rows, drawn with replacement at each look; None for all.
    """

    loss: AnswerLoss
    train_examples: int | None = None
    test_examples: int | None = None

    @property
    def draws(self) -> bool:
        return self.train_examples is not None or self.test_examples is not None

    def __call__(self, model: nn.Module, data: Data) -> dict[str, Tensor]:
        result = {}
        for split, drawn in (("train", self.train_examples), ("test", self.test_examples)):
            rows = _drawn(data, split, drawn) if drawn else data
            logits = self.loss.read(model, rows, split, False)
            answers = rows[f"{split}_answers"]
            result[f"{split}_loss"] = self.loss.of(logits, answers)
            right = (logits.argmax(-1) == answers).all(-1)
            result[f"{split}_accuracy"] = accuracy(right, torch.ones_like(right))
        return result


def _drawn(data: Data, split: str, count: int) -> Data:
    """The data with `count` rows of a split, drawn with replacement."""
    total = data[f"{split}_answers"].shape[0]
    key = data["key"] + (0 if split == "train" else 1)
    rows = (uniform(key, (count,), torch.float64) * total).long()
    return {**data, **{k: v[rows] for k, v in data.items() if k.startswith(f"{split}_")}}
