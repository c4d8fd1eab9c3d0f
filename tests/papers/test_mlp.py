"""The presets of the NumPy framework: sizes of networks and data, and how batches are drawn."""

from types import SimpleNamespace

import pytest
import torch

from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "mlp.py")


def problem(paper, *named_configs, **updates):
    return paper.ex.problem_of(paper.ex.full_config({"seed": 1, **updates}, named_configs))


def test_result_has_the_sizes_of_network_and_data(paper):
    """Two hidden layers of 16 over two one-hot numbers of 7, and 30 % of 49 pairs, rounded down."""
    task = problem(paper, p=7, width=16, depth=3)
    result = paper.summarize(SimpleNamespace(), task, None)
    first, second, last = 14 * 16 + 16, 16 * 16 + 16, 16 * 7 + 7
    assert result == {"parameters": first + second + last, "train_size": 14, "test_size": 35}


def test_permutations_are_all_of_s5(paper):
    """120 elements, 14,400 products; 80 % of them for training in the small presets."""
    data = problem(paper, "perm_s5_baseline_small").data
    assert len(data["train_pairs"]) == 11_520 and len(data["test_pairs"]) == 2880
    pairs = torch.cat([data["train_pairs"], data["test_pairs"]])
    assert len(pairs.unique(dim=0)) == 120**2 and int(pairs.max()) == 119


def test_each_element_of_s5_is_as_frequent_a_product(paper):
    """a b = c has one solution b for each a and c."""
    data = problem(paper, "perm_s5_baseline_small").data
    labels = torch.cat([data["train_labels"], data["test_labels"]]).flatten()
    assert (labels.bincount() == 120).all()


def test_batches_are_drawn_with_replacement(paper):
    """So a batch may have more rows than the train set."""
    task = problem(paper, p=7, width=8, batch_size=64)
    assert task.sampling == "replacement" and task.batch_size == 64 > len(task.data["train_pairs"])


@pytest.mark.parametrize("embedding_width", [None, 5])
def test_init_scale_is_the_factor_of_all_parameters(paper, embedding_width):
    """Biases and learned vectors too, from the same initial values."""
    options = {"p": 7, "width": 8, "embedding_width": embedding_width}
    modules = [problem(paper, **options, init_scale=scale).module for scale in (1.0, 3.0)]
    for initial, larger in zip(*(module.parameters() for module in modules), strict=True):
        assert torch.equal(3 * initial, larger)


def test_grokking_presets_differ_from_their_baselines_in_weight_decay_alone(paper):
    for task in ("mod_add", "perm_s5"):
        for suffix in ("", "_small"):
            baseline, grokking = (
                paper.ex.full_config({"seed": 0}, [f"{task}_{kind}{suffix}"])
                for kind in ("baseline", "grokking")
            )
            assert baseline["weight_decay"] == 0 < grokking["weight_decay"]
            assert {**baseline, "weight_decay": None} == {**grokking, "weight_decay": None}
