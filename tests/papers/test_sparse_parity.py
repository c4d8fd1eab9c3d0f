"""Merrill et al. 2023 and Barak et al. 2022: the loss, subnetworks, new inputs, and the claims."""

from itertools import product
from math import comb

import pytest
import torch
from torch import nn

from grok.claims.testing import claim_run, finding
from grok.engine.events import Outcome, Record
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT

SMALL = {
    "input_dim": 6,
    "relevant": 2,
    "train_count": 16,
    "test_count": 30,
    "width": 5,
    "batch_size": 4,
    "train_steps": 8,
    "eval_steps": 4,
    "seed": 3,
}


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "sparse_parity.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({**SMALL, **updates}))


def test_the_loss_is_the_hinge_loss_of_sums_over_units(paper):
    one = problem(paper)
    x, y, net = one.data["train_inputs"], one.data["train_targets"], one.module
    f = torch.relu(x @ net.hidden.weight.T + net.hidden.bias) @ net.output.weight[0]
    expected = torch.stack([max(1 - a * b, torch.zeros(())) for a, b in zip(y, f, strict=True)])
    torch.testing.assert_close(one.loss(net, one.data), expected.mean())
    torch.testing.assert_close(net.contributions(x).sum(1), net(x))


def exact_network(paper, spare):
    """A network that is the parity of two bits, -|x1 + x2| + 1, and small units beside it."""
    net = paper.ParityNetwork(6, 3 + spare)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net.hidden.weight[:2, 0] = net.hidden.weight[:2, 1] = torch.tensor([1.0, -1.0])
        net.hidden.weight[2, 2], net.hidden.bias[2] = 0.5, 1.0  # relu: 0.5 or 1.5
        net.output.weight[0, :3] = torch.tensor([1.0, 1.0, -1.0])
        net.hidden.weight[3:, 3] = 0.01
        net.output.weight[0, 3:] = 0.01
    return net


def test_the_size_is_the_least_number_of_large_units_that_are_as_accurate(paper):
    """|x1 + x2| - relu(x3 / 2 + 1) has the sign of x1 x2 and needs three units, whatever the rest."""
    data = problem(paper).data
    for spare in (0, 4):
        net = exact_network(paper, spare)
        size = paper.subnetwork_size(net, data["train_inputs"], data["train_targets"])
        assert float(size) == 3
        metrics = paper.ParityMetrics(2)(net, {**data, "initial_weight": net.hidden.weight})
        assert metrics["train_accuracy"] == metrics["test_accuracy"] == 1


def test_movement_is_compared_between_relevant_and_other_bits(paper):
    """Moved by 3 on the two relevant bits and by 1 on the others, the ratio is 3; at the start it is 1."""
    one = problem(paper)
    start = one.metrics(one.module, one.data)
    assert (start["movement_ratio"], start["relevant_first"]) == (1, 0)
    with torch.no_grad():
        one.module.hidden.weight += torch.tensor([3.0, -3.0, 1.0, -1.0, 1.0, 1.0])
        moved = one.metrics(one.module, one.data)
    assert float(moved["movement_ratio"]) == pytest.approx(3)
    assert moved["relevant_first"] == 1


def test_new_inputs_are_parities_and_new_at_every_step(paper):
    """The loss of a network that is the parity is the same for all inputs; of another it changes."""
    one = problem(paper, online=True)
    keys = [torch.tensor(key) for key in (1, 2)]
    losses = [float(one.loss(one.module, {**one.data, "key": key})) for key in keys]
    assert losses[0] != losses[1]
    net = exact_network(paper, 0)
    drawn = paper.random_signs(keys[0], (4, 6), torch.float32)
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    expected = paper.hinge(net(drawn), drawn[:, 0] * drawn[:, 1])
    torch.testing.assert_close(one.loss(net, {**one.data, "key": keys[0]}), expected)


def test_a_step_is_that_of_sgd_with_decay_in_the_gradient(paper):
    """torch.optim.SGD makes the same steps on the same mini-batches: here all of them at once."""
    one = problem(paper, batch_size=16)
    net = paper.ParityNetwork(6, 5)
    net.load_state_dict(one.module.state_dict())
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01)
    for _ in range(8):
        sgd.zero_grad()
        one.loss(net, one.data).backward()
        sgd.step()
    events = [*train([one], compiled=False)]
    found = next(event for event in events if isinstance(event, Outcome)).weights
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(found[name], parameter.detach(), rtol=1e-5, atol=1e-6)
    assert [event.step for event in events if isinstance(event, Record)] == [0, 4, 8]


def test_the_summary_follows_the_final_units_back(paper):
    """Kept weights of the parity at the end, and of a memorizing rest before: norms and accuracies."""

    class Kept:
        def __init__(self, step, accuracy, size):
            self.step, self.arrays = step, {"kept": 1}
            self.metrics = {"train_accuracy": accuracy, "size": size}

    class Recorder:
        records = [Kept(0, 0.5, 7), Kept(4, 1.0, 7), Kept(8, 1.0, 3)]

        def kept_weights(self):
            end = exact_network(paper, 4).state_dict()
            start = {name: torch.ones_like(value) for name, value in end.items()}
            return [{k: v.numpy() for k, v in state.items()} for state in (start, start, end)]

    one = problem(paper, width=7)
    c = paper.Config(**paper.ex.full_config(SMALL))
    found = paper.summarize(c, one, Recorder())
    assert (found["memorized_step"], found["memorized_size"]) == (4, 7)
    assert found["subnetwork_train_accuracy"] == found["subnetwork_test_accuracy"] == 1
    assert found["initial_subnetwork_norm"] == pytest.approx(6**0.5)
    assert found["final_rest_norm"] == pytest.approx(0.01)
    ones = (one.data["test_targets"] == 1).double().mean()
    assert found["memorized_subnetwork_test_accuracy"] <= float(ones) + 1e-9


def test_all_bits_relevant_is_refused(paper):
    with pytest.raises(UserError, match="relevant=6: expected less than input_dim=6"):
        problem(paper, relevant=6)


def test_the_module_has_torch_s_own_initial_weights(paper):
    net = problem(paper).module
    bound = 1 / 6**0.5
    assert isinstance(net.hidden, nn.Linear)
    assert net.hidden.weight.abs().max() <= bound and net.output.bias is None


def majority_coefficient(n: int, order: int) -> float:
    """The Fourier coefficient of the majority of n bits at a product of an odd number of them."""
    half = (order - 1) // 2
    share = comb((n - 1) // 2, half) / comb(n - 1, order - 1)
    return (-1) ** half * share * comb(n - 1, (n - 1) // 2) / 2 ** (n - 1)


def test_the_initial_gradient_has_the_fourier_gap_of_the_majority(paper):
    """B4c3, Barak et al.: at weights of 1 a unit is on for the majority of the inputs, so that the
    gradient of the population's hinge loss is, times -2 over the output weight, the majority's
    coefficient of order k - 1 at the k relevant bits and of order k + 1 at the others. Exactly, over
    all inputs of 15 bits, of which 4 are relevant."""
    n, relevant, small = 15, 4, 1e-3  # outputs below 1, where the hinge loss has a slope
    inputs = torch.tensor(list(product((-1.0, 1.0), repeat=n)), dtype=torch.float64)
    parity = inputs[:, :relevant].prod(1)
    coefficients = {order: majority_coefficient(n, order) for order in (3, 5)}
    majority = inputs.sum(1).sign()
    for order, value in coefficients.items():
        enumerated = (majority * inputs[:, :order].prod(1)).mean()
        assert float(enumerated) == pytest.approx(value, abs=1e-12)
    net = paper.ParityNetwork(n, 1).double()
    with torch.no_grad():
        net.hidden.weight.fill_(1.0)
        net.hidden.bias.zero_()
        net.output.weight.fill_(small)
    paper.hinge(net(inputs), parity).backward()
    found = net.hidden.weight.grad[0] * -2 / small
    expected = torch.tensor(
        [coefficients[3]] * relevant + [coefficients[5]] * (n - relevant)
    ).double()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    assert coefficients[3] == pytest.approx(-0.016113, abs=5e-7)
    assert coefficients[5] == pytest.approx(0.004395, abs=5e-7)
    assert abs(coefficients[3]) - abs(coefficients[5]) == pytest.approx(0.011719, abs=5e-7)


EPOCH = 31
GROKS = {
    "train_accuracy": ([0, 10 * EPOCH, 60 * EPOCH, 9000, 9300], [0.5, 0.9, 0.98, 1, 1]),
    "test_accuracy": ([0, 10 * EPOCH, 120 * EPOCH, 9000, 9300], [0.5, 0.5, 0.98, 1, 1]),
}
SUMMARY = {
    "train_accuracy": 1.0,
    "memorized_size": 500,
    "size": 20,
    "subnetwork_train_accuracy": 1.0,
    "subnetwork_test_accuracy": 0.98,
    "memorized_subnetwork_train_accuracy": 0.65,
    "memorized_subnetwork_test_accuracy": 0.54,
    "memorized_rest_train_accuracy": 0.97,
    "rest_test_accuracy": 0.55,
    "initial_subnetwork_norm": 0.6,
    "initial_rest_norm": 0.58,
    "memorized_subnetwork_norm": 0.3,
    "memorized_rest_norm": 0.3,
    "final_subnetwork_norm": 0.5,
    "final_rest_norm": 0.05,
}


@pytest.mark.parametrize(
    ("id", "changes", "passed"),
    [
        ("B4b2", {}, True),
        ("B4b2", {"memorized_size": 499}, False),
        ("B4b2", {"size": 21}, False),
        ("B4b3", {}, True),
        ("B4b3", {"subnetwork_train_accuracy": 0.999}, False),
        ("B4b3", {"subnetwork_test_accuracy": 0.97}, False),
        ("B4b3", {"memorized_subnetwork_train_accuracy": 0.66}, False),
        ("B4b3", {"memorized_subnetwork_test_accuracy": 0.56}, False),
        ("B4b4", {}, True),
        ("B4b4", {"initial_rest_norm": 0.7}, False),
        ("B4b4", {"final_rest_norm": 0.051}, False),
        ("B4b4", {"final_subnetwork_norm": 0.3, "final_rest_norm": 0.01}, False),
        ("B4b5", {}, True),
        ("B4b5", {"memorized_rest_train_accuracy": 0.96}, False),
        ("B4b5-end", {}, True),
        ("B4b5-end", {"rest_test_accuracy": 0.54}, False),
    ],
)
def test_claims_on_subnetworks_at_their_bounds(paper, id, changes, passed):
    assert finding(paper, id, claim_run("cpu", {**SUMMARY, **changes})).passed is passed


def accuracies(steps, values):
    return ([0, *steps, 10_000], [0.5, *values, 1.0])


@pytest.mark.parametrize(
    ("train", "test", "passed"),
    [(1860, 3720, True), (1891, 3782, False), (1860, 3689, False)],
)
def test_grokking_at_its_bounds(paper, train, test, passed):
    series = {
        "train_accuracy": accuracies([train], [0.98]),
        "test_accuracy": accuracies([test], [0.98]),
    }
    assert finding(paper, "B4b1", claim_run("cpu", series=series)).passed is passed


@pytest.mark.parametrize(("left", "passed"), [(600, True), (550, False)])
def test_a_plateau_at_its_bound(paper, left, passed):
    series = {"test_accuracy": accuracies([left, 1000], [0.55, 0.99])}
    assert finding(paper, "B4c1", claim_run("online", series=series)).passed is passed


@pytest.mark.parametrize(
    ("id", "config", "moved", "risen", "passed"),
    [
        ("B4c2", "online_slow", 500, 750, True),
        ("B4c2", "online_slow", 750, 750, False),
        ("B4c2-fast", "online", 700, 750, True),
        ("B4c2-fast", "online", 650, 750, False),
    ],
)
def test_leads_at_their_bounds(paper, id, config, moved, risen, passed):
    series = {
        "movement_ratio": accuracies([moved], [1.5]),
        "test_accuracy": accuracies([risen], [0.55]),
    }
    series["movement_ratio"][1][-1] = 3.0
    assert finding(paper, id, claim_run(config, series=series)).passed is passed


@pytest.mark.parametrize(("power", "passed"), [(1.5, True), (2.99, True), (3.01, False)])
def test_the_exponent_of_the_steps_at_its_bound(paper, power, passed):
    runs = []
    for n, name in paper.LENGTHS.items():
        at = int(10_000 * (n / 20) ** power)
        series = {"test_accuracy": ([0, at, 10**7], [0.5, 0.99, 1.0])}
        runs.append(claim_run(name, series=series, relevant=3))
    assert finding(paper, "B4c4", *runs).passed is passed


@pytest.mark.parametrize(
    ("test", "size", "passed"), [(0.55, 300, True), (0.56, 300, False), (0.5, 299, False)]
)
def test_without_decay_at_its_bounds(paper, test, size, passed):
    result = {"train_accuracy": 0.98, "test_accuracy": test, "size": size}
    assert finding(paper, "B4b-decay", claim_run("no_decay", result)).passed is passed
