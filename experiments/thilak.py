"""Thilak, Littwin, Zhai, Saremi, Paiss, Susskind 2022, arXiv:2206.04817.

"The Slingshot Mechanism: An Empirical Study of Adaptive Optimizers and the Grokking Phenomenon". A
transformer on the table of an operation modulo p, or an MLP on 200 images, is trained with
cross-entropy by Adam, without weight decay, far past a train loss of zero. The paper finds that
training then goes through cycles: the norm of the classifier, the last linear layer, grows, the
loss spikes, and the features change abruptly; test accuracy rises with such cycles. A later account
(arXiv:2605.06152) finds the cause in the rounding of float32, in which the loss of an example
becomes exactly zero. Here the images are the handwritten digits of scikit-learn, and the claims on
grokking are checked with a small transformer on division modulo 97.

    python experiments/thilak.py with cpu    # digits, about 1 minute
    grok replicate thilak                    # all claims: 26 runs, about 50 minutes
    python analysis/thilak_figures.py        # figures 1 to 4
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf, nan
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import grad

from grok.claims.checks import within
from grok.claims.model import Claims, Outcome, Run, Runs
from grok.engine.functional import run_with
from grok.engine.problem import Problem
from grok.experiment import datasets, parts
from grok.experiment.config_types import (
    Activation,
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
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.experiment.recording import Recorder
from grok.measures import slingshots
from grok.measures.vectors import flat
from grok.models.mlp import PairMLP, mlp
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import (
    ClassificationLoss,
    ClassificationMetrics,
    InputLogits,
    Logits,
    SequenceLogits,
)
from grok.tensors import Tensors

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("thilak", threshold=0.9, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    dataset: Literal["table", "digits"] = "table"  # table of an operation, or handwritten digits
    operation: str = "x_div_y"  # of the table, modulo p
    p: Modulus = 97  # the modulus
    train_fraction: OpenFraction = 0.5  # fraction of the table to train on; the rest is for test
    train_count: Count | None = None  # number of rows or digits to train on; needed for digits
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model
    model: Literal["transformer", "mlp"] = "transformer"  # of a table; digits have an MLP
    depth: Count = 2  # layers
    width: Count = 128  # dimension of the residual stream, or neurons of a hidden layer
    heads: Count = 4  # attention heads
    norm: Norm = "none"  # where the transformer has LayerNorm
    activation: Activation = "relu"  # of the neurons

    # Optimization
    optimizer: OptimizerKind = "adam"  # adam: weight decay is added to the gradient
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon; 1e-5 removes the cycles
    weight_decay: NonNegative = 0.0  # of all parameters
    warmup_steps: CountFromZero = 10  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = 512  # rows per step; None for the whole train set
    train_steps: Count = 1_000_000  # steps of the optimizer

    # Evaluation
    eval_steps: Count = 20  # steps between two evaluations; a spike lasts some tens

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = None  # of the log-softmax; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


ex.read_if("operation", "p", "model", dataset="table")
ex.read_if("heads", "norm", dataset="table", model="transformer")

CPU = {
    "dataset": "digits",
    "model": "mlp",
    "train_count": 200,
    "depth": 6,
    "betas": (0.9, 0.95),
    "warmup_steps": 0,
    "batch_size": None,
    "train_steps": 7000,
}

TRANSFORMER = {"train_fraction": 0.8, "depth": 1, "train_steps": 30_000}

ex.preset("paper", "Division modulo 97 by the paper's transformer, a million steps.")
ex.preset("cpu", "200 digits, an MLP of six layers: several cycles; about 1 minute.", CPU)
ex.preset("cpu_large_eps", "As cpu with epsilon 1e-5: no cycles.", {**CPU, "eps": 1e-5})
ex.preset(
    "cpu_float64",
    "As cpu with the loss in float64: no cycles.",
    {**CPU, "loss_dtype": "float64"},
)
ex.preset(
    "cpu_division",
    "Division modulo 31 by an MLP: many cycles, and no generalization.",
    {
        **CPU,
        "dataset": "table",
        "train_count": None,
        "p": 31,
        "depth": 4,
        "train_fraction": 0.6,
        "betas": (0.9, 0.98),
    },
)
ex.preset(
    "cpu_transformer",
    "Division modulo 97 by a transformer of one layer: cycles, and generalization; 7 minutes.",
    TRANSFORMER,
)
ex.preset(
    "cpu_transformer_large_eps",
    "As cpu_transformer with epsilon 1e-5: no cycles.",
    {**TRANSFORMER, "eps": 1e-5},
)


@dataclass(frozen=True)
class SlingshotMetrics:
    """Loss and accuracies, and what the last step before the evaluation did.

    Logged besides {train,test}_{loss,accuracy}:
        classifier_norm: norm of the classifier's matrix.
        representation_change, logit_change: relative change of the classifier's inputs and of the
            logits in the last step, mean over the train rows (figure 3).
        update_sharpness: curvature of the loss along the last step (figure 4).
        absorbed: fraction of the train rows whose loss is exactly zero in float32.
        zero_sum_defect: how far the gradient by the logits is from a sum of zero.
        classifier_distance, representation_distance: cosine distance of the classifier, and of all
            other weights, from their initial values.

    Arguments:
        classification: loss and accuracies.
        classifier: name of the last linear layer.

    Reads data["previous"], the weights before the last step, and data["initial/NAME"].
    """

    classification: ClassificationMetrics
    classifier: str

    def __call__(self, model: nn.Module, data: Tensors) -> Tensors:
        weights: Tensors = dict(model.named_parameters())
        previous: Tensors = data["previous"]  # type: ignore[assignment]  # weights by name, not one
        initial = {name: data[f"initial/{name}"] for name in weights}
        features, logits = self.features_and_logits(model, data)
        previous_features, previous_logits = run_with(
            model, previous, self.features_and_logits, data
        )
        labels = data["train_labels"]
        logit_gradient = grad(lambda z: self.classification.loss.from_logits(z, labels))(logits)
        result = {
            **self.classification(model, data),
            "classifier_norm": weights[f"{self.classifier}.weight"].norm(),
            "representation_change": slingshots.relative_change(features, previous_features),
            "logit_change": slingshots.relative_change(logits, previous_logits),
            "update_sharpness": self.update_sharpness(model, data, previous, weights),
            "absorbed": slingshots.absorbed(logits, labels),
            "zero_sum_defect": slingshots.zero_sum_defect(logit_gradient),
        }
        classifier = [name for name in weights if name.startswith(self.classifier)]
        representation = [name for name in weights if name not in classifier]
        for part, names in (("classifier", classifier), ("representation", representation)):
            final, start = ({name: ws[name] for name in names} for ws in (weights, initial))
            result[f"{part}_distance"] = slingshots.distance(final, start)
        return result

    def features_and_logits(self, model: nn.Module, data: Tensors) -> tuple[Tensor, Tensor]:
        """The classifier's inputs (N, D) and the logits (N, 1, C) of the train rows."""
        inputs: list[Tensor] = []
        hook = model.get_submodule(self.classifier).register_forward_pre_hook(
            lambda module, args: inputs.append(args[0])
        )
        try:
            logits = self.classification.loss.logits(model, data, "train", False)
        finally:
            hook.remove()
        return inputs[0], logits

    def update_sharpness(
        self, model: nn.Module, data: Tensors, previous: Tensors, weights: Tensors
    ) -> Tensor:
        """u^T H u / |u|^2 of the last step u, H the Hessian before it; 0 at the start."""

        def objective(params: Tensors) -> Tensor:
            return run_with(model, params, self.classification.loss, data)

        u = flat(weights) - flat(previous)
        # twice in reverse: the forward derivative of a gathered table writes into expanded tensors
        hessian_u = grad(lambda params: flat(grad(objective)(params)) @ u)(previous)
        return u @ flat(hessian_u) / (u @ u).clamp(min=torch.finfo(u.dtype).tiny)


@ex.build
def build(c: Config) -> Problem:
    """Train on digits, on pairs, or on token sequences `a o b =`, with cross-entropy.

    Logged at every evaluation step: SlingshotMetrics, and the norm of all weights. The last linear
    layer is the classifier.
    """
    parts.needs_drawn_weights(c, "the reference of the distances")
    data, logits, model = data_and_model(c)
    loss = ClassificationLoss(logits, loss_dtype=c.loss_dtype)
    linear = [name for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    data |= {f"initial/{name}": p.detach().clone() for name, p in model.named_parameters()}
    return parts.classification_problem(
        c,
        model,
        data,
        loss,
        lambda known: SlingshotMetrics(known, classifier=linear[-1]),
        needs_previous_params=True,
    )


def data_and_model(c: Config) -> tuple[Tensors, Logits, nn.Module]:
    """The data, how the logits are computed of them, and the network."""
    hidden = [c.width] * (c.depth - 1)
    if c.dataset == "digits":
        sizes = [64, *hidden, 10]
        model = parts.init_with_seed(c, lambda: mlp(sizes, c.activation))
        return parts.labels_as_columns(datasets.digits_of(c)), InputLogits("images"), model
    table = parts.operation_table(c)
    if c.model == "mlp":
        model = parts.init_with_seed(
            c, lambda: PairMLP(table.elements, table.classes, hidden, c.activation)
        )
        return parts.labels_as_columns(parts.split_operation_table(c, table)), InputLogits(), model
    sequences = parts.tokenize_split(c, table, "aob=")
    data = parts.sequence_data(sequences, c.batch_size)
    shape = TransformerConfig(
        table.elements + 2,
        table.classes,
        4,
        width=c.width,
        depth=c.depth,
        heads=c.heads,
        mlp_width=4 * c.width,
        norm=c.norm,
        biases=("attention", "mlp", "output"),
        activation=c.activation,
        positions="learned",
    )
    return data, SequenceLogits(), parts.make_transformer(c, shape)


@ex.summarize
def summarize(c: Config, problem: Problem, recorder: Recorder) -> dict[str, Any]:
    """The number of cycles, and the step of each cycle's spike.

    A spike is an evaluation step at which the train loss, once below 1e-4, exceeds 1e-2 again.
    """
    steps = slingshots.cycles(*recorder.series["train_loss"])
    return {"cycles": len(steps), "cycle_steps": steps}


# Claims. Each is checked on the runs of one seed of sweeps/thilak_cpu.yaml if no other sweep is
# named. The ids begin with 07 for this paper. A claim that is checked seed by seed passes if it
# holds on all of them; every claim must fail on runs changed as `fails_on` says, and
# `control=True` marks a statement of ours, not of the paper (docs/concepts/claims.md).

UNTRAINED = {"train_steps": 1}

# 07a. The norm is that at each cycle's spike, and has to be larger than at the one before.
LEAST_CYCLES = 3


@claim("07a", source="figure 1", fails_on=UNTRAINED)
def adam_goes_through_cycles(runs: Runs) -> Outcome:
    """Without weight decay Adam goes through cycles: the norm grows, then the loss spikes."""
    run = runs.one("cpu")
    norms = np.array([run.at("classifier_norm", step) for step in run["cycle_steps"]])
    grows = bool((np.diff(norms) > 0).all())
    numbers = {"cycles": len(norms), "norm at the last": norms[-1] if len(norms) else nan}
    return len(norms) >= LEAST_CYCLES and grows, numbers


# 07b. The paper: fewer cycles and later ones with a larger epsilon, none with 1e-5.
@claim("07b", source="section 4", fails_on=UNTRAINED)
def larger_epsilon_removes_cycles(runs: Runs) -> Outcome:
    """A larger epsilon removes the cycles."""
    return within(runs, ("cpu", "cycles", LEAST_CYCLES, inf), ("cpu_large_eps", "cycles", 0, 0))


# 07d, 07e. The paper: peaks of the features' change, and sharpness of 40 to 250, at the cycles.
# Ours: within one evaluation of each cycle, at least 10 times the median over the run.
LEAST_PEAK = 10


def peaks_at_cycles(runs: Runs, metric: str) -> Outcome:
    """Whether a metric has a peak at every cycle, of which there is at least one."""
    run = runs.one("cpu")
    least = min(run.peaks(metric, run["cycle_steps"]), default=nan)
    return least >= LEAST_PEAK, {"least peak, in medians": least}


@claim("07d", source="figure 3", fails_on=UNTRAINED)
def features_change_at_cycles(runs: Runs) -> Outcome:
    """The features change abruptly at each cycle."""
    return peaks_at_cycles(runs, "representation_change")


# 07d-classifier. Of the largest changes within one evaluation of each cycle, that of the logits, which the
# classifier computes, is larger than that of the features, which it reads.
@claim("07d-classifier", source="figure 3", fails_on=UNTRAINED)
def classifier_changes_more_than_features(runs: Runs) -> Outcome:
    """The change at a cycle is larger in the classifier than in the features."""
    run = runs.one("cpu")
    logits, features = (
        largest_near(run, metric, run["cycle_steps"])
        for metric in ("logit_change", "representation_change")
    )
    least = min(logits / features, default=nan)
    return least > 1, {"logits over features, at least": least}


def largest_near(run: Run, metric: str, steps: Iterable[int]) -> np.ndarray:
    """The largest value of a metric within one evaluation of each of these steps."""
    evaluated, values = run.logged(metric)
    indices = np.searchsorted(evaluated, [*steps])
    return np.array([np.nanmax(values[max(i - 1, 0) : i + 2]) for i in indices])


@claim("07e", source="figure 4", fails_on=UNTRAINED)
def sharpness_spikes_at_cycles(runs: Runs) -> Outcome:
    """The sharpness along the update spikes at each cycle."""
    return peaks_at_cycles(runs, "update_sharpness")


# 07f. A later paper removes the cycles by computing logits and loss in float64.
@claim("07f", source="arXiv:2605.06152", control=True, fails_on=UNTRAINED)
def float64_removes_cycles(runs: Runs) -> Outcome:
    """There are no cycles with the loss in float64."""
    return within(runs, ("cpu", "cycles", LEAST_CYCLES, inf), ("cpu_float64", "cycles", 0, 0))


# 07g. Not in the paper, which finds cycles wherever networks generalize.
LEAST_CYCLES_OF_DIVISION = 5
MOST_ACCURACY_OF_DIVISION = 0.6


@claim("07g", source="added", control=True, fails_on=UNTRAINED)
def cycles_do_not_suffice(runs: Runs) -> Outcome:
    """Cycles alone do not make a network generalize."""
    return within(
        runs,
        ("cpu_division", "cycles", LEAST_CYCLES_OF_DIVISION, inf),
        ("cpu_division", "test_accuracy", 0, MOST_ACCURACY_OF_DIVISION),
    )


# 07c. The paper, two layers and half of the table: train accuracy is 100 % after 300 steps, test accuracy
# rises after 100,000, at the onset of a cycle. Ours, one layer and 80 % of the table: 50 % test accuracy
# comes in the first quarter of a cycle, at which one of four runs would reach it by chance, and long
# after 99 % train accuracy. A step is reached and held: the next evaluation has the accuracy too.
TRANSFORMERS = "thilak_transformer"
GENERALIZES = 0.9  # least test accuracy in the end
LARGEST_LAG = 0.25  # from a spike, in cycles
LEAST_DELAY = 1000  # steps


@claim("07c", source="figure 2", sweep=TRANSFORMERS, fails_on=UNTRAINED)
def grokking_comes_at_the_onset_of_a_cycle(runs: Runs) -> Outcome:
    """Grokking happens at the onset of a cycle."""
    run = runs.one("cpu_transformer")
    memorized = run.first_step_held("train_accuracy", 0.99)
    rise = run.first_step_held("test_accuracy", 0.5)
    spikes = np.array(run["cycle_steps"])
    final = run.final("test_accuracy")
    lag = cycles_since_spike(rise, spikes) if rise < inf else nan
    passed = (
        len(spikes) >= LEAST_CYCLES
        and final >= GENERALIZES
        and rise >= memorized + LEAST_DELAY
        and lag <= LARGEST_LAG
    )
    numbers = {
        "cycles": len(spikes),
        "train 99 % at": memorized,
        "test 50 % at": rise,
        "cycles after a spike": lag,
        "test in the end": final,
    }
    return passed, numbers


def cycles_since_spike(step: float, spikes: np.ndarray) -> float:
    """Steps since the last spike, divided by those of its cycle: from there to the next spike, or the
    mean of all cycles if it is the last one; inf before the first spike, NaN with a single one."""
    before = int((spikes <= step).sum())
    if before == 0:
        return inf
    lengths = np.diff(spikes)
    if len(lengths) == 0:
        return nan
    length = lengths[before - 1] if before < len(spikes) else lengths.mean()
    return float((step - spikes[before - 1]) / length)


# 07c-absent. The paper: with an epsilon of 1e-5 there is neither a cycle nor grokking in 500,000 steps.
@claim("07c-absent", source="section 4", sweep=TRANSFORMERS, fails_on=UNTRAINED)
def grokking_is_absent_without_cycles(runs: Runs) -> Outcome:
    """Without cycles there is no grokking."""
    return within(
        runs,
        ("cpu_transformer", "test_accuracy", GENERALIZES, 1.0),
        ("cpu_transformer_large_eps", "cycles", 0, 0),
        ("cpu_transformer_large_eps", "test_accuracy", 0.0, 0.5),
    )


if __name__ == "__main__":
    ex.run_as_script()
