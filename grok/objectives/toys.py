"""The toy of Liu et al. 2022: how it is drawn, its loss, what is looked at.

Frozen dataclasses: two problems with equal objectives can be trained as one program.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from grok.measures import representation
from grok.models.toy import Toy, encoded_toy, free_toy
from grok.objectives.losses import accuracy, cross_entropy, nearest, squared_error
from grok.tasks import toy as tasks
from grok.tensors import Tensors

# The gap of a parallelogram, and below what it holds, as in the published code.
GAPS = {"add": (representation.sum_gaps, 0.01), "multiply": (representation.product_gaps, 0.5)}


@dataclass(frozen=True)
class ToyLoss:
    """Loss of the Liu et al. toy on its train pairs.

    kind: "squared_error" to the answer's target vector, or "cross_entropy" over the labels, in
    `loss_dtype`. l1: weight of the mean absolute entry of the representation.
    """

    kind: str
    l1: float = 0.0
    loss_dtype: str | None = None

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        loss = self.of(model(data["train_pairs"]), data["train_labels"], data["targets"])
        if self.l1:
            loss = loss + self.l1 * model.representation().abs().mean()
        return loss

    def of(self, outputs: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
        """Loss of outputs (N, K) whose right labels are (N,)."""
        if self.kind == "cross_entropy":
            return cross_entropy(outputs, labels, self.loss_dtype)
        return squared_error(outputs, targets[labels])


@dataclass(frozen=True)
class ToyMetrics:
    """Loss and accuracy on train and test pairs; RQI, the parallelograms that hold, and E itself.

    combine: how representations meet; parallelograms are looked at for "add" and "multiply".
    """

    loss: ToyLoss
    combine: str

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = {}
        for split in ("train", "test"):
            outputs, labels = model(data[f"{split}_pairs"]), data[f"{split}_labels"]
            result[f"{split}_loss"] = self.loss.of(outputs, labels, data["targets"])
            if self.loss.kind == "cross_entropy":
                predictions = outputs.argmax(-1)
            else:
                predictions = nearest(outputs, data["targets"])
            result[f"{split}_accuracy"] = accuracy(predictions, labels)
        vectors = model.representation()
        if self.combine in GAPS:
            gaps, delta = GAPS[self.combine]
            holds = gaps(vectors, data["quads"]) < delta
            result |= {"rqi": representation.rqi(holds), "parallelogram_holds": holds}
        return {**result, "representation": vectors}


def draw(c, pairs, labels, count: int) -> tuple[tasks.ToyTask, Toy]:
    """Task and model, drawn in the order of the published code. Call inside `drawing`."""
    dim = int(labels.max()) + 1 if c.loss == "cross_entropy" else c.symbol_rep_dim
    inputs = c.hidden_rep_dim * (2 if c.combine == "concatenate" else 1)
    decoder = [inputs, *[c.decoder_width] * (c.decoder_depth - 1), dim]
    encoder = [*[c.encoder_width] * (c.encoder_depth - 1), c.hidden_rep_dim]
    if c.variant == "encoder":
        task = tasks.script_task(pairs, labels, count, c.symbol_rep_dim, c.seed)
        sizes = [c.symbol_rep_dim, *encoder]
        return task, encoded_toy(task.targets[: c.p], sizes, decoder, c.activation, c.combine)
    task = tasks.table_task(pairs, labels, count, dim, c.seed, c.p if c.authors_grid else 0)
    notebook = c.authors_grid or c.variant == "permutation"
    unused = [10 if c.authors_grid else 1, *encoder] if notebook else None
    shape = (int(pairs.max()) + 1, c.hidden_rep_dim)
    return task, free_toy(shape, c.init_scale, decoder, c.activation, c.combine, unused)
