"""What a run of Gromov 2023 or Doshi et al. 2024 looks at, beside loss and accuracy."""

from dataclasses import dataclass

from torch import Tensor, nn

from grok.measures import periodicity
from grok.objectives.classification import ClassificationMetrics
from grok.tasks.operations import Table
from grok.tasks.tables import covered
from grok.tensors import Tensors


@dataclass(frozen=True)
class PeriodicMetrics:
    """Loss, accuracies, and the neurons' mean inverse participation ratio: with the symbols in
    data["order"] ("ipr", and "neuron_ipr" (N,)), and as they are numbered ("raw_ipr")."""

    classification: ClassificationMetrics

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        order = data["order"]
        ratios = periodicity.neuron_participation(model.inputs[:, order], model.outputs[order])
        raw = periodicity.neuron_participation(model.inputs, model.outputs).mean()
        return {
            **self.classification(model, data),
            "ipr": ratios.mean(),
            "raw_ipr": raw,
            "neuron_ipr": ratios,
        }


def final_look(weights: Tensors, table: Table, split: Tensors) -> dict[str, float]:
    """Of final weights: the median gap in the phases' relation, the share of test pairs that a lookup
    of siblings predicts, how far the accuracy is from it, and the accuracy on the other pairs."""
    inputs, outputs = weights["inputs"], weights["outputs"]
    known = covered(table.pairs, table.labels, split["train_pairs"], split["test_pairs"])
    correct = periodicity.predictions(inputs, outputs, split["test_pairs"]) == split["test_labels"]
    bound, reached = (float(part.double().mean()) for part in (known, correct))
    return {
        "phase_gap": float(periodicity.phase_gap(inputs, outputs).median()),
        "lookup_bound": bound,
        "lookup_excess": abs(reached - bound),
        "uncovered_accuracy": float(correct[~known].double().mean()),
    }


def pruning(
    weights: Tensors, split: Tensors, order: Tensor, corrupted: int
) -> dict[str, list[float]]:
    """Curves of `periodicity.pruning_curves` on the test rows, and on the train rows whose labels have been
    corrupted, the first, and the others."""
    parts = {"corrupted": slice(None, corrupted), "clean": slice(corrupted, None)}
    rows = {k: (split["train_pairs"][s], split["train_labels"][s]) for k, s in parts.items()}
    rows["test"] = split["test_pairs"], split["test_labels"]
    return periodicity.pruning_curves(weights["inputs"], weights["outputs"], order, rows)
