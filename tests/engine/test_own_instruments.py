"""Instruments of a user's own: they see what happened, and cannot change the run."""

from dataclasses import replace

import pytest
import torch

from grok.engine.events import Outcome, Record
from grok.engine.measure import Option
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load
from tests.conftest import PROJECT
from tests.helpers import SMALL_ORDERING

SMALL = {
    **SMALL_ORDERING,
    "epochs": 3,
    "seed": 3,
}


def paper_with(function, when="evaluation", **options):
    """The ordering paper with one more instrument."""
    paper = load(PROJECT / "experiments" / "ordering.py")
    paper.instrument("a test", when, **options)(function)
    return paper


def problem_of(paper, **changes):
    return paper.problem_of(paper.full_config({**SMALL, **changes}))


def ran(*problems) -> tuple[list[dict], list[dict]]:
    """Logged metrics and final weights of runs that are trained together."""
    events = list(train(list(problems), compiled=False))
    records = [
        values
        for e in events
        if isinstance(e, Record)
        for _, values in (*e.burst_metrics, (e.step, e.metrics))
    ]
    return records, [e.weights for e in events if isinstance(e, Outcome)]


def test_it_sees_the_step_that_was_made():
    """Its gradient, on its batch at the weights before it, and Adam's moments are of that step."""
    beta1, seen = 0.9, []

    def spy(observed):
        rows = observed.batch
        assert set(rows) == {"train_prefix_index", "train_suffixes", "train_labels"}
        assert all(len(value) == 20 for value in rows.values())
        seen.append((observed.weights, observed.gradient, observed.optimizer, rows))
        return {"step": observed.step, "lr": observed.lr}

    problem = problem_of(
        paper_with(spy, "burst"),
        measures="spy",
        dropout=0.0,
        measure_options={"spy": {"every": 4, "burst": 2}},
    )
    records, _ = ran(problem)
    assert [m["spy/step"] for m in records if "spy/step" in m] == [4, 5, 8, 9]
    (before, _, moments, _), (_, gradient, after, rows) = seen[:2]
    module, data = problem.module, {**problem.data, **rows}
    module.load_state_dict(before, strict=False)
    expected = torch.autograd.grad(problem.loss(module, data), list(module.parameters()))
    for (name, _), value in zip(module.named_parameters(), expected, strict=True):
        torch.testing.assert_close(gradient[name], value, rtol=1e-4, atol=1e-6)
        mean = beta1 * moments["mean"][name] + (1 - beta1) * gradient[name]
        torch.testing.assert_close(after["mean"][name], mean, rtol=1e-4, atol=1e-7)


def destroys(observed):
    """Writes into everything that it sees, and draws random numbers."""
    torch.manual_seed(0)
    torch.rand(7)
    kinds = [observed.weights, observed.gradient, observed.mean_gradient, observed.batch]
    for tensors in (*kinds, *observed.optimizer.values()):
        for value in tensors.values():
            value.zero_()
        tensors.clear()
    observed.metrics["test_accuracy"] = 1.0
    return {"one": 1.0}


@pytest.mark.parametrize("when", ["evaluation", "snapshot", "burst"])
def test_one_that_writes_into_what_it_sees_changes_nothing(when):
    """Neither the weights, bit for bit, nor another instrument that is computed after it."""
    others = {"measures": ["norms", "adam_dynamics", "path_length"]}
    bursts = {"adam_dynamics": {"every": 2, "burst": 2}}
    plain, (weights,) = ran(
        problem_of(load(PROJECT / "experiments" / "ordering.py"), **others, measure_options=bursts)
    )
    own = {"every": 1}
    paper = paper_with(destroys, when)
    spoiled, (again,) = ran(
        problem_of(
            paper,
            measures=[*others["measures"], "destroys"],
            measure_options={**bursts, "destroys": own},
        )
    )
    assert sum(metrics.pop("destroys/one", 0) for metrics in spoiled) >= 3
    assert [m for m in spoiled if m] == plain
    assert all((again[name] == value).all() for name, value in weights.items())


def test_in_a_batch_every_replica_has_its_own_values():
    def first_weight(observed):
        return {"is": observed.weights["tokens"][0, 0]}

    paper = paper_with(first_weight)
    problems = [problem_of(paper, measures="first_weight", seed=seed) for seed in (1, 2)]
    together = [m["first_weight/is"] for m in ran(*problems)[0] if "first_weight/is" in m]
    alone = [ran(problem)[0][-1]["first_weight/is"] for problem in problems]
    assert together[-2:] == pytest.approx(alone, rel=1e-4)
    assert alone[0] != alone[1]


def test_in_a_burst_it_sees_no_metrics():
    """Those of the last evaluation were seen, but not in a run that had been resumed after it."""

    def spy(observed):
        return {"metrics": len(observed.metrics)}

    options = {"spy": {"every": 2, "burst": 1}}
    for when in ("burst", "evaluation"):
        problem = problem_of(paper_with(spy, when), measures="spy", measure_options=options)
        counts = {m["spy/metrics"] for m in ran(problem)[0] if "spy/metrics" in m}
        assert counts == ({0} if when == "burst" else {5})
        options = None


def test_the_batch_of_full_batch_training_has_the_temperature_of_now():
    """It had the first one, whatever an intervention had set since."""

    def spy(observed):
        return {"is": observed.batch["temperature"]}

    paper = load(PROJECT / "experiments" / "mlp.py")
    paper.instrument("a test")(spy)
    change = {"when": 5, "set": {"temperature": 3.0}}
    config = {"p": 5, "batch_size": None, "train_steps": 20, "eval_steps": 10, "seed": 0}
    full = paper.full_config({**config, "measures": "spy", "interventions": [change]})
    problem = paper.problem_of(full)
    assert ran(problem)[0][-1]["spy/is"] == 3


def test_its_options_are_checked_and_reach_it():
    def scaled(observed, factor):
        return {"is": factor * observed.step}

    paper = paper_with(scaled, factor=Option(2.0, "what the step is multiplied by", 0))
    assert ran(problem_of(paper, measures="full"))[0][-1]["scaled/is"] == 18
    changed = {"measure_options": {"scaled": {"factor": 3, "every": 3}}}
    assert [
        m.get("scaled/is") for m in ran(problem_of(paper, measures="scaled", **changed))[0]
    ] == [
        None,
        None,
        None,
        27,
    ]
    with pytest.raises(UserError, match=r"scaled\.factor=-1: expected a number of at least 0"):
        problem_of(paper, measures="scaled", measure_options={"scaled": {"factor": -1}})


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (3.0, "instrument wrong: expected numbers by name, not 3.0"),
        ({"x": "much"}, "instrument wrong: x is 'much', not a number"),
        ({"x": torch.ones(2)}, "instrument wrong: x is tensor"),
    ],
)
def test_what_is_no_number_is_one_clear_line(result, line):
    def wrong(observed):
        return result

    with pytest.raises(UserError, match=line):
        ran(problem_of(paper_with(wrong), measures="wrong"))


def test_a_name_is_given_once():
    def norms(observed):
        return {}

    with pytest.raises(TypeError, match="there is an instrument norms already"):
        paper_with(norms)


@pytest.mark.parametrize("when", ["evaluation", "snapshot", "burst"])
def test_its_schedule_has_the_defaults_that_it_gives(when):
    """Those of a snapshot were replaced by `snapshot_every`."""

    def rare(observed):
        return {"step": observed.step}

    options = {"every": Option(4, "as said")} | (
        {"burst": Option(1, "as said")} if when == "burst" else {}
    )
    records, _ = ran(problem_of(paper_with(rare, when, **options), measures="rare", epochs=9))
    steps = [m["rare/step"] for m in records if "rare/step" in m]
    assert steps == ([4, 8, 12, 16, 20, 24] if when == "burst" else [12, 24])


@pytest.mark.parametrize("window", [Option(2.5, "a number"), Option([2, 3], "a list")])
def test_an_option_may_be_called_window(window):
    """It was taken for the number of gradients that are kept, and ended the run with a traceback."""

    def mean(observed, window):
        return {"is": window if isinstance(window, float) else sum(window) / 2}

    records, _ = ran(problem_of(paper_with(mean, window=window), measures="mean"))
    assert records[-1]["mean/is"] == 2.5


def takes_k(observed, k):
    return {"k": k}


@pytest.mark.parametrize(
    ("when", "options", "line"),
    [
        ("evalution", {"k": Option(1, "")}, "when='evalution'; expected one of evaluation, snap"),
        ("burst", {}, "differ: missing a required argument: 'k'"),
        ("burst", {"k": Option(1, ""), "n": Option(1, "")}, "differ: got an unexpected keyword"),
        ("burst", {"k": 5}, "k=5; expected an Option"),
        ("burst", {"k": Option("x", "")}, "default k='x'; expected a whole number of at least 1"),
        ("burst", {"k": Option(0, "")}, "default k=0; expected a whole number of at least 1"),
    ],
)
def test_a_wrong_declaration_is_refused_where_it_stands(when, options, line):
    """Some were found after the run had begun, others never."""
    with pytest.raises(TypeError, match=f"instrument takes_k: .*{line}"):
        paper_with(takes_k, when, **options)


def test_a_group_keeps_its_name():
    """An instrument of that name replaced the group."""

    def observers(observed):
        return {}

    with pytest.raises(TypeError, match="there is a group of instruments observers already"):
        paper_with(observers)


def test_it_survives_a_resume():
    """An own instrument keeps nothing of its own, so that a resumed run logs the same values."""

    def length(observed):
        norms = [value.norm() for value in observed.mean_gradient.values()]
        return {"total": torch.stack(norms).norm()}

    problem = replace(problem_of(paper_with(length), measures="length"), checkpoint_every=4)
    events = list(train([problem], compiled=False))
    saved = next(e for e in events if type(e).__name__ == "Saved")
    rest = [
        e.metrics
        for e in train([problem], compiled=False, resume={0: saved})
        if isinstance(e, Record)
    ]
    assert rest == [e.metrics for e in events if isinstance(e, Record) and e.step > saved.step]


def test_the_example_of_the_guide():
    """Its effective rank is that of the gradient, computed from the definition."""
    guide = (PROJECT / "docs" / "guides" / "instruments.md").read_text()
    (block,) = [b.partition("```")[0] for b in guide.split("```python\n")[1:]]
    paper, seen = load(PROJECT / "experiments" / "ordering.py"), []
    exec(block, {"ex": paper, "torch": torch})

    def spy(observed):
        seen.append(observed.gradient["tokens"].double())
        return {}

    paper.instrument("the same gradient")(spy)
    records, _ = ran(problem_of(paper, measures=["embedding_rank", "spy"]))
    ranks = [m["embedding_rank/effective_rank"] for m in records[1:]]
    for rank, gradient in zip(ranks, seen, strict=True):
        sizes = torch.linalg.eigvalsh(gradient.T @ gradient).clamp(min=0).sqrt()
        fractions = sizes[sizes > 1e-6 * sizes.max()] / sizes.sum()
        entropy = -(fractions * fractions.log()).sum()
        assert rank == pytest.approx(float(entropy.exp()), rel=1e-3)
        assert 1 < rank <= 8
