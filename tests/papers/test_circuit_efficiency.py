"""Varma et al. 2023: the table and its train sets, and the claims at their thresholds."""

import pytest
import torch

from grok.experiment.experiment import load_module
from tests.conftest import PROJECT
from tests.helpers import claim_run, finding


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "circuit_efficiency.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({"seed": 1, **updates}))


def test_table_has_each_unordered_pair_once(paper):
    """67 * 68 / 2 = 2278 pairs, of which 90 % are for training; labels are sums."""
    data = problem(paper).data
    pairs = torch.cat([data["train_pairs"], data["test_pairs"]])
    assert len(pairs) == len(pairs.unique(dim=0)) == 2278
    assert (pairs[:, 0] <= pairs[:, 1]).all() and len(data["train_pairs"]) == 2050
    assert (data["train_labels"][:, 0] == data["train_pairs"].sum(1) % 67).all()


def test_a_smaller_train_set_is_part_of_the_one_that_was_grokked(paper):
    """So ungrokking removes data, and the network knew all of it. 100 pairs are 4 % of the table."""
    large, small = problem(paper), problem(paper, train_count=100)
    assert torch.equal(small.data["train_pairs"], large.data["train_pairs"][:100])
    assert len(small.data["test_pairs"]) == 2278 - 100


def test_ungrokking_runs_differ_from_the_grokked_one_in_data_decay_and_length(paper):
    configs = [{**paper.ex.full_config({"seed": 0}, [name])} for name in ("grokked", "ungrok_350")]
    halved = paper.ex.full_config({"seed": 0}, ["ungrok_350_half_decay"])
    differing = {key for key in configs[0] if configs[0][key] != configs[1][key]}
    assert differing == {"initial_run", "train_count", "train_steps"}
    assert {key for key in halved if halved[key] != configs[1][key]} == {"weight_decay"}
    assert halved["weight_decay"] == 0.5


def ungrokked(sizes, least_train=1.0, suffix="", **accuracies):
    """Runs with all sizes of the data; accuracies of test by size as `test_200=0.05`."""
    runs = []
    for size in sizes:
        test = accuracies.get(f"test_{size}", 0.5)
        series = {"test_accuracy": ([0, 9], [1.0, test]), "train_accuracy": ([9], [least_train])}
        runs.append(claim_run(f"ungrok_{size}{suffix}", series=series))
    return runs


@pytest.mark.parametrize(
    ("little", "much", "train", "passed"),
    [(0.1, 0.9, 0.99, True), (0.11, 0.9, 1, False), (0.1, 0.89, 1, False), (0.1, 0.9, 0.98, False)],
)
def test_ungroks_between_200_and_700_pairs(paper, little, much, train, passed):
    runs = ungrokked(paper.SIZES, train, test_200=little, test_700=much)
    outcome = finding(paper, "E2b", *runs)
    assert outcome.passed == passed
    assert outcome.measured["test, 200 pairs"] == little


@pytest.mark.parametrize(("half_decay", "passed"), [(0.41, True), (0.59, True), (0.39, False)])
def test_weight_decay_may_move_no_accuracy_by_more_than_a_tenth(paper, half_decay, passed):
    accuracies = {f"test_{size}": 0.5 for size in paper.SIZES} | {"test_500": half_decay}
    runs = ungrokked(paper.SIZES) + ungrokked(paper.SIZES, suffix="_half_decay", **accuracies)
    outcome = finding(paper, "E2b-decay", *runs)
    assert outcome.passed == passed
    assert outcome.measured["gap, 500 pairs"] == pytest.approx(0.5 - half_decay)
    assert outcome.measured["gap, 700 pairs"] == 0


@pytest.mark.parametrize(("accuracy", "passed"), [(0.11, True), (0.89, True), (0.1, False)])
def test_semi_grokking_is_neither_forgotten_nor_kept(paper, accuracy, passed):
    runs = ungrokked([350], test_350=accuracy)
    assert finding(paper, "E2c", *runs).passed == passed


@pytest.mark.parametrize(("accuracy", "passed"), [(0.99, True), (0.98, False)])
def test_the_initial_network_must_have_grokked(paper, accuracy, passed):
    run = claim_run("grokked", {"test_accuracy": accuracy})
    assert finding(paper, "E2-start", run).passed == passed
