"""Minegishi et al. 2023: masks and where they come from, and the claims at their thresholds."""

from dataclasses import replace
from math import inf

import pytest
import torch

from grok.claims.model import Runs, evaluate
from grok.claims.testing import claim_run, finding
from grok.errors import UserError
from grok.experiment.experiment import load_module
from grok.models.sum_mlp import MATRICES, SumMLP, logits
from tests.conftest import PROJECT

minegishi = load_module(PROJECT / "experiments" / "minegishi.py")

P, D, H = 11, 13, 7
SPLIT = {
    "train_pairs": torch.cartesian_prod(torch.arange(P), torch.arange(P))[::2],
    "train_labels": torch.arange(P * P)[::2] % P,
}


def network(kind=minegishi.MaskedSumMLP, **more):
    torch.manual_seed(0)
    return kind(P, D, H, **more).double()


def weights_of(module) -> dict:
    return {name: value.detach().clone() for name, value in module.named_parameters()}


# The task and the dense network


def test_data_and_model_have_the_papers_sizes():
    """2278 unordered pairs, 911 of them to train on, and 115,000 parameters, as in the code."""
    problem = minegishi.ex.problem_of(minegishi.ex.full_config({"seed": 0}))
    assert len(problem.data["train_pairs"]) == 911
    assert len(problem.data["train_pairs"]) + len(problem.data["test_pairs"]) == 2278
    assert sum(p.numel() for p in problem.module.parameters()) == 115_000
    pairs = torch.cat([problem.data["train_pairs"], problem.data["test_pairs"]])
    assert len({frozenset(pair) for pair in pairs.tolist()}) == 2278


def test_initial_matrices_have_variance_one_over_rows():
    """Section 3: a normal distribution with standard deviation 1 / sqrt(fan-in)."""
    torch.manual_seed(0)
    for weight in SumMLP(67, 500, 48).parameters():
        assert float(weight.detach().std()) == pytest.approx(weight.shape[0] ** -0.5, rel=0.02)


# Masks


def test_all_kinds_of_masks_can_be_configured():
    assert minegishi.MASKS_AT_START == ("random", "magnitude", "snip", "grasp", "synflow")
    assert minegishi.FROM_PARENT_RUN == ("ticket", "l1_norm", "l2_norm", "search")
    with pytest.raises(UserError, match="did you mean ticket"):
        minegishi.ex.full_config({"seed": 0, "mask": "tickets"})


@pytest.mark.parametrize("keep", [0.1, 0.4, 0.81])
@pytest.mark.parametrize("kind", minegishi.MASKS_AT_START)
def test_every_mask_keeps_exactly_its_fraction(kind, keep):
    masks = minegishi.masks_at_start(kind, network(), SPLIT, keep, seed=3)
    entries = torch.cat([mask.flatten() for mask in masks.values()])
    assert set(entries.tolist()) == {0.0, 1.0}
    assert int(entries.sum()) == round(keep * len(entries))


def test_masks_at_start_differ_by_kind():
    """No two of the five methods may silently be the same one."""
    masks = [
        torch.cat(
            [m.flatten() for m in minegishi.masks_at_start(k, network(), SPLIT, 0.4, 3).values()]
        )
        for k in minegishi.MASKS_AT_START
    ]
    assert len({tuple(mask.tolist()) for mask in masks}) == len(masks)


def test_a_random_mask_is_another_one_for_each_seed():
    first, second = (
        minegishi.masks_at_start("random", network(), SPLIT, 0.4, seed) for seed in (0, 1)
    )
    assert any((first[name] != second[name]).any() for name in first)


def test_a_ticket_is_the_largest_weights_of_all_matrices():
    weights = weights_of(network())
    masks = minegishi.ticket_masks(weights, 0.3)
    kept = [w[masks[k] == 1].abs().min() for k, w in weights.items()]
    removed = [w[masks[k] == 0].abs().max() for k, w in weights.items()]
    assert min(kept) >= max(removed)


def test_synflow_keeps_paths_whole():
    """No kept weight of W_in lies on a dead end: SynFlow avoids layer collapse."""
    masks = minegishi.masks_at_start("synflow", network(), SPLIT, 0.1, seed=0)
    hidden_in, hidden_out = masks["w_in"].sum(0) > 0, masks["w_out"].sum(1) > 0
    assert (hidden_in == hidden_out).all() and hidden_in.any()
    assert all(mask.sum() > 0 for mask in masks.values())


@pytest.mark.parametrize("order", [1, 2])
def test_a_scaled_network_has_the_tickets_norm_and_every_weight(order):
    module = network()
    before = weights_of(module)
    masks = minegishi.ticket_masks(before, 0.4)
    minegishi.scale_to_norm(module, masks, order)

    def norm(weights):
        return sum((w.abs() ** order).sum() for w in weights.values()).item() ** (1 / order)

    after = weights_of(module)
    assert norm(after) == pytest.approx(norm({k: before[k] * masks[k] for k in before}))
    factors = torch.cat([(after[k] / before[k]).flatten() for k in before])
    assert float(factors.min()) == pytest.approx(float(factors.max())) and factors[0] < 1


def test_a_masked_network_is_the_network_without_those_weights():
    module, plain = network(), network(SumMLP)
    masks = minegishi.ticket_masks(weights_of(module), 0.4)
    module.apply_masks(masks)
    with torch.no_grad():
        for name, value in plain.named_parameters():
            value.mul_(masks[name])
    pairs = SPLIT["train_pairs"]
    assert torch.equal(module(pairs), plain(pairs))
    module(pairs).square().sum().backward()
    assert all((p.grad[masks[name] == 0] == 0).all() for name, p in module.named_parameters())


def test_a_search_keeps_its_fraction_of_each_matrix_and_trains_scores_alone():
    module = network(minegishi.SearchedSumMLP, keep=0.3)
    module.set_weights(weights_of(network(SumMLP)))
    for name, score in module.named_parameters():
        mask = module.mask(name).detach()
        assert int(mask.sum()) == round(0.3 * mask.numel())
        assert score[mask == 1].abs().min() >= score[mask == 0].abs().max()
    module(SPLIT["train_pairs"]).square().sum().backward()
    # straight through: the gradient of mask m at weight w is w dL/dw', by the sign of its score
    masked = {n: getattr(module, f"weight_{n}") * module.mask(n).detach() for n in MATRICES}
    weight = masked["w_in"].requires_grad_()
    logits(masked, SPLIT["train_pairs"]).square().sum().backward()
    expected = weight.grad * module.weight_w_in * module.w_in.sign()
    assert torch.allclose(module.w_in.grad, expected)


# What a run takes from its parent run


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


def child(**updates):
    """The problem of a run that starts from a parent, before and after `warm_start`."""
    sizes = {"p": 7, "embedding_width": 5, "width": 6, "initial_run": 17, "seed": 3}
    config = minegishi.ex.full_config({**sizes, **updates})
    c = minegishi.Config(**config)
    problem = minegishi.build(c)
    trained = {k: torch.randn_like(w) for k, w in weights_of(problem.module).items()}
    return c, problem, Parent(trained)


def test_a_ticket_has_its_own_initial_weights_under_its_parents_mask():
    c, problem, parent = child(mask="ticket", mask_delay=4000)
    initial = weights_of(problem.module)
    minegishi.warm_start(c, problem, parent)
    mask = minegishi.ticket_masks(parent.weights, 0.4)
    for name, weight in weights_of(problem.module).items():
        assert torch.equal(weight, initial[name] * mask[name])
    assert parent.asked == [10_000]  # mask_delay after it generalized


def test_a_search_has_its_parents_weights_and_trains_scores():
    c, problem, parent = child(mask="search", mask_step=500)
    scores = weights_of(problem.module)
    minegishi.warm_start(c, problem, parent)
    assert torch.equal(problem.module.weight_w_in, parent.weights["w_in"])
    assert all(torch.equal(weights_of(problem.module)[k], s) for k, s in scores.items())
    assert parent.asked == [500]


def test_a_parent_of_another_seed_is_refused():
    """Its ticket belongs to its own initial weights."""
    c, problem, parent = child(mask="ticket", seed=4)
    with pytest.raises(UserError, match="seed=4: expected 3, as of run 17"):
        minegishi.warm_start(c, problem, parent)


@pytest.mark.parametrize("updates", [{"mask": "ticket"}, {"mask": "snip", "initial_run": 1}])
def test_a_mask_needs_a_parent_exactly_if_it_is_from_one(updates):
    config = minegishi.ex.full_config({"seed": 0, **updates})
    with pytest.raises(UserError, match="initial_run="):
        minegishi.build(minegishi.Config(**config))


# What is measured at the end of a run


def test_ticket_change_compares_tickets_2000_steps_apart():
    """Equal tickets have distance 0, disjoint ones 1; of step 0 there is none."""
    first = weights_of(network())
    largest = minegishi.ticket_masks(first, 0.4)
    second = {name: weight * (1 - largest[name]) for name, weight in first.items()}
    weights = {
        step: {name: value.numpy() for name, value in values.items()}
        for step, values in ((0, first), (2000, first), (2500, first), (4000, second))
    }
    history = minegishi.ticket_history(weights, 0.4)
    assert history["ticket_change"] == {2000: 0, 4000: 1}
    assert list(history["fourier_entropy"]) == [0, 2000, 2500, 4000]


# Claims on runs made by hand


def run_to(named_config: str, step: float, train: float = 10):
    """A run that reaches 95 % test accuracy at a step, and holds it; never if that is inf."""
    series = {}
    for part, reached in (("train", train), ("test", step)):
        steps = [0, 8000, 8001] if reached == inf else [0, int(reached), int(reached) + 1]
        level = 0.94 if reached == inf else 0.95
        series[f"{part}_accuracy"] = steps, [0.0, level, level]
    return claim_run(named_config, series=series, train_steps=8000)


@pytest.mark.parametrize(
    ("claim", "named_config", "passing", "failing"),
    [
        ("10-dense", "cpu", 200, 199),
        ("10-dense", "cpu", 8000, inf),
        ("10a", "ticket", 50, 51),
        ("10a", "ticket", 10, inf),
        ("10f", "ticket_no_decay", 1000, 1020),
    ],
)
def test_claims_on_the_steps_of_one_run(claim, named_config, passing, failing):
    """Train accuracy is reached at step 10; a network that never generalizes fails each."""
    for step, passed in ((passing, True), (failing, False)):
        assert finding(minegishi, claim, run_to(named_config, step)).passed == passed


def with_metrics(run, **metrics):
    """The run with metrics that were logged at every 500th step from 2000 on, and at step 0."""
    steps = [0, *range(2000, 12_001, 500)]
    logged = {name: (steps, [values(step) for step in steps]) for name, values in metrics.items()}
    return replace(run, series={**run.series, **logged})


@pytest.mark.parametrize(
    ("peak_at", "rise", "passed"),
    [
        (3500, 0.09, False),
        (4000, 0.09, True),
        (6000, 0.09, True),
        (6000, 0.07, False),
        (7000, 0.09, True),
        (7500, 0.09, False),
    ],
)
def test_the_ticket_changes_again_from_0_6_to_1_2_of_the_step_of_generalization(
    peak_at, rise, passed
):
    """Of a network that generalizes at 6000; the fall from the start is no second change."""

    def change(step):
        return 0.9 if step < 3000 else 0.3 + rise * (step == peak_at)

    run = with_metrics(run_to("paper", 6000), ticket_change=change)
    outcome = finding(minegishi, "10e", run)
    assert outcome.passed == passed
    if passed:
        assert outcome.measured["largest change at"] == peak_at
        assert outcome.measured["rise"] == pytest.approx(rise)
        (claim,) = (each for each in minegishi.claim if each.id == "10e")
        assert not finding(minegishi, "10e", *claim.fails_on(Runs([run]))).passed


def test_a_network_that_does_not_generalize_decides_nothing_on_its_ticket():
    (claim,) = (each for each in minegishi.claim if each.id == "10e")
    run = with_metrics(run_to("paper", inf), ticket_change=lambda step: 0.5)
    assert evaluate(claim, Runs([run])).state == "undecided"
    early = with_metrics(run_to("paper", 1000), ticket_change=lambda step: 0.5)
    without_tickets = {"ticket_change": ([2000, 2500], [0.5, 0.5])}
    early = replace(early, series={**early.series, **without_tickets})
    assert "a ticket near the step" in evaluate(claim, Runs([early])).why


@pytest.mark.parametrize(("later", "passed"), [(1.5, True), (1.51, False)])
def test_the_entropy_2000_steps_after_generalizing_is_halved(later, passed):
    """It is read at the first logged step from there on, as the weights of a ticket are."""

    def entropy(step):
        return 3.0 if step < 8000 else later if step == 8000 else 2.0

    for generalized in (6000, 5990):
        run = with_metrics(run_to("cpu", generalized), fourier_entropy=entropy)
        assert finding(minegishi, "10g", run).passed == passed
    never = with_metrics(run_to("cpu", inf), fourier_entropy=lambda step: 3.0 * (step == 0))
    assert not finding(minegishi, "10g", never).passed


def test_the_graph_is_compared_with_that_of_the_memorizing_network():
    """Longer paths and less clustering at the first step from 4000 after generalizing on than at 500."""

    def passes(path, clustering, step=6000.0):
        run = with_metrics(
            run_to("cpu", step),
            path_length=lambda step: 2.0 if step < 500 else 2.0 + path * (step >= 10_000),
            clustering=lambda step: 0.5 + clustering * (step >= 10_000),
        )
        return finding(minegishi, "10g-graph", run).passed

    assert passes(0.1, -0.1) and passes(0.1, -0.1, step=5990.0)
    assert not passes(0, -0.1) and not passes(0.1, 0)
    assert not passes(0.1, -0.1, step=inf)


@pytest.mark.parametrize(
    ("claim", "controls", "factor"),
    [("10b", ("l1_norm", "l2_norm"), 5), ("10c", minegishi.MASKS_AT_START, 20)],
)
def test_every_control_must_be_slower_than_the_ticket(claim, controls, factor):
    """One control that is too fast refutes the claim, as does a ticket that never generalizes."""

    def passes(ticket, *steps):
        runs = [run_to(name, step) for name, step in zip(controls, steps, strict=True)]
        return finding(minegishi, claim, run_to("ticket", ticket), *runs).passed

    count = len(controls)
    (checked,) = (each for each in minegishi.claim if each.id == claim)
    assert passes(160, *[inf] * count)
    assert passes(160, *[160 * factor] * count)
    assert not passes(inf, *[inf] * count)
    for index in range(count):
        steps = [inf] * count
        steps[index] = 160 * factor - 1
        assert not passes(160, *steps)
    slow_ticket = [run_to("ticket", 8000 / factor + 1), *(run_to(name, inf) for name in controls)]
    assert evaluate(checked, Runs(slow_ticket)).state == "undecided"  # 8000 steps are too few


def test_the_mask_of_the_memorizing_network_must_fail():
    def passes(ticket, at_once, memorized):
        runs = run_to("ticket_at_once", at_once), run_to("ticket_memorized", memorized)
        return finding(minegishi, "10d", run_to("ticket", ticket), *runs).passed

    assert passes(160, 900, inf) and passes(160, inf, inf)
    assert not passes(160, 900, 7000) and not passes(inf, 900, inf)


def searched(named_config: str, accuracies, decay: float):
    """A search with these test accuracies after 600, 1000, 1400 and 2000 steps."""
    series = {"test_accuracy": ([0, 600, 1000, 1400, 2000], [0.0, *accuracies])}
    return claim_run(named_config, series=series, weight_decay=decay)


def test_a_search_of_memorized_weights_must_have_the_published_accuracies():
    """Every entry of the table within 0.1."""

    def passes(index=0, difference=0.0, decay=1.0):
        runs = []
        for name, published in minegishi.SEARCHED.items():
            accuracies = list(published)
            has_decay = not name.endswith("no_decay")
            if has_decay == bool(decay):
                accuracies[index] += difference
            runs.append(searched(name, accuracies, float(has_decay)))
        return finding(minegishi, "10h", *runs).passed

    assert passes()
    for index in range(4):
        for decay in (0.0, 1.0):
            assert passes(index, -0.099, decay) and not passes(index, -0.101, decay)
    assert not passes(0, 0.11)


def test_only_the_search_with_decay_before_generalizing_must_succeed():
    def passes(search, no_decay):
        runs = searched("search", [search] * 4, 1.0), searched("search_no_decay", [no_decay] * 4, 0)
        return finding(minegishi, "10h-late", *runs).passed

    assert passes(0.9, 0.1)
    assert not passes(0.89, 1.0)


def test_thirty_percent_must_be_faster_than_any_other_multiple_of_ten():
    names = ["ticket", *(f"keep_{percent}" for percent in (10, 20, 30, 50, 60, 70, 80, 90))]

    def passes(**steps):
        known = {**dict.fromkeys(names, 500), "keep_10": inf, "keep_30": 100} | steps
        runs = (run_to(name, step) for name, step in known.items())
        return finding(minegishi, "10i", *runs).passed

    assert passes()
    assert not any(passes(**{name: 100}) for name in names if name != "keep_30")
    assert not passes(keep_10=7000) and not passes(keep_30=inf)


@pytest.mark.parametrize(
    ("keep_19", "keep_10", "passed"), [(7980, inf, True), (inf, inf, False), (400, 7000, False)]
)
def test_81_percent_can_be_pruned_without_decay_and_90_not(keep_19, keep_10, passed):
    runs = run_to("keep_19_no_decay", keep_19), run_to("keep_10_no_decay", keep_10)
    assert finding(minegishi, "10i-no-decay", *runs).passed == passed


def test_tickets_of_other_sizes_without_decay_differ_in_size_and_decay_alone():
    """A ticket of 19 % has 81 % of the weights pruned."""
    ticket, pruned = (
        minegishi.ex.full_config({"seed": 1}, [name]) for name in ("ticket", "keep_19_no_decay")
    )
    differing = {key for key in ticket if ticket[key] != pruned[key]}
    assert differing == {"keep", "weight_decay"}
    assert (pruned["keep"], pruned["weight_decay"]) == (0.19, 0)
