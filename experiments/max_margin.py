"""Morwani, Edelman, Oncescu, Zhao, Kakade 2024, arXiv:2311.07568.

"Feature emergence via margin maximization: case studies in algebraic tasks". A one-layer network
with squares as activation is trained on the whole table of a + b mod p, with cross-entropy and a
small penalty of the L_{2,3} norm, the sum over neurons of the cubed norm of all weights of a
neuron. The paper proves which margin is the largest, and that a network which has it uses every
frequency, one in each neuron, with phases that add up. There is no test set, and nothing groks: the
paper explains what networks learn that have grokked.

    python experiments/max_margin.py with cpu    # p = 23, seconds
    grok replicate max_margin                    # all claims, five seeds: 10 runs, seconds
    grok papers max_margin --figures             # margin against the step
"""

from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from grok.claims.checks import within
from grok.claims.model import Claims, Outcome, Runs
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
    OptimizerKind,
    Positive,
)
from grok.experiment.experiment import Config, Experiment
from grok.measures.margins import margins
from grok.objectives.classification import ClassificationLoss, InputLogits
from grok.tensors import Tensors

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("max_margin", threshold=0.99, delay=10)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    p: Modulus = 23  # the modulus, odd; all p^2 pairs are trained on

    # Model
    width: Count = 176  # neurons; 4 (p - 1) are enough for the largest margin
    init_std: Positive = 0.1  # standard deviation of the initial weights

    # Optimization
    penalty: Literal["l23", "l2"] = "l23"  # sum of the cubed norms of neurons, or squared norm
    penalty_weight: NonNegative = 1e-3  # factor of the penalty in the loss
    optimizer: OptimizerKind = "adam"  # kind of optimizer
    lr: NonNegative = 0.01  # learning rate after warmup
    betas: Betas = (0.9, 0.999)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 0.0  # of all parameters, besides the penalty
    warmup_steps: CountFromZero = 0  # steps over which lr rises from zero, linearly

    # Training
    train_steps: Count = 500  # steps of the optimizer, on the whole table

    # Evaluation
    eval_steps: Count | None = 25  # steps between evaluations

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = "float64"  # of the log-softmax
    device: Device = "auto"  # auto: CUDA where there is one


ex.preset("cpu", "The largest margin at p = 23, in seconds.")
ex.preset(
    "l2",
    "The same with a penalty of the squared norm, which has another solution.",
    {"penalty": "l2"},
)
ex.preset(
    "theorem_width",
    "4 (p - 1) neurons: enough for the largest margin to exist, not for training to find it.",
    {"width": 88, "train_steps": 2000},
)
ex.preset(
    "paper",
    "The paper's modulus, width and penalty, with Adam; minutes.",
    {"p": 71, "width": 500, "penalty_weight": 1e-4, "train_steps": 40_000, "eval_steps": 400},
)


class QuadraticSum(nn.Module):
    """sum_i (u_i[a] + v_i[b])^2 w_i for pairs (a, b), without biases.

    Parameters are `left`, `right` and `output`, u, v and w (p, width), normal with a given standard
    deviation.
    """

    def __init__(self, p: int, width: int, std: float):
        super().__init__()
        for name in ("left", "right", "output"):
            setattr(self, name, nn.Parameter(std * torch.randn(p, width)))

    def matrices(self) -> Tensor:
        """u, v and w as one tensor (3, p, N)."""
        return torch.stack([*self.parameters()])

    def forward(self, pairs: Tensor) -> Tensor:
        """Logits (N, p) for pairs (N, 2)."""
        left, right, output = self.parameters()
        return (left[pairs[:, 0]] + right[pairs[:, 1]]) ** 2 @ output.T


@dataclass(frozen=True)
class PenalizedLoss(ClassificationLoss):
    """The classification loss plus a multiple of a norm of the weights.

    Arguments:
        penalty: "l23", the sum over neurons of their cubed norm, or "l2", the squared norm.
        penalty_weight: its factor.
    """

    penalty: str = "l23"
    penalty_weight: float = 0.0

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        weights_3pN = cast(QuadraticSum, model).matrices()
        squares_N = weights_3pN.square().sum((0, 1))
        penalty = (squares_N**1.5).sum() if self.penalty == "l23" else squares_N.sum()
        return super().__call__(model, data) + self.penalty_weight * penalty


def largest_margin(p: int) -> float:
    """The largest margin of networks whose cubed neuron norms add up to 1 (theorem 7)."""
    return sqrt(2 / 27) / (sqrt(p) * (p - 1))


@dataclass(frozen=True)
class MarginMetrics:
    """Loss and accuracy on the table, the margin, and what the neurons are made of.

    Logged are, beside train_loss (without the penalty) and train_accuracy, in which each neuron
    counts by its cubed norm:
        margin_ratio: least margin over the table, divided by the sum of the cubed norms and by the
            largest possible value.
        mean_margin_ratio: the same of the mean over the table and over the other classes.
        frequencies: number of frequencies that are the strongest of some neuron.
        least_share: least share of a frequency, in units of an even one.
        power_share: part of the power at the strongest frequency of each neuron.
        phase_gap: |phi_u + phi_v - phi_w| at this frequency, in radians.
        norm_gap: largest difference of the shares of u, v and w in the squared norm from 1/3.
        constant_share: part of the power that is constant.
    """

    loss: PenalizedLoss
    p: int

    def __call__(self, model: nn.Module, data: Tensors) -> Tensors:
        logits = self.loss.logits(model, data, "train", False)[:, 0].double()
        labels = data["train_labels"][:, 0]
        weights_3pN = cast(QuadraticSum, model).matrices().double()
        cubes_N = weights_3pN.square().sum((0, 1)) ** 1.5
        scale = cubes_N.sum() * largest_margin(self.p)
        right = logits.gather(1, labels.unsqueeze(1))[:, 0]
        others = (logits.sum(1) - right) / (self.p - 1)
        return {
            "train_loss": self.loss.from_logits(logits.unsqueeze(1), data["train_labels"]),
            "train_accuracy": (logits.argmax(1) == labels).double().mean(),
            "margin_ratio": margins(logits, labels).amin() / scale,
            "mean_margin_ratio": (right - others).mean() / scale,
            **neuron_metrics(weights_3pN, cubes_N / cubes_N.sum()),
        }


def neuron_metrics(weights_3pN: Tensor, shares_N: Tensor) -> Tensors:
    """The metrics of neurons, each of which counts by its share."""
    spectra_3KN = torch.fft.rfft(weights_3pN, dim=1)
    powers_KN = spectra_3KN.abs().square().sum(0)
    constant_N, waves_KN = powers_KN[0], 2 * powers_KN[1:]
    total_N = constant_N + waves_KN.sum(0)
    strongest_N = waves_KN.argmax(0)
    count = len(waves_KN)
    is_strongest_KN = torch.arange(count, device=shares_N.device).unsqueeze(1) == strongest_N
    by_frequency_K = (is_strongest_KN * shares_N).sum(1)
    u_KN, v_KN, w_KN = spectra_3KN[:, 1:]
    phases_KN = torch.angle(u_KN * v_KN * w_KN.conj()).abs()
    squares_3N = weights_3pN.square().sum(1)
    gaps_3N = (squares_3N / squares_3N.sum(0) - 1 / 3).abs()
    return {
        "frequencies": (by_frequency_K > 0).sum().double(),
        "least_share": by_frequency_K.amin() * count,
        "power_share": (shares_N * waves_KN.amax(0) / total_N).sum(),
        "phase_gap": (shares_N * (phases_KN * is_strongest_KN).sum(0)).sum(),
        "norm_gap": (shares_N * gaps_3N.amax(0)).sum(),
        "constant_share": (shares_N * constant_N / total_N).sum(),
    }


@ex.build
def build(c: Config) -> Problem:
    """Train on all pairs. There is no test set."""
    if c.p % 2 == 0:
        raise parts.ConfigError("p", c.p, "an odd number")
    numbers = torch.arange(c.p)
    pairs = torch.cartesian_prod(numbers, numbers)
    data = {"train_pairs": pairs, "train_labels": pairs.sum(1, keepdim=True) % c.p}
    model = parts.init_with_seed(c, lambda: QuadraticSum(c.p, c.width, c.init_std))
    loss = PenalizedLoss(
        InputLogits(),
        loss_dtype=c.loss_dtype,
        penalty=c.penalty,
        penalty_weight=c.penalty_weight,
    )
    return parts.make_problem(
        c, model, data, loss, MarginMetrics(loss, c.p), parts.make_optimizer(c)
    )


@ex.figure()
def margin(runs: Runs) -> Any:
    """The margin against the step, in units of the largest: figure 1c of the paper."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3))
    axes = figure.subplots()
    for name, color in (("cpu", "tab:blue"), ("l2", "tab:orange")):
        for index, run in enumerate(runs.all(name)):
            steps, values = run.logged("margin_ratio")
            label = {"cpu": "L2,3 penalty", "l2": "L2 penalty"}[name] if index == 0 else None
            axes.plot(steps, values, color=color, label=label)
    axes.axhline(1, color="black", linestyle=":")
    axes.set(xlabel="step", ylabel="margin / largest margin", ylim=(0, 1.05))
    axes.legend()
    return figure


# Claims, of the runs of sweeps/max_margin_cpu.yaml at their end. The ids begin with B2 for this
# paper. A claim passes if it holds on all seeds; every claim must fail on runs changed as `fails_on`
# says, and `control=True` marks a statement of ours, not of the paper (docs/concepts/claims.md).

UNTRAINED = {"train_steps": 1}

# B2a. The paper, p = 71: the margin approaches the largest in figure 1c. Ours, p = 23: 99 % of it.
LEAST_MARGIN_RATIO = 0.99


@claim("B2a", source="figure 1c", fails_on=UNTRAINED)
def margin_is_the_largest(runs: Runs) -> Outcome:
    """With a small penalty of the L_{2,3} norm, the margin approaches the largest that is possible."""
    return within(runs, ("cpu", "margin_ratio", LEAST_MARGIN_RATIO, 1.001))


# B2b. The paper: all (p - 1) / 2 frequencies. Ours: each has a quarter of its even share at least.
LEAST_SHARE = 0.25


@claim("B2b", source="theorem 7 and figure 1b", fails_on={"penalty": "l2"})
def every_frequency_is_used(runs: Runs) -> Outcome:
    """The network uses every frequency."""
    run = runs.one("cpu")
    frequencies, share = run["frequencies"], run["least_share"]
    passed = frequencies == (run.config["p"] - 1) / 2 and share >= LEAST_SHARE
    return passed, {"frequencies": frequencies, "least share": share}


# B2c. The paper: the normalized power at the strongest frequency is almost exactly 1.
LEAST_POWER_SHARE = 0.99


@claim("B2c", source="figure 1b", fails_on=UNTRAINED)
def each_neuron_has_one_frequency(runs: Runs) -> Outcome:
    """Each neuron has one frequency."""
    return within(runs, ("cpu", "power_share", LEAST_POWER_SHARE, 1.0))


# B2d. The paper: the phases of u and v add up to that of w. Ours: to 0.01 radians.
MOST_PHASE_GAP = 0.01


@claim("B2d", source="theorem 7", fails_on=UNTRAINED)
def phases_add_up(runs: Runs) -> Outcome:
    """In each neuron the phases of the two inputs add up to the phase of the output."""
    return within(runs, ("cpu", "phase_gap", 0.0, MOST_PHASE_GAP))


# B2e. Follows from the theorem's proof: the margin is a product of three norms.
MOST_NORM_GAP = 0.001
MOST_CONSTANT_SHARE = 1e-4


@claim("B2e", source="added to theorem 7", control=True, fails_on=UNTRAINED)
def norms_are_equal_and_nothing_is_constant(runs: Runs) -> Outcome:
    """The two inputs and the output of a neuron have equal norms, and no constant part."""
    return within(
        runs,
        ("cpu", "norm_gap", 0.0, MOST_NORM_GAP),
        ("cpu", "constant_share", 0.0, MOST_CONSTANT_SHARE),
    )


# B2-l2. Outside this project, with 88 neurons, 6 of 11 frequencies were used.
MOST_L2_FREQUENCIES = 10


@claim("B2-l2", source="added to figure 1b", control=True, fails_on={"penalty": "l23"})
def squared_norm_leaves_frequencies_out(runs: Runs) -> Outcome:
    """A penalty of the squared norm leaves frequencies out, and the margin below the largest."""
    run = runs.one("l2")
    frequencies, ratio = run["frequencies"], run["margin_ratio"]
    passed = frequencies <= MOST_L2_FREQUENCIES and ratio < LEAST_MARGIN_RATIO
    return passed, {"frequencies": frequencies, "margin ratio": ratio}


claim.not_tried(
    "B2-groups",
    "The same holds for finite groups with their irreducible representations, and for sparse parity",
    "sections 5 and 6",
    reason="It is not implemented yet.",
)


if __name__ == "__main__":
    ex.run_as_script()
