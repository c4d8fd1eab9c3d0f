"""Early prediction: statistics against direct counts, the key of every experiment, and the claims."""

import numpy as np
import pytest
import torch

from grok.claims import prediction
from grok.claims.testing import claim_run, finding
from grok.experiment import parts
from grok.experiment.experiment import load_module
from grok.experiment.validation import ConfigError
from grok.phases import UNDECIDED
from grok.store.status import FINISHED
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress
from tests.conftest import PROJECT
from tests.engine import toy


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "early_prediction.py")


def test_auroc_is_the_part_of_pairs_in_the_right_order():
    """Counted directly over all pairs, with ties as half."""
    generator = np.random.default_rng(1)
    for _ in range(20):
        scores = generator.integers(0, 6, 15)
        positive = generator.random(15) < 0.4
        pairs = [
            1.0 if a > b else 0.5 if a == b else 0.0
            for a in scores[positive]
            for b in scores[~positive]
        ]
        assert prediction.auroc(scores, positive) == pytest.approx(np.mean(pairs))
    assert np.isnan(prediction.auroc([1, 2], [True, True]))


def test_interval_is_of_cells_and_not_of_runs():
    """Runs that repeat their cell add nothing: the interval is that of one run of each cell."""
    scores, positive, cells = [1, 2, 3, 4, 5], [False, True, False, True, True], list("abcde")
    one = prediction.auroc_interval(scores, positive, cells)
    assert one == prediction.auroc_interval(scores * 3, positive * 3, cells * 3)
    low, high = one
    assert low < prediction.auroc(scores, positive) < high


def test_a_cell_is_predicted_from_the_others():
    """Where a feature says the opposite in one cell, that cell is predicted as the others are."""
    x = np.array([0.0, 1, 2, 3, 0, 1, 2, 3, 0, 3])
    positive = np.array([False, False, True, True] * 2 + [True, False])
    cells = ["a"] * 4 + ["b"] * 4 + ["c"] * 2
    scores = prediction.held_out_scores(x[:, None], positive, cells)
    assert scores[8] < scores[9]  # as in a and b, and wrong
    assert prediction.auroc(scores[:4], positive[:4]) == 1


def test_residual_correlation_is_without_quadratic_functions_of_others():
    a, b = np.meshgrid(np.arange(5.0), np.arange(6.0))
    a, b = a.ravel(), b.ravel()
    noise = np.random.default_rng(0).normal(size=len(a))
    other = 3 * a - b**2
    assert prediction.residual_rank_correlation(
        other + noise, 2 * b + a**2 - noise, [a, b]
    ) == pytest.approx(-1)


def test_features_read_a_run_up_to_the_step_only():
    """What comes later changes nothing, so that a prediction is one."""
    steps = list(range(0, 501, 25))
    curve = [float(np.exp(-step / 100) + 0.01 * (step % 50 == 0)) for step in steps]
    for name, feature in prediction.FEATURES.items():
        later = [value if step <= 250 else 7.0 for step, value in zip(steps, curve, strict=True)]
        first, second = (
            prediction.score(feature, {feature.metric: (steps, values)}, 250)
            for values in (curve, later)
        )
        assert np.isfinite(first), name
        assert first == second
    slope = prediction.Feature("norm", "slope", -1)
    exponential = {"norm": (steps, [float(np.exp(-step / 100)) for step in steps])}
    assert prediction.score(slope, exponential, 250) == pytest.approx(1.25)
    assert np.isnan(prediction.score(slope, {}, 250))


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ({"fixed_norm": True}, "False with a fixed norm"),
        ({"eval_steps": 1000}, "too few evaluations"),
    ],
)
def test_a_run_that_cannot_be_judged_is_refused(paper, updates, message):
    config = paper.ex.full_config({"p": 11, "seed": 0, "stop_when_hopeless": True, **updates})
    with pytest.raises(ConfigError, match=message):
        paper.ex.problem_of(config)


def test_a_run_without_accuracies_is_refused():
    with pytest.raises(ConfigError, match="train_accuracy, which this run does not have"):
        parts.with_hopeless_rule(toy.problem(0), 0.9)


def test_a_hopeless_run_of_a_sweep_is_finished_and_has_no_phase(store, tmp_path):
    """It is not trained again when the sweep is resumed, and does not count as memorization. Without
    weight decay the norm of these small networks only rises."""
    path = tmp_path / "hopeless.yaml"
    path.write_text(
        f"""
program: {PROJECT}/experiments/early_prediction.py
method: grid
command: ["${{program}}", with, p=11, width=16, embedding_width=8, eval_steps=10, train_steps=1000, lr=0.01]
parameters:
  weight_decay: {{values: [0.0, 2.0]}}
  stop_when_hopeless: {{value: true}}
  seed: {{value: 3}}
"""
    )
    sweep = LocalSweep.begin(files.read(path), store, None, None)
    with SweepProgress(0, 2) as progress:
        sweep.run(progress)
    runs = {
        run["config"]["weight_decay"]: run["result"]
        for run in store.database.runs.find({"meta.sweep.id": sweep.document["_id"], **FINISHED})
    }
    assert (runs[0.0]["ended"], runs[0.0]["steps"], runs[0.0]["phase"]) == (
        "hopeless",
        100,
        UNDECIDED,
    )
    assert runs[2.0]["ended"] != "hopeless"
    assert runs[2.0]["phase"] != UNDECIDED


def runs_of(paper, *rising: str):
    """Four runs, of which those with decay 1 grok at step 1000; the norm of those that are named rises."""
    made = []
    for decay, fraction in ((0.1, 0.4), (0.1, 0.6), (1.0, 0.4), (1.0, 0.6)):
        last, norm = (1000 if decay == 1 else 5000), 1 if f"{decay} {fraction}" in rising else -1
        steps = [0, 125, 250, 500, last]
        series = {
            "test_accuracy": (steps, [0.0, 0.0, 0.0, 0.0, float(decay == 1)]),
            "train_accuracy": (steps, [0.0, 1.0, 1.0, 1.0, 1.0]),
            "weight_norm": (steps, [20 + norm * step / 1000 for step in steps]),
        }
        config = {"weight_decay": decay, "train_fraction": fraction, "train_steps": 5000}
        made.append(claim_run("", {"steps": last}, series, **config))
    return made


@pytest.mark.parametrize(
    ("rising", "passed"),
    [
        (("0.1 0.4",), True),
        ((), False),  # nothing is saved
        (("0.1 0.4", "0.1 0.6", "1.0 0.4"), False),  # one of two that grok
    ],
)
def test_giving_up_must_save_steps_and_spare_runs_that_grok(paper, rising, passed):
    assert finding(paper, "EP6", *runs_of(paper, *rising)).passed is passed


def test_gradient_norm_is_that_of_the_train_loss(paper):
    one = paper.ex.problem_of(paper.ex.full_config({"p": 7, "seed": 1, "dtype": "float64"}))
    loss = one.loss(one.module, one.data)
    gradients = torch.autograd.grad(loss, [*one.module.parameters()])
    expected = sum(gradient.square().sum() for gradient in gradients).sqrt()
    found = one.metrics(one.module, one.data)["gradient_norm"]
    torch.testing.assert_close(found, expected)
