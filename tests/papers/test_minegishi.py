"""Minegishi et al. 2023: masks, what a run takes from its parent, and each claim at its threshold."""

from math import inf

import pytest
import torch

from grok.errors import UserError
from grok.experiment.experiment import load_module
from grok.models.sum_mlp import MaskedSumMLP
from tests.conftest import PROJECT
from tests.helpers import claim_run, finding

P, D, H = 11, 13, 7
SPLIT = {
    "train_pairs": torch.cartesian_prod(torch.arange(P), torch.arange(P))[::2],
    "train_labels": torch.arange(P * P)[::2] % P,
}


@pytest.fixture(scope="module")
def minegishi():
    return load_module(PROJECT / "experiments" / "minegishi.py")


def model() -> MaskedSumMLP:
    torch.manual_seed(0)
    return MaskedSumMLP(P, D, H).double()


def weights_of(module) -> dict:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def test_table_and_network_are_of_the_published_size(minegishi):
    """2,278 unordered pairs below 67, 40 % of them for training; 115,000 weights."""
    problem = minegishi.ex.problem_of(minegishi.ex.full_config({"seed": 0}, ("paper",)))
    pairs = torch.cat([problem.data["train_pairs"], problem.data["test_pairs"]])
    assert len(pairs) == 67 * 68 // 2 and len(problem.data["train_pairs"]) == 911
    assert len({tuple(sorted(pair)) for pair in pairs.tolist()}) == len(pairs)
    assert sum(p.numel() for p in problem.module.parameters()) == 115_000


@pytest.mark.parametrize("keep", [0.1, 0.4, 0.81])
@pytest.mark.parametrize("kind", ["random", "magnitude", "snip", "grasp", "synflow"])
def test_every_initial_mask_keeps_exactly_its_fraction(minegishi, kind, keep):
    mask = minegishi.initial_mask(kind, model(), SPLIT, keep, seed=3)
    entries = torch.cat([part.flatten() for part in mask.values()])
    assert set(entries.tolist()) == {0.0, 1.0}
    assert int(entries.sum()) == round(keep * len(entries))


def test_all_kinds_of_masks_can_be_configured(minegishi):
    assert set(minegishi.INITIAL_MASKS) == {"random", "magnitude", "snip", "grasp", "synflow"}
    assert set(minegishi.PARENT_MASKS) == {"ticket", "l1_norm", "l2_norm", "search"}
    with pytest.raises(UserError, match="did you mean ticket"):
        minegishi.ex.full_config({"seed": 0, "mask": "tickets"})


def test_a_ticket_is_the_largest_weights_of_all_matrices(minegishi):
    weights = weights_of(model())
    mask = minegishi.ticket_mask(weights, 0.3)
    kept = [w[mask[k] == 1].abs().min() for k, w in weights.items()]
    left = [w[mask[k] == 0].abs().max() for k, w in weights.items()]
    assert min(kept) >= max(left)


def test_synflow_keeps_paths_whole(minegishi):
    """No kept weight of W_in lies on a dead end: SynFlow's conservation law avoids layer collapse."""
    mask = minegishi.initial_mask("synflow", model(), SPLIT, 0.1, seed=0)
    hidden_in, hidden_out = mask["w_in"].sum(0) > 0, mask["w_out"].sum(1) > 0
    assert (hidden_in == hidden_out).all() and hidden_in.any()
    assert all(part.sum() > 0 for part in mask.values())


@pytest.mark.parametrize("order", [1, 2])
def test_a_scaled_network_has_the_norm_of_the_ticket_and_every_weight(minegishi, order):
    def norm(weights: dict) -> float:
        return float(sum((w.abs() ** order).sum() for w in weights.values()) ** (1 / order))

    module = model()
    before = weights_of(module)
    mask = minegishi.ticket_mask(before, 0.4)
    minegishi.scale_to_masked_norm(module, mask, order)
    after = weights_of(module)
    assert norm(after) == pytest.approx(norm({k: before[k] * mask[k] for k in before}))
    assert all((w != 0).all() for w in after.values())


class Parent:
    """A parent run that generalized at step 6000, with the same weights at every step."""

    seed, number = 3, 17

    def __init__(self, weights: dict):
        self.weights, self.asked = weights, []

    def step_after(self, event: str, delay: int) -> int:
        assert event == "steps_to_test"
        return 6000 + delay

    def weights_at(self, step: int) -> tuple[int, dict]:
        self.asked.append(step)
        return step, self.weights


def child(minegishi, **updates):
    """The problem of a run that starts from a parent, before and after `warm_start`."""
    sizes = {"p": 7, "embedding_width": 5, "width": 6, "initial_run": 17, "seed": 3}
    config = minegishi.ex.full_config({**sizes, **updates})
    c = minegishi.Config(**config)
    problem = minegishi.build(c)
    trained = {k: torch.randn_like(w) for k, w in weights_of(problem.module).items()}
    return c, problem, Parent(trained)


def test_a_ticket_has_its_own_initial_weights_under_its_parents_mask(minegishi):
    c, problem, parent = child(minegishi, mask="ticket", mask_delay=4000)
    initial = weights_of(problem.module)
    minegishi.warm_start(c, problem, parent)
    mask = minegishi.ticket_mask(parent.weights, 0.4)
    for name, weight in weights_of(problem.module).items():
        assert torch.equal(weight, initial[name] * mask[name])
    assert parent.asked == [10_000]  # mask_delay after it generalized


def test_a_search_has_its_parents_weights_and_trains_scores(minegishi):
    c, problem, parent = child(minegishi, mask="search", mask_step=500)
    scores = weights_of(problem.module)
    minegishi.warm_start(c, problem, parent)
    assert torch.equal(problem.module.weight_w_in, parent.weights["w_in"])
    assert all(torch.equal(weights_of(problem.module)[k], s) for k, s in scores.items())
    assert parent.asked == [500]


def test_a_parent_of_another_seed_is_refused(minegishi):
    """Its ticket belongs to its own initial weights."""
    c, problem, parent = child(minegishi, mask="ticket", seed=4)
    with pytest.raises(UserError, match="seed=4: expected 3, as of run 17"):
        minegishi.warm_start(c, problem, parent)


@pytest.mark.parametrize("updates", [{"mask": "ticket"}, {"mask": "snip", "initial_run": 1}])
def test_a_mask_needs_a_parent_exactly_if_it_is_from_one(minegishi, updates):
    config = minegishi.ex.full_config({"seed": 0, **updates})
    with pytest.raises(UserError, match="initial_run="):
        minegishi.build(minegishi.Config(**config))


def test_change_at_generalization_is_the_second_rise_and_the_fall_of_entropy(minegishi):
    steps = list(range(2000, 12_001, 500))
    change = [0.7 if s == 2000 else 0.3 + (0.15 if s == 7500 else 0) for s in steps]
    entropy = [3.0 if s == 0 else 1.0 for s in (0, *steps)]
    series = {"ticket_change": (steps, change), "fourier_entropy": ([0, *steps], entropy)}
    summary = minegishi.change_at_generalization(series, 6000)
    assert summary["ticket_change_rise"] == pytest.approx(0.15)
    assert summary["entropy_ratio"] == pytest.approx(1 / 3)
    assert minegishi.change_at_generalization(series, 12_500) == {}
    assert minegishi.change_at_generalization({}, None) == {}


@pytest.mark.parametrize(
    ("claim", "named_config", "entry", "passing", "failing"),
    [
        ("10-dense", "cpu", "delay_ratio", 20, 19.9),
        ("10e", "cpu", "ticket_change_rise", 0.08, 0.079),
        ("10g", "cpu", "entropy_ratio", 0.5, 0.51),
        ("10a", "ticket", "delay_ratio", 5, 5.1),
        ("10f", "ticket_no_decay", "steps_to_test", 1000, 1020),
    ],
)
def test_claims_of_one_number(minegishi, claim, named_config, entry, passing, failing):
    assert finding(minegishi, claim, claim_run(named_config, {entry: passing})).passed
    assert not finding(minegishi, claim, claim_run(named_config, {entry: failing})).passed


def reaching(named_config: str, step: float):
    """A run whose test accuracy is 0.95 from a step on; inf for never."""
    values = [0.0, 0.95, 0.95] if step < inf else [0.0, 0.94, 0.94]
    logged = step if step < inf else 100
    return claim_run(named_config, series={"test_accuracy": ([0, logged, logged + 20], values)})


@pytest.mark.parametrize(
    ("claim", "steps", "passed"),
    [
        ("10b", {"ticket": 200, "l1_norm": 1000, "l2_norm": inf}, True),
        ("10b", {"ticket": 200, "l1_norm": 980, "l2_norm": inf}, False),
        ("10b", {"ticket": inf, "l1_norm": inf, "l2_norm": inf}, False),
        ("10d", {"ticket": 200, "ticket_at_once": 900, "ticket_memorized": inf}, True),
        ("10d", {"ticket": 200, "ticket_at_once": inf, "ticket_memorized": 7980}, False),
        ("10d", {"ticket": inf, "ticket_at_once": 900, "ticket_memorized": inf}, False),
    ],
)
def test_claims_that_compare_steps(minegishi, claim, steps, passed):
    outcome = finding(minegishi, claim, *(reaching(*item) for item in steps.items()))
    assert outcome.passed == passed and outcome.measured == steps


@pytest.mark.parametrize(("fastest", "passed"), [(4000, True), (3980, False)])
def test_every_other_mask_takes_twenty_times_as_long(minegishi, fastest, passed):
    steps = dict.fromkeys(minegishi.INITIAL_MASKS, inf) | {"ticket": 200, "snip": fastest}
    outcome = finding(minegishi, "10c", *(reaching(*item) for item in steps.items()))
    assert outcome.passed == passed


@pytest.mark.parametrize(("accuracy", "passed"), [(0.9, True), (0.89, False)])
def test_a_searched_subnetwork_reaches_90_percent(minegishi, accuracy, passed):
    """The two runs beside it may end at anything, but must be there."""
    accuracies = {"search": accuracy, "search_no_decay": 0.2, "search_memorized": 0.1}
    runs = [claim_run(name, {"test_accuracy": value}) for name, value in accuracies.items()]
    assert finding(minegishi, "10h", *runs).passed == passed


@pytest.mark.parametrize(
    ("changed", "passed"), [({}, True), ({"keep_60": 200}, False), ({"keep_5": 7000}, False)]
)
def test_a_third_of_the_weights_is_best(minegishi, changed, passed):
    steps = {"keep_5": inf, "keep_10": 900, "keep_20": 300, "keep_30": 200, "keep_50": 190}
    steps = steps | {"keep_60": 400} | changed
    outcome = finding(minegishi, "10i", *(reaching(*item) for item in steps.items()))
    assert outcome.passed == passed
