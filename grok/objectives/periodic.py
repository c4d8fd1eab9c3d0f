"""What a run of Gromov 2023 or Doshi et al. 2024 looks at, beside loss and accuracy."""

from dataclasses import dataclass

from torch import Tensor, nn

from grok.measures import periodicity
from grok.objectives.classification import AnswerMetrics, Data
from grok.tasks.operations import Table
from grok.tasks.tables import covered


@dataclass(frozen=True)
class PeriodicMetrics:
    """Loss, accuracies, and the neurons' mean inverse participation ratio: with the symbols in
    data["order"] ("ipr", and "neuron_ipr" (N,)), and as they are numbered ("raw_ipr")."""

    answers: AnswerMetrics

    def __call__(self, model: nn.Module, data: Data) -> dict[str, Tensor]:
        order = data["order"]
        ratios = periodicity.neurons(model.inputs[:, order], model.outputs[order])
        raw = periodicity.neurons(model.inputs, model.outputs).mean()
        return {
            **self.answers(model, data),
            "ipr": ratios.mean(),
            "raw_ipr": raw,
            "neuron_ipr": ratios,
        }


def final_look(weights: Data, table: Table, split: Data) -> dict[str, float]:
    """Of final weights: the median gap in the phases' relation, the share of test pairs that a lookup
    of siblings answers, how far the accuracy is from it, and the accuracy on the other pairs."""
    inputs, outputs = weights["inputs"], weights["outputs"]
    known = covered(table.pairs, table.answers, split["train_pairs"], split["test_pairs"])
    right = periodicity.guesses(inputs, outputs, split["test_pairs"]) == split["test_answers"]
    bound, reached = (float(part.double().mean()) for part in (known, right))
    return {
        "phase_gap": float(periodicity.phase_gap(inputs, outputs).median()),
        "lookup_bound": bound,
        "lookup_excess": abs(reached - bound),
        "uncovered_accuracy": float(right[~known].double().mean()),
    }


def pruning(weights: Data, split: Data, order: Tensor, corrupted: int) -> dict[str, list[float]]:
    """Curves of `periodicity.pruning` on the test rows, and on the train rows whose answers have been
    corrupted, the first, and the others."""
    parts = {"corrupted": slice(None, corrupted), "clean": slice(corrupted, None)}
    rows = {k: (split["train_pairs"][s], split["train_answers"][s]) for k, s in parts.items()}
    rows["test"] = split["test_pairs"], split["test_answers"]
    return periodicity.pruning(weights["inputs"], weights["outputs"], order, rows)
