"""Varma et al. 2023: the table and its train sets, and the claims at their thresholds."""

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


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
    ends = {"test_100": 0.1, "test_200": 0.1, "test_700": 0.9, "test_1000": 0.9}
    runs = ungrokked(paper.SIZES, **ends)
    runs += ungrokked(paper.SIZES, suffix="_half_decay", **ends, test_500=half_decay)
    outcome = finding(paper, "E2b-decay", *runs)
    assert outcome.passed == passed
    assert outcome.measured["gap, 500 pairs"] == pytest.approx(0.5 - half_decay)
    assert outcome.measured["gap, 700 pairs"] == 0


@pytest.mark.parametrize(("little", "much"), [(1.0, 1.0), (0.0, 0.0)])
def test_a_network_that_does_not_ungrok_has_no_critical_size(paper, little, much):
    """Equal accuracies do not pass if nothing is forgotten, or if everything is."""
    ends = {"test_200": little, "test_700": much}
    runs = ungrokked(paper.SIZES, **ends) + ungrokked(paper.SIZES, suffix="_half_decay", **ends)
    assert not finding(paper, "E2b-decay", *runs).passed


@pytest.mark.parametrize(("accuracy", "passed"), [(0.5, True), (0.89, True), (0.49, False)])
def test_ungrokking_in_part_is_neither_forgotten_nor_kept(paper, accuracy, passed):
    runs = ungrokked([350], test_350=accuracy)
    assert finding(paper, "E2b-middle", *runs).passed == passed


@pytest.mark.parametrize(("accuracy", "passed"), [(0.99, True), (0.98, False)])
def test_the_initial_network_must_have_grokked(paper, accuracy, passed):
    run = claim_run("grokked", {"test_accuracy": accuracy})
    assert finding(paper, "E2-control-grokked", run).passed == passed


def test_memorizing_networks_are_trained_on_random_labels(paper):
    """All labels of the train set are drawn anew, and the table keeps the true ones."""
    data = problem(paper, train_count=500, noisy_answers=500).data
    true = data["train_pairs"].sum(1) % 67
    assert (data["train_labels"][:, 0] == true).float().mean() < 0.1
    assert (data["table_labels"] == data["table_pairs"].sum(1) % 67).all()
    config = paper.ex.full_config({"seed": 0}, ["memorize_350"])
    assert (config["noisy_answers"], config["train_count"], config["initial_run"]) == (
        350,
        350,
        None,
    )


def test_norm_at_unit_logit_does_not_depend_on_the_scale_of_the_weights(paper):
    """Logits are of degree 4 in the weights, so efficiency is compared without training to a
    certain logit."""
    found = []
    for factor in (1.0, 1.7):
        task = problem(paper, dtype="float64")
        with torch.no_grad():
            for parameter in task.module.parameters():
                parameter.mul_(factor)
        norm = sum(p.square().sum() for p in task.module.parameters()) ** 0.5
        logit = task.metrics(task.module, task.data)["correct_logit"]
        run = claim_run("grokked", {"correct_logit": abs(logit.item()), "weight_norm": norm.item()})
        found.append(paper.norm_at_unit_logit(run))
    assert found[0] == pytest.approx(found[1], rel=1e-10)


def test_share_is_that_of_the_waves_of_the_paper(paper):
    """Logits cos(2 pi k (a + b - c) / p) have the share 1, and cos(2 pi k (a - c) / p) none. Over the
    table of all ordered pairs, the two are orthogonal."""
    task = problem(paper, p=7, symmetric=False, train_fraction=0.5)
    a, b = task.data["table_pairs"].T
    c = torch.arange(7)
    labels = task.data["table_labels"]
    of_sum, of_one = (
        torch.cos(2 * torch.pi * 3 * (x.unsqueeze(1) - c) / 7).double() for x in (a + b, a)
    )
    share = task.metrics.generalizing_share
    assert share(of_sum + 5, labels).item() == pytest.approx(1)
    assert share(of_one, labels).item() == pytest.approx(0, abs=1e-6)
    assert share(3 * of_sum + 4 * of_one, labels).item() == pytest.approx(0.6, abs=1e-6)


def trained_to(name, norm, share=1.0, seed=0):
    """A run whose norm at a correct logit of 1 is this."""
    entries = {"correct_logit": 16.0, "weight_norm": 2 * norm, "generalizing_share": share}
    return claim_run(name, entries, seed=seed)


def norm_runs(paper, memorizing=0.2, generalizing=0.0, share=1.0, level=3.4, spread=0.0):
    """Norms of three seeds that go with these powers of the number of pairs; `level` is that of
    generalization, and `spread` the distance of the powers of generalization between seeds."""
    runs = []
    for seed in range(3):
        power = generalizing + spread * (seed - 1)
        runs += [trained_to(f"memorize_{n}", n**memorizing, 0.1, seed) for n in paper.SIZES]
        runs += [
            trained_to(f"generalize_{n}", level * (n / 1550) ** power, share, seed)
            for n in paper.LARGE_SIZES
        ]
    return runs


@pytest.mark.parametrize(
    ("memorizing", "generalizing", "spread", "passed"),
    [
        (0.2, 0.049, 0.0, True),
        (0.2, -0.049, 0.0, True),
        (0.2, 0.051, 0.0, False),
        (0.2, -0.051, 0.0, False),
        (0.2, 0.0, 0.02, True),
        (0.2, 0.0, 0.021, False),
        (-0.1, 0.0, 0.0, False),
    ],
)
def test_memorizing_must_cost_more_with_more_data(paper, memorizing, generalizing, spread, passed):
    """Three seeds whose powers are 0.02 apart have an interval of 0.0497 around their mean."""
    outcome = finding(paper, "E2a", *norm_runs(paper, memorizing, generalizing, spread=spread))
    assert outcome.passed == passed
    assert outcome.measured["power of the memorizing circuit"] == pytest.approx(memorizing)


@pytest.mark.parametrize(("share", "passed"), [(0.95, True), (0.94, False)])
def test_a_network_that_does_not_only_generalize_is_left_out(paper, share, passed):
    assert finding(paper, "E2a", *norm_runs(paper, share=share)).passed == passed


def test_memorizing_norm_must_grow_at_each_size(paper):
    runs = [
        trained_to("memorize_500", 350**0.2, seed=one.config["seed"])
        if "memorize_500" in one.named_configs
        else one
        for one in norm_runs(paper)
    ]
    assert not finding(paper, "E2a", *runs).passed


@pytest.mark.parametrize(
    ("level", "passed"), [(200**0.2, False), (200**0.2 + 0.01, True), (700**0.2, False)]
)
def test_norms_must_cross_between_200_and_700_pairs(paper, level, passed):
    runs = norm_runs(paper, level=level)
    assert finding(paper, "E2a-crossing", *runs).passed == passed
