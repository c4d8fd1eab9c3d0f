"""Nanda et al. 2023: the data, the model, and each claim at its threshold."""

from math import inf
from unittest.mock import Mock

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.engine.events import WEIGHTS, Record
from grok.experiment.experiment import load_module
from grok.experiment.recording import Recorder
from grok.models.transformer import Transformer
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def nanda():
    return load_module(PROJECT / "experiments" / "nanda.py")


@pytest.fixture(scope="module")
def paper_problem(nanda):
    return nanda.ex.problem_of(nanda.ex.full_config({"seed": 0}, ("paper",)))


def test_split_and_network_are_of_the_published_size(paper_problem):
    """30 % of 113^2 pairs are 3,830; the network has 226,816 parameters (section 3)."""
    data = paper_problem.data
    assert (len(data["train_labels"]), len(data["test_labels"])) == (3830, 8939)
    parameters = dict(paper_problem.module.named_parameters())
    assert sum(parameter.numel() for parameter in parameters.values()) == 226_816
    # only the MLP has biases, and they start at zero
    biases = {name: value for name, value in parameters.items() if name.endswith("bias")}
    assert {len(bias) for bias in biases.values()} == {512, 128}
    assert not any(bias.any() for bias in biases.values())
    assert paper_problem.batch_size is None


def test_label_of_a_sequence_is_the_sum_of_its_operands(paper_problem):
    data, p = paper_problem.data, 113
    for part in ("train", "test"):
        prefixes = data["prefixes"][data[f"{part}_prefix_index"]]
        tokens = torch.cat([prefixes, data[f"{part}_suffixes"]], 1)
        a, b, equals = tokens.unbind(1)
        assert torch.equal((a + b) % p, data[f"{part}_labels"][:, 0])
        assert (equals == p).all()


def test_loss_is_the_cross_entropy_of_the_last_position_in_float64(paper_problem):
    """Over all p + 1 tokens. In float32 a loss of 1e-8 would have only a few digits."""
    problem, data = paper_problem, paper_problem.data
    assert isinstance(problem.module, Transformer)
    prefixes = data["prefixes"][data["train_prefix_index"]]
    tokens = torch.cat([prefixes, data["train_suffixes"]], 1)
    with torch.no_grad():
        loss = problem.loss(problem.module, data)
        logits = problem.module(tokens)[:, -1].double()
    expected = torch.nn.functional.cross_entropy(logits, data["train_labels"][:, 0])
    assert loss.dtype == torch.float64 and logits.shape[1] == 114
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)


def test_measures_are_logged_at_the_steps_that_kept_their_weights(nanda):
    """With trajectory_every = 2 every other evaluation keeps its weights."""
    sizes = {"p": 7, "width": 8, "heads": 2, "mlp_width": 8, "train_fraction": 0.5, "seed": 0}
    config = nanda.ex.full_config({**sizes, "trajectory_every": 2})
    problem = nanda.ex.problem_of(config)
    kept = {f"{WEIGHTS}{k}": v.detach().numpy() for k, v in problem.module.named_parameters()}
    records = [Record(0, step, {}, kept if step % 20 == 0 else {}) for step in (0, 10, 20, 30)]
    run = Mock(spec=["log_scalar"])
    recorder = Recorder(run, problem, 0.99, 1000)
    recorder.records, recorder.outcome = records, Mock()
    nanda.summarize(nanda.Config(**config), problem, recorder)
    assert recorder.series["restricted_loss"][0] == [0, 20]


def reached(train: int, test: int) -> dict:
    """Series in which train and test accuracy are 1 from these steps on."""
    steps = [0, train, test, test + 1000]
    return {
        "train_accuracy": (steps, [0.0, 1.0, 1.0, 1.0]),
        "test_accuracy": (steps, [0.0, 0.0, 1.0, 1.0]),
    }


@pytest.mark.parametrize(
    ("train", "test", "passed"), [(400, 3200, True), (401, 3300, False), (400, 3199, False)]
)
def test_grokking_is_eight_times_as_late(nanda, train, test, passed):
    outcome = finding(nanda, "03-C1", claim_run("cpu", series=reached(train, test)))
    assert outcome.passed == passed
    assert outcome.measured["ratio"] == pytest.approx(test / train)


def test_never_generalizing_is_not_grokking(nanda):
    series = {**reached(100, 3000), "test_accuracy": ([0, 3000], [0.0, 0.98])}
    outcome = finding(nanda, "03-C1", claim_run("cpu", series=series))
    assert not outcome.passed and outcome.measured["test 99 % at"] == inf


@pytest.mark.parametrize(
    ("frequencies", "fraction", "passed"),
    [(3, 0.6, True), (8, 1.0, True), (2, 1.0, False), (9, 1.0, False), (5, 0.59, False)],
)
def test_few_frequencies_have_most_of_the_power(nanda, frequencies, fraction, passed):
    result = {"key_frequencies": list(range(frequencies)), "embedding_share": fraction}
    assert finding(nanda, "03-C2", claim_run("cpu", result)).passed == passed


@pytest.mark.parametrize(
    ("claim", "entry", "least"),
    [("03-C3", "cosine_share", 0.8), ("03-C4", "single_frequency_neurons", 0.6)],
)
def test_explained_fractions_have_a_least_value(nanda, claim, entry, least):
    assert finding(nanda, claim, claim_run("cpu", {entry: least})).passed
    assert not finding(nanda, claim, claim_run("cpu", {entry: least - 0.01})).passed


def progress(restricted_halved: int = 400, excluded_early: float = 3.0, excluded_end: float = 10.0):
    """Losses at steps 0, 400, 500, 1000: the test loss is halved at 1000."""
    steps = [0, 400, 500, 1000]
    restricted = [4.0 if step < restricted_halved else 1.0 for step in steps]
    return {
        "restricted_loss": (steps, restricted),
        "test_loss": (steps, [4.0, 4.0, 4.0, 1.0]),
        "test_accuracy": (steps, [0.0, 0.0, 0.0, 0.99]),
        "train_loss": (steps, [4.0, 1.0, 1.0, 1.0]),
        "excluded_loss": (steps, [4.0, 1.0, excluded_early, excluded_end]),
    }


@pytest.mark.parametrize(
    ("changed", "passed"),
    [
        ({}, True),
        ({"restricted_halved": 1000}, False),  # with the test loss, not before it
        ({"excluded_early": 2.0}, False),  # not above twice the train loss by half of that time
        ({"excluded_end": 9.9}, False),
    ],
)
def test_progress_measures_move_before_the_test_loss(nanda, changed, passed):
    outcome = finding(nanda, "03-C5", claim_run("cpu", series=progress(**changed)))
    assert outcome.passed == passed
    assert outcome.measured["test halved at"] == 1000


@pytest.mark.parametrize("never", ["test_loss", "test_accuracy"])
def test_a_network_that_never_generalizes_has_no_progress(nanda, never):
    """Its restricted loss is below an infinite number of steps, which must not pass."""
    steps = [0, 400, 500, 1000]
    flat = {"test_loss": [4.0, 4.0, 4.0, 4.0], "test_accuracy": [0.0, 0.0, 0.0, 0.98]}[never]
    run = claim_run("cpu", series={**progress(), never: (steps, flat)})
    outcome = finding(nanda, "03-C5", run)
    assert not outcome.passed and inf in outcome.measured.values()


@pytest.mark.parametrize(
    ("norms", "gini", "passed"),
    [
        ([9.0, 8.9, 6.0, 5.0], [0.1, 0.2, 0.8], True),
        ([9.0, 8.9, 6.0, 6.5], [0.1, 0.2, 0.8], False),  # the norm grows during cleanup
        ([9.0, 8.9, 6.0, 6.005], [0.1, 0.2, 0.8], True),  # by less than a thousandth
        ([9.0, 8.9, 6.0, 5.0], [0.1, 0.7, 0.8], False),  # sharpens fastest during circuit formation
        (
            [9.0, 7.0, 6.0, 5.0],
            [0.1, 0.2, 0.8],
            False,
        ),  # falls fastest while the test loss stays high
    ],
)
def test_cleanup_shrinks_weights_and_sharpens_spectra(nanda, norms, gini, passed):
    """Memorized at 100, test loss still at 90 % of its peak at 550, halved at 1000, grokked at 2000."""
    steps, phases = [0, 100, 550, 1000, 2000, 2100], [100, 1000, 2000]
    series = {
        "train_accuracy": (steps, [0.0, 1.0, 1.0, 1.0, 1.0, 1.0]),
        "test_accuracy": (steps, [0.0, 0.0, 0.0, 0.5, 1.0, 1.0]),
        "test_loss": (steps, [4.0, 5.0, 4.5, 2.0, 0.1, 0.1]),
        "weight_norm": ([100, 550, 1000, 2000], norms),
        "embedding_gini": (phases, gini),
        "neuron_logit_gini": (phases, gini),
    }
    assert finding(nanda, "03-C6", claim_run("cpu", series=series)).passed == passed


@pytest.mark.parametrize(
    ("without_decay", "delayed_to", "passed"),
    [(0.19, 299, True), (0.2, 299, False), (0.19, 300, False)],
)
def test_controls(nanda, without_decay, delayed_to, passed):
    steps, test = [0, 4000, 8000], [0.0, without_decay, without_decay]
    memorized = {"train_accuracy": (steps, [0.0, 1.0, 1.0])}
    runs = (
        claim_run("cpu_no_decay", series={**memorized, "test_accuracy": (steps, test)}),
        claim_run("cpu_most_data", series=reached(100, delayed_to)),
    )
    assert finding(nanda, "03-C7", *runs).passed == passed


def test_a_network_without_decay_must_have_memorized(nanda):
    """One that learns nothing does not tell what weight decay is needed for."""
    steps = [0, 4000, 8000]
    for train, passed in ((1.0, True), (0.5, False)):
        series = {
            "train_accuracy": (steps, [0.0, train, train]),
            "test_accuracy": (steps, [0.0] * 3),
        }
        runs = (
            claim_run("cpu_no_decay", series=series),
            claim_run("cpu_most_data", series=reached(100, 299)),
        )
        assert finding(nanda, "03-C7", *runs).passed == passed


@pytest.mark.parametrize(
    ("restricted", "ablated", "passed"),
    [(1e-3, 1e-2, True), (1.1e-3, 1e-2, False), (1e-3, 0.9e-2, False)],
)
def test_circuit_alone_is_at_least_as_good(nanda, restricted, ablated, passed):
    result = {"loss": 1e-3, "restricted_loss": restricted, "least_ablated_loss": ablated}
    assert finding(nanda, "03-C8", claim_run("cpu", result)).passed == passed


def of_liu(generalized, top_two=(0.125, 0.375), dimension=(20.0, 14.0)):
    """A run modulo 53: the share of two components at first and then, the dimension then and at the end."""
    steps = [0, 1000, 1100, 8000]
    test = [0.0, 1.0, 1.0, 1.0] if generalized else [0.0, 0.1, 0.1, 0.1]
    series = {
        "test_accuracy": (steps, test),
        "embedding_top_two": (steps, [top_two[0], top_two[1], 0.5, 0.9]),
        "embedding_dimension": (steps, [30.0, dimension[0], 18.0, dimension[1]]),
    }
    return claim_run("cpu_53", series=series)


@pytest.mark.parametrize(
    ("run", "circle", "dimension"),
    [
        (of_liu(True), True, True),
        (of_liu(True, top_two=(0.125, 0.37)), False, True),
        (of_liu(True, dimension=(20.0, 14.1)), True, False),
        (of_liu(False), False, False),
    ],
)
def test_embedding_of_a_transformer_becomes_a_circle(nanda, run, circle, dimension):
    """At the step of generalization, and not only at the end; without generalization neither holds."""
    assert finding(nanda, "02-C8-circle", run).passed == circle
    assert finding(nanda, "02-C8-dimension", run).passed == dimension
