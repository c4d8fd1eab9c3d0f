"""A replica that goes on from a saved state ends as the one that was never interrupted."""

from dataclasses import replace

import pytest
import torch

from grok.engine.checkpoint import CheckpointError
from grok.engine.events import Outcome, Record, Saved
from grok.engine.spec import Grokfast, Stop
from grok.engine.train import train
from tests.engine.toy import STEPS, problem

BATCHES = {"batch_size": 5, "minibatch_keys": ("inputs", "targets")}
OPTIONS = {
    "full batch": {},
    "epochs": BATCHES,
    "replacement": {**BATCHES, "sampling": "replacement"},
    "in order": {**BATCHES, "sampling": "in_order"},
}


def made(seed: int, kind: str = "adamw", **options):
    return problem(seed, kind, checkpoint_every=30, keep_weights=True, **options)


def what_follows(events, step: int) -> list:
    """Records after `step`, as plain values."""
    return [
        (e.replica, e.step, e.metrics, {k: v.tolist() for k, v in e.arrays.items()})
        for e in events
        if isinstance(e, Record) and e.step > step
    ]


def ends(events) -> dict[int, dict]:
    return {e.replica: e.weights for e in events if isinstance(e, Outcome)}


def assert_continues(problems, *steps: int, **how: bool) -> None:
    """From the states at these steps, training goes on as it did."""
    slots = len(problems)
    how = how or {"compiled": False}
    whole = list(train(problems, slots, **how))
    for step in steps:
        states = {e.replica: e for e in whole if isinstance(e, Saved) and e.step == step}
        assert len(states) == slots
        rest = list(train(problems, slots, resume=states, **how))
        assert what_follows(rest, -1) == what_follows(whole, step)
        for replica, weights in ends(whole).items():
            assert all((ends(rest)[replica][k] == v).all() for k, v in weights.items())
        later = [e.step for e in whole if isinstance(e, Saved) and e.step > step]
        assert [e.step for e in rest if isinstance(e, Saved)] == later


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_alone_and_in_a_batch(options):
    assert_continues([made(3, **options)], 30, 120)
    assert_continues([made(seed, **options) for seed in range(4)], 30, 120)


def test_with_every_kind_of_optimizer_state():
    for changes in (
        {"decay_to": "init"},
        {"weight_noise": 0.01, "update_noise": 0.1},
        {"anneal_steps": 150, "lr_floor": 0.05},
        {"grokfast": Grokfast("ema", 2.0)},
        {"grokfast": Grokfast("window", 2.0, window=20)},
    ):
        one = made(1)
        one.optimizer = replace(one.optimizer, **changes)
        assert_continues([one], 60)
    assert_continues([made(2, "sgd")], 90)


def test_compiled():
    assert_continues([made(seed) for seed in range(2)], 90, compiled=True)


def test_a_stop_rule_that_was_met_once_is_remembered():
    """It fires at the second logged step running; the state between the two knows of the first."""
    stop = Stop((("train_loss", -1.0),))
    one = replace(made(0), log_steps=[0, 29, 31, 60], stop=stop)
    whole = [e for e in train([one]) if isinstance(e, Outcome)]
    assert (whole[0].step, whole[0].reason) == (29, "stopped")
    never = replace(one, stop=None)
    (state, *_) = [e for e in train([never]) if isinstance(e, Saved)]
    rest = [
        e for e in train([one], resume={0: replace(state, stop_streak=1)}) if isinstance(e, Outcome)
    ]
    assert (rest[0].step, rest[0].reason) == (31, "stopped")


def test_a_state_of_another_problem_is_refused():
    (state, *_) = [e for e in train([made(0)]) if isinstance(e, Saved)]
    first = next(iter(state.tensors))
    other = {**state.tensors, first: torch.zeros(2, 2)}
    with pytest.raises(CheckpointError, match=r"\(2, 2\)"):
        list(train([made(0)], resume={0: replace(state, tensors=other)}))
    del other[first]
    with pytest.raises(CheckpointError, match="one of state and problem only"):
        list(train([made(0)], resume={0: replace(state, tensors=other)}))


def test_checkpoints_change_nothing():
    plain, kept = (
        [e for e in train([replace(made(0), checkpoint_every=every)]) if not isinstance(e, Saved)]
        for every in (None, 7)
    )
    assert what_follows(plain, -1) == what_follows(kept, -1)
    assert plain[-1].step == STEPS
