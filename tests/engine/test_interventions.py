"""Interventions: what they change and when, resumed and in batches, with every kind of step."""

from dataclasses import replace

import pytest
import torch

from grok.engine import interventions
from grok.engine.checkpoint import CheckpointError
from grok.engine.events import Intervened, Record, Saved
from grok.engine.interventions import InterventionError, add, condition, holds, parse, step_of
from grok.engine.spec import Condition, Grokfast, Group, Optimizer
from grok.engine.train import train
from grok.experiment.parts import with_temperature
from tests.engine.test_fused import assert_equal_events, classification, of
from tests.engine.test_measurement import ordering, with_compute
from tests.engine.test_resume import assert_continues
from tests.engine.toy import outcome, problem

THRESHOLD = 0.9


def changed(one, *entries):
    """A problem with interventions, given as in a configuration."""
    return add(one, [parse(entry, THRESHOLD) for entry in entries])


def events_of(one, **how) -> list:
    return list(train([one], **(how or {"compiled": False})))


def steps_of(events, replica: int = 0) -> list[tuple[int, int]]:
    """Number and step of a replica's interventions."""
    found = [e for e in events if isinstance(e, Intervened) and e.replica == replica]
    return [(e.number, e.step) for e in found]


# -- what is written -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (500, Condition("step", ">=", 500)),
        ("step >= 500", Condition("step", ">=", 500)),
        ("memorized", Condition("train_accuracy", ">=", THRESHOLD)),
        ("generalized", Condition("test_accuracy", ">=", THRESHOLD)),
        (" test_loss<1e-2 ", Condition("test_loss", "<", 0.01)),
        ("token_gradient/gradient_gini > .5", Condition("token_gradient/gradient_gini", ">", 0.5)),
    ],
)
def test_a_condition_is_a_step_an_event_or_one_comparison(when, expected):
    assert condition(when, THRESHOLD) == expected


@pytest.mark.parametrize(
    "when",
    [
        *(
            -1,
            True,
            None,
            2.5,
            "",
            "memorised",
            "train_accuracy",
            "a >= b",
            "a >= 1 or 1",
            "a == 1",
        ),
        *("step <= 3", "step >= 2.5", "__import__('os') >= 1", "a >= 1e", "a >= nan"),
    ],
)
def test_anything_else_is_refused_and_nothing_is_executed(when):
    with pytest.raises(InterventionError):
        condition(when, THRESHOLD)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"set": {"lr": 0}}, "when"),
        ({"when": 3}, "something to `set`"),
        ({"when": 3, "set": {"lr": 0}, "if": 1}, "'if'"),
        ({"when": 3, "set": {"weight_decy": 0}}, "did you mean weight_decay"),
        ({"when": 3, "set": {"lr": -1}}, "at least 0"),
        ({"when": 3, "set": {"lr": True}}, "at least 0"),
        ({"when": 3, "set": {"lr": "0"}}, "at least 0"),
        ({"when": 3, "set": {"lr": float("nan")}}, "at least 0"),
        ({"when": 3, "set": {"fixed_norm": 0}}, "above 0"),
        ({"when": 3, "set": {"temperature": 0}}, "above 0"),
        ({"when": 3, "set": ["lr"]}, "names and values"),
        ({"when": 3, "reset": "yes"}, "True or False"),
        ({"when": 3, "set": {"fixed_norm": 1}, "parameters": "0."}, "all parameters alike"),
    ],
)
def test_an_entry_that_cannot_be_read_says_what_was_expected(entry, message):
    with pytest.raises(InterventionError, match=message):
        parse(entry, THRESHOLD)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"when": 3, "reset": True, "parameters": "head"}, "beginning of a parameter's name"),
        ({"when": "train_los < 1", "reset": True}, "did you mean train_loss"),
        ({"when": 3, "set": {"grokfast_gain": 0}}, "runs with grokfast"),
    ],
)
def test_what_the_problem_does_not_have_is_refused(entry, message):
    with pytest.raises(InterventionError, match=message):
        changed(problem(0), entry)


def test_conditions_hold_by_their_comparison():
    metrics = {"train_loss": 0.5}
    for comparison, expected in ((">=", True), ("<=", True), (">", False), ("<", False)):
        assert holds(Condition("train_loss", comparison, 0.5), 3, metrics) is expected
    assert holds(condition("step > 2", 1), 3, {}) and not holds(condition("step > 3", 1), 3, {})
    assert step_of(condition("step > 3", 1)) == 4 and step_of(condition(3, 1)) == 3
    assert not holds(Condition("train_loss", ">=", 0.5), 3, {})  # no evaluation step
    assert step_of(Condition("train_loss", ">=", 0.5)) is None


def test_parameters_named_get_groups_of_their_own_with_the_same_numbers():
    groups = (Group(lr=1.0, part="bias"), Group(lr=2.0))
    optimizer = interventions.with_own_groups(Optimizer("adamw", groups), {"blocks.0.", "blocks"})
    for name, lr in (("blocks.0.up.bias", 1.0), ("blocks.1.up.weight", 2.0), ("head.bias", 1.0)):
        assert optimizer.groups[optimizer.group_of(name)].lr == lr
    found = [optimizer.group_of(f"{name}.weight") for name in ("blocks.0.up", "blocks.1", "head")]
    assert len({*found}) == 3


# -- what they do ----------------------------------------------------------------------------------


def test_it_happens_once_after_the_step_or_the_first_evaluation_at_which_its_condition_holds():
    """Steps between evaluations count too; metrics are known at evaluations only."""
    one = replace(problem(0), log_steps=[0, 50, 100, 150])
    losses = {e.step: e.metrics["train_loss"] for e in train([one]) if isinstance(e, Record)}
    between = (losses[50] + losses[100]) / 2
    found = events_of(
        changed(
            one,
            {"when": 17, "set": {"weight_decay": 0.0}},
            {"when": f"train_loss < {between}", "set": {"lr": 0.0}},
            {"when": "train_loss < 0", "set": {"lr": 1.0}},
        )
    )
    assert steps_of(found) == [(0, 17), (1, 100)]


def test_new_rates_and_decays_are_those_of_a_run_that_has_had_them_from_that_state():
    """After the step of the change, training is that of another optimizer from the same state."""
    one = problem(1, checkpoint_every=40)
    groups = tuple(replace(g, lr=g.lr * 3, weight_decay=0.7) for g in one.optimizer.groups)
    other = replace(one, optimizer=replace(one.optimizer, groups=groups))
    (state,) = [e for e in train([one]) if isinstance(e, Saved) and e.step == 40]
    expected = outcome(train([other], resume={0: state})).weights
    entries = [
        {"when": 40, "set": {"lr": group.lr}, "parameters": prefix}
        for group, prefix in zip(groups, ("0.", "2."), strict=True)
    ]
    found = events_of(changed(one, *entries, {"when": 40, "set": {"weight_decay": 0.7}}))
    for name, value in outcome(found).weights.items():
        assert torch.equal(value, expected[name]), name


def test_a_rate_of_zero_freezes_parameters_and_no_others():
    one = problem(1, keep_weights=True, log_steps=[0, 60, 200])
    found = events_of(changed(one, {"when": 60, "set": {"lr": 0}, "parameters": "0."}))
    at_60, end = [e.arrays for e in found if isinstance(e, Record)][1:]
    for name, value in at_60.items():
        assert (value == end[name]).all() == name.startswith("weights/0."), name


def test_a_norm_is_frozen_set_and_freed():
    one = problem(1, keep_weights=True, log_steps=[0, 60, 100, 101, 150, 200])
    entries = [
        {"when": 60, "set": {"fixed_norm": True}},
        {"when": 100, "set": {"fixed_norm": 3.0}},
        {"when": 150, "set": {"fixed_norm": False}},
    ]
    norms = {
        e.step: e.metrics["weight_norm"]
        for e in events_of(changed(one, *entries))
        if isinstance(e, Record)
    }
    free = {e.step: e.metrics["weight_norm"] for e in events_of(one) if isinstance(e, Record)}
    assert norms[60] == free[60] and norms[100] == pytest.approx(norms[60])
    assert norms[101] == pytest.approx(3.0) == norms[150]
    assert abs(norms[200] - 3.0) > 1e-3


def test_a_reset_gives_the_initial_values_and_forgets_the_moments():
    one = replace(problem(1, keep_weights=True), log_steps=[0, 100])
    one.optimizer = replace(one.optimizer, grokfast=Grokfast("ema", 2.0))
    reset = changed(one, {"when": 100, "reset": True, "parameters": "2."})
    found = events_of(replace(reset, checkpoint_every=100))
    (state,) = [e for e in found if isinstance(e, Saved) and e.step == 100]
    initial = dict(one.module.named_parameters())
    before = next(e for e in found if isinstance(e, Record) and e.step == 100).arrays
    for path, value in state.tensors.items():
        name = path.rpartition("/")[2]
        if path.startswith("program/params/"):
            kept = torch.from_numpy(before[f"weights/{name}"])
            assert torch.equal(value, initial[name] if name.startswith("2.") else kept)
        elif path.startswith(("program/optimizer/", "program/filter/")):
            assert (value == 0).all() == name.startswith("2."), path


def test_a_filter_is_switched_off_and_a_run_without_gain_is_one_without_a_filter():
    one = problem(1)
    filtered = replace(one, optimizer=replace(one.optimizer, grokfast=Grokfast("ema", 3.0)))
    off = events_of(changed(filtered, {"when": 0, "set": {"grokfast_gain": 0}}))
    plain, on = outcome(events_of(one)).weights, outcome(events_of(filtered)).weights
    for name, value in outcome(off).weights.items():
        assert torch.equal(value, plain[name]) and not torch.equal(value, on[name])


def test_undecayed_parameters_stay_so_unless_they_are_named():
    groups = (Group(part="bias", decayed=False), Group(weight_decay=0.0))
    one = problem(1, train_steps=1, log_steps=[0, 1])
    one = replace(one, optimizer=Optimizer("sgd", groups))
    for parameters, decays in (("", False), ("0.bias", True)):
        entry = {"when": 0, "set": {"weight_decay": 5.0}, "parameters": parameters}
        found = outcome(events_of(changed(one, entry))).weights["0.bias"]
        assert torch.equal(found, outcome(events_of(one)).weights["0.bias"]) != decays


# -- resumed, in batches, fused ---------------------------------------------------------------------

ALL = (
    {"when": 20, "set": {"lr": 0.01, "weight_decay": 0.5}},
    {"when": 50, "set": {"fixed_norm": True}},
    {"when": "weight_norm > 0", "set": {"lr": 0.002}, "parameters": "0."},
    {"when": 130, "set": {"fixed_norm": False}},
    {"when": 140, "reset": True, "parameters": "2."},
)
BATCHES = {"batch_size": 5, "minibatch_keys": ("inputs", "targets")}


def many(seed: int, **settings):
    """A toy with one intervention after the other, at other steps for every seed."""
    entries = [
        {**one, "when": one["when"] + seed if isinstance(one["when"], int) else one["when"]}
        for one in ALL
    ]
    return changed(problem(seed, checkpoint_every=30, keep_weights=True, **settings), *entries)


@pytest.mark.parametrize("settings", [{}, BATCHES])
def test_a_resumed_run_equals_the_uninterrupted_one_alone_and_in_a_batch(settings):
    """At states before, between and after the changes, the frozen norm included."""
    assert_continues([many(2, **settings)], 30, 60, 150)
    assert_continues([many(seed, **settings) for seed in range(4)], 30, 60, 150)


def test_a_resumed_run_tells_its_interventions_again_at_their_steps():
    one = many(1)
    whole = events_of(one)
    (state,) = [e for e in whole if isinstance(e, Saved) and e.step == 120]
    rest = list(train([one], resume={0: state}, compiled=False))
    assert steps_of(rest) == steps_of(whole) == [(2, 0), (0, 21), (1, 51), (3, 131), (4, 141)]


def test_replicas_of_a_batch_change_at_their_own_steps_and_leave_the_others():
    """More problems than slots: a slot's next replica begins with its own settings."""
    problems = [many(seed) for seed in range(5)]
    alone = [events_of(one) for one in problems]
    batch = list(train(problems, 2, compiled=False))
    for replica, events in enumerate(alone):
        assert steps_of(batch, replica) == steps_of(events)
        for name, value in outcome(events).weights.items():
            torch.testing.assert_close(
                outcome(batch, replica).weights[name], value, rtol=1e-8, atol=1e-10
            )


def fused_many(seed: int):
    entries = ({"when": 25, "set": {"temperature": 2.0}}, *ALL)
    one = classification(seed, Network, name="images")
    one = replace(with_temperature(one, 1.0 + seed), checkpoint_every=30)
    return changed(one, *entries)


class Network(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(5, 9), torch.nn.ReLU(), torch.nn.Linear(9, 7))


def test_fused_steps_make_them_bit_for_bit_alone_in_a_batch_and_resumed():
    problems = [fused_many(seed) for seed in range(3)]
    alone = [list(train([one], fused=True)) for one in problems]
    batch = list(train(problems, 2, fused=True))
    assert_equal_events(alone, [of(batch, replica) for replica in range(3)])
    for replica, events in enumerate(alone):
        assert steps_of(batch, replica) == steps_of(events) and len(steps_of(events)) == 6
    plain = outcome(train([problems[0]], compiled=False)).weights
    for name, value in outcome(alone[0]).weights.items():
        torch.testing.assert_close(value, plain[name], rtol=1e-8, atol=1e-10)
    (state,) = [e for e in alone[0] if isinstance(e, Saved) and e.step == 60]
    rest = outcome(train([problems[0]], resume={0: state}, fused=True)).weights
    assert all(torch.equal(value, rest[name]) for name, value in outcome(alone[0]).weights.items())


def test_a_state_with_interventions_of_another_problem_is_refused():
    one = many(0)
    (state, *_) = [e for e in events_of(one) if isinstance(e, Saved) and e.step == 60]
    for rows in ([[7.0, 20.0, 1.0]], [1.0, 2.0]):
        tensors = {**state.tensors, "interventions": torch.tensor(rows)}
        with pytest.raises(CheckpointError, match="interventions"):
            list(train([one], resume={0: replace(state, tensors=tensors)}))


def test_orders_in_other_epochs_are_trained_with_the_changed_settings():
    """`counterfactual` trains an epoch again in other orders, in a program of its own."""
    rates = []

    def compute(state) -> dict:
        state.shuffled(1)
        rates.append(state.program.reordered(state.problem, 1).hyperparameters_RG.lr.max())
        return {}

    made = ordering(["counterfactual"], interventions=[{"when": "step >= 30", "set": {"lr": 0.0}}])
    found = list(train([with_compute(made, compute)], compiled=False))
    (step,) = [e.step for e in found if isinstance(e, Intervened)]
    assert step == 30
    assert rates[0] > 0 and rates[-1] == 0
