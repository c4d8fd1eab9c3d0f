"""Each claim fails on networks that do not show what it says: it can fail at all.

The runs are those that the claim's sweep asks for, with series of a network that was not trained, of
one that memorizes and never generalizes, or of one that generalizes at once.
"""

from functools import cache
from math import inf
from typing import Any

import pytest

from grok.claims.model import Runs, evaluate, run_of
from grok.experiment.experiment import Experiment, load
from grok.paths import PROJECT, experiment_file
from grok.phases import phase
from grok.sweep import file, search

STEPS = [0, 100, 200, 100_000]
CHANCE = 0.02
SHARPNESS = ("sharpness", "published_sharpness", "adaptive_sharpness", "top_eigenvalue")


def network(train_at: float, test_at: float) -> tuple[dict[str, Any], dict[str, Any]]:
    """Series and result of a network that reaches its train and its test set at these steps."""
    series: dict[str, Any] = {}
    for part, reached in (("train", train_at), ("test", test_at), ("ood", inf)):
        is_right = [step >= reached for step in STEPS]
        series[f"{part}_accuracy"] = STEPS, [1.0 if right else CHANCE for right in is_right]
        series[f"{part}_loss"] = STEPS, [0.001 if right else 4.0 for right in is_right]
    series |= dict.fromkeys(("restricted_loss", "excluded_loss"), (STEPS, [4.0] * 4))
    series |= dict.fromkeys(
        ("embedding_gini", "neuron_logit_gini", "weight_norm"), (STEPS, [1.0] * 4)
    )
    series |= dict.fromkeys(
        ("rqi", "lens_bridge_1", "lens_relation_1", "causal_1"), (STEPS, [0.1] * 4)
    )
    train, test = (None if step == inf else int(step) for step in (train_at, test_at))
    result = {
        **{name: values[-1] for name, (_, values) in series.items()},
        "phase": phase(train, test, 1000),
        "steps_to_train": train,
        "steps_to_test": test,
        "delay_ratio": test / train if train and test else None,
        **dict.fromkeys(SHARPNESS, 1.0),
        "circle_gain": 1.0,
        "predicted_accuracy": 0.5,
        "ideal_gap": 0.5,
        "third_eigenvalue": 0.0,
        "key_frequencies": list(range(20)),
        **dict.fromkeys(("embedding_share", "cosine_share", "single_frequency_neurons"), 0.1),
        "loss": 4.0,
        "least_ablated_loss": 4.0,
        "ood_count": 100,
    }
    return series, result


CONTROLS = {
    "untrained": network(inf, inf),
    "never generalizes": network(100, inf),
    "generalizes at once": network(100, 100),
}
# The controls that have what a claim says. Every other one must fail.
PASSES = {
    "01-C4-never": {"never generalizes"},
    "04-C2": {"generalizes at once"},
}
# A theorem on train sets alone, whatever was trained; tests/papers/test_liu_toy.py has another table.
WITHOUT_TRAINING = ("02-C2",)
EXPERIMENTS = ("power", "liu_toy", "nanda", "wang", "omnigrok")


@cache
def configs(experiment: Experiment, sweep: str, pooled: bool) -> list[dict[str, Any]]:
    """The configurations of a sweep file, of its first seed alone if they are not pooled."""
    sweep_file = file.read(PROJECT / "sweeps" / f"{sweep}.yaml")
    defaults, found = experiment.defaults(), []
    for point in search.grid(sweep_file.config, None):
        updates = sweep_file.updates(point)
        names = [*sweep_file.named_configs, *filter(None, [updates.get("preset")])]
        named = [experiment.named_configs[name]() for name in names]
        found.append({"seed": 0, **defaults})
        for values in (*named, updates):
            found[-1] |= values
    first = min(config["seed"] for config in found)
    return [config for config in found if pooled or config["seed"] == first]


@pytest.mark.filterwarnings("ignore:An input array is constant", "ignore:invalid value")
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_claim_fails_on_a_control(name):
    """A claim that passes whatever is measured says nothing."""
    experiment = load(experiment_file(name))
    claims = [
        claim
        for claim in experiment.claims
        if not claim.not_tried and claim.id not in WITHOUT_TRAINING
    ]
    passes: dict[str, set[str]] = {}
    for control, (series, result) in CONTROLS.items():
        for claim in claims:
            runs = Runs(
                run_of(experiment, config, result, series)
                for config in configs(experiment, claim.sweep, claim.pooled)
            )
            if evaluate(claim, runs).passed:
                passes.setdefault(claim.id, set()).add(control)
    assert passes == {claim.id: PASSES[claim.id] for claim in claims if claim.id in PASSES}
