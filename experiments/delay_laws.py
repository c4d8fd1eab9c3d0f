"""Laws of the delay of grokking on one bench (2026).

Five papers of 2026 say what the steps from memorization to generalization depend on: exponentially on
the norm at which the weights are held (arXiv:2606.13753), on the logits' scale and not on the norm
(arXiv:2606.18465), on the logarithm of a ratio of norms over 2 kappa lr decay (arXiv:2605.18845), on
1 / (lr decay) (arXiv:2603.13331), on a power of weight decay above a threshold (arXiv:2605.20441).
Here all are tried on one network, a table of embeddings whose sums go through one hidden layer, that
learns a + b mod p: free, held at a norm, with logits divided by a temperature, and frozen or without
weight decay from memorization on. analysis/delay_laws.py lets every law predict runs that it has not
seen.

    python experiments/delay_laws.py with cpu    # groks in about 800 steps, seconds
    grok replicate delay_laws                    # all claims, five seeds: 220 runs, minutes
    python analysis/delay_laws.py                # which law predicts best
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, nan
from typing import Any

import numpy as np
import torch
from torch import nn

from grok.claims.controls import no_effect, shuffled
from grok.claims.model import Claims, Missing, Outcome, Run, Runs
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts
from grok.experiment.config_types import (
    Betas,
    Count,
    CountFromZero,
    Device,
    Dtype,
    Loss,
    Modulus,
    NonNegative,
    OpenFraction,
    OptimizerKind,
    Positive,
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.models.sum_mlp import Sums
from grok.objectives.classification import (
    TEMPERATURE,
    ClassificationLoss,
    ClassificationMetrics,
    InputLogits,
)
from grok.tasks import operations
from grok.tensors import Tensors
from grok.theory import delays
from grok.theory.delays import Trial

# threshold: test accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("delay_laws", threshold=0.9, delay=100)
claim = Claims(ex)

MEMORIZED = 0.99  # train accuracy
EARLY_STEPS, EARLY_EVERY = 500, 10  # evaluations are denser at first, when networks memorize


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options. Of
    # these, fixed_norm, temperature and interventions are varied here.

    # Task
    p: Modulus = 53  # the modulus; there is one row for each unordered pair
    train_fraction: OpenFraction = 0.6  # fraction of the rows to train on; the others are for test
    train_count: Count | None = None  # number of train rows; None for train_fraction of all
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed
    noisy_answers: CountFromZero = 0  # train rows with a random label

    # Model
    embedding_width: Count = 64  # width of the embeddings
    width: Count = 128  # neurons of the hidden layer
    embedding_std: Positive = 0.125  # of the initial embeddings; 1 is torch's
    init_scale: Positive = 1.0  # factor of all initial weights

    # Optimization
    loss: Loss = "cross_entropy"  # of the logits, or their squared error to one-hot labels
    optimizer: OptimizerKind = "adamw"  # kind of optimizer
    lr: NonNegative = 5e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.999)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 1.0  # decoupled, of all weights
    warmup_steps: CountFromZero = 0  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = None  # rows per step; None for the whole train set
    train_steps: Count = 6000  # steps of the optimizer, at most
    stop_when_generalized: bool = True  # end the run when test accuracy is held at 90 %

    # Evaluation
    eval_steps: Count = 25  # steps between evaluations after the first 500; 10 before

    # Numerics
    dtype: Dtype = "float32"  # of weights, activations and the loss
    loss_dtype: Dtype | None = None  # of the loss; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


# Norms of the weights at 90 % test accuracy with weight decay 1, medians of runs with seeds 0 to 2
# outside this project: the unit W_c of norms at which weights are held.
NORM = 38.34
NORM_OF_P67 = 42.5
NORM_OF_SQUARED_ERROR = 20.06


def name_of(number: float) -> str:
    """A number as a part of a name, such as 1_15."""
    return f"{number:g}".replace(".", "_")


def held(ratio: float, norm: float = NORM) -> dict[str, Any]:
    """Settings of weights that are held at `ratio` times a norm from the first step on."""
    return {"fixed_norm": round(ratio * norm, 4), "train_steps": 24_000}


def at_memorization(**settings: Any) -> dict[str, Any]:
    """Settings that change as soon as the train set is memorized."""
    return {"interventions": [{"when": f"train_accuracy >= {MEMORIZED}", "set": settings}]}


LARGE = {"embedding_std": 1.0}
ex.preset("cpu", "Weight decay 1: groks in about 800 steps. The other runs differ from it.")
FREE = {"cpu": 1.0}  # weight decay of the named configs that differ in it alone
for decay in (0.25, 0.5, 2.0, 4.0):
    FREE[f"decay_{name_of(decay)}"] = decay
    ex.preset(f"decay_{name_of(decay)}", f"With weight decay {decay:g}.", {"weight_decay": decay})
for rate in (0.0025, 0.01):
    ex.preset(f"lr_{name_of(rate)}", f"With the learning rate {rate:g}.", {"lr": rate})
ex.preset("large", "From large embeddings, of torch's standard deviation.", LARGE)
for decay in (0.5, 2.0):
    ex.preset(
        f"large_decay_{name_of(decay)}",
        f"From large embeddings, with weight decay {decay:g}.",
        {**LARGE, "weight_decay": decay},
    )
RATIOS = (0.8, 0.9, 1.0, 1.075, 1.1, 1.15, 1.2, 1.3)
RATES = (0.0025, 0.01)
for ratio in RATIOS:
    ex.preset(f"norm_{name_of(ratio)}", f"Held at {ratio:g} times the norm W_c.", held(ratio))
for ratio in (1.0, 1.15):
    for rate in RATES:
        ex.preset(
            f"norm_{name_of(ratio)}_lr_{name_of(rate)}",
            f"Held at {ratio:g} W_c, with the learning rate {rate:g}.",
            {**held(ratio), "lr": rate},
        )
DIVIDED = (  # norm ratio and temperature; 1.521 = 1.15^3
    (1.0, 0.7),
    (1.0, 1.3),
    (1.0, 1.7),
    (1.075, 1.3),
    (1.075, 1.7),
    (1.15, 1.3),
    (1.15, 1.521),
    (1.15, 1.7),
)
for ratio, divisor in DIVIDED:
    ex.preset(
        f"norm_{name_of(ratio)}_temperature_{name_of(divisor)}",
        f"Held at {ratio:g} W_c, with logits divided by {divisor:g}.",
        {**held(ratio), "temperature": divisor},
    )
for ratio in (1.0, 1.15):
    squared = {**held(ratio, NORM_OF_SQUARED_ERROR), "loss": "squared_error"}
    ex.preset(
        f"squared_{name_of(ratio)}", f"Squared error, held at {ratio:g} times its W_c.", squared
    )
    ex.preset(
        f"squared_{name_of(ratio)}_temperature_1_7",
        f"Squared error, held at {ratio:g} times its W_c, with logits divided by 1.7.",
        {**squared, "temperature": 1.7},
    )
SCALE = 1.2  # of the weights, in `rescaled`
ex.preset(
    "rescaled",
    "norm_1 with all weights and the learning rate 1.2 times, logits divided by 1.2^3: the same run.",
    {
        **held(SCALE),
        "init_scale": SCALE,
        "lr": 5e-3 * SCALE,
        "weight_decay": 1 / SCALE,
        "temperature": SCALE**3,
    },
)
ex.preset(
    "frozen",
    "The norm is held from memorization on.",
    {**at_memorization(fixed_norm=True), "train_steps": 24_000},
)
ex.preset(
    "large_frozen",
    "From large embeddings; the norm is held from memorization on.",
    {**LARGE, **at_memorization(fixed_norm=True), "train_steps": 24_000},
)
ex.preset(
    "undecayed",
    "Without weight decay from memorization on.",
    {**at_memorization(weight_decay=0.0), "train_steps": 40_000},
)
ex.preset("no_decay", "Without weight decay.", {"weight_decay": 0.0, "train_steps": 12_000})
ex.preset(
    "random_labels",
    "All train rows have random labels.",
    {"noisy_answers": 858, "train_steps": 3000},
)
P67 = {"p": 67, "train_fraction": 0.5}
RATIOS_OF_P67 = (0.9, 1.0, 1.1, 1.2)
for ratio in RATIOS_OF_P67:
    ex.preset(
        f"p67_norm_{name_of(ratio)}",
        f"p = 67 with half of the rows, held at {ratio:g} times its W_c.",
        {**held(ratio, NORM_OF_P67), **P67},
    )


@dataclass(frozen=True)
class DelayMetrics:
    """Losses and accuracies, and the product of the norms of the layers over the temperature.

    The product is logged as layer_product. It is what the norms say about the scale of the logits.
    """

    classification: ClassificationMetrics

    def __call__(self, model: nn.Module, data: Tensors) -> Tensors:
        norms = torch.stack([weights.norm() for weights in model.parameters()])
        product = norms.prod() / data.get(TEMPERATURE, 1.0)
        return {**self.classification(model, data), "layer_product": product}


@ex.build
def build(c: Config) -> Problem:
    """Train on a part of the unordered pairs; with ordered pairs, half of the test set would be known."""
    table = operations.table("x_plus_y", c.p, symmetric=True)
    data = parts.labels_as_columns(parts.split_operation_table(c, table))
    model = parts.init_with_seed(c, lambda: Sums(c.p, c.embedding_width, c.width, c.embedding_std))
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(c.init_scale)
    loss = ClassificationLoss(InputLogits(), c.loss, c.loss_dtype)
    early = range(0, min(EARLY_STEPS, c.train_steps), EARLY_EVERY)
    late = range(EARLY_STEPS, c.train_steps + 1, c.eval_steps)
    return parts.classification_problem(
        c,
        model,
        data,
        loss,
        DelayMetrics,
        log_steps=[*early, *late],
        stop=Stop((("test_accuracy", ex.threshold),)) if c.stop_when_generalized else None,
    )


def trial(run: Run) -> Trial:
    """A run as the laws see it."""
    steps, norms = run.logged("weight_norm")
    ratio = None
    if run.config["fixed_norm"]:
        unit = NORM_OF_P67 if run.config["p"] == 67 else NORM
        ratio = run.config["fixed_norm"] / unit
    return Trial(
        cell=" ".join(sorted(run.named_configs)),
        lr=run.config["lr"],
        weight_decay=run.config["weight_decay"],
        memorized=memorized(run),
        generalized=generalized(run),
        held=ratio,
        temperature=run.config["temperature"] or 1.0,
        steps=steps,
        norms=norms,
        products=run.logged("layer_product")[1],
    )


def memorized(run: Run) -> float:
    """T_m, steps to 99 % train accuracy."""
    return run.first_step_held("train_accuracy", MEMORIZED)


def generalized(run: Run) -> float:
    """T, steps to 90 % test accuracy; inf if it is never reached."""
    return run.first_step_held("test_accuracy", ex.threshold)


def trials(runs: Runs, *named_configs: str) -> list[Trial]:
    """The runs with these named configs; Missing if one has not generalized."""
    found = [trial(run) for run in runs.all(*named_configs)]
    for each in found:
        if each.generalized == inf:
            raise Missing(f"generalization of {each.cell}")
    return found


def median_steps(runs: Runs, named_config: str) -> float:
    """The median of T over the runs with a named config."""
    return float(np.median([generalized(run) for run in runs.all(named_config)]))


def wrong_cells(runs: Runs) -> Runs:
    """The free runs, with each of them as a further seed of every cell: nothing depends on decay."""
    free = runs.all(*FREE)
    return Runs(
        replace(run, result=other.result, series=other.series) for run in free for other in free
    )


def exchanged(runs: Runs) -> Runs:
    """The runs that generalize are exchanged at random."""
    return shuffled(Runs(run for run in runs if generalized(run) < inf))


@ex.figure()
def delays_at_held_norms(runs: Runs) -> Any:
    """Steps to generalization of held networks against the norm, and against rho^3 / tau."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for names, label, color in (
        ([f"norm_{name_of(r)}" for r in RATIOS], "temperature 1", "tab:blue"),
        (
            [f"norm_{name_of(r)}_temperature_{name_of(d)}" for r, d in DIVIDED],
            "other temperatures",
            "tab:orange",
        ),
    ):
        found = [trial(run) for run in runs.all(*names)]
        steps = [t.generalized for t in found]
        left.plot([t.held for t in found], steps, "o", ms=4, alpha=0.6, color=color, label=label)
        right.plot([t.logit_scale for t in found], steps, "o", ms=4, alpha=0.6, color=color)
    left.set(xlabel="held norm / W_c", ylabel="steps to generalization", yscale="log")
    right.set(xlabel="(held norm / W_c)^3 / temperature")
    left.legend()
    return figure


# Claims, of the runs of sweeps/delay_laws_cpu.yaml. Claims of the papers have the papers' numbers, those
# with `control=True` are ours. A claim that is not pooled passes if it holds on all seeds; every claim
# must fail on runs changed as `fails_on` says (docs/concepts/claims.md).

# D1. arXiv:2606.13753: 1 to 2 % over seeds. Ours: 3 %.
MOST_VARIATION = 0.03


@claim("D1", source="arXiv:2606.13753", pooled=True, fails_on=wrong_cells)
def norm_at_generalization_is_a_constant_of_the_settings(runs: Runs) -> Outcome:
    """At each weight decay, free networks generalize at one norm."""
    variations = {}
    for name in FREE:
        norms = [t.at(t.norms, t.generalized) for t in trials(runs, name)]
        variations[name] = float(np.std(norms, ddof=1) / np.mean(norms))
    return max(variations.values()) <= MOST_VARIATION, variations


# D2. arXiv:2606.13753: 63, 55 and 49 at decays 0.3, 1 and 3. Ours: 1.25 between 0.25 and 4.
LEAST_NORM_RATIO = 1.25


@claim("D2", source="arXiv:2606.13753", fails_on=no_effect)
def norm_at_generalization_falls_with_decay(runs: Runs) -> Outcome:
    """The norm at generalization falls with weight decay."""
    weak, strong = trials(runs, "decay_0_25") + trials(runs, "decay_4")
    ratio = weak.at(weak.norms, weak.generalized) / strong.at(strong.norms, strong.generalized)
    return ratio >= LEAST_NORM_RATIO, {"ratio": ratio}


# D3. arXiv:2606.13753: R^2 0.994 between 0.85 and 1.25. Ours: 0.93 between 0.9 and 1.2.
EXPONENTIAL = ("norm_0_9", "norm_1", "norm_1_1", "norm_1_2")
LEAST_R2 = 0.93


def exponential(runs: Runs) -> tuple[float, float, float]:
    """ln T at a norm of 0, alpha and R^2 of T = c e^(alpha rho) over EXPONENTIAL."""
    found = trials(runs, *EXPONENTIAL)
    log_steps = [np.log(t.generalized) for t in found]
    (start, slope), r2 = delays.least_squares([[t.held or nan for t in found]], log_steps)
    return float(start), float(slope), r2


@claim("D3", source="arXiv:2606.13753", pooled=True, fails_on=shuffled, effects=("alpha",))
def steps_are_exponential_in_the_held_norm(runs: Runs) -> Outcome:
    """Held at a norm, networks take a number of steps that is exponential in the norm."""
    _, alpha, r2 = exponential(runs)
    return r2 >= LEAST_R2, {"R2": r2, "alpha": alpha}


# D4. arXiv:2606.13753: alpha = 7.49 over four moduli. Ours: 6.5 to 8.5.
LEAST_ALPHA, MOST_ALPHA = 6.5, 8.5


@claim("D4", source="arXiv:2606.13753", pooled=True, fails_on=shuffled, effects=("alpha",))
def exponent_is_near_seven_and_a_half(runs: Runs) -> Outcome:
    """The exponent of the held norm is near 7.5."""
    _, alpha, _ = exponential(runs)
    return LEAST_ALPHA <= alpha <= MOST_ALPHA, {"alpha": alpha}


# D5. The data of arXiv:2606.13753 have 0.69 to 0.71 at 1.3. Ours: at most 0.9.
MOST_OF_EXTRAPOLATION = 0.9


@claim(
    "D5",
    source="added to arXiv:2606.13753",
    pooled=True,
    control=True,
    fails_on=no_effect,
    effects=("part of the extrapolation",),
)
def exponential_breaks_above(runs: Runs) -> Outcome:
    """At 1.3 times the norm, networks are faster than the exponential of smaller norms says."""
    ratio, steps = 1.3, median_steps(runs, "norm_1_3")
    line = [np.log(median_steps(runs, name)) for name in EXPONENTIAL]
    slope, start = np.polyfit([0.9, 1.0, 1.1, 1.2], line, 1)
    part = steps / float(np.exp(start + slope * ratio))
    return part <= MOST_OF_EXTRAPOLATION, {"part of the extrapolation": part}


# D6. arXiv:2606.13753: 3.3, 4.3, 5.2 and 6.4 at learning rates of 0.001 to 0.008. Ours: 2.5 to 6.
LEAST_FACTOR, MOST_FACTOR = 2.5, 6.0


@claim("D6", source="arXiv:2606.13753", fails_on=no_effect)
def norm_outweighs_the_learning_rate(runs: Runs) -> Outcome:
    """At every learning rate, a norm higher by 15 % takes several times as many steps."""
    factors = {}
    for suffix in ("", *(f"_lr_{name_of(rate)}" for rate in RATES)):
        low, high = (median_steps(runs, f"norm_{ratio}{suffix}") for ratio in ("1", "1_15"))
        factors[f"factor{suffix.replace('_', ' ')}"] = high / low
    passed = all(LEAST_FACTOR <= factor <= MOST_FACTOR for factor in factors.values())
    return passed, factors


# D7. arXiv:2606.18465: R^2 0.97, to which the norm adds 0.01 to 0.02. Ours, with rho^3 / tau as the
# scale: 0.93, and 0.02.
MOST_ADDED_R2 = 0.02
SCALED = (
    *(f"norm_{name_of(ratio)}" for ratio in RATIOS[1:]),
    *(f"norm_{name_of(ratio)}_temperature_{name_of(divisor)}" for ratio, divisor in DIVIDED),
)


@claim("D7", source="arXiv:2606.18465", pooled=True, fails_on=exchanged)
def logit_scale_is_the_variable(runs: Runs) -> Outcome:
    """At held norms, the steps follow the scale of the logits, to which the norm adds nothing."""
    found = trials(runs, *SCALED)
    log_steps = [np.log(t.generalized) for t in found]
    scales, ratios = [t.logit_scale for t in found], [t.held or nan for t in found]
    _, alone = delays.least_squares([scales], log_steps)
    _, both = delays.least_squares([scales, ratios], log_steps)
    _, norm = delays.least_squares([ratios], log_steps)
    passed = alone >= LEAST_R2 and both - alone <= MOST_ADDED_R2
    return passed, {"R2": alone, "the norm adds": both - alone, "R2 of the norm alone": norm}


# D8. arXiv:2606.18465: a temperature that undoes the scale recovers 0.83 to 0.89 of the delay. Ours, with
# 1.15^3: 0.85 to 1.1.
LEAST_RECOVERY, MOST_RECOVERY = 0.85, 1.1


@claim("D8", source="arXiv:2606.18465", pooled=True, fails_on=shuffled, effects=("recovery",))
def temperature_undoes_the_norm(runs: Runs) -> Outcome:
    """A temperature that restores the scale of the logits takes back what a higher norm has added."""
    low, high, restored = (
        median_steps(runs, name) for name in ("norm_1", "norm_1_15", "norm_1_15_temperature_1_521")
    )
    recovery = (high - restored) / (high - low)
    return LEAST_RECOVERY <= recovery <= MOST_RECOVERY, {"recovery": recovery}


# D9. arXiv:2606.18465: memorization changes by 25 to 50 steps. Ours: by 5 % of the change of T at most.
MOST_MEMORIZATION = 0.05


@claim("D9", source="arXiv:2606.18465", fails_on=no_effect)
def temperature_does_not_act_on_memorization(runs: Runs) -> Outcome:
    """The temperature changes the steps to generalization, and those to memorization hardly."""
    plain, divided = runs.one("norm_1_15"), runs.one("norm_1_15_temperature_1_7")
    change = generalized(plain) - generalized(divided)
    of_memorization = abs(memorized(plain) - memorized(divided))
    passed = change > 0 and of_memorization <= MOST_MEMORIZATION * change
    return passed, {"fewer steps": change, "to memorize": of_memorization}


# D10. arXiv:2606.18465: the channel is inactive under the squared error. Ours: a factor of 1.2 at most.
MOST_SQUARED_FACTOR = 1.2


@claim("D10", source="arXiv:2606.18465", fails_on=shuffled)
def temperature_is_inactive_under_squared_error(runs: Runs) -> Outcome:
    """Under the squared error the temperature does not change the steps to generalization."""
    plain, divided = (
        median_steps(runs, name) for name in ("squared_1_15", "squared_1_15_temperature_1_7")
    )
    factor = max(plain / divided, divided / plain)
    return factor <= MOST_SQUARED_FACTOR, {"factor": factor}


# D11. For weights c W, learning rate c lr, decay / c and temperature c^3 tau, every step is the same.
MOST_LOSS_GAP = 1e-6  # relative, at step 10
MOST_STEPS_GAP = 0.05  # relative


@claim("D11", source="added to both", control=True, fails_on=no_effect)
def norm_and_temperature_are_one_variable(runs: Runs) -> Outcome:
    """Weights and learning rate c times and a temperature c^3 times as large are the same run."""
    one, other = runs.one("norm_1"), runs.one("rescaled")
    loss = one.at("train_loss", 10)
    gap = abs(other.at("train_loss", 10) / loss - 1)
    steps = generalized(other) / generalized(one) - 1
    same = memorized(one) == memorized(other) and one.at("weight_norm", 10) < other.at(
        "weight_norm", 10
    )
    is_near = abs(generalized(other) - generalized(one)) <= MOST_STEPS_GAP * generalized(one)
    passed = same and gap <= MOST_LOSS_GAP and is_near
    return passed, {"gap of the loss": gap, "gap of the steps": steps}


# D12. arXiv:2603.13331: exponents of -1 of decay and learning rate. Ours: -1.15 to -0.8, decay up to 2.
LEAST_POWER, MOST_POWER = -1.15, -0.8
UP_TO_TWO = ("decay_0_25", "decay_0_5", "cpu", "decay_2", "lr_0_0025", "lr_0_01")


@claim(
    "D12",
    source="arXiv:2603.13331",
    pooled=True,
    fails_on=shuffled,
    effects=("decay", "learning rate"),
)
def delay_is_inverse_to_decay_and_learning_rate(runs: Runs) -> Outcome:
    """The delay is inverse to the weight decay and to the learning rate."""
    (_, decay, rate), r2 = delays.two_powers_fit(trials(runs, *UP_TO_TWO))
    passed = all(LEAST_POWER <= power <= MOST_POWER for power in (decay, rate))
    return passed, {"decay": decay, "learning rate": rate, "R2": r2}


# D12b. arXiv:2605.20441: nu = 0.757 (0.725 to 0.799), lambda_c = 0.0158.
LEAST_NU, MOST_NU = 0.725, 0.799
THRESHOLD = 0.0158


@claim("D12b", source="arXiv:2605.20441", pooled=True, fails_on=shuffled, effects=("nu",))
def steps_are_a_power_of_the_decay_above_a_threshold(runs: Runs) -> Outcome:
    """The steps are (decay - lambda_c)^-nu with nu = 0.757."""
    found = trials(runs, *UP_TO_TWO[:4])
    decays = [np.log(t.weight_decay - THRESHOLD) for t in found]
    (_, slope), r2 = delays.least_squares([decays], [np.log(t.generalized) for t in found])
    return LEAST_NU <= -slope <= MOST_NU, {"nu": -float(slope), "R2": r2}


def mean_error(predict: delays.Predict, found: Iterable[Trial]) -> float:
    """Mean over runs of |predicted - measured| / measured delay, as arXiv:2605.18845 measures it."""
    return float(np.mean([abs(predict(t) - t.generalized) / t.delay for t in found]))


# D13. arXiv:2605.18845: calibrated on one cell, the error is 17.7 % on held-out runs. Ours: 25 %.
MOST_ERROR = 0.25
HELD_OUT = (*(name for name in FREE if name != "cpu"), *(f"lr_{name_of(rate)}" for rate in RATES))


@claim("D13", source="arXiv:2605.18845", pooled=True, fails_on=shuffled, effects=("error",))
def first_passage_predicts_the_delay(runs: Runs) -> Outcome:
    """The logarithm of the norm ratio, calibrated on one cell, predicts the delay of others."""
    error = mean_error(delays.first_passage(trials(runs, "cpu")), trials(runs, *HELD_OUT))
    return error <= MOST_ERROR, {"error": error}


# D13-peak. Outside this project: 64 %. Stated when runs of these seeds, with D13's error, were known.
@claim(
    "D13-peak",
    source="added to it",
    pooled=True,
    control=True,
    fails_on=shuffled,
    effects=("error",),
)
def first_passage_from_the_peak_predicts_the_delay(runs: Runs) -> Outcome:
    """The same law predicts it if the norm falls from its peak, and not from memorization."""
    calibrated = delays.first_passage(trials(runs, "cpu"), from_peak=True)
    error = mean_error(calibrated, trials(runs, *HELD_OUT))
    return error <= MOST_ERROR, {"error": error}


@claim(
    "D13-constant",
    source="added to it",
    pooled=True,
    control=True,
    fails_on=shuffled,
    effects=("error",),
)
def inverse_decay_predicts_the_delay(runs: Runs) -> Outcome:
    """A delay of c / (lr decay), with c of one cell, predicts the delay of others."""
    error = mean_error(delays.inverse_decay(trials(runs, "cpu")), trials(runs, *HELD_OUT))
    return error <= MOST_ERROR, {"error": error}


# D14. arXiv:2605.18845: no run of three in 30,000 steps. Ours: none within 15 times the free run's steps.
TIMES = 15


@claim("D14", source="arXiv:2605.18845", fails_on=no_effect)
def freezing_the_norm_prevents_grokking(runs: Runs) -> Outcome:
    """A network whose norm is frozen at memorization does not generalize."""
    ratios = {
        name: generalized(runs.one(name)) / generalized(runs.one(free))
        for name, free in (("frozen", "cpu"), ("large_frozen", "large"))
    }
    return min(ratios.values()) > TIMES, ratios


# D15. The paper: none of three networks generalizes within 30,000 steps. Ours: not within 15 times the steps
# of the free run, for which the run has to be longer than that.
@claim("D15", source="arXiv:2605.18845", fails_on=no_effect)
def without_decay_nothing_groks(runs: Runs) -> Outcome:
    """A network whose weight decay ends at memorization does not generalize, and its norm grows."""
    run, free = runs.one("undecayed"), generalized(runs.one("cpu"))
    steps, start, end = (
        generalized(run),
        run.at("weight_norm", memorized(run)),
        run.final("weight_norm"),
    )
    passed = steps > TIMES * free < run.logged("weight_norm")[0][-1] and end > start
    return passed, {"ratio": steps / free, "norm": end / start}


# D16. Outside this project: the smallest decay that groks within so many steps.
SMALLEST_DECAYS = {600: 2.0, 1200: 1.0, 2000: 0.5, 4000: 0.25}


@claim("D16", source="added to arXiv:2605.20441", pooled=True, control=True, fails_on=shuffled)
def the_threshold_is_the_budget(runs: Runs) -> Outcome:
    """The smallest decay with which two runs of three grok is inverse to the number of steps."""
    found = {}
    for budget in SMALLEST_DECAYS:
        grokking = [
            decay
            for name, decay in FREE.items()
            if np.mean([generalized(run) <= budget for run in runs.all(name)]) >= 2 / 3
        ]
        found[budget] = min(grokking, default=inf)
    return found == SMALLEST_DECAYS, {f"{budget} steps": found[budget] for budget in found}


MOST_CHANCE = 0.05  # test accuracy


@claim("D17", source="added to all", control=True, fails_on=no_effect)
def no_decay_and_random_labels_do_not_grok(runs: Runs) -> Outcome:
    """Without weight decay, and with random labels, nothing generalizes."""
    undecayed, random = runs.one("no_decay"), runs.one("random_labels")
    highest = max(random.logged("test_accuracy")[1])
    passed = generalized(undecayed) == inf and highest <= MOST_CHANCE
    return passed, {"no decay": undecayed.final("test_accuracy"), "random labels": float(highest)}


# D18. Ours, outside this project 0.11 for the norm, and 0.15 for the product of the layers' norms.
MOST_CLOCK_ERROR = 0.2
HELD = (
    *(f"norm_{name_of(ratio)}" for ratio in RATIOS),
    *(f"norm_{ratio}_lr_{name_of(rate)}" for ratio in ("1", "1_15") for rate in RATES),
)
FROM_LARGE = ("large", "large_decay_0_5", "large_decay_2", "large_frozen")


def clock_error(runs: Runs, law: Any, *held_out: str) -> Outcome:
    """Whether a clock, of the held runs and the free cell `cpu`, predicts T of these cells."""
    predict = law(trials(runs, *HELD, "cpu"))
    found = trials(runs, *held_out)
    error = float(np.mean([abs(predict(t) / t.generalized - 1) for t in found]))
    return error <= MOST_CLOCK_ERROR, {"error": error, "runs": len(found)}


@claim(
    "D18", source="added to all", pooled=True, control=True, fails_on=exchanged, effects=("error",)
)
def one_clock_of_the_norm(runs: Runs) -> Outcome:
    """Free and frozen networks generalize when the integral of dt / T of held ones is a constant."""
    return clock_error(runs, delays.norm_clock, *HELD_OUT, "frozen")


@claim(
    "D18-product",
    source="added to all",
    pooled=True,
    control=True,
    fails_on=exchanged,
    effects=("error",),
)
def one_clock_of_the_product(runs: Runs) -> Outcome:
    """The same holds from large embeddings, with the product of the layers' norms for the norm."""
    return clock_error(runs, delays.product_clock, *HELD_OUT, "frozen", *FROM_LARGE)


# D19. arXiv:2606.13753: one exponent for four moduli. Ours: p = 67 as for D3 and D4.
@claim("D19", source="arXiv:2606.13753", pooled=True, fails_on=shuffled, effects=("alpha",))
def exponent_is_shared_by_moduli(runs: Runs) -> Outcome:
    """With another modulus the steps are exponential in the held norm, with the same exponent."""
    found = trials(runs, *(f"p67_norm_{name_of(ratio)}" for ratio in RATIOS_OF_P67))
    log_steps = [np.log(t.generalized) for t in found]
    (_, alpha), r2 = delays.least_squares([[t.held or nan for t in found]], log_steps)
    return r2 >= LEAST_R2 and LEAST_ALPHA <= alpha <= MOST_ALPHA, {"alpha": alpha, "R2": r2}


claim.not_tried(
    "D20",
    "The exponential law holds for transformers without LayerNorm, with an exponent of 15.45",
    "arXiv:2606.13753",
    reason="It needs hours.",
)


if __name__ == "__main__":
    ex.run_as_script()
