"""Measures see what happens and never change it."""

import json
from dataclasses import replace

import pytest
import torch

from grok.engine import problem as problems
from grok.engine.events import Outcome, Record, Saved
from grok.engine.instruments import BY_NAME, MEASURES
from grok.engine.train import train as train_with
from grok.errors import UserError
from grok.experiment.experiment import load
from tests.conftest import PROJECT

SMALL = {
    "p": 11,
    "train_count": 60,
    "test_count": 40,
    "width": 8,
    "heads": 2,
    "mlp_width": 16,
    "batch_size": 20,
    "epochs": 14,
    "seed": 3,
    "snapshot_every": 4,
}
BURSTS = {"hessian": (12, 3), "adam_dynamics": (10, 2)}  # within a short run
CATALOGUE = BY_NAME | {name: replace(BY_NAME[name], burst=burst) for name, burst in BURSTS.items()}


def ordering(measures="full", seed: int = 3, **changes):
    paper = load(PROJECT / "experiments" / "ordering.py")
    config = {**SMALL, "measures": measures, "seed": seed, **changes}
    return paper.problem_of(paper.full_config(config))


def train(problems, compiled: bool = False, **options):
    """The events of a training whose measures have short bursts."""
    return train_with(problems, compiled=compiled, **{"measures": CATALOGUE, **options})


def seen_by(compute, name: str = "norms", **changes) -> list:
    """What `compute` makes of the state of a run with one measure, each time that it is taken."""
    results = []
    spying = replace(CATALOGUE[name], compute=lambda state: results.append(compute(state)) or {})
    list(train([ordering([name], **changes)], measures={name: spying}))
    return results


@pytest.fixture(scope="module")
def measured() -> list:
    """The events of a run with all measures, and states every 17 steps."""
    return list(train([replace(ordering(), checkpoint_every=17)]))


def values(events) -> list:
    return [(e.step, e.metrics, e.burst_metrics) for e in events if isinstance(e, Record)]


def plain(events, replica: int = 0) -> list:
    """Steps and the metrics that an unmeasured run has too."""
    return [
        (e.step, {k: v for k, v in e.metrics.items() if "/" not in k})
        for e in events
        if isinstance(e, Record) and e.replica == replica
    ]


def assert_equal_runs(measured: list, bare: list) -> None:
    assert plain(measured) == plain(bare)
    weights = [next(e for e in run if isinstance(e, Outcome)).weights for run in (measured, bare)]
    assert all((weights[1][name] == value).all() for name, value in weights[0].items())


@pytest.mark.slow
def test_a_compiled_measured_run_is_the_unmeasured_one_bit_for_bit():
    runs = (list(train([ordering(names)], compiled=True)) for names in ("full", []))
    assert_equal_runs(*runs)


def test_a_measured_run_is_the_unmeasured_one_bit_for_bit(measured):
    assert_equal_runs(measured, list(train([ordering([])])))
    taken = {k.split("/")[0] for e in values(measured) for k in e[1] if "/" in k}
    taken |= {k.split("/")[0] for e in values(measured) for _, m in e[2] for k in m}
    assert taken == {m.name for m in MEASURES} - {"gradient_projection"}  # no reference here


def test_in_a_batch_every_replica_is_measured_as_alone(measured):
    together = list(train([ordering(seed=seed) for seed in (3, 4)]))
    for replica, events in enumerate((measured, train([ordering(seed=4)]))):
        alone, batched = values(events), values(e for e in together if e.replica == replica)
        assert [step for step, *_ in batched] == [step for step, *_ in alone]
        for (_, a, points), (_, b, others) in zip(batched, alone, strict=True):
            assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
            assert [step for step, _ in points] == [step for step, _ in others]


def test_gradients_are_those_of_an_independent_autograd_pass():
    def both(w):
        module, data = w.problem.module, dict(w.problem.data)
        rows = w.program.state["minibatch"][w.slot]
        data.update({name: data[name][rows] for name in w.problem.minibatch_keys})
        module.load_state_dict(w.history.recent_weights[-1], strict=False)
        loss = w.problem.loss(module, data)
        expected = torch.autograd.grad(loss, list(module.parameters()))
        return w.gradient, dict(zip(dict(module.named_parameters()), expected, strict=True))

    pairs = seen_by(both, "hessian", dropout=0.0)
    assert len(pairs) == 9  # of 42 updates: three bursts of three
    for seen, expected in pairs:
        for name, gradient in expected.items():
            torch.testing.assert_close(seen[name], gradient, rtol=1e-4, atol=1e-6)
            assert gradient.abs().sum() > 0


def test_the_mean_gradient_is_the_mean_over_the_interval(measured):
    for _, metrics, _ in values(measured)[1:]:
        largest = metrics["training_diagnostics/grad_norm_max"]
        assert 0 < metrics["norms/total_norm"] <= largest * (1 + 1e-6)


def test_every_point_of_every_burst_is_current(measured):
    """The two updates before it are the last two, in the second burst as in the first."""
    steps = seen_by(
        lambda w: (w.program.steps[w.slot], w.history.last_step[0], len(w.history.recent_weights)),
        "hessian",
    )
    assert [step for step, *_ in steps] == [s + k for s in (12, 24, 36) for k in range(3)]
    assert all(last == step - 1 and known >= 2 for step, last, known in steps)
    points = [point for *_, burst_metrics in values(measured) for point in burst_metrics]
    coherent = [step for step, found in points if "hessian/entanglement_coherence" in found]
    assert coherent == [s + k for s in (12, 24, 36) for k in (1, 2)]


def test_shuffles_are_distinct_and_none_is_the_observed_order(monkeypatch):
    drawn = []
    true = problems.batch_order

    def spy(seed, epoch, examples):
        order = true(seed, epoch, examples)
        drawn.append((epoch, tuple(order.tolist())))
        return order

    monkeypatch.setattr("grok.engine.program.batch_order", spy)
    seen_by(lambda w: w.shuffled(4), "counterfactual", ordering="random")
    for epoch in {epoch for epoch, _ in drawn}:
        orders = [order for number, order in drawn if number == epoch]
        assert len(set(orders)) == len(orders) and len(orders) in (1, 5)


def test_a_shuffle_in_the_same_order_gives_the_same_gradient(monkeypatch):
    """The state that the epochs are trained again from is the true one, Adam's moments included."""
    same = problems.batch_order(3, 0, 60)
    monkeypatch.setattr("grok.engine.program.batch_order", lambda *_: same)
    for shuffled, observed in seen_by(
        lambda w: (w.shuffled(3), w.mean_gradients(1)[0]),
        "counterfactual",
        ordering="random",
        dropout=0.0,
    ):
        for one in shuffled:
            torch.testing.assert_close(one, observed, rtol=1e-3, atol=1e-6)


def test_a_measure_that_raises_leaves_the_run_as_it_was():
    made = ordering(["counterfactual"])
    states = []

    def fails(w):
        states.append((w.program, w.program.saved(w.slot)))
        w.shuffled(3)
        raise RuntimeError("broken")

    broken = replace(BY_NAME["counterfactual"], compute=fails)
    with pytest.raises(RuntimeError, match="broken"):
        list(train([made], measures={"counterfactual": broken}))
    program, before = states[0]
    assert all((program.saved(0)[name] == value).all() for name, value in before.items())


def test_windows_survive_a_resume(measured):
    made = replace(ordering(), checkpoint_every=17)
    for saved in (e for e in measured if isinstance(e, Saved)):
        rest = train([made], resume={0: saved})
        after = [e for e in values(measured) if e[0] > saved.step]
        assert json.dumps(values(rest)) == json.dumps(after)


def test_fourier_remembers_what_was_ever_significant(measured):
    rows = [metrics for _, metrics, _ in values(measured)[1:]]
    new = [row["fourier/newly_acquired_freqs"] for row in rows]
    tracked = [row["fourier/n_tracked_freqs"] for row in rows]
    assert tracked == [sum(new[: i + 1]) for i in range(len(new))]


@pytest.mark.parametrize(
    ("program", "measures", "line"),
    [
        ("liu_toy", ["fourier"], "fourier needs a table of token vectors"),
        ("mlp", ["counterfactual"], "counterfactual needs mini-batches by epochs"),
        ("power", ["gradient_projection"], "gradient_projection needs reference_run"),
        ("power", ["hesian"], "did you mean hessian?"),
    ],
)
def test_what_cannot_be_measured_is_refused(program, measures, line):
    paper = load(PROJECT / "experiments" / f"{program}.py")
    with pytest.raises(UserError, match=line.replace("?", r"\?")):
        paper.problem_of(paper.full_config({"measures": measures, "seed": 0}))


def test_a_group_takes_what_fits():
    paper = load(PROJECT / "experiments" / "liu_toy.py")
    made = paper.problem_of(paper.full_config({"measures": "full", "seed": 0}))
    assert {*made.measures.names} == BY_NAME.keys() - {
        "fourier",
        "attention",
        "token_gradient",
        "phases",
        "gradient_projection",
        "counterfactual",
        "counterfactual_validator",
    }
