"""Humayun et al. 2024: the network, the attack, what is logged, and the claims at their thresholds."""

from math import inf

import pytest
import torch

from grok.experiment.experiment import Config, load_module
from grok.measures.local_complexity import frame
from grok.objectives.classification import ClassificationLoss, ClassificationMetrics
from grok.objectives.losses import cross_entropy
from tests.conftest import PROJECT
from tests.helpers import claim_run, finding

PIXELS, HIDDEN, CLASSES = 16, (40, 30), 5
ROBUST, REGIONS = "adversarial_accuracy_03", "complexity_train_050"


@pytest.fixture(scope="module")
def humayun():
    return load_module(PROJECT / "experiments" / "humayun.py")


@pytest.fixture
def model(humayun):
    torch.manual_seed(0)
    return humayun.ImageMLP([PIXELS, *HIDDEN, CLASSES], "relu", 2.0, normalized=False).double()


@pytest.fixture
def data():
    generator = torch.Generator().manual_seed(5)
    images = torch.rand(25, PIXELS, dtype=torch.float64, generator=generator)
    labels = torch.randint(CLASSES, (25, 1), generator=generator)
    return {
        "train_images": images,
        "train_labels": labels,
        "test_images": images,
        "test_labels": labels,
        "random_images": images,
        "start": 2 * torch.rand(images.shape, dtype=torch.float64, generator=generator) - 1,
        "directions": frame(9, PIXELS, 3),
    }


def metrics(humayun, attack_steps: int, radii=(), points: int = 1000):
    loss = ClassificationLoss(humayun.ImageLogits(), kind="squared_error")
    return humayun.RobustnessMetrics(
        ClassificationMetrics(loss), (0.1,), radii, attack_steps, points
    )


@pytest.mark.parametrize("size", [0.03, 0.5])
def test_an_attack_stays_in_its_cube_and_raises_the_loss(humayun, model, data, size):
    images, labels = data["test_images"], data["test_labels"][:, 0]
    attacked = metrics(humayun, 10).attacked(model, data, size)
    assert (attacked - images).abs().max() <= size + 1e-12
    assert attacked.min() >= 0 and attacked.max() <= 1
    only_started = metrics(humayun, 0).attacked(model, data, size)
    assert cross_entropy(model(attacked), labels) > cross_entropy(model(only_started), labels)


def test_normalization_is_torch_s_on_a_batch(humayun, data):
    torch.manual_seed(0)
    ours = humayun.ImageMLP([PIXELS, 12, 3], "relu", 1.0, normalized=True)
    x = data["test_images"].float()
    norm = torch.nn.BatchNorm1d(12)
    expected = ours.linears[1](torch.relu(norm(ours.linears[0](x))))
    assert torch.allclose(ours(x, x), expected, atol=1e-6)


def test_evaluation_normalizes_by_the_train_set(humayun, data):
    """A test image's logits depend on no other test image; in training they depend on the batch."""
    torch.manual_seed(0)
    model = humayun.ImageMLP([PIXELS, 12, 3], "relu", 1.0, normalized=True).double()
    logits = humayun.ImageLogits()
    first = {**data, "test_images": data["test_images"][:1]}
    all_rows, one_row = (logits(model, d, "test", False) for d in (data, first))
    assert torch.allclose(all_rows[:1], one_row)
    batch = {**data, "train_images": data["train_images"][:5]}
    all_rows, few_rows = (logits(model, d, "train", True) for d in (data, batch))
    assert not torch.allclose(all_rows[:5], few_rows, atol=1e-3)


def test_output_neurons_are_not_counted_as_regions(humayun, model, data):
    """The published code counts sign changes of the logits too; the paper's definition does not."""
    before = metrics(humayun, 0, radii=(0.1,))(model, data)
    with torch.no_grad():
        model.linears[-1].bias += 1e6
    after = metrics(humayun, 0, radii=(0.1,))(model, data)
    assert 0 < before["complexity_train_100"] == after["complexity_train_100"] < sum(HIDDEN)
    with torch.no_grad():
        model.linears[1].bias += 1e6
    assert metrics(humayun, 0, radii=(0.1,))(model, data)["complexity_train_100"] < HIDDEN[0]


def test_depth_counts_linear_layers_and_the_scale_is_of_all_parameters(humayun):
    """Depth 4 has three hidden layers; alpha multiplies biases too."""
    models = []
    for scale in (1.0, 8.0):
        options = {"seed": 0, "dataset": "digits", "init_scale": scale}
        models.append(humayun.build(Config(**humayun.ex.full_config(options))).module)
    shapes = [tuple(linear.weight.shape) for linear in models[0].linears]
    assert shapes == [(200, 64), (200, 200), (200, 200), (10, 200)]
    for small, large in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(8 * small, large)


def test_a_tenth_of_the_train_labels_are_random(humayun):
    """A random label is the right one in a tenth of the cases; test labels stay."""
    clean, noisy = (
        humayun.build(Config(**humayun.ex.full_config({"seed": 0}, [name]))).data
        for name in ("trend", "random_labels")
    )
    changed = (clean["train_labels"] != noisy["train_labels"]).double().mean().item()
    assert changed == pytest.approx(0.1 * 0.9, abs=0.03)
    for name in ("train_images", "test_images", "test_labels", "start"):
        assert torch.equal(clean[name], noisy[name])


def test_trends_count_no_regions(humayun):
    """They are about robustness alone, and stop once half of the smallest attacks fail."""
    problem = humayun.build(Config(**humayun.ex.full_config({"seed": 0}, ["trend"])))
    assert problem.metrics.radii == ()
    assert problem.stop.thresholds == ((ROBUST, 0.5),)


def robustness_run(clean: int, robust: int, memorized: float = 0.05, last: float = 0.8):
    """A run whose accuracies reach 50 % at these steps; it memorizes at step 10."""
    steps = [0, 10, clean, robust, 10**6]
    return claim_run(
        "cpu",
        series={
            "train_accuracy": (steps, [0.1, 1.0, 1.0, 1.0, 1.0]),
            "test_accuracy": (steps, [0.1, 0.2, 0.6, 0.9, 0.9]),
            ROBUST: (steps, [0.0, memorized, 0.2, 0.6, last]),
        },
    )


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        ({"robust": 1101}, True),
        ({"robust": 1100}, False),  # 1.1 times as late is not long after
        ({"robust": 1101, "memorized": 0.1}, True),
        ({"robust": 1101, "memorized": 0.11}, False),
        ({"robust": 1101, "last": 0.75}, True),
        ({"robust": 1101, "last": 0.74}, False),
    ],
)
def test_robustness_must_be_delayed_absent_at_first_and_large_in_the_end(humayun, options, passed):
    outcome = finding(humayun, "06a", robustness_run(1000, **options))
    assert outcome.passed == passed
    assert outcome.measured["clean"] == 1000
    assert outcome.measured["robust"] == options["robust"]


@pytest.mark.parametrize(
    ("values", "passed"),
    [([10, 20, 10, 12], True), ([10, 20, 10.1, 12], False), ([20, 15, 10, 5], False)],
)
def test_regions_must_rise_and_then_halve(humayun, values, passed):
    """A fall from the start alone is the paper's first descent, not the migration."""
    run = claim_run("cpu", series={REGIONS: ([0, 1, 2, 3], values)})
    assert finding(humayun, "06b", run).passed == passed


@pytest.mark.parametrize(("train", "passed"), [(4.9, True), (5.0, False), (6.5, False)])
def test_train_images_must_have_the_fewest_regions(humayun, train, passed):
    last = {"train": train, "test": 5.0, "random": 6.0}
    series = {f"complexity_{kind}_050": ([0, 1], [9.0, value]) for kind, value in last.items()}
    outcome = finding(humayun, "06d", claim_run("cpu", series=series))
    assert (outcome.passed, outcome.measured) == (passed, last)


@pytest.mark.parametrize(
    ("middle", "passed"),
    [
        ([0.1, 0.1, 0.6, 0.8], True),
        ([0.6, 0.6, 0.6, 0.8], False),  # sooner than smaller attacks
        ([0.1, 0.1, 0.6, 0.95], False),  # by more images than smaller attacks
    ],
)
def test_larger_attacks_must_be_withstood_later_and_less(humayun, middle, passed):
    curves = {"03": [0.1, 0.6, 0.6, 0.9], "06": middle, "10": [0.1, 0.1, 0.1, 0.6]}
    series = {f"adversarial_accuracy_{k}": ([0, 1, 2, 3], v) for k, v in curves.items()}
    assert finding(humayun, "06e", claim_run("cpu", series=series)).passed == passed


@pytest.mark.parametrize(("normalized", "passed"), [(0.4, True), (0.41, False)])
def test_normalized_networks_may_be_half_as_robust_at_their_last_step(humayun, normalized, passed):
    """The network without normalization trains on, and is compared at the same step."""
    plain = claim_run("cpu", series={ROBUST: ([0, 40_000, 93_000], [0.0, 0.8, 0.9])})
    other = claim_run("cpu_normalized", series={ROBUST: ([0, 40_000], [0.0, normalized])})
    outcome = finding(humayun, "06f", plain, other)
    assert outcome.passed == passed
    assert outcome.measured == {"plain": 0.8, "normalized": normalized}


@pytest.mark.parametrize(
    "variant", ["shallow", "narrow", "little_data", "small_batch", "random_labels"]
)
def test_each_variant_must_be_robust_later_than_trend(humayun, variant):
    """A run that stops when it is robust crosses 50 % at its last step, or never."""

    def outcome(last: float):
        whole = claim_run("trend", series={ROBUST: ([0, 1000], [0.0, 0.5])})
        less = claim_run(variant, series={ROBUST: ([0, 1000], [0.0, last])})
        return finding(humayun, f"06g-{variant}", whole, less)

    assert outcome(0.51).measured[variant] < 1000
    assert [outcome(last).passed for last in (0.51, 0.5, 0.49)] == [False, False, True]
    assert outcome(0.49).measured == {"trend": 1000, variant: inf}


@pytest.mark.parametrize(("robust_rate", "passed"), [(0.25, True), (0.24, False)])
def test_small_initial_weights_may_delay_by_a_factor_of_two(humayun, robust_rate, passed):
    """Crossings are interpolated: at half of the rate the same level takes twice the steps."""
    steps = [0, 1, 2, 3]
    series = {
        "test_accuracy": (steps, [0.0, 0.5, 1.0, 1.0]),
        ROBUST: (steps, [robust_rate * step for step in steps]),
    }
    assert finding(humayun, "06-small", claim_run("cpu_small_init", series=series)).passed == passed
