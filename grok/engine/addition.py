"""Networks that add two numbers modulo p: their inputs for any pair, and their table of embeddings."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from grok.engine.problem import Problem
from grok.objectives.classification import (
    ClassificationLoss,
    DividedLogits,
    InputLogits,
    SequenceLogits,
)

PAIRS = "pairs"


@dataclass(frozen=True)
class Addition:
    """How a network that adds is called.

    p: the modulus, an odd number.
    table: name of the parameter whose first p rows are the embeddings.
    template: tokens (S,) of a sequence, in which the operands are replaced; None for a network that is
        called with the pairs themselves.
    places: of the operands in the sequence.
    """

    p: int
    table: str
    template: Tensor | None = None
    places: tuple[int, ...] = ()

    def inputs(self, pairs_N2: Tensor) -> Tensor:
        """What the network is called with for pairs of numbers."""
        if self.template is None:
            return pairs_N2
        tokens_NS = self.template.repeat(len(pairs_N2), 1)
        tokens_NS[:, list(self.places)] = pairs_N2
        return tokens_NS

    def logits(self, module: Any, inputs: Tensor) -> Tensor:
        """Logits (N, p)."""
        logits = module(inputs)
        return (logits if self.template is None else logits[:, -1])[:, : self.p]


def addition_of(problem: Problem) -> Addition | None:
    """How the problem's network adds two numbers modulo an odd p; None if it does not."""
    loss, data = problem.loss, problem.data
    if not isinstance(loss, ClassificationLoss) or data["train_labels"].shape[1:] != (1,):
        return None
    logits = loss.logits.of if isinstance(loss.logits, DividedLogits) else loss.logits
    parameters = dict(problem.module.named_parameters())
    if isinstance(logits, InputLogits) and logits.name == PAIRS and "embed" in parameters:
        found, pairs = Addition(len(parameters["embed"]), "embed"), data["train_pairs"]
    elif isinstance(logits, SequenceLogits) and "tokens" in parameters:
        prefixes = data["prefixes"][data["train_prefix_index"]]
        sequences = torch.cat([prefixes, data["train_suffixes"]], 1)
        config: Any = problem.module.config
        p = config.elements or config.classes
        is_operand = sequences < p
        places = is_operand[0].nonzero().flatten().tolist()
        if len(places) != 2 or not (is_operand == is_operand[0]).all():
            return None
        found, pairs = Addition(p, "tokens", sequences[0], tuple(places)), sequences[:, places]
    else:
        return None
    adds = torch.equal(pairs.sum(1) % found.p, data["train_labels"][:, 0])
    return found if adds and found.p % 2 == 1 else None
