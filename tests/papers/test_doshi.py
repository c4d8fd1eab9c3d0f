"""Gromov 2023 and Doshi et al. 2024: the network's formula, its closed form, pruning, claims."""

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.engine.events import Record
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load_module
from grok.measures import periodicity
from grok.theory import modular
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def doshi():
    return load_module(PROJECT / "experiments" / "doshi.py")


def problem(doshi, *named_configs, **updates):
    config = doshi.ex.full_config({"seed": 0, "device": "cpu", **updates}, named_configs)
    return doshi.ex.problem_of(config)


@pytest.mark.parametrize(("init", "factor"), [("gromov", 1 / (3 * 5 * 4)), ("doshi", 1.0)])
def test_outputs_are_a_power_of_the_summed_vectors(doshi, init, factor):
    """f(n) = factor W (U_1[n_1] + U_2[n_2] + U_3[n_3])^3, entry by entry."""
    torch.manual_seed(0)
    model = doshi.PowerMLP(5, 4, 3, init).double()
    numbers = torch.tensor([[0, 3, 1], [4, 4, 2]])
    outputs = model(numbers)
    for row, ns in zip(outputs, numbers.tolist(), strict=True):
        for q in range(5):
            preactivations = sum(model.inputs[s, n] for s, n in enumerate(ns))
            expected = factor * sum(model.outputs[q, k] * preactivations[k] ** 3 for k in range(4))
            assert row[q].item() == pytest.approx(expected.item(), rel=1e-5)


def test_initial_weights_have_the_papers_deviations(doshi):
    torch.manual_seed(0)
    assert doshi.PowerMLP(97, 500, 2, "gromov").inputs.std().item() == pytest.approx(1, rel=0.02)
    for weights in doshi.PowerMLP(97, 500, 2, "doshi").parameters():
        assert weights.std().item() == pytest.approx(0.05, rel=0.02)  # 0.5 / 1000^(1/3)


def test_products_need_a_prime(doshi):
    """Modulo 12 there is no discrete logarithm; it was a traceback of the closed form."""
    with pytest.raises(UserError, match="p=12: expected a prime number with operation=x_times_y"):
        problem(doshi, operation="x_times_y", p=12)


@pytest.mark.parametrize(("p", "terms", "most"), [(997, 5, 2), (23, 6, 5)])
def test_a_table_of_too_many_rows_is_refused(doshi, p, terms, most):
    """997^5 rows of five numbers are 40 million GB: torch's traceback, or a killed process."""
    expected = f"terms={terms}: expected at most {most} with p={p}"
    with pytest.raises(UserError, match=expected):
        problem(doshi, p=p, terms=terms)


def test_initial_loss_is_that_of_the_zero_function(doshi):
    """Squared error to one-hot labels is averaged over the p outputs: 1 / p for outputs of zero."""
    start = problem(doshi, "cpu", init="gromov")
    loss = start.loss(start.module, start.data).item()
    assert loss == pytest.approx(1 / 97, rel=0.01)


@pytest.mark.parametrize(
    ("operation", "p"), [("x_plus_y", 23), ("x_times_y", 23)], ids=["addition", "multiplication"]
)
def test_weights_in_closed_form_are_periodic_and_right(doshi, operation, p):
    """The ratio is 1 for cosines in the right order of the numbers, for products their logarithm.

    Neuron 0 of a product stands for the number 0 alone, and has no power in that order.
    """
    analytic = problem(doshi, "analytic", operation=operation, p=p, width=301, widths=[])
    *_, last = (e for e in train([analytic], compiled=False) if isinstance(e, Record))
    assert last.metrics["test_accuracy"] == 1
    assert (last.arrays["neuron_ipr"][1:] > 0.99).all()
    assert (last.metrics["raw_ipr"] > 0.99) == (operation == "x_plus_y")


def test_closed_form_of_addition_is_no_lookup_and_has_no_phase_gap(doshi):
    """No two rows of the table of a + b are equal, so no test row can be looked up."""
    config = doshi.ex.full_config({"seed": 0, "p": 23})
    c = doshi.Config(**config)
    table = doshi.parts.operation_table(c)
    inputs, outputs = map(torch.from_numpy, modular.network(23, 200, 2, False, 0))
    weights = {"inputs": inputs, "outputs": outputs}
    measures = doshi.final_measures(weights, table, doshi.parts.split_operation_table(c, table))
    assert measures["phase_gap"] < 1e-9
    assert measures["lookup_bound"] == 0
    assert measures["lookup_excess"] == measures["uncovered_accuracy"] == 1


def test_pruning_tells_corrupted_from_clean_rows(doshi):
    """Of 200 periodic neurons and 50 weak random ones, the random ones are removed first.

    A network that adds is wrong on the rows with random labels, which are the first ones.
    """
    config = doshi.ex.full_config({"seed": 0, "p": 23, "noisy_answers": 100})
    c = doshi.Config(**config)
    split = doshi.parts.split_operation_table(c, doshi.parts.operation_table(c))
    inputs, outputs = map(torch.from_numpy, modular.network(23, 200, 2, False, 0))
    generator = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(3, 23, 50, generator=generator, dtype=torch.float64)
    weights = {
        "inputs": torch.cat([inputs, noise[:2]], -1),
        "outputs": torch.cat([outputs, noise[2]], -1),
    }
    curves = doshi.pruning_curves(weights, split, torch.arange(23), 100)
    assert curves["low_clean"][:3] == curves["low_test"][:3] == [1, 1, 1]
    assert curves["low_corrupted"][0] < 0.2
    assert curves["high_test"][9] < 0.2  # only random neurons are left


@pytest.mark.parametrize("width", [7, 256])
def test_pruning_has_ten_steps_at_any_width(width):
    """The curves are logged at 0, 10, ..., 90 percent: a run of another length failed at its end."""
    inputs, outputs = torch.rand(2, 5, width), torch.rand(5, width)
    rows = {"test": (torch.tensor([[0, 1], [2, 3]]), torch.tensor([1, 0]))}
    curves = periodicity.pruning_curves(inputs, outputs, torch.arange(5), rows)
    assert {len(curve) for curve in curves.values()} == {10}


@pytest.mark.parametrize(
    ("claim", "values", "passed"),
    [
        ("08a", {"descent": {"steps_to_test": 2000, "delay_ratio": 1.15}}, True),
        ("08a", {"descent": {"steps_to_test": 2050, "delay_ratio": 1.15}}, False),
        ("08a", {"descent": {"steps_to_test": 2000, "delay_ratio": 1.14}}, False),
        ("08d", {"cpu": {"initial_ipr": 0.06, "ipr": 0.7, "phase_gap": 0.2}}, True),
        ("08d", {"cpu": {"initial_ipr": 0.06, "ipr": 0.69, "phase_gap": 0.2}}, False),
        ("08d", {"cpu": {"initial_ipr": 0.06, "ipr": 0.7, "phase_gap": 0.21}}, False),
        ("08e", {"cpu": {"steps_to_test": 100, "delay_ratio": 1.5}}, True),
        ("08e", {"cpu": {"steps_to_test": 110, "delay_ratio": 1.5}}, False),
        ("08e", {"cpu": {"steps_to_test": 100, "delay_ratio": 1.4}}, False),  # without delay
    ],
)
def test_claims_hold_up_to_their_thresholds_only(doshi, claim, values, passed):
    runs = [claim_run(name, result) for name, result in values.items()]
    assert finding(doshi, claim, *runs).passed == passed


@pytest.mark.parametrize(
    ("slow", "fast", "passed"),
    [(1.2, 1.32, True), (1.2, 1.33, False), (1.14, 1.2, False), (1.3, 1.36, False)],
)
def test_the_delay_ratio_is_the_same_at_any_learning_rate(doshi, slow, fast, passed):
    """Two ratios in one range may be 17 % apart: they are compared with each other too."""
    ratios = {"descent_slow": slow, "descent": 1.25, "descent_fast": fast}
    runs = [claim_run(name, {"delay_ratio": ratio}) for name, ratio in ratios.items()]
    assert finding(doshi, "08b", *runs).passed == passed


@pytest.mark.parametrize(("perturbed", "passed"), [(0.1, True), (0.11, False)])
def test_polynomials_that_are_not_separable_must_not_be_learned(doshi, perturbed, passed):
    accuracies = {"polynomial": 0.99, "not_separable": 0.1, "polynomial_perturbed": perturbed}
    runs = [claim_run(name, {"test_accuracy": value}) for name, value in accuracies.items()]
    outcome = finding(doshi, "08h", *runs)
    assert outcome.passed == passed
    assert outcome.measured["polynomial perturbed test accuracy"] == perturbed
