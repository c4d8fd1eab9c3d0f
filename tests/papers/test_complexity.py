"""DeMoss et al. 2025 and Lau et al. 2023: the two networks, their controls, and the claims."""

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.errors import UserError
from grok.experiment.experiment import load_module
from grok.measures.spectra import spectral_entropy
from grok.models.mixed_attention import MixedAttention
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "complexity.py")


def problem(paper, *named_configs, **updates):
    return paper.ex.problem_of(paper.ex.full_config(updates, named_configs))


def test_the_transformer_has_the_usual_attention(paper):
    """With the attention rate 1 the constant attention of Zhong et al. has no weight."""
    module = problem(paper, p=7, width=8, mlp_width=16).module
    assert isinstance(module, MixedAttention) and float(module.rate) == 1


def test_the_hidden_layer_reads_one_hot_pairs_without_biases(paper):
    """relu(A_a + B_b) W, for pairs (a, b)."""
    module = problem(paper, "coefficient", p=7, width=16).module
    first, last = module.parameters()
    pairs = torch.tensor([[2, 5], [0, 0]])
    one_hot = torch.nn.functional.one_hot(pairs, 7).flatten(1).float()
    torch.testing.assert_close(module(pairs), torch.relu(one_hot @ first.T) @ last.T)


@pytest.mark.parametrize(
    ("control", "network"),
    [("random_labels", "cpu"), ("coefficient_random_labels", "coefficient")],
)
def test_random_labels_are_those_of_all_train_pairs(paper, control, network):
    """A label that were left right would let the control generalize a little."""
    random, plain = (problem(paper, name, seed=0) for name in (control, network))
    config = paper.ex.full_config({}, [control])
    assert config["noisy_answers"] == len(plain.data["train_labels"])
    right = (random.data["train_labels"] == plain.data["train_labels"]).double().mean()
    assert right < 3 / config["p"]
    assert torch.equal(random.data["test_labels"], plain.data["test_labels"])


def test_heads_divide_the_width(paper):
    with pytest.raises(UserError, match="width=9: expected a multiple of heads=4"):
        problem(paper, width=9)


def runs(paper, **changes):
    """Runs like those from which the bounds come: sizes in kB, ranks, coefficients, accuracies."""
    values = {
        "rise": [0.05, 22.6, 5.2],
        "test_at_peak": 0.19,
        "undecayed": [0.05, 25.8, 22.5],
        "naive": [218.3, 217.0, 213.9],
        "rank": [49, 46, 37],
        "undecayed_rank": [49, 48.5, 48],
        "random": [0.05, 30.0, 28.0],
        "coefficient": [44, 52, 0.1],
        "random_test": 0.02,
        **changes,
    }
    steps = [0, 200, 2000]

    def run(name, test, train=1.0, **series):
        series = {"test_accuracy": test, "train_accuracy": [0.0, train, train], **series}
        network = "mlp" if name.startswith("coefficient") else "transformer"
        metrics = {key: (steps, numbers) for key, numbers in series.items()}
        return claim_run(name, series=metrics, network=network)

    grokked, chance = [0.0, values["test_at_peak"], 1.0], [0.0, 0.0, values["random_test"]]
    naive = {paper.NAIVE_BYTES: values["naive"]}
    coefficient = {paper.COEFFICIENTS: values["coefficient"]}
    ranks = {"cpu": values["rank"], "no_decay": values["undecayed_rank"]}
    return [
        run("cpu", grokked, **{paper.BYTES: values["rise"], paper.RANK: ranks["cpu"]}, **naive),
        run(
            "no_decay",
            [0.0, 0.2, 0.3],
            **{paper.BYTES: values["undecayed"], paper.RANK: ranks["no_decay"]},
        ),
        run("random_labels", chance, **{paper.BYTES: values["random"]}),
        run("coefficient", grokked, **coefficient),
        run("coefficient_no_decay", chance, **coefficient),
        run("coefficient_random_labels", chance, **coefficient),
    ]


@pytest.mark.parametrize(
    ("id", "changes", "passed"),
    [
        ("B6a", {}, True),
        ("B6a", {"rise": [0.05, 22.6, 11.4]}, False),
        ("B6a", {"test_at_peak": 0.3}, False),
        ("B6b", {}, True),
        ("B6b", {"undecayed": [0.05, 25.8, 20.6]}, False),
        ("B6c", {}, True),
        ("B6c", {"naive": [218.3, 217.0, 211.7]}, False),
        ("B6d", {}, True),
        ("B6d", {"rank": [49, 46, 41.7]}, False),
        ("B6d", {"undecayed_rank": [49, 46, 44]}, False),
        ("B6-labels", {}, True),
        ("B6-labels", {"random": [0.05, 30.0, 23.9]}, False),
        ("B5-specific", {}, True),
        ("B5-specific", {"coefficient": [44, 52, 10.5]}, False),
        ("B5-specific", {"random_test": 0.06}, False),
    ],
)
def test_claims_pass_and_fail_at_their_bounds(paper, id, changes, passed):
    assert finding(paper, id, *runs(paper, **changes)).passed is passed


def test_the_penalty_is_the_entropy_of_all_matrices(paper):
    """The sum over matrices of -sum q log q, with q the singular values divided by their sum; without
    it the loss is that of `cpu`."""
    plain = problem(paper, p=7, width=8, mlp_width=16, seed=3)
    penalized = problem(paper, "entropy", p=7, width=8, mlp_width=16, seed=3)
    expected = 0.0
    for weights in plain.module.parameters():
        if weights.ndim == 2:
            values = torch.linalg.svdvals(weights.detach())
            shares = values / values.sum()
            expected -= float((shares * shares.log()).sum())
    with torch.no_grad():
        loss, larger = (one.loss(one.module, one.data) for one in (plain, penalized))
        metrics = [one.metrics(one.module, one.data)["train_loss"] for one in (plain, penalized)]
    assert float(larger - loss) == pytest.approx(0.1 * expected, rel=1e-5)
    assert metrics[0] == metrics[1], "the logged loss is without the penalty"


def test_the_gradient_of_the_penalty_is_finite_at_a_matrix_without_full_rank():
    """The derivative of -q log q is infinite at zero."""
    matrix = torch.ones(4, 3, requires_grad=True)
    spectral_entropy(matrix).backward()
    assert matrix.grad is not None and matrix.grad.isfinite().all()


@pytest.mark.parametrize(
    ("sizes", "test", "passed"),
    [
        ((2.0, 2.2, 2.1), 1.0, True),
        ((2.0, 2.2, 5.0), 1.0, False),
        ((2.0, 2.2, 2.1), 0.94, False),
    ],
)
def test_the_penalty_must_compress_networks_that_generalize(paper, sizes, test, passed):
    """By a ratio whose interval over the seeds is above 1."""
    made = []
    for seed, size in enumerate(sizes):
        for name, last in (("cpu", 4.0), ("entropy", size)):
            series = {
                paper.BYTES: ([0, 2000], [0.05, last]),
                "test_accuracy": ([0, 2000], [0, test]),
            }
            made.append(claim_run(name, series=series, seed=seed))
    outcome = finding(paper, "B6-entropy", *made)
    assert outcome.passed == passed
    assert outcome.measured["bytes with the penalty"] == sorted(sizes)[1]
