"""Loss and metrics of classes, on models whose logits are given."""

import pytest
import torch
import torch.nn.functional as F

from grok.objectives.classification import (
    ClassificationLoss,
    ClassificationMetrics,
    InputLogits,
    SequenceLogits,
)
from grok.randomness import key_of


class FixedLogits(torch.nn.Module):
    """A model whose last logits are its inputs: suffixes (N, count, C)."""

    def last_logits(self, prefixes, prefix_index, suffixes, count, key):
        return suffixes[:, -count:]

    def forward(self, inputs):
        return inputs


def data_of(predicted: dict[str, list], labels: dict[str, list], classes: int = 4) -> dict:
    """Logits with their largest entry at the predicted classes."""
    data = {"prefixes": torch.empty(1, 0)}
    for part in predicted:
        logits = 5.0 * F.one_hot(torch.tensor(predicted[part]), classes).double()
        data[f"{part}_suffixes"] = logits
        data[f"{part}_prefix_index"] = torch.zeros(len(logits), dtype=torch.long)
        data[f"{part}_labels"] = torch.tensor(labels[part])
    return data


@pytest.mark.parametrize("rows_at_once", [1, 7, 40, 100])
def test_portions_of_an_evaluation_give_the_mean_over_all_rows(rows_at_once):
    """However the rows are divided, and also where the last portion has fewer."""
    generator = torch.Generator().manual_seed(0)
    data = {
        f"{part}_{name}": value
        for part, rows in (("train", 41), ("test", 7))
        for name, value in (
            ("pairs", torch.randn(rows, 3, generator=generator)),
            ("labels", torch.randint(5, (rows, 1), generator=generator)),
        )
    }
    model = torch.nn.Linear(3, 5)
    whole = ClassificationMetrics(ClassificationLoss(InputLogits()))(model, data)
    loss = ClassificationLoss(InputLogits())
    divided = ClassificationMetrics(loss, rows_at_once=rows_at_once)(model, data)
    assert divided.keys() == whole.keys()
    for name, value in whole.items():
        assert float(divided[name]) == pytest.approx(float(value), rel=1e-6)


def test_a_row_is_correct_only_if_all_of_its_labels_are_predicted():
    """As for the lists of Power et al. 2022: sorted wrongly at one place is not sorted."""
    labels = {"train": [[0, 1, 2]] * 4, "test": [[3, 3, 0]] * 2}
    predicted = {
        "train": [[0, 1, 2], [0, 1, 1], [1, 1, 2], [1, 2, 0]],  # all, two, two, none
        "test": [[3, 3, 1], [0, 3, 0]],
    }
    metrics = ClassificationMetrics(ClassificationLoss(SequenceLogits(3)))
    values = metrics(FixedLogits(), data_of(predicted, labels))
    assert values["train_accuracy"] == 0.25 and values["test_accuracy"] == 0
    labels["train"] = [[row[-1]] for row in labels["train"]]  # of the last place alone
    labels["test"] = [[row[-1]] for row in labels["test"]]
    metrics = ClassificationMetrics(ClassificationLoss(SequenceLogits(1)))
    values = metrics(FixedLogits(), data_of(predicted, labels))
    assert values["train_accuracy"] == 0.5 and values["test_accuracy"] == 0.5


@pytest.mark.parametrize("kind", ["cross_entropy", "stablemax", "squared_error"])
def test_the_loss_is_the_mean_over_rows_and_labels(kind):
    g = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 4, dtype=torch.float64, generator=g)
    labels = torch.randint(4, (5, 3), generator=g)
    s = torch.where(logits >= 0, logits + 1, 1 / (1 - logits))
    expected = {
        "cross_entropy": F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
        "stablemax": -(s / s.sum(-1, keepdim=True)).gather(-1, labels[..., None]).log().mean(),
        "squared_error": F.mse_loss(logits, F.one_hot(labels, 4).double()),
    }[kind]
    loss = ClassificationLoss(SequenceLogits(3), kind)
    torch.testing.assert_close(loss.from_logits(logits, labels), expected)
    data = {"prefixes": torch.empty(1, 0), "train_suffixes": logits, "train_labels": labels}
    data["train_prefix_index"] = torch.zeros(5, dtype=torch.long)
    torch.testing.assert_close(loss(FixedLogits(), data), expected)
    metrics = ClassificationMetrics(loss)
    both = {**data, **{k.replace("train", "test"): v for k, v in data.items()}}
    torch.testing.assert_close(metrics(FixedLogits(), both)["test_loss"], expected)


def test_a_loss_of_another_part_reads_that_part():
    logits = 5.0 * torch.eye(3).double()
    data = {"rows_pairs": logits, "rows_labels": torch.arange(3)[:, None]}
    loss = ClassificationLoss(InputLogits(), part="rows")
    assert loss(FixedLogits(), data) == pytest.approx(F.cross_entropy(logits, torch.arange(3)))


def test_sampled_rows_are_of_their_split_and_change_with_the_step():
    """Of 50 train rows 40 % are correct, of 50 test rows 80 %: samples of 2000 show both."""
    labels = {"train": [[1]] * 50, "test": [[2]] * 50}
    predicted = {"train": [[1]] * 20 + [[0]] * 30, "test": [[2]] * 40 + [[0]] * 10}
    data = data_of(predicted, labels)
    metrics = ClassificationMetrics(ClassificationLoss(SequenceLogits()), 2000, 2000)
    keys = [key_of(torch.tensor(0), torch.tensor(step), 0) for step in (1, 2)]
    first, again, other = (
        metrics(FixedLogits(), {**data, "key": key}) for key in (keys[0], keys[0], keys[1])
    )
    assert first["train_accuracy"] == pytest.approx(0.4, abs=0.05)
    assert first["test_accuracy"] == pytest.approx(0.8, abs=0.05)
    assert first == again and first["train_accuracy"] != other["train_accuracy"]
