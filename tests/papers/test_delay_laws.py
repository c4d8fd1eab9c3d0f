"""Laws of the delay of 2026: the bench's network, its symmetry, and the claims."""

import numpy as np
import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.engine.events import Record
from grok.engine.train import train
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT

SMALL = {
    "p": 11,
    "embedding_width": 8,
    "width": 16,
    "seed": 1,
    "train_steps": 40,
    "dtype": "float64",
}


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "delay_laws.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({**SMALL, **updates}))


def test_network_is_a_relu_of_a_sum_and_homogeneous(paper):
    module = paper.Sums(5, 4, 6, 0.5)
    E, W1, W2 = module.parameters()
    found = module(torch.tensor([[1, 3]]))[0]
    torch.testing.assert_close(found, torch.relu((E[1] + E[3]) @ W1) @ W2)
    with torch.no_grad():
        for weights in module.parameters():
            weights.mul_(1.2)
    torch.testing.assert_close(module(torch.tensor([[1, 3]]))[0], 1.2**3 * found)


def test_no_test_pair_is_a_train_pair_in_the_other_order(paper):
    data = problem(paper).data
    rows = {tuple(sorted(pair)) for pair in data["train_pairs"].tolist()}
    assert len(rows) == len(data["train_pairs"]) == int(0.6 * 66)
    assert rows.isdisjoint(tuple(sorted(pair)) for pair in data["test_pairs"].tolist())
    assert len(rows) + len(data["test_pairs"]) == 11 * 12 // 2


def test_norm_learning_rate_and_temperature_have_a_symmetry(paper):
    """(c W, c lr, decay / c, c^3 tau) is the run of (W, lr, decay, tau): with a held norm, the norm and
    the temperature are one variable. So is no other pair: the control changes the norm alone."""

    def losses(c, temperature):
        one = problem(
            paper,
            fixed_norm=7.0 * c,
            init_scale=c,
            lr=5e-3 * c,
            weight_decay=1 / c,
            temperature=temperature,
        )
        events = train([one], compiled=False)
        return [event.metrics["train_loss"] for event in events if isinstance(event, Record)]

    plain = losses(1.0, 1.0)
    assert losses(1.2, 1.2**3) == pytest.approx(plain, rel=1e-6)
    assert losses(1.2, 1.0)[-1] != pytest.approx(plain[-1], rel=1e-2)


def test_layer_product_is_of_the_norms_and_the_temperature(paper):
    one = problem(paper, temperature=2.0)
    norms = [float(weights.detach().norm()) for weights in one.module.parameters()]
    assert float(one.metrics(one.module, one.data)["layer_product"]) == pytest.approx(
        np.prod(norms) / 2
    )


def test_evaluations_are_denser_while_networks_memorize(paper):
    assert problem(paper, train_steps=600).log_steps[48:54] == [480, 490, 500, 525, 550, 575]


SETTINGS = {"p": 53, "lr": 0.005, "weight_decay": 1.0, "fixed_norm": False, "temperature": None}


def run(paper, name, steps, memorized=100, norm=None, loss=2.0, **config):
    """A run that generalizes at a step, on a grid of 5 steps; `norm` is its norm at each of them."""
    ratio = paper.NORM if norm is None else norm
    ends = [0, 10, memorized, steps, steps + 5]
    series = {
        "train_accuracy": (ends, [0.0, 0.5, 1.0, 1.0, 1.0]),
        "test_accuracy": (ends, [0.0, 0.0, 0.0, 0.95, 0.95]),
        "train_loss": (ends, [4.0, loss, 0.1, 0.1, 0.1]),
        "weight_norm": (ends, list(np.broadcast_to(ratio, 5))),
        "layer_product": (ends, [1.0] * 5),
    }
    return claim_run(name, series=series, **{**SETTINGS, **config})


@pytest.mark.parametrize(("weak", "passed"), [(50.0, True), (49.9, False)])
def test_norm_must_fall_with_decay(paper, weak, passed):
    runs = run(paper, "decay_0_25", 3000, norm=weak), run(paper, "decay_4", 400, norm=40.0)
    assert finding(paper, "D2", *runs).passed is passed


@pytest.mark.parametrize(("alpha", "passed"), [(7.5, True), (8.6, False), (6.4, False)])
def test_exponent_is_that_of_the_paper_within_one(paper, alpha, passed):
    runs = [
        run(
            paper,
            f"norm_{paper.name_of(ratio)}",
            round(1000 * np.exp(alpha * (ratio - 1)), 1),
            fixed_norm=ratio * paper.NORM,
        )
        for ratio in (0.9, 1.0, 1.1, 1.2)
    ]
    assert finding(paper, "D4", *runs).passed is passed
    assert finding(paper, "D3", *runs).passed


@pytest.mark.parametrize(("restored", "passed"), [(1000, True), (1375, True), (1400, False)])
def test_temperature_must_recover_85_percent(paper, restored, passed):
    names = {"norm_1": 1000, "norm_1_15": 3500, "norm_1_15_temperature_1_521": restored}
    runs = [run(paper, name, steps) for name, steps in names.items()]
    assert finding(paper, "D8", *runs).passed is passed


@pytest.mark.parametrize(("divided", "passed"), [(1250, True), (1200, False), (1850, False)])
def test_squared_error_must_not_see_the_temperature(paper, divided, passed):
    runs = run(paper, "squared_1_15", 1500), run(paper, "squared_1_15_temperature_1_7", divided)
    assert finding(paper, "D10", *runs).passed is passed


@pytest.mark.parametrize(
    ("loss", "steps", "passed"), [(2.0, 1050, True), (2.0, 1055, False), (2.00001, 1000, False)]
)
def test_rescaled_run_must_be_the_same(paper, loss, steps, passed):
    other = run(paper, "rescaled", steps, norm=1.2 * paper.NORM, loss=loss)
    assert finding(paper, "D11", run(paper, "norm_1", 1000), other).passed is passed


@pytest.mark.parametrize(("frozen", "passed"), [(12_100, True), (12_000, False)])
def test_freezing_must_delay_both_beyond_fifteen_times(paper, frozen, passed):
    names = {"cpu": 800, "large": 800, "frozen": 13_000, "large_frozen": frozen}
    runs = [run(paper, name, steps) for name, steps in names.items()]
    assert finding(paper, "D14", *runs).passed is passed


@pytest.mark.parametrize(("decay", "passed"), [(-1.0, True), (-0.75, False)])
def test_delay_must_be_inverse_to_decay(paper, decay, passed):
    settings = {
        "decay_0_25": (0.25, 0.005),
        "decay_0_5": (0.5, 0.005),
        "cpu": (1.0, 0.005),
        "decay_2": (2.0, 0.005),
        "lr_0_0025": (1.0, 0.0025),
        "lr_0_01": (1.0, 0.01),
    }
    runs = [
        run(paper, name, 100 + 5 * d**decay / lr, weight_decay=d, lr=lr)
        for name, (d, lr) in settings.items()
    ]
    assert finding(paper, "D12", *runs).passed is passed
