"""DeMoss, Sapora, Foerster, Hawes, Posner 2025, arXiv:2412.09810, and Lau et al. 2023, arXiv:2308.12108.

"The complexity dynamics of grokking": the bytes of the simplest weights that have nearly the same train
loss rise while a network memorizes, and fall when it generalizes. "The local learning coefficient": the
exponent with which the volume of small loss around the weights shrinks. Both are instruments. Here they are
measured while networks learn a + b mod p, with weight decay, without it, and with random labels: the
first on the transformer of Zhong et al. 2023, the second on a network with one hidden layer.

    python experiments/complexity.py with cpu              # description length, about a minute
    python experiments/complexity.py with coefficient      # learning coefficient, two minutes
    grok replicate complexity                              # all claims, five seeds: 40 runs, 40 minutes
    grok papers complexity --figures                       # both against the step
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grok.claims.controls import no_effect, with_outcomes_of
from grok.claims.model import Claims, Outcome, Run, Runs
from grok.claims.statistics import paired_ratio
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
from grok.measures.spectra import spectral_entropy
from grok.models.mixed_attention import MixedAttention
from grok.models.mlp import PairMLP
from grok.objectives.classification import ClassificationLoss, InputLogits
from grok.tasks import operations
from grok.tensors import Tensors

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("complexity", threshold=0.95, delay=100)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    p: Modulus = 59  # the modulus; all p^2 ordered pairs
    train_fraction: OpenFraction = 0.6  # fraction of the pairs to train on; the others are for test
    train_count: Count | None = None  # number of train pairs; None for train_fraction of all
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed
    noisy_answers: CountFromZero = 0  # train pairs with the label of another train pair

    # Model
    network: Literal["transformer", "mlp"] = "transformer"  # of one layer, or of one hidden layer
    width: Count = 64  # of the transformer's residual stream, or neurons of the hidden layer
    heads: Count = 4  # of the transformer's attention; they divide the width
    mlp_width: Count = 256  # neurons of the transformer

    # Optimization
    optimizer: OptimizerKind = "adamw"  # kind of optimizer
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 2.0  # decoupled, of all parameters
    entropy_penalty: NonNegative = 0.0  # factor of the spectral entropy of all matrices in the loss
    warmup_steps: CountFromZero = 10  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = None  # pairs per step; None for the whole train set
    train_steps: Count = 2000  # steps of the optimizer

    # Evaluation
    eval_steps: Count | None = 50  # steps between evaluations
    snapshot_every: Count = 1  # evaluations between two measurements
    measures: str = "description_length"  # instruments; learning_coefficient is the other one

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = "float64"  # of the log-softmax
    device: Device = "auto"  # auto: CUDA where there is one


ex.read_if("heads", "mlp_width", network="transformer")

COEFFICIENT = {
    "p": 47,
    "network": "mlp",
    "width": 128,
    "lr": 3e-3,
    "betas": (0.9, 0.999),
    "weight_decay": 1.0,
    "warmup_steps": 0,
    "train_steps": 4000,
    "eval_steps": 100,
    "measures": "learning_coefficient",
    "snapshot_every": 2,
}
# noisy_answers of all train pairs
OF_TRANSFORMER, OF_MLP = {"noisy_answers": 2088}, {"noisy_answers": 1325}

ex.preset("cpu", "Description length of a transformer that groks within 1000 steps.")
ex.preset("no_decay", "The same without weight decay: it memorizes.", {"weight_decay": 0.0})
ex.preset("random_labels", "The same with random labels.", OF_TRANSFORMER)
ex.preset(
    "entropy",
    "As cpu with the spectral entropy of all matrices in the loss.",
    {"entropy_penalty": 0.1},
)
ex.preset("coefficient", "Learning coefficient of one hidden layer that groks.", COEFFICIENT)
ex.preset(
    "coefficient_no_decay",
    "The same without weight decay: it memorizes.",
    {**COEFFICIENT, "weight_decay": 0.0},
)
ex.preset(
    "coefficient_random_labels",
    "The same with random labels.",
    {**COEFFICIENT, **OF_MLP},
)


@dataclass(frozen=True)
class EntropyPenalizedLoss(ClassificationLoss):
    """The classification loss plus a multiple of the spectral entropies of all matrices, in nats.

    The spectral entropy of a matrix is that of its singular values, divided by their sum (DeMoss et
    al., section 5).

    Arguments:
        factor: of the sum of the entropies.
    """

    factor: float = 0.0

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        matrices = [weights for weights in model.parameters() if weights.ndim == 2]
        entropies = [spectral_entropy(matrix) for matrix in matrices]
        return super().__call__(model, data) + self.factor * torch.stack(entropies).sum()


@ex.build
def build(c: Config) -> Problem:
    """Train on a part of all pairs. The logged losses do not have the penalty."""
    if c.network == "transformer":
        parts.check_heads(c.width, c.heads)
    table = operations.table("x_plus_y", c.p)
    data = parts.labels_as_columns(parts.split_operation_table(c, table))

    def make() -> nn.Module:
        if c.network == "transformer":
            return MixedAttention(c.p, c.width, c.heads, c.mlp_width, rate=1.0)
        return PairMLP(c.p, c.p, [c.width], "relu", bias=False)

    loss = ClassificationLoss(InputLogits(), loss_dtype=c.loss_dtype)
    if c.entropy_penalty:
        loss = EntropyPenalizedLoss(loss.logits, loss_dtype=c.loss_dtype, factor=c.entropy_penalty)
    return parts.classification_problem(c, parts.init_with_seed(c, make), data, loss)


BYTES = "description_length/bytes"
NAIVE_BYTES = "description_length/naive_bytes"
RANK = "description_length/entropy_rank/embed"
COEFFICIENTS = "learning_coefficient/llc"
LABELS = ("weight decay", "no decay", "random labels")
OF_BYTES = ("cpu", "no_decay", "random_labels")
OF_COEFFICIENTS = ("coefficient", "coefficient_no_decay", "coefficient_random_labels")
COLORS = ("tab:blue", "tab:green", "tab:gray")


@ex.figure()
def measures(runs: Runs) -> Any:
    """Description length, rank of the embeddings and learning coefficient against the step."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 5), layout="constrained")
    panels = figure.subplots(2, 3, sharex="col")
    columns = ((BYTES, OF_BYTES), (RANK, OF_BYTES), (COEFFICIENTS, OF_COEFFICIENTS))
    for axes, (metric, names) in zip(panels.T, columns, strict=True):
        for name, label, color in zip(names, LABELS, COLORS, strict=True):
            for index, run in enumerate(runs.all(name)):
                text = None if index else label
                axes[0].plot(*run.logged(metric), color=color, alpha=0.7, label=text)
                axes[1].plot(*run.logged("test_accuracy"), color=color, alpha=0.7)
        axes[1].set(xlabel="step", ylim=(0, 1.05))
    for axes, title in zip(
        panels[0], ("bytes", "rank of the embeddings", "learning coefficient"), strict=True
    ):
        axes.set(ylabel=title)
    panels[0, 0].legend()
    panels[1, 0].set(ylabel="test accuracy")
    return figure


# Claims, of the runs of sweeps/complexity_cpu.yaml, which has other seeds than those with which the recipe
# was found. A claim passes if it holds on all seeds; every claim must fail on runs changed as `fails_on`
# says (docs/concepts/claims.md).


def with_metrics_of(runs: Runs, of_transformers: str, of_mlps: str) -> Runs:
    """The runs with the results and metrics of the named ones, by network."""
    names = {"transformer": of_transformers, "mlp": of_mlps}
    return with_outcomes_of(runs, [runs.one(names[run.config["network"]]) for run in runs])


def all_grok(runs: Runs) -> Runs:
    """Every run has the metrics of the one with the same network that groks."""
    return with_metrics_of(runs, "cpu", "coefficient")


def none_groks(runs: Runs) -> Runs:
    """Every run has the metrics of the one with the same network and no weight decay."""
    return with_metrics_of(runs, "no_decay", "coefficient_no_decay")


def series_of_naive_size(runs: Runs) -> Runs:
    """The naive size of each transformer is replaced by its description length."""
    return Runs(
        replace(run, series={**run.series, NAIVE_BYTES: run.series[BYTES]})
        if run.config["network"] == "transformer"
        else run
        for run in runs
    )


def end_to_most(run: Run, metric: str) -> float:
    """The last value of a metric, as a part of its largest one."""
    return float(run.final(metric) / run.logged(metric)[1].max())


# B6a. DeMoss et al., figure 2: a rise at memorization and a fall at generalization. Ours: the largest size comes
# before 30 % test accuracy, and the last one is half of it at most.
MOST_TEST_AT_PEAK = 0.3
MOST_LEFT = 0.5


@claim("B6a", source="DeMoss et al., figure 2", fails_on=none_groks)
def complexity_rises_and_falls(runs: Runs) -> Outcome:
    """The description length rises while the network memorizes, and falls when it generalizes."""
    run = runs.one("cpu")
    steps, sizes = run.logged(BYTES)
    peak = int(steps[sizes.argmax()])
    test, left = run.at("test_accuracy", peak), end_to_most(run, BYTES)
    passed = test < MOST_TEST_AT_PEAK and left <= MOST_LEFT
    return passed, {"bytes at most": float(sizes.max()), "test then": test, "left": left}


# B6b. DeMoss et al., figure 2: no fall without regularization. Ours: 80 % at least is left.
LEAST_LEFT_UNDECAYED = 0.8


@claim("B6b", source="DeMoss et al., figure 2", fails_on=all_grok)
def complexity_stays_without_decay(runs: Runs) -> Outcome:
    """Without weight decay the description length stays high."""
    left = end_to_most(runs.one("no_decay"), BYTES)
    return left >= LEAST_LEFT_UNDECAYED, {"left": left}


# B6c. DeMoss et al., figure 9: bzip2 of the weights as they are is flat. Ours: 97 % at least is left.
LEAST_LEFT_NAIVELY = 0.97


@claim("B6c", source="DeMoss et al., figure 9", fails_on=series_of_naive_size)
def naive_compression_sees_nothing(runs: Runs) -> Outcome:
    """The weights as they are compress to the same size all along."""
    left = end_to_most(runs.one("cpu"), NAIVE_BYTES)
    return left >= LEAST_LEFT_NAIVELY, {"left": left}


# B6d. DeMoss et al., figure 8: the effective rank falls. Ours: that of the embeddings by 15 % at least, and by
# 10 % at most without weight decay.
MOST_RANK_LEFT = 0.85
LEAST_RANK_LEFT_UNDECAYED = 0.9


@claim("B6d", source="DeMoss et al., figure 8", fails_on=all_grok)
def rank_falls_with_decay_alone(runs: Runs) -> Outcome:
    """The effective rank of the embeddings falls when the network generalizes, and else it does not."""
    left, undecayed = (end_to_most(runs.one(name), RANK) for name in ("cpu", "no_decay"))
    passed = left <= MOST_RANK_LEFT and undecayed >= LEAST_RANK_LEFT_UNDECAYED
    return passed, {"left": left, "left without decay": undecayed}


# B6-labels. Ours: as B6b, where there is nothing to learn but the labels themselves.
@claim("B6-labels", source="added to figure 2", control=True, fails_on=all_grok)
def complexity_stays_with_random_labels(runs: Runs) -> Outcome:
    """With random labels, which weight decay cannot simplify, the description length stays high."""
    run = runs.one("random_labels")
    left, train = end_to_most(run, BYTES), run.final("train_accuracy")
    passed = left >= LEAST_LEFT_UNDECAYED and train >= ex.threshold
    return passed, {"left": left, "train": train}


# B5-specific. Lau et al. say nothing of networks that grok. Ours: a fifth of the largest coefficient at most
# is left, with a test accuracy of 5 % at most.
MOST_COEFFICIENT_LEFT = 0.2
MOST_CHANCE = 0.05


@claim("B5-specific", source="added to Lau et al.", control=True, fails_on=all_grok)
def coefficient_falls_without_generalization(runs: Runs) -> Outcome:
    """The learning coefficient falls after memorization in networks that never generalize, too."""
    passed = True
    numbers: dict[str, float] = {}
    for name, label in zip(OF_COEFFICIENTS[1:], LABELS[1:], strict=True):
        run = runs.one(name)
        left, test = end_to_most(run, COEFFICIENTS), float(run.logged("test_accuracy")[1].max())
        passed &= left <= MOST_COEFFICIENT_LEFT and test <= MOST_CHANCE
        numbers |= {f"{label}: left": left, f"{label}: test": test}
    return passed, numbers


# B6-entropy. DeMoss et al. penalize the entropy with a factor of 0.1 besides weight decay. Ours: the bytes
# without the penalty, divided by those with it, have a geometric mean whose 95 % bootstrap interval is above 1,
# and all networks generalize.
@claim(
    "B6-entropy",
    source="DeMoss et al., section 5",
    sweep="complexity_entropy",
    pooled=True,
    fails_on=no_effect,
)
def entropy_penalty_compresses_further(runs: Runs) -> Outcome:
    """Penalizing the spectral entropy compresses networks further than weight decay does."""
    plain, penalized = runs.all("cpu"), runs.all("entropy")
    sizes = [[run.final(BYTES) for run in found] for found in (plain, penalized)]
    ratio, low, high = paired_ratio(*sizes)
    test = min(run.final("test_accuracy") for run in (*plain, *penalized))
    numbers = {"bytes": median(sizes[0]), "bytes with the penalty": median(sizes[1])}
    numbers |= {"ratio": ratio, "from": low, "to": high, "least test accuracy": test}
    return low > 1 and test >= ex.threshold, numbers


if __name__ == "__main__":
    ex.run_as_script()
