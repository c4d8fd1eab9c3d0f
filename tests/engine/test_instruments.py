"""Instruments of outputs and of complexity, in runs of papers."""

import math
from types import SimpleNamespace

import pytest
import torch

from grok.engine.addition import addition_of
from grok.engine.events import Outcome, Record
from grok.engine.instruments import BY_NAME, GROUPS
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load
from grok.measures.margins import margins
from grok.paths import experiment_file

LLC = {"learning_coefficient": {"burn_in": 5, "draws": 5}}
SMALL = {
    "minegishi": {"p": 7, "width": 8, "embedding_width": 6, "train_steps": 6, "eval_steps": 3},
    "nanda": {"p": 7, "width": 8, "heads": 2, "mlp_width": 16, "train_steps": 6, "log_points": 2},
}


def made(name: str, measures, **updates):
    paper = load(experiment_file(name))
    config = {
        "seed": 0,
        "snapshot_every": 1,
        "measures": measures,
        **SMALL.get(name, {}),
        **updates,
    }
    return paper.problem_of(paper.full_config(config))


def last_metrics(problem) -> dict[str, float]:
    return [e.metrics for e in train([problem], compiled=False) if isinstance(e, Record)][-1]


@pytest.mark.parametrize("name", SMALL)
def test_a_run_of_addition_can_take_all_of_them_and_is_not_changed(name):
    """The complexities among them are taken only when they are asked for."""
    wanted = ["margins", "addition_circuits", "learning_coefficient", "description_length"]
    problem = made(name, wanted, measure_options=LLC)
    events = list(train([problem], compiled=False))
    found = [e.metrics for e in events if isinstance(e, Record)][-1]
    for metric in ("margins/least", "learning_coefficient/llc", "description_length/bytes"):
        assert math.isfinite(found[metric])
    assert -1 <= found["addition_circuits/gradient_symmetricity"] <= 1 + 1e-6
    assert 0 <= found["addition_circuits/circularity"] <= 1
    assert not {"learning_coefficient", "description_length"} & {*GROUPS["full"]}
    plain = list(train([made(name, [])], compiled=False))
    weights = [next(e for e in es if isinstance(e, Outcome)).weights for es in (events, plain)]
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_the_description_length_decomposes_each_matrix_once(monkeypatch):
    """The singular values were computed once for the ranks to keep, and again for the entropy."""
    sizes = []
    for name in ("svd", "svdvals"):
        true = getattr(torch.linalg, name)

        def counted(matrix, true=true, **options):
            sizes.append(tuple(matrix.shape))
            return true(matrix, **options)

        monkeypatch.setattr(torch.linalg, name, counted)
    weights = {"a": torch.eye(4), "b": torch.ones(3, 2), "bias": torch.ones(2)}
    state = SimpleNamespace(weights=weights, train_loss=lambda w: (w["a"] ** 2).sum())
    found = BY_NAME["description_length"].compute(state, tolerance=1.0)
    assert sizes == [(4, 4), (3, 2)]
    assert found["entropy_rank/a"] == pytest.approx(4)
    assert found["entropy_rank/b"] == pytest.approx(1)


def test_complexities_are_of_the_loss_without_a_penalty():
    """A penalty that falls when weights are rounded hid a loss of accuracy, so that a description of a
    penalized network was too short, or made it too long. The same weights have the same description."""
    found = []
    for penalty in (0.0, 10.0):
        problem = made(
            "complexity",
            "description_length, learning_coefficient",
            measure_options=LLC,
            entropy_penalty=penalty,
            p=7,
            width=8,
            mlp_width=16,
            train_steps=1,
            lr=0.0,
        )
        found.append({k: v for k, v in last_metrics(problem).items() if "/" in k})
    assert found[0] == found[1] and "description_length/bytes" in found[0]


def test_a_network_of_the_sum_of_two_embeddings_is_symmetric():
    found = last_metrics(made("minegishi", ["addition_circuits"]))
    assert found["addition_circuits/gradient_symmetricity"] == pytest.approx(1, abs=1e-6)


def test_gradients_by_operand_are_those_of_autograd():
    """In a transformer a and b have other positions, so that their gradients differ."""
    problem = made(
        "nanda", ["addition_circuits"], measure_options={"addition_circuits": {"pairs": 3}}
    )
    states = []

    def compute(state, **options):
        states.append(state)
        return {}

    (measure,) = problem.measures.measures
    object.__setattr__(measure, "compute", compute)
    list(train([problem], compiled=False))
    state = states[-1]
    gradients = state.gradients_of_sums(3)
    generator = torch.Generator().manual_seed(0)
    a, c = (torch.randint(7, (3,), generator=generator) for _ in range(2))
    b = (a + torch.randint(1, 7, (3,), generator=generator)) % 7
    module, addition = problem.module, addition_of(problem)
    module.load_state_dict(state.weights, strict=False)
    for row, (first, second, label) in enumerate(zip(a, b, c, strict=True)):
        logits = module(addition.inputs(torch.stack([first, second]).unsqueeze(0)))[0, -1]
        (expected,) = torch.autograd.grad(logits[label], [module.tokens])
        torch.testing.assert_close(gradients[0][row], expected[first], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(gradients[1][row], expected[second], rtol=1e-4, atol=1e-6)


def test_margins_are_of_the_train_rows_at_the_temperature_of_now():
    """Half of the logits are half of the margins; a power of the norm divides the least."""
    options = {"margins": {"degree": 4.0}}
    cold, hot = (
        last_metrics(made("minegishi", "margins", measure_options=options, interventions=changes))
        for changes in ([], [{"when": 6, "set": {"temperature": 2.0}}])
    )
    assert cold["margins/least"] == hot["margins/least"]  # the change is after the evaluation
    problem = made("minegishi", "margins", measure_options=options, temperature=2.0)
    events = list(train([problem], compiled=False))
    weights = next(e for e in events if isinstance(e, Outcome)).weights
    found = [e.metrics for e in events if isinstance(e, Record)][-1]
    problem.module.load_state_dict(weights, strict=False)
    with torch.no_grad():
        logits = problem.module(problem.data["train_pairs"]) / 2
    least = float(margins(logits, problem.data["train_labels"][:, 0]).min())
    assert found["margins/least"] == pytest.approx(least, rel=1e-5)
    normalized = least / found["weight_norm"] ** 4
    assert found["margins/least_normalized"] == pytest.approx(normalized, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "measure", "updates", "need"),
    [
        ("liu_toy", "margins", {}, "predicts classes"),
        ("minegishi", "addition_circuits", {"operation": "x_minus_y", "symmetric": False}, "odd"),
        ("power", "learning_coefficient", {"p": 7, "dropout": 0.1}, "without random numbers"),
    ],
)
def test_what_a_run_cannot_have_is_refused_with_the_reason(name, measure, updates, need):
    with pytest.raises(UserError, match=need):
        made(name, [measure], **updates)


@pytest.mark.parametrize(
    ("name", "measures", "line"),
    [
        (
            "minegishi",
            "reference",
            "of the group reference, gradient_projection needs reference_run",
        ),
        (
            "minegishi",
            ["order", "reference"],
            "of the group order, counterfactual needs mini-batch",
        ),
        ("liu_toy", "outputs", "margins needs .* classes, addition_circuits needs the addition"),
    ],
)
def test_groups_of_which_the_run_can_take_none_are_refused_with_the_reasons(name, measures, line):
    """There is nothing to measure: such a run ended in a traceback."""
    with pytest.raises(UserError, match=line):
        made(name, measures)


def test_a_group_with_none_beside_one_that_fits_is_left_out():
    """A list of groups goes on with what fits."""
    problem = made("minegishi", ["reference", "path"])
    assert problem.measures.names == ("parameter_delta", "path_length")
