"""Muon and AdamW tuned alike: the settings, the networks, and the claims at their bounds."""

import json
from math import inf

import pytest

from grok.claims.model import evaluate
from grok.claims.testing import claim_run, finding
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "muon.py")


def problem(paper, name, **updates):
    updates = {"p": 7, "seed": 1, "train_steps": 10, **updates}
    return paper.ex.problem_of(paper.ex.full_config(updates, [name]))


@pytest.mark.parametrize("model", ["mlp", "transformer"])
def test_all_weights_of_a_setting_have_one_strength_of_decay(paper, model):
    """Decay acts as learning rate times weight decay, so this product is what is tuned alike: for
    the matrices of Muon and for those that AdamW updates beside it."""
    for optimizer in ("adamw", "muon"):
        for decay in paper.DECAYS[model]:
            for name in paper.settings(model, optimizer, decay):
                config = paper.ex.full_config({}, [name])
                assert config["lr"] * config["weight_decay"] == pytest.approx(decay, rel=1e-5)
                if optimizer == "muon":
                    of_muon = config["muon_lr"] * config["muon_weight_decay"]
                    assert of_muon == pytest.approx(decay, rel=1e-5)
        assert len(paper.settings(model, optimizer)) == 6


def test_muon_updates_the_hidden_matrices_alone(paper):
    """As in the paper: AdamW updates embeddings, positions and the output layer."""

    def updated(name):
        return {g.prefix for g in problem(paper, name).optimizer.groups if g.muon}

    inner = {f"blocks.0.{one}.weight" for one in ("queries", "keys_values", "mix", "up", "down")}
    assert updated("transformer_muon_0_02_decay_0_01") == inner
    assert updated("mlp_muon_0_06_decay_0_005") == {"hidden"}
    assert updated("mlp_muon_on_all") == {"embed", "hidden", "output"}


def test_the_mlp_has_unordered_pairs_and_the_transformer_ordered_ones(paper):
    """The MLP adds embeddings, so that a pair in the other order would be a known test pair."""
    mlp = problem(paper, "mlp_muon_on_all").data
    assert len(mlp["train_labels"]) + len(mlp["test_labels"]) == 7 * 8 // 2
    other = problem(paper, "transformer_untuned")
    assert len(other.data["train_labels"]) + len(other.data["test_labels"]) == 49
    assert not any("bias" in name for name, _ in other.module.named_parameters())


def run(name, test, train=100, seed=10, budget=3000, **config):
    """A run that memorizes and generalizes at these steps."""
    ends = sorted({0, 10, *(step for step in (train, test) if step < inf), budget - 10, budget})
    series = {
        f"{part}_accuracy": (ends, [float(step >= at) for step in ends])
        for part, at in (("train", train), ("test", test))
    }
    return claim_run(name, series=series, **{"seed": seed, "train_steps": budget, **config})


def test_steps_are_counted_until_both_sets_are_learned(paper):
    """The paper counts epochs to 95 % test accuracy after the train set is fitted."""
    assert paper.steps(run("a", test=500)) == 500
    assert paper.steps(run("a", test=300, train=400)) == 400
    assert paper.steps(run("a", test=inf)) == inf


def test_the_best_setting_has_the_least_geometric_mean_and_always_generalizes(paper):
    """One lucky seed does not make a setting the best, nor one whose other run never generalizes."""
    names = paper.settings("mlp", "adamw")
    outcomes = [(900, 900), (200, 2900), (100, inf), (800, 800), (850, 700), (1000, 1000)]
    runs = [
        run(name, at, seed=seed)
        for name, both in zip(names, outcomes, strict=True)
        for seed, at in enumerate(both)
    ]
    best = paper.tuned(paper.Runs(runs), "mlp", "adamw")
    assert (best["rate"], best["strength of decay"]) == (0.01, 0.005)
    assert best["steps"] == pytest.approx((200 * 2900) ** 0.5)


@pytest.mark.parametrize(
    ("muon", "adamw", "passed"),
    [(850, 1000, True), (860, 1000, False), (inf, 1000, False), (850, inf, True)],
)
@pytest.mark.parametrize(("id", "model"), [("M2", "transformer"), ("M2-mlp", "mlp")])
def test_muon_must_be_faster_by_the_bound(paper, id, model, muon, adamw, passed):
    """Runs that never generalize decide where their budget of 3000 steps does."""
    names = (paper.tuned_setting(model, kind) for kind in ("muon", "adamw"))
    runs = [run(name, at) for name, at in zip(names, (muon, adamw), strict=True)]
    assert finding(paper, id, *runs).passed is passed


@pytest.mark.parametrize(("muon", "adamw"), [(inf, inf), (2700, inf), (inf, 3600)])
def test_a_pair_that_its_budget_does_not_decide_is_not_decided(paper, muon, adamw):
    names = (paper.tuned_setting("mlp", kind) for kind in ("muon", "adamw"))
    budgets = {"budget": 3000}, {"budget": 3000 if adamw == inf else 4000}
    runs = [run(n, at, **b) for n, at, b in zip(names, (muon, adamw), budgets, strict=True)]
    (chosen,) = (each for each in paper.claim if each.id == "M2-mlp")
    assert evaluate(chosen, paper.Runs(runs)).state == "undecided"


@pytest.mark.parametrize(("untuned", "passed"), [(2000, True), (1900, False)])
@pytest.mark.parametrize(("id", "model"), [("M2b", "transformer"), ("M2b-mlp", "mlp")])
def test_untuned_baseline_at_its_bound(paper, id, model, untuned, passed):
    runs = run(paper.tuned_setting(model, "muon"), 1700), run(f"{model}_untuned", untuned)
    found = finding(paper, id, *runs)
    assert found.passed is passed
    assert found.measured["ratio of means"] == pytest.approx(1700 / untuned)


@pytest.mark.parametrize(
    ("hidden", "everywhere", "passed"),
    [(2000, 700, True), (2010, 700, False), (2000, 690, False)],
)
def test_equal_decay_at_its_bounds(paper, hidden, everywhere, passed):
    adamw, muon = (
        paper.setting("mlp", kind, *paper.WEAK["mlp", kind]) for kind in ("adamw", "muon")
    )
    runs = run(adamw, 1000), run(muon, hidden), run(paper.MUON_ON_ALL, everywhere)
    assert finding(paper, "M3", *runs).passed is passed


@pytest.mark.parametrize(("slowest", "passed"), [(1290, True), (1310, False)])
def test_learning_rates_of_equal_decay_at_their_bound(paper, slowest, passed):
    runs = [run(name, at) for name, at in zip(paper.WEAK_ADAMW, (1000, slowest, 1100), strict=True)]
    assert finding(paper, "M4", *runs).passed is passed


@pytest.mark.parametrize(("id", "model"), [("M0", "transformer"), ("M0-mlp", "mlp")])
def test_the_judged_settings_are_those_that_tuning_found(paper, id, model):
    """In the stored verdicts of the tuning seeds, so that no other setting is judged by mistake."""
    verdicts = json.loads((PROJECT / "docs" / "verdicts.json").read_text())
    measured = verdicts["papers"]["muon"]["claims"][id]["measured"]
    for kind, name in paper.OPTIMIZERS.items():
        found = (measured[f"{name}, rate"][0], measured[f"{name}, strength of decay"][0])
        assert found == paper.TUNED[model, kind]
