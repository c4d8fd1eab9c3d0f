"""Varma, Shah, Kenton, Kramar, Kumar 2023, arXiv:2309.02390.

"Explaining grokking through circuit efficiency". A perceptron over the sum of two learned vectors
is trained on pairs (a, b) to predict a + b mod p, with cross-entropy and weight decay, full batch
(the paper: a one-layer transformer, p = 113). The paper explains grokking by two circuits: weight
decay prefers the one that gives more logit for its norm, which is the generalizing one only if
there is enough data: the norm that memorizing takes grows with the data. It predicts, and finds,
that a network that has grokked forgets when it is trained on with little data (ungrokking).
`grok/theory/circuits.py` has the paper's model of the two circuits.

    python experiments/circuit_efficiency.py with grokked    # the network to go on with, seconds
    grok replicate circuit_efficiency                        # all claims, five seeds: 120 runs, 17 minutes
    python analysis/extras_figures.py                        # two circuits, and ungrokking
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from torch import Tensor, nn

from grok.claims.checks import exponent, within
from grok.claims.model import Claims, Outcome, Run, Runs
from grok.claims.statistics import mean_interval
from grok.engine.problem import Problem
from grok.experiment import parts
from grok.experiment.config_types import (
    Betas,
    Count,
    CountFromZero,
    Device,
    Dtype,
    Modulus,
    NonNegative,
    OpenFraction,
    OptimizerKind,
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.models.sum_mlp import MATRICES, SumMLP
from grok.objectives.classification import ClassificationLoss, ClassificationMetrics, InputLogits
from grok.tensors import Tensors

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("circuit_efficiency", threshold=0.95, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    operation: str = "x_plus_y"  # operation of a and b whose result is the label, modulo p
    p: Modulus = 67  # the modulus
    symmetric: bool = True  # only pairs with a <= b are in the table, p (p + 1) / 2 of them
    train_fraction: OpenFraction = 0.9  # fraction of the pairs to train on; the others are for test
    train_count: Count | None = None  # number of pairs to train on, in place of train_fraction
    noisy_answers: CountFromZero = 0  # train rows whose label is that of a random train row
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model
    embedding_width: Count = 500  # dimension of the vector of each number
    width: Count = 48  # hidden units

    # Optimization
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 1.0  # of all parameters
    warmup_steps: CountFromZero = 0  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = None  # pairs per step; None for the whole train set
    train_steps: Count = 5000  # steps of the optimizer

    # Evaluation
    log_points: Count = 100  # evaluation steps, logarithmically spaced

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = "float64"  # of the log-softmax
    device: Device = "auto"  # auto: CUDA where there is one


SIZES = (100, 200, 350, 500, 700, 1000)  # train pairs when a network that has grokked is trained on
LARGE_SIZES = (1100, 1300, 1550, 1850, 2200)  # train pairs from which a new network generalizes

ex.preset(
    "grokked", "Groks with 90 % of the pairs: 5000 steps, seconds. The ungrok_ runs start here."
)
for size in SIZES:
    smaller = {"initial_run": "grokked", "train_count": size, "train_steps": 12_000}
    ex.preset(
        f"ungrok_{size}",
        f"The grokked network of the same seed, trained on with {size} pairs.",
        {**smaller, "weight_decay": 1.0},
    )
    ex.preset(
        f"ungrok_{size}_half_decay",
        f"The same with {size} pairs and weight decay 0.5.",
        {**smaller, "weight_decay": 0.5},
    )
    ex.preset(
        f"memorize_{size}",
        f"A new network on {size} pairs with random labels, which it can only memorize.",
        {"train_count": size, "noisy_answers": size, "train_steps": 12_000},
    )
for size in LARGE_SIZES:
    ex.preset(
        f"generalize_{size}",
        f"A new network on {size} pairs, trained until memorization has decayed.",
        {"train_count": size, "train_steps": 20_000},
    )
ex.preset(
    "paper",
    "The paper's modulus and widths, with this perceptron: 100,000 steps.",
    {"p": 113, "embedding_width": 128, "width": 512, "train_steps": 100_000},
)


@dataclass(frozen=True)
class CircuitMetrics:
    """Loss and accuracies, and what the efficiency of a circuit is computed from.

    Logged besides {train,test}_{loss,accuracy}, where the logits of each row have a mean of zero:
        correct_logit: logit of the label, mean over the train rows.
        generalizing_share: norm of the part of the logits that depends only on the difference of
            a class and the true label, divided by the norm of all logits, over the whole table.
            With a + b this is the paper's part on the waves of a + b - c.

    Reads data["table_pairs"] and data["table_labels"], the rows of the table with true labels.
    """

    classification: ClassificationMetrics
    classes: int

    def __call__(self, model: nn.Module, data: Tensors) -> Tensors:
        logits_NC = self.classification.loss.logits(model, data, "train", False)[:, 0]
        table_logits_NC = self.classification.loss.logits(model, data, "table", False)[:, 0]
        return {
            **self.classification(model, data),
            "correct_logit": centred(logits_NC).gather(1, data["train_labels"]).mean(),
            "generalizing_share": self.generalizing_share(table_logits_NC, data["table_labels"]),
        }

    def generalizing_share(self, logits_NC: Tensor, labels_N: Tensor) -> Tensor:
        """The share of logits (N, C) with labels (N,) that depends on class - label alone."""
        differences = torch.arange(self.classes, device=labels_N.device)
        classes_NC = (labels_N.unsqueeze(1) + differences) % self.classes
        by_difference_NC = centred(logits_NC).gather(1, classes_NC)
        norm = by_difference_NC.square().mean(0).sum().sqrt()
        return by_difference_NC.mean(0).norm() / norm.clamp(min=torch.finfo(norm.dtype).tiny)


def centred(logits_NC: Tensor) -> Tensor:
    """The logits less the mean of their row, which the softmax does not depend on."""
    return logits_NC - logits_NC.mean(1, keepdim=True)


@ex.build
def build(c: Config) -> Problem:
    """Train on pairs of numbers. With `initial_run`, the weights are those at that run's end.

    Unlike in other papers, the train set may be a smaller part of the table than any network
    generalizes from. A smaller train set of the same seed is contained in a larger one.

    Logged at every evaluation step: CircuitMetrics, and the norm of all weights.
    """
    table = parts.operation_table(c)
    split = parts.split_operation_table(c, table, least=0)
    data = parts.labels_as_columns(split)
    data |= {"table_pairs": table.pairs, "table_labels": table.labels}
    model = parts.init_with_seed(c, lambda: SumMLP(c.p, c.embedding_width, c.width))
    loss = ClassificationLoss(InputLogits(), loss_dtype=c.loss_dtype)
    return parts.classification_problem(
        c, model, data, loss, lambda known: CircuitMetrics(known, table.classes)
    )


# Claims. Those without a sweep of their own are checked on the runs of
# sweeps/circuit_efficiency_cpu.yaml, which train on the networks of circuit_efficiency_grokked.
# Accuracies are those at the end of a run. The ids begin with E2 for this paper. A claim that is
# checked seed by seed passes if it holds on all of them; every claim must fail on runs changed as
# `fails_on` says, and `control=True` marks a statement of ours, not of the paper
# (docs/concepts/claims.md).

UNTRAINED = {"train_steps": 1}


@claim(
    "E2-control-grokked",
    source="added",
    sweep="circuit_efficiency_grokked",
    control=True,
    fails_on=UNTRAINED,
)
def initial_network_has_grokked(runs: Runs) -> Outcome:
    """The network that is trained on has grokked."""
    return within(runs, ("grokked", "test_accuracy", 0.99, 1.0))


# E2a. The paper, p = 113, one-layer transformer: the parameter norm at a given logit grows with the
# data set if the labels are random, and does not depend on it in networks whose logits lie on the
# waves of a + b - c to 95 %. Ours: the power of the size by which the norm of each seed grows, and the
# 95 % interval of its mean over the seeds. The logits of this network are of degree 4 in its
# weights, so a run's norm at a correct logit of 1 follows from one scaling. "Does not depend" is an
# interval within a quarter of the memorizing circuit's power on either side of zero.
NORMS = "circuit_efficiency_norms"
LEAST_GENERALIZING_SHARE = 0.95
MOST_RELATIVE_POWER = 0.25
LEAST_SIZES = 3  # of a seed whose power is fitted
LEAST_SEEDS = 3  # with a power


def norm_at_unit_logit(run: Run) -> float:
    """The norm of all weights after they are scaled to a mean correct logit of 1; NaN if no scaling
    gives it."""
    logit = run["correct_logit"]
    return run["weight_norm"] / logit ** (1 / len(MATRICES)) if logit > 0 else nan


def memorizing_norms(runs: Runs) -> dict[int, float]:
    """The mean norm at a correct logit of 1 by the number of pairs with random labels."""
    return {
        size: float(np.mean([norm_at_unit_logit(run) for run in runs.all(f"memorize_{size}")]))
        for size in SIZES
    }


def generalizing_norms(runs: Runs) -> dict[int, float]:
    """The same by the number of pairs with true labels, of the networks that only generalize; NaN
    for a size without one."""
    norms = {}
    for size in LARGE_SIZES:
        of_size = [
            norm_at_unit_logit(run)
            for run in runs.all(f"generalize_{size}")
            if run["generalizing_share"] >= LEAST_GENERALIZING_SHARE
        ]
        norms[size] = float(np.mean(of_size)) if of_size else nan
    return norms


def power_of_size(
    runs: Runs, norms_of: Callable[[Runs], dict[int, float]]
) -> tuple[float, float, float]:
    """b of norm = a * size^b: its mean over the seeds, and the ends of the 95 % interval of the mean.

    A size for which a seed has no norm is left out, as is a seed with fewer than LEAST_SIZES others.
    All three are NaN with fewer than LEAST_SEEDS seeds, and if no seed has a norm for a size.

    Arguments:
        norms_of: the norms of some runs by size, NaN for none.
    """
    if not np.isfinite([*norms_of(runs).values()]).all():
        return nan, nan, nan
    powers = []
    for seed in sorted({run.config["seed"] for run in runs}):
        of_seed = norms_of(runs.where(seed=seed))
        norms = {size: norm for size, norm in of_seed.items() if np.isfinite(norm)}
        if len(norms) >= LEAST_SIZES:
            powers.append(exponent([*norms], [*norms.values()]))
    return mean_interval(powers) if len(powers) >= LEAST_SEEDS else (nan, nan, nan)


@claim("E2a", source="prediction 1", sweep=NORMS, pooled=True, fails_on=UNTRAINED)
def memorizing_norm_grows_with_data(runs: Runs) -> Outcome:
    """At a given logit, the norm of the memorizing circuit grows with the data set, that of the
    generalizing circuit does not depend on it."""
    power, low, high = power_of_size(runs, memorizing_norms)
    other, other_low, other_high = power_of_size(runs, generalizing_norms)
    grows = bool((np.diff([*memorizing_norms(runs).values()]) > 0).all())
    numbers = {
        "power of the memorizing circuit": power,
        "low": low,
        "high": high,
        "power of the generalizing circuit": other,
        "its low": other_low,
        "its high": other_high,
    }
    bound = MOST_RELATIVE_POWER * power
    return grows and low > 0 and -bound <= other_low <= other_high <= bound, numbers


# The sizes between which E2b finds the critical one.
TOO_LITTLE, ENOUGH = 200, 700


@claim("E2a-crossing", source="prediction 1", sweep=NORMS, pooled=True, fails_on=UNTRAINED)
def circuits_are_equally_efficient_at_critical_size(runs: Runs) -> Outcome:
    """At a given logit, memorizing takes less norm than generalizing below the critical size, and
    more above it."""
    memorizing = memorizing_norms(runs)
    little, enough = memorizing[TOO_LITTLE], memorizing[ENOUGH]
    generalizing = float(np.mean([*generalizing_norms(runs).values()]))
    numbers = {
        f"random labels, {TOO_LITTLE} pairs": little,
        f"random labels, {ENOUGH} pairs": enough,
        "true labels": generalizing,
    }
    return little < generalizing < enough, numbers


# E2b. The paper, p = 113: trained on with fewer pairs than a critical number, test accuracy falls
# while train accuracy stays at 1. Ours, p = 67: between 200 and 700 pairs.
FORGOTTEN = 0.1  # most test accuracy with 200 pairs
KEPT = 0.9  # least test accuracy with 700 pairs
LEAST_TRAIN_ACCURACY = 0.99  # with any number of pairs


@claim("E2b", source="section 5", fails_on=UNTRAINED)
def ungroks_with_little_data(runs: Runs) -> Outcome:
    """Trained on with little data, the network ungroks, sharply at a certain size of the data."""
    test = {size: runs.one(f"ungrok_{size}").final("test_accuracy") for size in SIZES}
    train = [runs.one(f"ungrok_{size}").final("train_accuracy") for size in SIZES]
    passed = (
        test[TOO_LITTLE] <= FORGOTTEN
        and test[ENOUGH] >= KEPT
        and min(train) >= LEAST_TRAIN_ACCURACY
    )
    return passed, {f"test, {size} pairs": accuracy for size, accuracy in test.items()}


# E2b-decay. The difference of the mean test accuracies over the seeds, weight decay 1 less 0.5. With
# either the critical size, where the mean is a half, is between the sizes of E2b.
LARGEST_GAP = 0.1


def mean_test_accuracy(runs: Runs, named_config: str) -> float:
    """The mean over the seeds of the final test accuracy."""
    return float(np.mean([run.final("test_accuracy") for run in runs.all(named_config)]))


@claim("E2b-decay", source="section 5", pooled=True, fails_on=UNTRAINED)
def critical_size_does_not_depend_on_decay(runs: Runs) -> Outcome:
    """Where the network ungroks does not depend on the weight decay."""
    whole, half = (
        {size: mean_test_accuracy(runs, f"ungrok_{size}{suffix}") for size in SIZES}
        for suffix in ("", "_half_decay")
    )
    gaps = {f"gap, {size} pairs": whole[size] - half[size] for size in SIZES}
    ungroks = all(test[TOO_LITTLE] < 0.5 < test[ENOUGH] for test in (whole, half))
    return ungroks and max(map(abs, gaps.values())) <= LARGEST_GAP, gaps


# E2b-middle. The paper, p = 113: a test accuracy of about 0.7 with 800 to 1000 pairs.
LEAST_IN_BETWEEN = 0.5


@claim("E2b-middle", source="section 5", fails_on=UNTRAINED)
def ungroks_in_part_in_between(runs: Runs) -> Outcome:
    """In between, the network ungroks in part."""
    accuracy = runs.one("ungrok_350").final("test_accuracy")
    return LEAST_IN_BETWEEN <= accuracy < KEPT, {"test, 350 pairs": accuracy}


# Claims of the paper that are not checked here.
claim.not_tried(
    "E2c",
    "Near the critical size a new network generalizes in part and stays there (semi-grokking)",
    "section 5",
    reason="The paper finds it in 12 to 16 % of 200 runs that are trained for up to 10 million steps.",
)


if __name__ == "__main__":
    ex.run_as_script()
