"""Mallinar et al. 2025: gradients of kernel machines, iterations as steps, structure, and the claims."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch._inductor import config as inductor

from grok.claims.testing import claim_run, finding
from grok.engine.events import Outcome, Saved
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment import parts
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT

P = 5
KEYS = {"p": P, "train_fraction": 0.6, "train_steps": 3, "seed": 2}


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "rfm.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({**KEYS, **updates}))


def test_random_labels_are_not_drawn_with_the_split(paper):
    """A seed plus 2^32 is the same stream of torch's CPU generator: a label equalled an input on twice
    as many rows as by chance."""
    equal = torch.zeros(2)
    for seed in range(20):
        data = problem(paper, p=31, seed=seed, random_labels=True).data
        labels = torch.cat([data[f"{part}_targets"].argmax(1) for part in ("train", "test")])
        pairs = torch.cat([data["train_pairs"], data["test_pairs"]])
        equal += (labels.unsqueeze(1) == pairs).double().mean(0) / 20
    error = (1 / 31 * 30 / 31 / (20 * 31**2)) ** 0.5
    assert ((equal - 1 / 31).abs() < 4 * error).all()


def one_hot(pairs):
    return F.one_hot(pairs, P).flatten(1).double()


def features_of(seed=0):
    root = torch.randn(
        2 * P, 2 * P, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return root @ root.T / 10


def kernel_of(kind, features, x, z):
    """The kernels as they are defined, on vectors."""
    if kind == "quadratic":
        return 3 * (x @ features @ z.T) ** 2
    gaps = x.unsqueeze(1) - z
    return torch.exp(-torch.einsum("nkd,de,nke->nk", gaps, features, gaps) / (2 * 2.5**2))


@pytest.mark.parametrize("kind", ["gaussian", "quadratic"])
def test_the_agop_is_that_of_the_machine_s_gradients(paper, kind):
    """Against autograd: the Jacobian at every train input, without its mean over them."""
    one = problem(paper, kernel=kind)
    pairs, targets = one.data["train_pairs"], one.data["train_targets"]
    features, x = features_of(), one_hot(pairs)
    kernel = paper.Kernel(kind, 2.5, 0.0)
    torch.testing.assert_close(kernel(features, pairs, pairs), kernel_of(kind, features, x, x))
    coefficients = kernel.fitted(features, pairs, targets)
    outputs = kernel_of(kind, features, x, x) @ coefficients
    torch.testing.assert_close(outputs, targets, atol=1e-6, rtol=0)

    def machine(z):
        return (kernel_of(kind, features, z.unsqueeze(0), x) @ coefficients)[0]

    jacobians = torch.stack([torch.autograd.functional.jacobian(machine, z) for z in x])
    centered = jacobians - jacobians.mean(0)
    expected = torch.einsum("ncd,nce->de", centered, centered) / len(x)
    torch.testing.assert_close(kernel.agop(features, coefficients, pairs), expected)


def test_the_kernel_is_compiled_without_a_warning(paper):
    """It took a diagonal, for which torch's compiler calls a function that torch deprecates."""
    pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
    features, kernel = features_of(), paper.Kernel("gaussian", 2.5, 0.0)
    with inductor.patch(force_disable_caches=True), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        compiled = torch.compile(kernel.__call__)(features, pairs, pairs)
    assert [str(one.message) for one in told if one.category is FutureWarning] == []
    torch.testing.assert_close(compiled, kernel(features, pairs, pairs))
    own = paper.products(features, pairs, pairs).diagonal()
    assert torch.equal(paper.own_products(features, pairs), own)


def test_a_step_of_the_engine_is_one_iteration(paper):
    """Features become the root of the AGOP, and coefficients those of a new exact fit."""
    one = problem(paper)
    pairs, targets = one.data["train_pairs"], one.data["train_targets"]
    kernel, features = paper.Kernel("gaussian", 2.5, 0.0), torch.eye(2 * P, dtype=torch.float64)
    for _ in range(3):
        coefficients = kernel.fitted(features, pairs, targets)
        features = paper.root(kernel.agop(features, coefficients, pairs))
    found = next(e for e in train([one], compiled=False) if isinstance(e, Outcome)).weights
    torch.testing.assert_close(found["features"], features)
    torch.testing.assert_close(found["coefficients"], kernel.fitted(features, pairs, targets))


def test_seeds_iterate_together_and_resume(paper):
    """A batch gives what each seed gives alone, and a resumed run continues from its features.

    Features are compared by their square. They are the root of a matrix with eigenvalues of zero,
    whose rounding errors of 1e-17 are errors of 3e-9 in the root.
    """
    problems = [problem(paper, seed=seed, checkpoint_every=2) for seed in (2, 3)]
    events = [*train(problems, compiled=False, slots=2)]
    together = {e.replica: e.weights for e in events if isinstance(e, Outcome)}
    for number, one in enumerate(problems):
        alone = final_weights(one)
        for weights in (together[number], alone):
            weights["features"] = weights["features"] @ weights["features"]
        torch.testing.assert_close(together[number], alone, rtol=1e-8, atol=1e-10)
    saved = next(e for e in train(problems[:1], compiled=False) if isinstance(e, Saved))
    resumed = train(problems[:1], compiled=False, resume={0: saved})
    weights = next(e for e in resumed if isinstance(e, Outcome)).weights
    torch.testing.assert_close(weights, final_weights(problems[0]), rtol=0, atol=0)


def final_weights(one):
    return next(e for e in train([one], compiled=False) if isinstance(e, Outcome)).weights


def test_the_root_of_an_indefinite_matrix_is_the_real_part(paper):
    matrix = torch.tensor([[0.0, 2.0], [2.0, 0.0]], dtype=torch.float64)  # eigenvalues 2 and -2
    expected = torch.full((2, 2), 2**0.5 / 2, dtype=torch.float64)
    torch.testing.assert_close(paper.root(matrix), expected)


def test_deviations_are_zero_for_circulant_and_for_hankel_blocks(paper):
    """A block of i - j has no deviation along 1, one of i + j none along -1; equal entries have 1."""
    values, numbers = torch.rand(7, dtype=torch.float64), torch.arange(7)
    for along in (1, -1):
        block = values[(numbers.unsqueeze(1) - along * numbers) % 7]
        assert float(paper.deviation(block, along)) == pytest.approx(0, abs=1e-12)
        assert paper.deviation(block, -along) > 0.5
    assert paper.deviation(torch.zeros(7, 7), 1) == 1


def test_products_are_sums_of_logarithms(paper):
    """In the order of powers, a b is the power of i + j: a block of a b is a Hankel one."""
    order = parts.spectral_order(paper.Config(operation="x_times_y", p=7), is_product=True)
    assert sorted(order.tolist()) == [1, 2, 3, 4, 5, 6]
    values = torch.rand(7, dtype=torch.float64)
    block = values[order.unsqueeze(1) * order % 7]
    assert float(paper.deviation(block, -1)) == pytest.approx(0, abs=1e-12)
    with pytest.raises(UserError, match="p=8: expected a prime number"):
        problem(paper, operation="x_times_y", p=8)


def test_random_features_are_circulant_and_shuffled_ones_are_not(paper):
    for features, is_circulant in (("circulant", True), ("shuffled", False)):
        c = paper.Config(p=11, seed=1, features=features)
        block = paper.initial_features(c)[:11, 11:]
        assert (paper.deviation(block, 1) < 1e-12) == is_circulant
    with pytest.raises(UserError, match="features='circulant'"):
        problem(paper, features="circulant", operation="x_minus_y")
    with pytest.raises(UserError, match="features='circulant'"):
        problem(paper, features="circulant", method="network")


def test_the_agop_of_the_network_is_that_of_its_gradients(paper):
    one = problem(paper, method="network", width=3, batch_size=4)
    net, x = one.module, one_hot(one.data["train_pairs"]).float()

    def outputs(z):
        return net.second((z @ net.first.weight.T) ** 2)

    torch.testing.assert_close(outputs(x), net(one.data["train_pairs"]))
    jacobians = torch.stack([torch.autograd.functional.jacobian(outputs, z) for z in x])
    expected = torch.einsum("ncd,nce->de", jacobians, jacobians) / len(x)
    torch.testing.assert_close(net.agop(one.data["train_pairs"]), expected)
    correlation = one.metrics(net, one.data)["nfa_correlation"]
    assert -1 <= float(correlation.detach()) <= 1


def test_random_labels_are_of_both_parts(paper):
    plain, drawn = (problem(paper, random_labels=value) for value in (False, True))
    for part in ("train", "test"):
        assert torch.equal(plain.data[f"{part}_pairs"], drawn.data[f"{part}_pairs"])
        assert not torch.equal(plain.data[f"{part}_targets"], drawn.data[f"{part}_targets"])


def series(train=1.0, early=0.05, by=20, deviation=0.2):
    steps = [0, 8, by, by + 1]
    return {
        "train_accuracy": (steps, [1.0, train, 1.0, 1.0]),
        "test_accuracy": (steps, [0.0, early, 0.95, 0.95]),
        "difference_deviation": (steps, [1.0, deviation, 0.1, 0.1]),
        "sum_deviation": (steps, [1.0, 0.9, 0.9, 0.9]),
    }


@pytest.mark.parametrize(
    ("id", "config", "changes", "passed"),
    [
        ("B3a", "cpu", {}, True),
        ("B3a", "cpu", {"train": 0.999}, False),
        ("B3a", "cpu", {"early": 0.06}, False),
        ("B3a", "cpu", {"by": 21}, False),
        ("B3a-quadratic", "quadratic", {"by": 25}, True),
        ("B3a-quadratic", "quadratic", {"by": 26}, False),
        ("B3b", "cpu", {}, True),
        ("B3b", "cpu", {"deviation": 0.21}, False),
        ("B3b", "cpu", {"early": 0.06}, False),
        ("B3c", "multiplication", {"early": 0.1}, True),
        ("B3c", "multiplication", {"early": 0.11}, False),
    ],
)
def test_claims_on_emergence_at_their_bounds(paper, id, config, changes, passed):
    run = claim_run(config, series=series(**changes))
    assert finding(paper, id, run).passed is passed


@pytest.mark.parametrize(
    ("circulant", "shuffled", "passed"), [(0.99, 0.05, True), (0.98, 0.0, False), (1, 0.06, False)]
)
def test_random_features_at_their_bounds(paper, circulant, shuffled, passed):
    runs = [
        claim_run(name, series={"test_accuracy": ([0, 1], [value, 0.5])})
        for name, value in (("circulant", circulant), ("shuffled", shuffled))
    ]
    assert finding(paper, "B3d", *runs).passed is passed


@pytest.mark.parametrize(
    ("id", "changes", "passed"),
    [
        ("B3e", {}, True),
        ("B3e", {"sum_deviation": 0.11}, False),
        ("B3e", {"test_accuracy": 0.98}, False),
        ("B3f", {}, True),
        ("B3f", {"nfa_correlation": 0.92}, False),
    ],
)
def test_claims_on_networks_at_their_bounds(paper, id, changes, passed):
    result = {
        "difference_deviation": 0.97,
        "sum_deviation": 0.1,
        "test_accuracy": 0.99,
        "nfa_correlation": 0.93,
    }
    assert finding(paper, id, claim_run("network", {**result, **changes})).passed is passed


@pytest.mark.parametrize(
    ("untrained", "memorizing", "passed"),
    [(0.93, 0.93, True), (0.92, 0.93, False), (0.93, 0.9, False)],
)
def test_correlations_of_controls_at_their_bounds(paper, untrained, memorizing, passed):
    network = claim_run("network", series={"nfa_correlation": ([0, 9], [untrained, 0.99])})
    control = claim_run("network_random_labels", {"nfa_correlation": memorizing})
    assert finding(paper, "B3f-control", network, control).passed is passed


@pytest.mark.parametrize(
    ("least", "test", "passed"), [(0.9, 0.1, True), (0.89, 0.1, False), (0.9, 0.11, False)]
)
def test_random_labels_at_their_bounds(paper, least, test, passed):
    result = {"difference_deviation": least, "sum_deviation": 0.95, "test_accuracy": test}
    assert finding(paper, "B3-random", claim_run("random_labels", result)).passed is passed


@pytest.mark.parametrize(
    ("least", "test", "passed"), [(0.8, 0.05, True), (0.81, 0.05, False), (0.8, 0.06, False)]
)
def test_little_data_at_its_bounds(paper, least, test, passed):
    found = {
        "difference_deviation": ([0, 1], [1.0, least]),
        "test_accuracy": ([0, 1], [0.0, test]),
    }
    assert finding(paper, "B3-little", claim_run("little_data", series=found)).passed is passed


@pytest.mark.parametrize(
    ("updates", "line"),
    [
        ({"lr": 0.5}, "lr=0.5: expected 0.001, or method=network"),
        ({"weight_decay": 0.0}, "weight_decay=0.0: expected 1, or method=network"),
        ({"grokfast": "ema"}, "grokfast='ema': expected None"),
        ({"orthogonal_gradient": True}, "orthogonal_gradient=True: expected False"),
        ({"interventions": [{"when": 1, "set": {"lr": 0}}]}, "no change of lr"),
        ({"interventions": [{"when": 1, "set": {"weight_decay": 0}}]}, "no change of weight_decay"),
        ({"measures": ["norms"]}, "norms needs gradient steps"),
        ({"measures": "complexity"}, "learning_coefficient needs gradient steps"),
    ],
)
def test_what_reads_or_changes_a_gradient_step_is_refused_for_a_kernel_machine(
    paper, updates, line
):
    """Its iterations have no learning rate, no decay and no loss whose gradient they follow: such
    options changed nothing, and such instruments logged numbers without a meaning."""
    with pytest.raises(UserError, match=line):
        problem(paper, **updates)
    problem(paper, **{"method": "network", "batch_size": 4, **updates})


def test_a_kernel_machine_can_take_what_reads_no_gradient(paper):
    """Of all instruments, those of metrics and weights are left."""
    one = problem(paper, measures="full")
    assert one.measures.names == ("training_metrics", "parameter_delta", "path_length")
    changes = [{"when": 1, "reset": True}]
    assert len(problem(paper, interventions=changes).interventions) == 1
