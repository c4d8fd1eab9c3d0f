"""The capacity study: the template's data, networks of matched sizes, and when a run stops."""

import pytest

from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def capacity():
    return load_module(PROJECT / "experiments" / "capacity.py")


def problem_of(capacity, named_config="template", **updates):
    config = capacity.ex.full_config({"seed": 0, **updates}, [named_config])
    return capacity.ex.problem_of(config)


def parameters(capacity, **updates) -> int:
    """The number of parameters, as runs report it."""
    problem = problem_of(capacity, "small", p=97, train_fraction=0.5, **updates)
    return capacity.summarize(None, problem, None)["parameters"]


@pytest.mark.parametrize(
    ("operation", "rows", "tokens", "classes"),
    [
        ("x_plus_y", 97 * 97, 99, 97),
        ("x_minus_y", 97 * 97, 99, 97),
        ("x_div_y", 97 * 96, 99, 97),  # y = 0 is left out
        ("permutation", 120 * 120, 122, 120),
    ],
)
def test_half_of_each_table_is_trained_on(capacity, operation, rows, tokens, classes):
    """The vocabulary is the elements and two signs; the signs are never predicted."""
    problem = problem_of(capacity, operation=operation)
    counts = [len(problem.data[f"{part}_labels"]) for part in ("train", "test")]
    assert counts == [rows // 2, rows - rows // 2]
    config = problem.module.config
    assert (config.vocabulary, config.classes) == (tokens, classes)
    data = problem.data
    assert data["prefixes"].shape[1] + data["train_suffixes"].shape[1] == len("aob=")
    assert data["train_labels"].max() < classes


def test_the_template_s_training(capacity):
    """7500 steps of AdamW on 512 pairs drawn with replacement, evaluated at every tenth."""
    problem = problem_of(capacity)
    assert problem.log_steps == list(range(0, 7501, 10))
    assert (problem.batch_size, problem.sampling) == (512, "replacement")
    assert (problem.metrics.train_examples, problem.metrics.test_examples) == (512, 8 * 512)
    (group,) = problem.optimizer.groups
    assert (problem.optimizer.kind, problem.optimizer.warmup_steps) == ("adamw", 50)
    assert (group.lr, group.weight_decay, group.betas) == (1e-3, 0.5, (0.9, 0.98))
    assert problem.stop is None


def test_a_run_stops_only_once_both_accuracies_hold(capacity):
    """Test accuracy at the threshold is not enough."""
    stop = problem_of(capacity, "cpu").stop
    assert sorted(stop.thresholds) == [("test_accuracy", 0.99), ("train_accuracy", 0.99)]


@pytest.mark.parametrize("width", [64, 128])
def test_deep_and_wide_networks_are_matched_in_size(capacity, width):
    """Four layers of d have about as many parameters as one of 2 d, so that shape alone differs."""
    deep = parameters(capacity, depth=4, width=width)
    wide = parameters(capacity, depth=1, width=2 * width)
    assert 0.94 < deep / wide < 1.06


def test_heads_do_not_change_the_size(capacity):
    """27 networks have nine sizes."""
    sizes = {parameters(capacity, width=64, heads=heads) for heads in (2, 4, 8)}
    assert sizes == {113_057}
