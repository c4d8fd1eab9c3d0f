"""What a run of Gromov 2023 or Doshi et al. 2024 looks at, beside loss and accuracy."""

from dataclasses import dataclass

from torch import Tensor, nn

from grok.measures import periodicity
from grok.training.answers import AnswerMetrics, Data


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
