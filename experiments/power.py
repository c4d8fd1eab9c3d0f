"""Power, Burda, Edwards, Babuschkin, Misra 2022, arXiv:2201.02177.

"Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets". A two-layer transformer
reads `E a o b =` and is trained on a fraction of the table of a binary operation o to predict its
result, with cross-entropy at the last position, on mini-batches. (List operations read
`o x1 ... xL =` and predict a list.) The paper finds that the network generalizes long after it has
memorized the train set, the later the less data there is; that weight decay helps most, random
labels hurt only if there are many, and symmetric operations need less data; and that where the loss
is sharper the test accuracy is lower.

    python experiments/power.py with cpu         # x + y mod 97, about 1 minute
    python experiments/power.py with division    # other operations: permutation, lists, ...
    python experiments/power.py with operation="a**2 + b if odd(a) else a/b" p=31
    grok replicate power                         # all claims: 143 runs, over two hours
    python analysis/power_figures.py             # figures 1 to 4, 6 and 7
"""

from collections.abc import Mapping
from dataclasses import replace
from math import inf
from typing import Any, Literal

import numpy as np

from grok.claims.checks import (
    least_fractions,
    log_rank,
    median_steps,
    rank_correlation,
    within,
)
from grok.claims.controls import reversed_effect
from grok.claims.model import Claims, Outcome, Runs, Undecided
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts
from grok.experiment.config_types import (
    Activation,
    BelowOne,
    Betas,
    Count,
    CountFromZero,
    Device,
    Dtype,
    Modulus,
    NonNegative,
    Norm,
    OpenFraction,
    OptimizerKind,
    Positions,
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.experiment.recording import Recorder
from grok.measures.sharpness import sharpness, top_eigenvalue
from grok.measures.spectra import circle_fraction
from grok.measures.vectors import rms_norms
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, SequenceLogits
from grok.tasks.lists import LIST_OPERATIONS

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("power", threshold=0.99, delay=1000)
claim = Claims(ex)

# Of a table's rows: operands, the operator o, and a token E that ends and begins a sequence.
LAYOUT = "Eaob="


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task: an operation of grok/tasks/operations.py, s5, sort, reverse, copy, or an expression
    operation: str = "x_plus_y"  # the operation, by name or as an expression such as a**2 + b
    p: Modulus = 97  # the modulus
    symmetric: bool = False  # whether only pairs with a <= b are in the table
    train_fraction: OpenFraction = 0.5  # fraction of the rows to train on; the others are for test
    train_count: Count | None = None  # number of rows to train on, in place of train_fraction
    noisy_answers: CountFromZero = 0  # train rows with a random label (figure 6)
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed
    list_length: Count = 4  # of sort, reverse, copy: numbers in a list, all different and below p
    list_count: Count = 5000  # of sort, reverse, copy: lists in the table

    # Model
    depth: Count = 2  # layers
    width: Count = 128  # dimension of the residual stream; the MLP has four times as many neurons
    heads: Count = 4  # attention heads
    activation: Activation = "relu"  # of the MLP's neurons
    norm: Norm = "post"  # where LayerNorm is: after each part, before it, or nowhere
    positions: Positions = "sinusoidal"  # positional embedding: fixed sinusoids, or learned
    tied: bool = False  # whether W_E and W_U are one matrix
    init_scale: NonNegative = 1.0  # factor of the initial weights
    dropout: BelowOne = 0.0  # fraction of an MLP's outputs that are dropped in training

    # Optimization
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 1.0  # of all parameters
    decay_to: Literal["zero", "init"] = "zero"  # init: weights decay to their initial values
    warmup_steps: CountFromZero = 10  # steps over which lr rises from zero, linearly
    anneal_steps: CountFromZero = 0  # steps of a cosine to a tenth of lr; 0 for a constant lr
    weight_noise: NonNegative = 0.0  # standard deviation, added to the weights at each gradient
    update_noise: NonNegative = 0.0  # standard deviation, added to Adam's direction
    sam_rho: NonNegative = 0.0  # radius of sharpness-aware minimization; 0 for none

    # Training
    batch_size: Count | None = 512  # rows per step, at most half of the train set; None for all
    train_steps: Count = 10_000  # steps of the optimizer
    stop_when_grokked: bool = False  # stop once train and test accuracy have reached 99 %

    # Evaluation
    log_points: Count = 100  # evaluation steps, logarithmically spaced
    sharpness: bool = False  # whether to measure the sharpness of the final weights

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = None  # of the log-softmax; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


ex.read_if("list_length", "list_count", operation=LIST_OPERATIONS)

ex.preset(
    "paper",
    "Division modulo 97 with weight decay, 100,000 steps.",
    {"operation": "x_div_y", "train_steps": 100_000, "log_points": 300},
)
ex.preset(
    "paper_figure1",
    "Figure 1 left: division modulo 97 without weight decay, a million steps.",
    {"operation": "x_div_y", "weight_decay": 0.0, "train_steps": 1_000_000},
)
ex.preset("division", "x / y modulo 97.", {"operation": "x_div_y"})
ex.preset("permutation", "Products of permutations of five elements.", {"operation": "s5"})
ex.preset("polynomial", "x^2 + x y + y^2 modulo 97.", {"operation": "x2_plus_xy_plus_y2"})
ex.preset("lists", "Sorting lists of four numbers below 31.", {"operation": "sort", "p": 31})
ex.preset(
    "conditional",
    "x + y where x is even, else x - y, modulo 97.",
    {"operation": "plus_if_even_else_minus"},
)
ex.preset(
    "cpu",
    "Grokking of x + y modulo 97 by one layer: 2300 to 3900 steps, about 1 minute.",
    {"train_steps": 6000, "stop_when_grokked": True, "depth": 1},
)
ex.preset(
    "product",
    "x y modulo 97 as in Lee et al. 2024, to be run with grokfast=ema and without.",
    {
        "operation": "x_times_y",
        "norm": "pre",
        "activation": "gelu",
        "positions": "learned",
        "optimizer": "adam",
        "weight_decay": 0.005,
        "train_steps": 5000,
        "stop_when_grokked": True,
    },
)

SMALL = {"p": 31, "width": 64, "train_steps": 8000, "stop_when_grokked": True}
FIGURE_2 = {"operation": "s5", "train_steps": 100_000}

ex.preset("small", "x + y modulo 31, width 64: a figure's worth of runs in minutes.", SMALL)


def preset_of_figure_2(name: str, sentence: str, changes: Mapping[str, Any]) -> None:
    """Declare one curve of figure 2 left, at a laptop's scale and as in the paper."""
    ex.preset(f"small_{name}", f"Figure 2 left, as small: {sentence}.", {**SMALL, **changes})
    ex.preset(f"paper_{name}", f"Figure 2 left, S_5: {sentence}.", {**FIGURE_2, **changes})


NO_DECAY = {"weight_decay": 0.0}
preset_of_figure_2("full_batch_adam", "Adam, full batch", {**NO_DECAY, "batch_size": None})
preset_of_figure_2("adam", "Adam", NO_DECAY)
preset_of_figure_2(
    "update_noise",
    "Adam, full batch, noise on the update",
    {**NO_DECAY, "batch_size": None, "update_noise": 0.1},
)
preset_of_figure_2("dropout", "Adam with dropout", {**NO_DECAY, "dropout": 0.1})
preset_of_figure_2("adamw", "AdamW, weight decay to zero", {})
preset_of_figure_2(
    "adamw_to_init", "AdamW, weight decay to the initial weights", {"decay_to": "init"}
)
preset_of_figure_2("slow_adam", "Adam with 0.3 times the learning rate", {**NO_DECAY, "lr": 3e-4})
preset_of_figure_2("fast_adam", "Adam with 3 times the learning rate", {**NO_DECAY, "lr": 3e-3})
preset_of_figure_2("weight_noise", "Adam, noise on the weights", {**NO_DECAY, "weight_noise": 0.01})

# x - y is not commutative, so that half of the table does not give the other half.
DIFFERENCE = {
    "operation": "x_minus_y",
    "depth": 1,
    "train_steps": 10_000,
    "stop_when_grokked": True,
}
ex.preset(
    "difference_adam",
    "x - y modulo 97 by one layer without weight decay.",
    {**DIFFERENCE, **NO_DECAY},
)
ex.preset(
    "difference_adamw_to_init",
    "x - y modulo 97 by one layer with weight decay to the initial weights.",
    {**DIFFERENCE, "decay_to": "init"},
)


@ex.build
def build(c: Config) -> Problem:
    """Train on sequences whose last `count` positions name the result: 1 number, or a list.

    Logged at every evaluation step: loss and accuracy on all train and all test rows, and the norm
    of all weights. A row is correct if all of its labels are.
    """
    split, count, vocabulary, classes = parts.token_sequences(c, LAYOUT)
    rows, length = split["train_tokens"].shape
    half = -(-rows // 2)
    batch_size = None if c.batch_size is None else min(c.batch_size, half)
    has_dropout = c.dropout > 0
    # with dropout, equal prefixes differ, so none is shared
    data = parts.sequence_data(split, 0 if has_dropout else batch_size)
    shape = TransformerConfig(
        vocabulary,
        classes,
        length,
        width=c.width,
        depth=c.depth,
        heads=c.heads,
        mlp_width=4 * c.width,
        norm=c.norm,
        activation=c.activation,
        positions=c.positions,
        tied=c.tied,
        init_scale=c.init_scale,
        dropout=c.dropout,
    )
    model = parts.make_transformer(c, shape)
    loss = ClassificationLoss(SequenceLogits(count, dropout=has_dropout), loss_dtype=c.loss_dtype)
    grokked = Stop((("train_accuracy", ex.threshold), ("test_accuracy", ex.threshold)))
    stop = grokked if c.stop_when_grokked else None
    return parts.classification_problem(c, model, data, loss, batch_size=batch_size, stop=stop)


ADAPTIVE_BOX = 0.01  # as large as Keskar's, 0.001 (|w| + 1), for weights of 0.1


@ex.summarize
def summarize(c: Config, problem: Problem, recorder: Recorder) -> dict[str, Any]:
    """Measures of the final weights.

    Returns:
        rms_norms, the root mean square of every tensor. With `sharpness`: sharpness (Keskar et al.
        2017); published_sharpness, what the published code computes, in which the minimum stands
        for the maximum; adaptive_sharpness, the first in a box in proportion to the weights; and
        top_eigenvalue, of the train loss's Hessian. Unless `tied`: circle_gain, by which factor the
        fraction of W_U's power at its strongest frequency has grown.
    """
    if recorder.outcome is None:
        return {}
    weights = recorder.outcome.weights
    result: dict[str, Any] = {"rms_norms": rms_norms(weights)}
    if c.sharpness:
        near = problem.module, problem.loss, problem.data, weights
        result["sharpness"], result["published_sharpness"] = sharpness(*near)
        result["adaptive_sharpness"], _ = sharpness(*near, eps=ADAPTIVE_BOX, adaptive=True)
        result["top_eigenvalue"] = top_eigenvalue(*near)
    if not c.tied:
        initial = problem.module.get_parameter("output.weight").detach()
        final = weights["output.weight"]
        result["circle_gain"] = circle_fraction(final) / circle_fraction(initial)
    return result


# Claims. Steps to an accuracy are reached and held: the first evaluation step that has it, if the
# next one has it too. The smallest train fraction at which an accuracy is ever logged is inf if it
# is at none of those of the sweep. The ids begin with 01 for this paper. A claim that is checked
# seed by seed passes if it holds on all of them; every claim must fail on runs changed as
# `fails_on` says, and `control=True` marks a statement of ours, not of the paper
# (docs/concepts/claims.md).

CENTER, LESS_DATA, DECAY = "power_figure1_center", "power_less_data", "power_decay"
SYMMETRY = "power_symmetry"
DIFFERENCES, OUTLIERS, SHARPNESS = "power_difference", "power_outliers", "power_figure7"

# Negative controls: most of the data in every run, from which the network begins to generalize before
# step 2000; and untrained networks.
MOST_DATA = {"train_fraction": 0.9}
UNTRAINED = {"train_steps": 20}

# 01-C1. The paper's figure 1 left is x / y modulo 97 without weight decay: train accuracy is 99 %
# within 1,000 steps, test accuracy after nearly a million. Ours is x + y modulo 31 with weight decay
# 1, half of the table, 8,000 steps:
MEMORIZED_BY = 400
MOST_TEST_ACCURACY_AT_2000 = 0.5  # not included
LEAST_DELAY_RATIO = 8  # steps to 99 % of the test rows over steps to 99 % of the train rows


@claim("01-C1", source="section 3.1, with weight decay", sweep=CENTER, fails_on=MOST_DATA)
def generalizes_long_after_memorizing(runs: Runs) -> Outcome:
    """Trained with weight decay, the network generalizes long after it has memorized."""
    is_late, numbers = within(
        runs,
        ("small", "steps_to_train", 1, MEMORIZED_BY),
        ("small", "delay_ratio", LEAST_DELAY_RATIO, inf),
    )
    numbers["test at 2000"] = runs.one("small").at("test_accuracy", 2000)
    return is_late and numbers["test at 2000"] < MOST_TEST_ACCURACY_AT_2000, numbers


# 01-C2. The paper, S_5: 40 to 50 % more steps for each percent less of the table, near 25 to 30 %. Ours:
# Kaplan-Meier medians, and a log-rank test of 40 % against 60 %. If the runs are too short to tell that 40 %
# takes so many times as long, it is not decided.
LEAST_RATIO_40_TO_60 = 2
MOST_P_40_AGAINST_60 = 0.05


@claim("01-C2", source="figure 1 center", sweep=LESS_DATA, pooled=True, fails_on=MOST_DATA)
def less_data_takes_more_steps(runs: Runs) -> Outcome:
    """The less data, the more steps it takes to generalize."""
    medians = median_steps(runs, "train_fraction", 0.4, 0.5, 0.6, 0.7, test=0.99)
    at_40, at_50, at_60, at_70 = medians.values()
    is_ordered = at_40 > at_50 > at_60 > at_70
    last_step = min(run.config["train_steps"] for run in runs)
    if at_40 == inf and last_step < LEAST_RATIO_40_TO_60 * at_60 < inf:
        raise Undecided(f"at 40 % more than {last_step} steps are needed")
    p = log_rank(runs, "train_fraction", 0.4, 0.6, test=0.99)
    passed = is_ordered and at_40 >= LEAST_RATIO_40_TO_60 * at_60 and p <= MOST_P_40_AGAINST_60
    return passed, {**medians, "log-rank p, 0.4 against 0.6": p}


# 01-C3. The paper, S_5: AdamW needs less than half of the data of most other interventions. Where Adam
# generalizes from no fraction of the sweep, there is nothing to compare with.
MOST_FRACTION_OF_DATA = 0.5


@claim("01-C3", source="figure 2 left", sweep=DECAY, fails_on=UNTRAINED)
def weight_decay_halves_the_data(runs: Runs) -> Outcome:
    """With weight decay half of the data is enough."""
    fractions = least_fractions(runs, "preset", "small_adamw", "small_adam")
    with_decay, without = fractions.values()
    if with_decay < inf == without:
        raise Undecided("without weight decay no train fraction is enough")
    return with_decay < inf and with_decay <= MOST_FRACTION_OF_DATA * without, fractions


# 01-C3-init. The paper, S_5 in 100,000 steps: it helps, but less than weight decay to zero. Ours,
# x - y modulo 97 by one layer in 10,000 steps. If both need the smallest fraction of the sweep, or neither learns
# from the largest, the sweep does not tell which needs less.
@claim("01-C3-init", source="figure 2 left", sweep=DIFFERENCES, fails_on=reversed_effect)
def decay_to_initial_weights_helps(runs: Runs) -> Outcome:
    """Weight decay to the initial weights helps too."""
    names = "difference_adamw_to_init", "difference_adam"
    fractions = least_fractions(runs, "preset", *names)
    with_decay, without = fractions.values()
    smallest = min(run.config["train_fraction"] for run in runs)
    if with_decay == without and without in (smallest, inf):
        raise Undecided(f"both need a train fraction of {without}")
    return with_decay < without, fractions


# 01-C4. The paper: x + y is learned from less of the table than x - y. If the smallest fraction of the
# sweep is enough for both, it does not tell which needs less.
@claim("01-C4", source="figure 2 right", sweep=SYMMETRY, fails_on=UNTRAINED)
def symmetric_operation_needs_less_data(runs: Runs) -> Outcome:
    """A symmetric operation needs less data than one that is not."""
    fractions = least_fractions(runs, "operation", "x_plus_y", "x_minus_y")
    plus, minus = fractions.values()
    if plus == minus == min(run.config["train_fraction"] for run in runs):
        raise Undecided(f"both need a train fraction of {plus}")
    return plus < minus < inf, fractions


# 01-C4-never. The paper: not from 95 % of the table. Ours: below 30 % at up to 80 % of the table.
NEVER = 0.3  # test accuracy


@claim("01-C4-never", source="figure 2 right", sweep=SYMMETRY, fails_on=UNTRAINED)
def cubic_is_never_learned(runs: Runs) -> Outcome:
    """x^3 + x y^2 + y is memorized and never learned."""
    cubic = runs.where(operation="x3_plus_xy2_plus_y")
    memorized = min(run.logged("train_accuracy")[1].max() for run in cubic)
    learned = max(run.logged("test_accuracy")[1].max() for run in cubic)
    return memorized >= 0.99 and learned < NEVER, {"train, least": memorized, "test, most": learned}


# 01-C5. The paper, S_5: train accuracy is 100 % with any number of random labels; up to 1000 hardly
# matter, 2000 do, which are 14 and 28 % of the train rows at half of the table. Ours, fractions of
# the table ten points apart: 58 and 173 random labels, 10 and 30 % of the train rows at 60 %.
@claim("01-C5", source="figure 6", sweep=OUTLIERS, fails_on=UNTRAINED)
def few_outliers_cost_no_data(runs: Runs) -> Outcome:
    """All random labels are memorized; a few cost no data, many do."""
    fractions = least_fractions(runs, "noisy_answers", 0, 58, 173)
    none, few, many = fractions.values()
    memorized = min(run.logged("train_accuracy")[1].max() for run in runs)
    return none == few < many and memorized == 1, {**fractions, "train, least": memorized}


MEASURES = ("sharpness", "published_sharpness", "adaptive_sharpness", "top_eigenvalue")


def unrelated(runs: Runs) -> Runs:
    """Forty runs whose measures of sharpness and test accuracy are drawn independently."""
    draw = np.random.default_rng(0).random
    names = ("test_accuracy", *MEASURES)
    results = [{"train_accuracy": 1.0, **{name: draw() for name in names}} for _ in range(40)]
    return Runs(replace(runs[0], result=result) for result in results)


# 01-C6 and our controls on other measures of sharpness. The paper, S_5: Spearman's rank correlation
# is -0.795, p < 1.4e-5. Ours is over the runs whose final train accuracy is at least 99 %, and its
# whole confidence interval must be below 0. The level allows for four tries at one hypothesis.
LEVEL = 1 - 0.05 / 4
LEAST_RUNS = 15


def sharpness_lowers_accuracy(runs: Runs, entry: str) -> Outcome:
    """Whether test accuracy is rank correlated, negatively, with an entry of the result."""
    numbers = rank_correlation(runs, entry, "test_accuracy", level=LEVEL)
    return numbers["runs"] >= LEAST_RUNS and numbers["high"] < 0, numbers


@claim("01-C6", source="figure 7", sweep=SHARPNESS, pooled=True, fails_on=unrelated)
def sharper_is_worse(runs: Runs) -> Outcome:
    """The larger the sharpness, the lower the test accuracy."""
    return sharpness_lowers_accuracy(runs, "sharpness")


@claim(
    "01-C6-published",
    source="figure 7",
    sweep=SHARPNESS,
    pooled=True,
    control=True,
    fails_on=unrelated,
)
def sharper_as_published_is_worse(runs: Runs) -> Outcome:
    """The larger the sharpness that the published code computes, the lower the test accuracy."""
    return sharpness_lowers_accuracy(runs, "published_sharpness")


@claim(
    "01-C6-adaptive",
    source="figure 7",
    sweep=SHARPNESS,
    pooled=True,
    control=True,
    fails_on=unrelated,
)
def sharper_in_proportion_is_worse(runs: Runs) -> Outcome:
    """The larger the sharpness in a box in proportion to the weights, the lower the test accuracy."""
    return sharpness_lowers_accuracy(runs, "adaptive_sharpness")


@claim(
    "01-C6-hessian",
    source="figure 7",
    sweep=SHARPNESS,
    pooled=True,
    control=True,
    fails_on=unrelated,
)
def more_curved_is_worse(runs: Runs) -> Outcome:
    """The larger the top eigenvalue of the Hessian, the lower the test accuracy."""
    return sharpness_lowers_accuracy(runs, "top_eigenvalue")


# 01-C7. The paper shows it by t-SNE, modulo 97. Ours: `circle_gain` of `summarize`, modulo 97 with one
# layer. (Modulo 31 the strongest frequency has a twelfth of the power from the start, and this
# measured 2.4 to 3.2.)
LEAST_CIRCLE_GAIN = 3


@claim("01-C7", source="figure 3", fails_on=UNTRAINED)
def numbers_lie_on_a_circle(runs: Runs) -> Outcome:
    """The numbers lie on a circle in the output layer."""
    return within(runs, ("cpu", "circle_gain", LEAST_CIRCLE_GAIN, inf))


# Claims of the paper that are not checked here.
claim.not_tried(
    "01-C1-figure",
    "Without weight decay x / y modulo 97 is memorized within 1,000 steps and learned after nearly a million",
    "figure 1 left",
    reason="The recipe, `paper_figure1`, makes a million steps: hours on a GPU.",
)
claim.not_tried(
    "01-C7-cosets",
    "The output weights of S5 cluster by the cosets of a subgroup",
    "figure 3",
    reason="No S5 network is trained long enough here; its clusters are to be measured.",
)


if __name__ == "__main__":
    ex.run_as_script()
