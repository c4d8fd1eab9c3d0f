"""Nanda, Chan, Lieberum, Smith, Steinhardt 2023, arXiv:2301.05217.

"Progress measures for grokking via mechanistic interpretability". A one-layer transformer reads
`a b =` and is trained on a fraction of all pairs (a, b) to predict a + b mod p, with cross-entropy
at the last position and weight decay, full batch. The paper finds that it learns to add by
rotations of a few key frequencies, and that measures of this circuit (restricted and excluded loss)
change steadily long before the test loss drops. Here these measures are computed at the end of a
run, from the weights that were kept at evaluation steps.

    python experiments/nanda.py with cpu    # p = 59, about 2 minutes
    grok replicate nanda                    # all claims: 14 runs, about 15 minutes
    python analysis/nanda_figures.py        # figures 3 and 7; the embedding
"""

from math import inf
from typing import Any

import numpy as np

from grok.claims.checks import within
from grok.claims.model import Claims, Outcome, Runs
from grok.engine.problem import Problem
from grok.experiment import parts
from grok.experiment.config_types import (
    Activation,
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
from grok.experiment.recording import Recorder
from grok.measures import progress
from grok.objectives.classification import ClassificationLoss, SequenceLogits

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("nanda", threshold=0.99, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    operation: str = "x_plus_y"  # operation of a and b whose result is the label, modulo p
    p: Modulus = 113  # the modulus; the table has p^2 pairs
    train_fraction: OpenFraction = 0.3  # fraction of the pairs to train on; the others are for test
    train_count: Count | None = None  # number of pairs to train on, in place of train_fraction
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model: one layer of attention and MLP, learned positions, no LayerNorm, W_E and W_U untied
    width: Count = 128  # dimension of the residual stream
    heads: Count = 4  # attention heads
    mlp_width: Count = 512  # neurons of the MLP
    activation: Activation = "relu"  # activation function of the MLP

    # Optimization
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 1.0  # of all parameters
    warmup_steps: CountFromZero = 10  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = None  # pairs per step; None for the whole train set
    train_steps: Count = 40_000  # steps of the optimizer

    # Evaluation
    log_points: Count = 300  # evaluation steps, logarithmically spaced

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = "float64"  # of the log-softmax; in float32 the loss has spikes
    device: Device = "auto"  # auto: CUDA where there is one
    record_trajectory: bool = True  # keep the weights at evaluation steps, for the measures


CPU = {
    "p": 59,
    "train_fraction": 0.45,
    "width": 64,
    "mlp_width": 256,
    "train_steps": 8000,
    "log_points": 150,
}
CONTROL = {**CPU, "record_trajectory": False}

ex.preset("paper", "The paper's main model: p = 113, 30 % of the pairs, 40,000 steps.")
ex.preset("cpu", "Grokking and its circuit at p = 59: 8000 steps, about 2 minutes.", CPU)
ex.preset(
    "cpu_no_decay",
    "As cpu without weight decay: memorizes and does not grok; 2 minutes.",
    {**CONTROL, "weight_decay": 0.0},
)
ex.preset(
    "cpu_most_data",
    "As cpu with 80 % of the pairs: generalizes without delay; 1 minute.",
    {**CONTROL, "train_fraction": 0.8, "train_steps": 2000},
)
ex.preset(
    "cpu_53",
    "As cpu with p = 53, the sum that the transformer of Liu et al. 2022 learns.",
    {**CPU, "p": 53},
)
ex.preset(
    "laptop_paper_model",
    "The paper's model with 40 % of the pairs, cut to 4000 steps (no claim).",
    {"train_fraction": 0.4, "train_steps": 4000},
)


@ex.build
def build(c: Config) -> Problem:
    """Train on sequences `a b =`, whose label is read at the last position.

    Logged at every evaluation step: loss and accuracy on all train and all test pairs, and the
    L2 norm of all parameters (weight_norm).
    """
    table = parts.operation_table(c)
    split = parts.tokenize_split(c, table, "ab=")
    data = parts.sequence_data(split, c.batch_size)
    model = parts.make_one_layer_transformer(c, table.elements)
    loss = ClassificationLoss(SequenceLogits(), loss_dtype=c.loss_dtype)
    return parts.classification_problem(c, model, data, loss)


@ex.summarize
def summarize(c: Config, problem: Problem, recorder: Recorder) -> dict[str, Any]:
    """The final network's circuit. Logs the progress measures of every step with kept weights.

    W_L = W_U W_out is the neuron-logit map. The key frequencies are those with at least a tenth of
    the largest Fourier power in W_L of the final network. Logged, at these frequencies (section
    5.1):
        restricted_loss: the loss over all pairs when of the logits only their mean over pairs and
            their components cos and sin w_k (a + b) at these frequencies are kept
            (restricted_test_loss: over the test pairs).
        excluded_loss: the loss over the train pairs when these components are removed.
        embedding_gini, neuron_logit_gini: Gini coefficients of the Fourier spectra of W_E and W_L.
        cosine_share: the fraction of the logits' variance that cosines of a + b - c explain.
        embedding_top_two: the fraction of W_E's variance in its first two principal components.
        embedding_dimension: the exponential of the entropy of the fractions of all components.

    Returns:
        The same at the end, and key_frequencies; embedding_share, the fraction of W_E's power at
        them; single_frequency_neurons, the fraction of neurons with 85 % of their variance at one
        frequency; loss over all pairs; least_ablated_loss, the smallest loss over all pairs after
        removing one key frequency. Nothing if the run was interrupted, kept no trajectory, or
        learned another operation.
    """
    if recorder.outcome is None or c.operation != "x_plus_y" or not c.record_trajectory:
        return {}
    train_pairs = parts.split_operation_table(c, parts.operation_table(c))["train_pairs"]
    is_train = progress.grid_of(train_pairs, c.p)
    weights_by_step = recorder.kept_weights()

    final_circuit = progress.circuit_of(problem.module, weights_by_step[-1], c.p)
    summary = progress.summary(final_circuit, is_train)

    keys = summary["key_frequencies"]
    history = progress.history(problem.module, weights_by_step, keys, is_train)
    for name, values in history.items():
        recorder.add(name, recorder.kept_steps(), values)
    return summary


# Claims. Each is checked on the runs of one seed of sweeps/nanda_cpu.yaml if no other sweep is named.
# `runs.one("cpu", "paper")` is the run of whichever of these named configs was run; the thresholds are
# for `cpu`. A step "at" which an accuracy is reached is the first evaluation step that reaches it and
# holds it at the next one. `run.at(metric, step)` is the value at the last evaluation up to that step.
# `within(runs, (config, entry, low, high))` passes if every value is in [low, high]. The ids begin
# with 03 for this paper, and with 02 for that of Liu et al. A claim that is checked seed by seed passes
# if it holds on all of them; every claim must fail on runs changed as `fails_on` says
# (docs/concepts/claims.md).

# Negative controls: networks that have memorized and, without weight decay, learn no circuit; and
# networks that generalize without delay, since they have most of the data.
ONLY_MEMORIZED = {"weight_decay": 0.0, "train_steps": 1000}
MOST_DATA = {"train_fraction": 0.8, "train_steps": 1000}

# 03-C1. The paper, p = 113: train accuracy is 99 % within 1,400 epochs, test accuracy at 10,000 to
# 14,000. Ours, p = 59: train accuracy by step 400, test accuracy at least 8 times as late.
MEMORIZED_BY = 400
LEAST_DELAY_RATIO = 8


@claim("03-C1", source="figure 2", fails_on=ONLY_MEMORIZED)
def groks_long_after_memorizing(runs: Runs) -> Outcome:
    """The network generalizes long after it has memorized."""
    train, test = runs.one("cpu", "paper").steps_to_both(0.99)
    ratio = test / train
    numbers = {"train 99 % at": train, "test 99 % at": test, "ratio": ratio}
    return train <= MEMORIZED_BY and test < inf and ratio >= LEAST_DELAY_RATIO, numbers


# 03-C2. The paper: five key frequencies, 3 to 5 with other seeds. W_E has six.
KEY_FREQUENCY_COUNTS = range(3, 9)  # 3 to 8
LEAST_EMBEDDING_POWER = 0.6


@claim("03-C2", source="figure 3", fails_on=ONLY_MEMORIZED)
def embedding_is_sparse_in_fourier_basis(runs: Runs) -> Outcome:
    """A few key frequencies have most of the power of the embedding W_E."""
    run = runs.one("cpu", "paper")
    count, fraction = len(run["key_frequencies"]), run["embedding_share"]
    passed = count in KEY_FREQUENCY_COUNTS and fraction >= LEAST_EMBEDDING_POWER
    return passed, {"frequencies": count, "share": fraction}


# 03-C3. The paper: 95 % of the variance of the logits is explained.
LEAST_EXPLAINED = 0.8


@claim("03-C3", source="section 4.2", fails_on=ONLY_MEMORIZED)
def logits_are_cosines(runs: Runs) -> Outcome:
    """The logits are a sum of cos(w_k (a + b - c)) over the key frequencies."""
    return within(runs, ("cpu", "cosine_share", LEAST_EXPLAINED, 1))


# 03-C4. The paper: 433 of 512 neurons (84.6 %) have 85 % of their variance at one frequency.
LEAST_SINGLE_FREQUENCY = 0.6


@claim("03-C4", source="section 4.3", fails_on=ONLY_MEMORIZED)
def neurons_have_one_frequency(runs: Runs) -> Outcome:
    """Most neurons respond to a single frequency."""
    return within(runs, ("cpu", "single_frequency_neurons", LEAST_SINGLE_FREQUENCY, 1))


# 03-C5. A loss is halved at the first evaluation after its peak that is below half of the peak.
# Midway to the step at which the test loss is halved, excluded loss must already be twice the train
# loss. The paper gives no numbers. A network that does not reach 99 % test accuracy fails.
LEAST_EARLY_EXCLUDED = 2  # excluded loss over train loss, midway
LEAST_FINAL_EXCLUDED = 10  # the same, at the end


@claim("03-C5", source="figure 7", fails_on=ONLY_MEMORIZED)
def circuit_forms_before_test_loss_falls(runs: Runs) -> Outcome:
    """Restricted loss falls and excluded loss rises before test loss falls."""
    run = runs.one("cpu", "paper")
    restricted, test = run.step_halved("restricted_loss"), run.step_halved("test_loss")
    grokked = run.first_step_held("test_accuracy", 0.99)
    midway = test / 2
    early = run.at("excluded_loss", midway) > LEAST_EARLY_EXCLUDED * run.at("train_loss", midway)
    final_ratio = run.final("excluded_loss") / run.final("train_loss")
    numbers = {
        "restricted halved at": restricted,
        "test halved at": test,
        "grokked at": grokked,
        "excluded over train": final_ratio,
    }
    moves_first = restricted < test < inf and early
    return moves_first and grokked < inf and final_ratio >= LEAST_FINAL_EXCLUDED, numbers


# 03-C6. From memorization (train accuracy 99 %) to the halved test loss is circuit formation, from
# there to grokking (test accuracy 99 %) is cleanup. The paper: epochs 1,400, 9,400 and 14,000; the norm
# falls throughout, and its steepest fall overlaps the drop of the test loss, which is here from the last
# step at which it is 90 % of its largest value until grokking.
LEAST_OF_PEAK = 0.9
MOST_RISE_OF_NORM = 1e-3  # above its smallest value before, relative to that


@claim("03-C6", source="figure 7", fails_on=MOST_DATA)
def weights_shrink_and_spectra_sharpen_in_cleanup(runs: Runs) -> Outcome:
    """The weight norm falls throughout, most steeply as the test loss falls; the Gini coefficients of
    W_E and W_L rise faster in cleanup than in circuit formation."""
    run = runs.one("cpu", "paper")
    train, test = run.steps_to_both(0.99)
    steps = [train, run.step_halved("test_loss"), test]
    numbers = dict(zip(("memorized", "test loss halved", "grokked"), steps, strict=True))
    sharpens = []
    for gini in ("embedding_gini", "neuron_logit_gini"):
        rise_in_formation, rise_in_cleanup = run.rates(gini, steps)
        sharpens.append(rise_in_formation < rise_in_cleanup)
    norm_steps, norms = run.logged("weight_norm")
    is_between = (steps[0] <= norm_steps) & (norm_steps <= steps[2])
    norm_steps, norms = norm_steps[is_between], norms[is_between]
    rise = float((norms / np.minimum.accumulate(norms) - 1).max())
    steepest = int(np.argmin(np.diff(norms) / np.diff(norm_steps)))
    loss_steps, losses = run.logged("test_loss")
    drop_begins = loss_steps[losses >= LEAST_OF_PEAK * losses.max()][-1]
    overlaps = drop_begins < norm_steps[steepest + 1]  # the norm's steps end at grokking
    numbers |= {
        "test loss falls from": drop_begins,
        "steepest fall of the norm at": norm_steps[steepest],
        "rise of the norm": rise,
    }
    return rise <= MOST_RISE_OF_NORM and overlaps and all(sharpens), numbers


# 03-C7. The paper, p = 113: never without weight decay; no delay from 60 % of the pairs on. Ours:
# memorized, and test accuracy below 20 % after 8,000 steps, without weight decay.
MOST_ACCURACY_WITHOUT_DECAY = 0.2  # final test accuracy
MOST_DELAY_RATIO_WITH_DATA = 3  # steps to test over steps to train, with 80 % of the pairs


@claim("03-C7", source="figure 20", fails_on=ONLY_MEMORIZED)
def decay_and_little_data_are_needed(runs: Runs) -> Outcome:
    """There is no grokking without weight decay, and no delay with most of the data."""
    without_decay, most_data = runs.one("cpu_no_decay"), runs.one("cpu_most_data")
    accuracy = without_decay.final("test_accuracy")
    memorized, _ = without_decay.steps_to_both(0.99)
    train, test = most_data.steps_to_both(0.99)
    numbers = {
        "without decay, memorized": memorized,
        "test without decay": accuracy,
        "ratio at 80 %": test / train,
    }
    never_groks = memorized < inf and accuracy < MOST_ACCURACY_WITHOUT_DECAY
    return never_groks and test / train < MOST_DELAY_RATIO_WITH_DATA, numbers


# 03-C8. The paper: 2.41e-7 falls to 5.54e-8 with the circuit alone; without one key frequency it
# rises by three orders of magnitude or more. Ours: tenfold at least.
LEAST_RISE_WITHOUT_FREQUENCY = 10


@claim("03-C8", source="section 4.4", fails_on=ONLY_MEMORIZED)
def circuit_alone_does_better(runs: Runs) -> Outcome:
    """The circuit alone has a lower loss; without any one key frequency it is far higher."""
    run = runs.one("cpu", "paper")
    loss, restricted, ablated = run["loss"], run["restricted_loss"], run["least_ablated_loss"]
    numbers = {"loss": loss, "circuit's": restricted, "without a frequency": ablated}
    return restricted <= loss and ablated >= LEAST_RISE_WITHOUT_FREQUENCY * loss, numbers


# 02-C8. Liu et al. 2022 (arXiv:2205.10343) show the first two principal components of the embeddings of a
# transformer that adds modulo 53, a circle once it generalizes, and the effective number of components,
# which falls sharply. Ours, in this paper's network: when test accuracy is 99 %, the two components have at
# least three times the share of the variance that they had at first; afterwards the number falls by 30 %.
OF_LIU = "nanda_53"
LEAST_RISE_OF_TOP_TWO = 3
MOST_DIMENSION_LEFT = 0.7


@claim("02-C8-circle", source="Liu et al., figure 1", sweep=OF_LIU, fails_on=ONLY_MEMORIZED)
def embedding_becomes_a_circle(runs: Runs) -> Outcome:
    """The embedding of a transformer for addition modulo 53 becomes a circle at generalization."""
    run = runs.one("cpu_53")
    generalized = run.first_step_held("test_accuracy", 0.99)
    first, then = (run.at("embedding_top_two", step) for step in (0, generalized))
    passed = generalized < inf and then >= LEAST_RISE_OF_TOP_TWO * first
    return passed, {"test 99 % at": generalized, "top two at first": first, "top two then": then}


@claim("02-C8-dimension", source="Liu et al., figure 7", sweep=OF_LIU, fails_on=ONLY_MEMORIZED)
def effective_dimension_falls(runs: Runs) -> Outcome:
    """The effective dimension of the embedding of such a transformer falls after generalization."""
    run = runs.one("cpu_53")
    generalized = run.first_step_held("test_accuracy", 0.99)
    then, end = run.at("embedding_dimension", generalized), run.final("embedding_dimension")
    passed = generalized < inf and end <= MOST_DIMENSION_LEFT * then
    return passed, {"test 99 % at": generalized, "dimension then": then, "in the end": end}


if __name__ == "__main__":
    ex.run_as_script()
