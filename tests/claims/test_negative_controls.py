"""Every claim fails on its negative control, so that a pass says something."""

from functools import cache

import numpy as np
import pytest

from grok.claims import controls
from grok.claims.model import Runs
from grok.claims.scorecard import experiments
from grok.paths import PROJECT
from tests.claims.runs import run
from tools.controls import FOLDER, description, word
from tools.controls import evaluated as evaluate_controls

# A claim that reads the authors' numbers, which are not in this repository. The test of its paper
# checks that it fails where cells disagree.
ON_PUBLISHED_NUMBERS = {"02-C6-published"}


@cache
def evaluated(name):
    """What the claims of a paper find on their negative controls; several tests read it."""
    (experiment,) = experiments([name])
    return experiment, evaluate_controls(experiment)


def papers():
    return [path.stem for path in sorted((PROJECT / "experiments").glob("*.py"))]


@pytest.mark.parametrize("name", papers())
def test_every_claim_fails_on_its_negative_control(name):
    """A check that cannot fail, or a claim without a negative control, is refused.

    `python -m tools.controls PAPER` trains the runs again after a recipe or a control has changed.
    """
    experiment, found = evaluated(name)
    outcomes = {id: word(finding) for id, (finding, _) in found.items()}
    tried = {claim.id for claim in experiment.claims if not claim.not_tried}
    expected = dict.fromkeys(tried - ON_PUBLISHED_NUMBERS, "fails")
    assert outcomes == expected


@pytest.mark.parametrize("name", papers())
def test_the_effects_of_a_claim_are_among_its_numbers(name):
    """An effect that is misspelled would end the check of a sweep when all its runs are trained."""
    experiment, found = evaluated(name)
    for claim in experiment.claims:
        if claim.effects:
            finding, _ = found[claim.id]
            assert claim.pooled and set(claim.effects) <= set(finding.measured)


def test_the_stored_controls_are_small():
    """At most 100 kB for each paper, since they are part of the repository."""
    assert all(path.stat().st_size <= 100_000 for path in FOLDER.glob("*.json.gz"))


def test_changed_runs_keep_their_configurations():
    """A claim selects runs by their configuration, and gets the outcomes of others."""
    runs = Runs(run(seed, {"x": seed}) for seed in range(8))
    for change, expected in (
        (controls.no_effect, [0] * 8),
        (controls.reversed_effect, [*range(7, -1, -1)]),
        (controls.shuffled, [*np.random.default_rng(0).permutation(8)]),
    ):
        changed = change(runs)
        assert [one.config["seed"] for one in changed] == [*range(8)]
        assert [one["x"] for one in changed] == expected


def test_a_control_is_described_by_its_updates_or_its_docstring():
    assert description({"weight_decay": 0.0, "p": 7}) == "weight_decay = 0.0, p = 7"
    assert description(controls.no_effect) == (
        "All runs are the first one: no recipe differs from another"
    )
