"""Four presets of a framework for grokking in NumPy: an MLP on operation tables.

An MLP reads two one-hot numbers or permutations and is trained on a fraction of all pairs (a, b) to
predict a o b, with cross-entropy on batches that are drawn with replacement. The published presets
are addition mod 97 and the products of S_5, each without weight decay ("baseline") and with some
("grokking"); their decay is a hundredth of what groks. Each has a sibling `_small` that does what
its name says. There is no paper, and there are no claims.

    python experiments/mlp.py with mod_add_grokking_small    # about half a minute
    grok sweep run sweeps/mlp_suite.yaml                     # the four siblings, two seeds: 5 minutes
    grok export sweep mlp_suite DIR                          # tables and curves
"""

from typing import Any

from grok.engine.problem import Problem
from grok.experiment import parts
from grok.experiment.config_types import (
    Activation,
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
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.experiment.recording import Recorder
from grok.models.mlp import PairMLP
from grok.objectives.classification import ClassificationLoss, InputLogits

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("mlp", threshold=0.99, delay=1000)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    operation: str = "x_plus_y"  # operation of a and b whose result is the label, modulo p
    p: Modulus = 97  # the modulus
    symmetric: bool = False  # only pairs with a <= b are in the table
    train_fraction: OpenFraction = 0.3  # fraction of the pairs to train on; the others are for test
    train_count: Count | None = None  # number of pairs to train on, in place of train_fraction
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model
    width: Count = 4096  # units of each hidden layer
    depth: Count = 4  # linear layers, one more than hidden layers
    embedding_width: Count | None = None  # dimension of learned vectors; None for one-hot ones
    activation: Activation = "relu"  # of the hidden units
    init_scale: NonNegative = 1.0  # factor of all initial parameters

    # Optimization
    loss: Loss = "cross_entropy"  # squared_error: to one-hot labels
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.999)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 0.0  # of all parameters
    warmup_steps: CountFromZero = 0  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = 512  # pairs per step, with replacement; None for the whole train set
    train_steps: Count = 50_000  # steps of the optimizer

    # Evaluation
    eval_steps: Count = 100  # steps between two evaluations

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = "float64"  # of the log-softmax; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


PERMUTATION = {
    "operation": "permutation",
    "train_fraction": 0.5,
    "train_steps": 80_000,
    "eval_steps": 200,
}
SMALL = {"width": 256, "depth": 2, "eval_steps": 200, "train_steps": 6000}
SMALL_ADDITION = {**SMALL, "p": 59, "train_fraction": 0.5, "batch_size": None, "lr": 2e-3}
SMALL_PERMUTATION = {
    **SMALL,
    "operation": "permutation",
    "train_fraction": 0.8,
    "batch_size": 3000,
    "lr": 3e-3,
}

ex.preset("mod_add_baseline", "As published: addition mod 97 without weight decay; for a GPU.")
ex.preset(
    "mod_add_grokking",
    "As published: addition mod 97 with weight decay 0.01, too little to grok; for a GPU.",
    {"weight_decay": 0.01},
)
ex.preset("perm_s5_baseline", "As published: S_5 without weight decay; for a GPU.", PERMUTATION)
ex.preset(
    "perm_s5_grokking",
    "As published: S_5 with weight decay 0.003, too little to grok; for a GPU.",
    {**PERMUTATION, "weight_decay": 0.003},
)
ex.preset(
    "mod_add_baseline_small",
    "Addition mod 59 without weight decay: memorizes; half a minute.",
    SMALL_ADDITION,
)
ex.preset(
    "mod_add_grokking_small",
    "Addition mod 59 with weight decay 2: groks; half a minute.",
    {**SMALL_ADDITION, "weight_decay": 2.0},
)
ex.preset(
    "perm_s5_baseline_small",
    "S_5 without weight decay: memorizes; a minute.",
    SMALL_PERMUTATION,
)
ex.preset(
    "perm_s5_grokking_small",
    "S_5 with weight decay 1: groks; a minute.",
    {**SMALL_PERMUTATION, "weight_decay": 1.0},
)


@ex.build
def build(c: Config) -> Problem:
    """Train on pairs, in batches that are drawn with replacement."""
    table = parts.operation_table(c)
    data = parts.labels_as_columns(parts.split_operation_table(c, table))
    hidden_widths = [c.width] * (c.depth - 1)
    model = parts.init_with_seed(
        c,
        lambda: PairMLP(
            table.elements,
            table.classes,
            hidden_widths,
            c.activation,
            c.embedding_width,
            c.init_scale,
        ),
    )
    loss = ClassificationLoss(InputLogits(), c.loss, c.loss_dtype)
    return parts.classification_problem(c, model, data, loss, sampling="replacement")


@ex.summarize
def summarize(c: Config, problem: Problem, recorder: Recorder) -> dict[str, Any]:
    """The number of parameters, and the sizes of the train and the test set."""
    return {
        "parameters": sum(p.numel() for p in problem.module.parameters()),
        "train_size": len(problem.data["train_labels"]),
        "test_size": len(problem.data["test_labels"]),
    }


if __name__ == "__main__":
    ex.run_as_script()
