"""The rule of hopeless runs, on constructed series, in batches and in resumed runs."""

from dataclasses import replace

import pytest
import torch

from grok.engine.checkpoint import CheckpointError
from grok.engine.events import HOPELESS, Outcome, Saved
from grok.engine.hopeless import HopelessRule, rule_of
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.engine.train import train
from tests.engine.toy import STEPS, loss, losses, outcome, problem

EVERY_FIVE = list(range(0, STEPS + 1, 5))
RULE = rule_of(STEPS, EVERY_FIVE, 0.9)


def metrics(model, data):
    return {"train_loss": loss(model, data), "train_accuracy": torch.ones(())}


def watched(seed: int, decay: float, rule: HopelessRule | None = RULE, **fields) -> Problem:
    """A replica whose norm rises, or falls with enough weight decay. It has memorized all along."""
    one = problem(seed, lr=1e-2, log_steps=EVERY_FIVE)
    groups = tuple(replace(group, weight_decay=decay) for group in one.optimizer.groups)
    optimizer = replace(one.optimizer, groups=groups, warmup_steps=0)
    return replace(one, metrics=metrics, optimizer=optimizer, hopeless=rule, **fields)


RISING, FALLING = 0.0, 5.0


def reasons(events) -> dict[int, tuple[int, str]]:
    return {e.replica: (e.step, e.reason) for e in events if isinstance(e, Outcome)}


@pytest.mark.parametrize(
    ("accuracy", "norms", "expected"),
    [
        (0.9, [1.0, 2.0, 3.0], True),
        (0.9, [1.0, 3.0, 3.0], True),  # as large as before is at its largest
        (0.9, [1.0, 3.0, 2.9], False),  # it has begun to fall
        (0.9, [3.1, 2.0, 3.0], False),
        (0.89, [1.0, 2.0, 3.0], False),  # not memorized: the norm may have to rise
    ],
)
def test_rule_is_that_the_norm_of_a_memorized_run_is_at_its_largest(accuracy, norms, expected):
    assert HopelessRule((5, 10, 20), 0.9).is_hopeless(accuracy, norms) is expected


def test_norms_are_compared_after_a_fortieth_a_twentieth_and_a_tenth():
    """At the first evaluations from there on; a run that has too few of them cannot be judged."""
    assert rule_of(5000, range(0, 5001, 25), 0.9).steps == (125, 250, 500)
    assert rule_of(5000, range(0, 5001, 100), 0.9).steps == (200, 300, 500)
    assert rule_of(5000, range(0, 5001, 500), 0.9) is None
    assert rule_of(5000, [0], 0.9) is None


def test_a_hopeless_replica_ends_and_changes_no_other():
    """Two replicas of a batch of four are given up. Each of the four equals the run alone, and those
    that are given up equal the whole run until then."""
    batch = [watched(seed, decay) for seed, decay in enumerate((RISING, FALLING) * 2)]
    events = list(train(batch, slots=2))
    late = RULE.steps[-1]
    assert reasons(events) == {
        replica: (late, HOPELESS) if replica % 2 == 0 else (STEPS, "budget") for replica in range(4)
    }
    for replica, one in enumerate(batch):
        alone = list(train([one]))
        assert losses(events, replica) == pytest.approx(losses(alone), abs=1e-8)
        whole = losses(train([replace(one, hopeless=None)]))
        assert losses(alone) == {step: whole[step] for step in losses(alone)}


def test_a_resumed_run_is_judged_as_the_whole_one():
    """From any state before the judgement, with the norms that were taken before it, and from any after
    it, where it is not judged again."""
    for decay, end in ((RISING, (20, HOPELESS)), (FALLING, (STEPS, "budget"))):
        one = watched(0, decay, checkpoint_every=7)
        whole = list(train([one], compiled=False))
        assert reasons(whole) == {0: end}
        for state in (e for e in whole if isinstance(e, Saved) and e.step < 50):
            rest = list(train([one], compiled=False, resume={0: state}))
            assert reasons(rest) == {0: end}
            for name, weights in outcome(whole).weights.items():
                assert torch.equal(outcome(rest).weights[name], weights)


def test_a_state_without_its_norms_is_refused():
    """Otherwise a run would be judged by fewer norms than the rule compares."""
    one = watched(0, RISING, checkpoint_every=7)
    state = [e for e in train([one]) if isinstance(e, Saved)][1]
    assert state.step == 14
    tensors = {name: value for name, value in state.tensors.items() if name != "early_norms"}
    for wrong in (tensors, {**tensors, "early_norms": torch.zeros(1)}):
        with pytest.raises(CheckpointError, match="norms in the state"):
            list(train([one], resume={0: replace(state, tensors=wrong)}))


def test_a_run_that_has_reached_its_goal_is_stopped_and_not_hopeless():
    """Both hold at the same step: the goal is reached at two evaluations, and the norm still rises."""
    always = Stop((("train_accuracy", 1.0),))
    late = RULE.steps[-1]
    one = replace(watched(0, RISING, stop=always), log_steps=[0, *RULE.steps])
    assert reasons(train([one])) == {0: (RULE.steps[0], "stopped")}
    assert reasons(train([replace(one, stop=None)])) == {0: (late, HOPELESS)}
