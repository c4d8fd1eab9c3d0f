"""Inputs laid out by their labels, more or less."""

import pytest
import torch

from grok.tasks import messy


@pytest.mark.parametrize("count", [messy.SUMS, 45, messy.PAIRS - 1])
def test_every_sum_can_be_known_from_its_train_pairs(count):
    found = messy.sums(count, 0.0, seed=3)
    assert len(found["train_inputs"]) == count
    assert len(found["test_inputs"]) == messy.PAIRS - count
    # in order, a pair's place tells its sum: -2 is 0, 2 is 18
    places = {
        part: (9 * found[f"{part}_inputs"][:, 0] / 2 + 9).round() for part in ("train", "test")
    }
    assert set(places["train"].tolist()) == set(range(messy.SUMS))
    of_sum = dict(zip(places["train"].tolist(), found["train_targets"], strict=True))
    for place, target in zip(places["test"].tolist(), found["test_targets"], strict=True):
        assert torch.equal(of_sum[place], target)


def test_without_order_equal_sums_are_apart():
    inputs = torch.cat(
        [messy.sums(45, 1.0, seed=0)[f"{part}_inputs"] for part in ("train", "test")]
    )
    assert len(inputs.unique()) == messy.PAIRS


def test_a_tidy_image_is_its_answer_and_a_messy_one_itself():
    images, labels = torch.rand(20, 64), torch.arange(20) % 10
    tidy = messy.tidied(images, labels, 0.0)
    assert torch.equal(tidy, tidy[:, :1].expand(-1, 64))
    assert torch.allclose(tidy[:, 0], labels / 9 - 0.5)
    assert torch.equal(messy.tidied(images, labels, 1.0), images)
    assert torch.allclose(messy.tidied(images, labels, 0.5), (images + tidy) / 2)
