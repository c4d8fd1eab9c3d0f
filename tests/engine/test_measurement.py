"""Measures see what happens and never change it."""

import json
import math
from dataclasses import replace

import pytest
import torch

from grok.engine import problem as problems
from grok.engine.checkpoint import below
from grok.engine.events import Outcome, Record, Saved
from grok.engine.instruments import BY_NAME, GROUPS, MEASURES, too_late
from grok.engine.measure import BURST
from grok.engine.measurement import History, MeasurementState, gigabytes_needed
from grok.engine.train import HISTORY
from grok.engine.train import train as train_with
from grok.errors import UserError
from grok.experiment import advice
from grok.experiment.experiment import load
from grok.measures import decomposition
from tests.conftest import PROJECT
from tests.helpers import SMALL_ORDERING

SMALL = {
    **SMALL_ORDERING,
    "epochs": 14,
    "seed": 3,
    "snapshot_every": 4,
}
BURSTS = {  # within a short run
    "hessian": {"every": 12, "burst": 3},
    "adam_dynamics": {"every": 10, "burst": 2},
}


def ordering(measures="full", seed: int = 3, **changes):
    """The problem of a short run of the paper, with short bursts."""
    paper = load(PROJECT / "experiments" / "ordering.py")
    bursts = BURSTS if measures == "full" else {n: BURSTS[n] for n in measures if n in BURSTS}
    config = {**SMALL, "measures": measures, "measure_options": bursts, "seed": seed, **changes}
    return paper.problem_of(paper.full_config(config))


def train(problems, compiled: bool = False, **options):
    return train_with(problems, compiled=compiled, **options)


def with_compute(problem, compute):
    """The problem whose only measure is computed by another function."""
    (measure,) = problem.measures.measures
    changed = replace(measure, compute=lambda state, **options: compute(state))
    return replace(problem, measures=replace(problem.measures, measures=(changed,)))


def seen_by(compute, name: str = "norms", **changes) -> list:
    """What `compute` makes of the state of a run with one measure, each time that it is taken."""
    results = []
    made = ordering([name], **changes)
    list(train([with_compute(made, lambda state: results.append(compute(state)) or {})]))
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
    assert taken == {*GROUPS["full"]} - {"gradient_projection"}  # no reference here


def test_in_a_batch_every_replica_is_measured_as_alone(measured):
    together = list(train([ordering(seed=seed) for seed in (3, 4)]))
    for replica, events in enumerate((measured, train([ordering(seed=4)]))):
        alone, batched = values(events), values(e for e in together if e.replica == replica)
        assert [step for step, *_ in batched] == [step for step, *_ in alone]
        for (_, a, points), (_, b, others) in zip(batched, alone, strict=True):
            assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
            assert [step for step, _ in points] == [step for step, _ in others]


def found_by(name: str, events) -> list:
    """Steps and metrics of one measure."""
    found = [
        (e.step, {k: v for k, v in e.metrics.items() if k.startswith(f"{name}/")})
        for e in events
        if isinstance(e, Record)
    ]
    return [(step, metrics) for step, metrics in found if metrics]


OF_AN_INTERVAL = [
    measure.name
    for measure in MEASURES
    if not (measure.reads_past or measure.when == BURST or "reference" in measure.needs)
]
FEW_DRAWS = {"learning_coefficient": {"draws": 2, "burn_in": 1, "chains": 1}}


@pytest.mark.parametrize("name", OF_AN_INTERVAL)
def test_a_measure_finds_the_same_whether_or_not_other_steps_are_recorded(name):
    """`path_length` reads every step. Beside it those between two measurements are recorded, and alone
    they are not: no measure may read of them unless it says so. The same holds after a resume, also
    from a checkpoint of an older version, which recorded all steps."""
    options = {name: {"every": 2, **FEW_DRAWS.get(name, {})}}
    changes = {"measure_options": options, "dropout": 0.0}
    recorded = replace(ordering([name, "path_length"], **changes), checkpoint_every=8)
    alone = replace(ordering([name], **changes), checkpoint_every=8)
    all_steps, few_steps = list(train([recorded])), list(train([alone]))
    found = found_by(name, all_steps)
    assert [step for step, _ in found] == [*range(6, 43, 6)]  # of 14 epochs of 3 steps
    assert found_by(name, few_steps) == found
    for events in (all_steps, few_steps):
        saved = next(event for event in events if isinstance(event, Saved))
        assert found_by(name, train([alone], resume={0: saved})) == found[1:]


def test_steps_between_two_measurements_are_not_recorded(monkeypatch):
    """A record costs as much as the step of a small network."""
    recorded = []
    after_step = MeasurementState.after_step

    def recording(state, program, slot):
        recorded.append(program.steps[slot])
        after_step(state, program, slot)

    monkeypatch.setattr(MeasurementState, "after_step", recording)
    list(train([ordering(["counterfactual"], measure_options={"counterfactual": {"every": 7}})]))
    assert recorded == [19, 20, 21, 40, 41, 42]  # of the epochs 7 and 14


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


def test_training_metrics_are_those_of_the_run(measured):
    rows = [metrics for _, metrics, _ in values(measured)[1:]]
    for metrics in rows:
        assert metrics["training_metrics/loss"] == metrics["train_loss"]
        assert metrics["training_metrics/training_accuracy"] == metrics["train_accuracy"]
        assert metrics["training_metrics/validation_accuracy"] == metrics["test_accuracy"]
        perplexity = math.exp(metrics["train_loss"])
        assert metrics["training_metrics/perplexity"] == pytest.approx(perplexity)
    last = 1e-3 * (5e-4 + (1 - 5e-4) * (1 + math.cos(math.pi * 42 / 42)) / 2)  # of 42 steps
    assert 0 < rows[-1]["training_metrics/learning_rate"] - last < 1e-4


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

    with pytest.raises(RuntimeError, match="broken"):
        list(train([with_compute(made, fails)]))
    program, before = states[0]
    assert all((program.saved(0)[name] == value).all() for name, value in before.items())


def test_windows_survive_a_resume(measured):
    made = replace(ordering(), checkpoint_every=17)
    for saved in (e for e in measured if isinstance(e, Saved)):
        rest = train([made], resume={0: saved})
        after = [e for e in values(measured) if e[0] > saved.step]
        assert json.dumps(values(rest)) == json.dumps(after)


def batch_dynamics_states(snapshot_every: int, **options) -> list:
    """Options, and states with the batch gradients so far, where `batch_dynamics` is taken."""
    made = ordering(
        ["batch_dynamics"],
        measure_options={"batch_dynamics": options},
        snapshot_every=snapshot_every,
    )
    gradients, states = [], []
    true = MeasurementState.after_step

    def after_step(state, program, slot):
        true(state, program, slot)
        gradients.append(state.flat(state.gradient).clone())

    (measure,) = made.measures.measures

    def spy(state, **values):
        found = measure.compute(state, **values)
        kept = len(state.history.batch_gradients), len(state.history.batch_products)
        states.append((found, torch.stack(gradients), len(state.history.step_rows), kept))
        return found

    changed = replace(made.measures, measures=(replace(measure, compute=spy),))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MeasurementState, "after_step", after_step)
        list(train([replace(made, measures=changed)]))
    return states


@pytest.mark.parametrize(("snapshot_every", "reach"), [(1, 7), (4, 7), (4, 2), (7, 30)])
def test_batch_dynamics_keeps_no_more_gradients_than_it_compares(snapshot_every, reach):
    """It kept twice as many, 3 GB at p = 9973, and copied them; its values are those of all gradients."""
    options = {"lags": [1, reach], "windows": [2, reach]}
    states = batch_dynamics_states(snapshot_every, **options)
    assert len(states) == 14 // snapshot_every
    for found, gradients, steps, (kept, products) in states:
        assert kept == min(len(gradients), reach) and products <= 2 * reach
        lengths = gradients.norm(dim=1)
        for lag in options["lags"]:
            ends = range(max(lag, len(gradients) - min(steps, reach)), len(gradients))
            cosines = [torch.cosine_similarity(gradients[i], gradients[i - lag], 0) for i in ends]
            expected = pytest.approx(float(sum(cosines) / max(len(cosines), 1)), abs=1e-5)
            assert found.get(f"lag_{lag}", 0.0) == expected
        for width in (2, reach) if len(gradients) >= reach else ():
            together = float(gradients[-width:].sum(0).norm() / lengths[-width:].sum())
            assert found[f"efficiency_{width}"] == pytest.approx(together, abs=1e-5)
        energies = torch.linalg.svdvals(gradients[-reach:].double()) ** 2
        largest = float(energies[0] / energies.sum())
        assert found["top1_variance"] == pytest.approx(largest, abs=1e-5)


def test_a_checkpoint_that_has_gradients_without_their_products_is_read():
    """Older versions kept the gradients alone, twice as many."""
    made = replace(ordering(["batch_dynamics"], measure_options=None), checkpoint_every=17)
    events = list(train([made]))
    saved = next(e for e in events if isinstance(e, Saved))
    history = History({}, {}, torch.zeros(0), (0, {}))
    history.restore(below(saved.tensors, HISTORY))
    assert len(history.batch_products) == saved.step == 17
    history.batch_products = None
    old = {HISTORY + name: tensor for name, tensor in history.saved().items()}
    tensors = {**{n: t for n, t in saved.tensors.items() if not n.startswith(HISTORY)}, **old}
    resumed = values(train([made], resume={0: replace(saved, tensors=tensors)}))
    after = [e for e in values(events) if e[0] > saved.step]
    assert len(resumed) == len(after) == 9
    for (_, found, _), (_, expected, _) in zip(resumed, after, strict=True):
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_checkpoint_keeps_parameters_that_are_scalars():
    """An own model may have one, as a learned temperature. It came back as a number, on which every
    instrument failed that reads the weights or the gradient of earlier steps."""
    scalar = {"scale": torch.tensor(2.0), "weight": torch.ones(3)}
    numbers = (8, {"norms/total": 0.5})
    history = History(
        scalar,
        scalar,
        torch.zeros(4),
        (7, scalar),
        path_length=1.5,
        recent_weights=[scalar],
        last_step=(8, scalar, 0.1),
        burst_metrics=[numbers],
    )
    restored = History({}, {}, torch.zeros(4), (0, {}))
    restored.restore(history.saved())
    step, gradient, lr = restored.last_step
    kept = [
        restored.initial_weights,
        *restored.recent_weights,
        gradient,
        restored.interval_start[1],
    ]
    for tensors in kept:
        assert {k: v.tolist() for k, v in tensors.items()} == {"scale": 2.0, "weight": [1, 1, 1]}
    assert (step, lr, restored.path_length, restored.burst_metrics) == (8, 0.1, 1.5, [numbers])
    assert all(isinstance(one, int | float) for one in (step, lr, restored.path_length))


def test_a_run_knows_the_memory_of_its_windows():
    """What is needed was not known before it was full."""
    options = {"batch_dynamics": {"lags": [1], "windows": [9]}}
    measures = ["batch_dynamics", "norms", "variance", "subspace_gradient_info"]
    problem = ordering(measures, measure_options=options)
    weights = [w for name, w in problem.module.named_parameters() if "bias" not in name]
    size = sum(4 * weight.numel() for weight in weights) / 1e9
    needed = gigabytes_needed(problem)
    assert needed == {"batch_dynamics": 9 * size, "subspace_gradient_info": 3 * 15 * size}
    assert gigabytes_needed(ordering(["norms"], measure_options=None)) == {}


def test_fourier_remembers_what_was_ever_significant(measured):
    rows = [metrics for _, metrics, _ in values(measured)[1:]]
    new = [row["fourier/newly_acquired_freqs"] for row in rows]
    tracked = [row["fourier/n_tracked_freqs"] for row in rows]
    assert tracked == [sum(new[: i + 1]) for i in range(len(new))]


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"hessian": {"evry": 3}}, "measure_options.hessian.evry=3: .*did you mean every"),
        ({"hesian": {"every": 3}}, "unknown instrument of this run hesian; did you mean hessian"),
        ({"norms": {"every": 3}}, "unknown instrument of this run norms"),
        ({"hessian": {"every": 0}}, "every=0: expected a whole number of at least 1"),
        ({"hessian": {"every": 1.5}}, "every=1.5: expected a whole number of at least 1"),
        ({"hessian": {"per_parameter": 1}}, "per_parameter=1: expected True or False"),
        ({"batch_dynamics": {"lags": 3}}, "lags=3: expected a list of whole numbers"),
        ({"batch_dynamics": {"lags": []}}, "lags=.*: expected a list of whole numbers"),
        ({"fourier": {"significance": "x"}}, "significance='x': expected a number of at least 0"),
    ],
)
def test_a_wrong_option_is_one_clear_line(options, line):
    with pytest.raises(UserError, match=line):
        ordering(["hessian", "batch_dynamics", "fourier"], measure_options=options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("learning_coefficient.step_size", 0),
        ("description_length.tolerance", 0.0),
        ("token_gradient.threshold", 0),
        ("batch_dynamics.windows", [1, 5]),
    ],
)
def test_a_number_with_which_nothing_is_measured_is_refused(option, value):
    """Chains that do not move, descriptions that are never near enough, a sparsity that is always 0, a
    sum of one gradient: the metrics were the same whatever the network."""
    name, key = option.split(".")
    with pytest.raises(UserError, match=f"{option}=.*: expected .* (above 0|at least 2)"):
        ordering([name], measure_options={name: {key: value}}, dropout=0.0)


def test_a_snapshot_option_of_none_is_snapshot_every():
    """It is the default that `grok measures attention` shows, and was refused."""
    made = ordering(["attention"], measure_options={"attention": {"every": None}})
    assert [measure.every for measure in made.measures.measures] == [SMALL["snapshot_every"]]


def test_the_variance_between_inputs_needs_two():
    """Of one row it was NaN."""
    with pytest.raises(UserError, match=r"attention.rows=1: expected a whole number of at least 2"):
        ordering(["attention"], measure_options={"attention": {"rows": 1}})


def test_names_may_have_spaces_after_their_commas():
    """The error was "did you mean fourier?", which is what had been written."""
    assert ordering("norms, fourier", measure_options=None).measures.names == ("norms", "fourier")


def test_options_without_measures_are_one_clear_line():
    """The line ended in "there are: " and nothing."""
    with pytest.raises(UserError, match=r"measure_options=.*: expected None without measures"):
        ordering([], measure_options={"hessian": {"every": 5}})


def test_options_change_what_is_logged():
    """Windows, lags, periods, K and thresholds reach the formulas that they are options of."""
    problem = ordering(
        "full",
        snapshot_every=1,
        measure_options={
            **BURSTS,
            "batch_dynamics": {"lags": [3], "windows": [2, 7], "every": 2},
            "weight_tracking": {"every": 5},
            "counterfactual": {"k": 1},
            "counterfactual_validator": {"k": 2, "every": 7},
            "phases": {"accuracies": [0.0, 0.0, 2.0]},
            "fourier": {"significance": 0.0, "per_frequency": True},
            "norms": {"every": 14},
        },
    )
    rows = {step // 3: m for step, m, _ in values(train([problem])) if step}
    keys = {key for metrics in rows.values() for key in metrics}
    logged = {key: [interval for interval, m in rows.items() if key in m] for key in keys}
    assert logged["weight_tracking/max_top_sv"] == [5, 10]
    assert logged["norms/total_norm"] == [14]
    assert logged["batch_dynamics/lag_3"] == [2, 4, 6, 8, 10, 12, 14]
    assert logged["batch_dynamics/efficiency_7"] == [4, 6, 8, 10, 12, 14]  # of steps
    assert "batch_dynamics/lag_1" not in logged and "batch_dynamics/efficiency_5" not in logged
    assert logged["counterfactual_validator/kp1_content_norm"] == [7, 14]
    assert "counterfactual/null_ordering_fraction" not in logged  # it needs two shuffles
    assert {m["phases/phase_code"] for m in rows.values()} == {2}
    assert rows[1]["fourier/newly_acquired_freqs"] == 5  # every frequency is above zero
    powers = [rows[9][f"fourier/freq_power/{k}"] for k in range(1, 6)]
    assert max(powers) == rows[9]["fourier/peak_power"]


def test_windows_are_as_long_as_their_options():
    def kept(state):
        return len(state.history.mean_gradients)

    counts = seen_by(kept, "variance", measure_options={"variance": {"window": 4}})
    assert counts == [1, 2, 3, *[4] * 11]


def test_metrics_of_parameters_are_those_of_their_parts():
    """The squared norms of the parts add up to that of the whole, as the parts are all of it."""
    options = {"hessian": {"every": 12, "burst": 1, "per_parameter": True}}
    events = list(train([ordering(["hessian"], measure_options=options)]))
    points = [point for *_, burst in values(events) for _, point in burst]
    assert points
    for point in points:
        for metric in ("entanglement_norm", "content_norm", "observed_grad_norm"):
            parts = [v for k, v in point.items() if k.startswith(f"hessian/{metric}/")]
            assert len(parts) > 5
            whole = point[f"hessian/{metric}"]
            assert sum(part**2 for part in parts) ** 0.5 == pytest.approx(whole, rel=1e-4)


def test_the_counterfactual_of_a_parameter_is_that_of_its_gradient():
    """Also that of the energies toward a reference, over the last two components."""
    kept = []

    def spy(state):
        options = {"k": 3, "energy_window": 2, "per_parameter": True}
        result = BY_NAME["counterfactual"].compute(state, **options)
        content, ordering = decomposition.split(
            state.mean_gradients(1)[0], state.shuffled(3).mean(0)
        )
        kept.append((content, ordering, state.to_reference(state.history.weights_before)))
        name = "blocks.0.up.weight"
        observed, *shuffled = (
            state.without_biases(state.mean_gradient())[name].flatten(),
            *(gradient[state.parts()[name]] for gradient in state.shuffled(3)),
        )
        mean = sum(shuffled) / 3
        cos = float(torch.cosine_similarity(observed, mean, 0))
        ours = {k.split("/")[0]: v for k, v in result.items() if k.endswith("blocks/0/up/weight")}
        assert ours["ordering_alignment"] == pytest.approx(cos, abs=1e-5)
        assert ours["ordering_fraction"] == pytest.approx(1 - cos**2, abs=1e-5)
        norm = float(observed.norm())
        assert ours["content_component_norm"] == pytest.approx(abs(cos) * norm, rel=1e-4)
        assert ours["ordering_component_norm"] == pytest.approx(
            (1 - cos**2) ** 0.5 * norm, rel=1e-3
        )
        for number, part in enumerate(("content", "ordering")):
            vectors = torch.stack([one[number] for one in kept[-2:]]).double()
            _, sizes, rows = torch.linalg.svd(vectors, full_matrices=False)
            direction = kept[-1][2].double()
            squares = (rows @ (direction / direction.norm())) ** 2
            expected = float((sizes**2 * squares).sum() / (sizes**2).sum())
            value = result[f"{part}_energy_fraction_toward_solution"]
            assert value == pytest.approx(expected, rel=1e-3, abs=1e-9)
        return result

    made = with_compute(ordering(["counterfactual"]), spy)
    parameters = dict(made.module.named_parameters())
    reference = {name: torch.ones_like(value) for name, value in parameters.items()}
    list(train([replace(made, measures=replace(made.measures, reference=reference))]))
    assert len(kept) == 3  # snapshots at every fourth of 14 epochs


@pytest.mark.parametrize(
    ("changes", "late"),
    [
        ({}, ["subspace_gradient_info (from evaluation 20)", "hessian (from step 1,000)"]),
        ({"snapshot_every": 14}, ["hessian (from step 1,000)"]),
    ],
)
def test_a_run_says_what_it_is_too_short_for(changes, late, capsys):
    """14 evaluations, 42 steps: neither a burst at step 1000 nor a snapshot at evaluation 20."""
    measures = ["norms", "subspace_gradient_info", "hessian"]
    advice._warn_once.cache_clear()
    changes = {"snapshot_every": 20, **changes}
    ordering(measures, measure_options=None, **changes)
    line = capsys.readouterr().err
    assert line.startswith(
        f"warning: 42 steps are too few for {', '.join(late)}; measure_options.INSTRUMENT changes"
    )


def test_metrics_that_a_run_cannot_reach_are_said():
    """Those that begin after the last snapshot, at evaluation 12 and step 36, were not; and to set
    `every` was advised, which does not help."""
    options = {"batch_dynamics": {"lags": [35, 36], "windows": [36, 42]}}
    problem = ordering(["batch_dynamics", "phases"], measure_options=options)
    assert too_late(problem) == [
        "batch_dynamics/lag_36 (from step 37, last at 36)",
        "batch_dynamics/efficiency_42 (from step 42, last at 36)",
    ]
    logged = {key for e in train([problem]) if isinstance(e, Record) for key in e.metrics}
    assert {"batch_dynamics/lag_35", "batch_dynamics/efficiency_36"} <= logged
    assert logged.isdisjoint({"batch_dynamics/lag_36", "batch_dynamics/efficiency_42"})
    assert too_late(ordering(["phases"], measure_options=None, snapshot_every=6)) == [
        "phases/grad_acceleration (from evaluation 18)"
    ]


def test_a_burst_that_the_end_cuts_off_is_announced():
    """Metrics of two steps one after the other, such as the entanglement's coherence, would be missing
    without a word. The run has 42 steps."""
    for every, announced in ((32, []), (33, ["a whole burst of hessian (from step 33 to 43)"])):
        problem = ordering(["hessian"], measure_options={"hessian": {"every": every, "burst": 11}})
        assert too_late(problem) == announced


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


def test_a_network_with_tokens_that_is_no_transformer_is_refused():
    """Spectra need to know which tokens are numbers: an LSTM's ended in an AttributeError."""
    paper = load(PROJECT / "experiments" / "omnigrok.py")
    with pytest.raises(UserError, match="fourier needs a table of token vectors"):
        paper.problem_of(paper.full_config({"measures": ["fourier"], "seed": 0}, ["sequences"]))


def test_a_group_takes_what_fits():
    paper = load(PROJECT / "experiments" / "liu_toy.py")
    made = paper.problem_of(paper.full_config({"measures": "full", "seed": 0}))
    assert {*made.measures.names} == {*GROUPS["full"]} - {
        "margins",
        "addition_circuits",
        "fourier",
        "attention",
        "token_gradient",
        "phases",
        "gradient_projection",
        "counterfactual",
        "counterfactual_validator",
    }
