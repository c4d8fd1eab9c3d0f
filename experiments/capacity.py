"""A study of model capacity, on the grokking template of The AI Scientist (Lu et al. 2024).

A small post-norm transformer reads `a o b =` and is trained on half of an operation's table, modulo
97 or in S_5, with cross-entropy, AdamW and batches drawn with replacement. The template's own
network, 2 layers of width 128, is published to reach 99 % validation accuracy after 2640 steps
(x + y), 4403 (x - y) and 4353 (x / y), and never in S_5 in 7500 steps. The study varies depth, width
and heads: do 27 networks of nine sizes grok when their capacity or when their shape allows it?

    python experiments/capacity.py with cpu                # grokking, about 2 minutes
    grok sweep run sweeps/capacity_grid_small.yaml         # the 27 networks, on x + y mod 31
    python analysis/capacity_study.py capacity_grid_small  # steps to grok by size, shape and heads
"""

from typing import Any

from grok.engine.problem import Problem
from grok.engine.spec import Stop
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
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, SequenceLogits

LAYOUT = "aob="  # operand, a token for the operation, operand, a token for the equals sign
GROKKED = 0.99  # train and test accuracy of a network that has grokked
EVALUATION_BATCH = 512  # the template evaluates on one train batch and on 8 test batches

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("capacity", threshold=GROKKED, delay=100)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    operation: str = "x_plus_y"  # also x_minus_y, x_div_y, permutation (S_5), or any other
    p: Modulus = 97  # the modulus; S_5 has none
    train_fraction: OpenFraction = 0.5  # fraction of the table to train on; the rest is for test
    train_count: Count | None = None  # number of pairs to train on, in place of train_fraction
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model: post-norm decoder with learned positions, a final LayerNorm and biases everywhere
    depth: Count = 2  # layers
    width: Count = 128  # dimension of the residual stream; each MLP has four times as many neurons
    heads: Count = 4  # attention heads
    activation: Activation = "gelu"  # of the MLPs

    # Optimization
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 0.5  # of all parameters
    warmup_steps: CountFromZero = 50  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = 512  # pairs per step, with replacement; None for the train set
    train_steps: Count = 7500  # steps of the optimizer
    stop_when_grokked: bool = False  # early stopping once train and test accuracy hold at 99 %

    # Evaluation
    eval_steps: Count = 10  # steps between evaluations
    eval_train_count: Count | None = None  # train pairs sampled for an evaluation; None for all
    eval_test_count: Count | None = None  # test pairs sampled for an evaluation; None for all

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = None  # of the log-softmax; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


ex.preset(
    "template",
    "The template as published: it evaluates on sampled batches; 2 minutes and a half.",
    {"eval_train_count": EVALUATION_BATCH, "eval_test_count": 8 * EVALUATION_BATCH},
)
ex.preset(
    "cpu",
    "The template's steps with fewer evaluations, until it has grokked; 2 minutes.",
    {"eval_steps": 50, "stop_when_grokked": True},
)
ex.preset(
    "small",
    "One network of the grid at a laptop's scale: x + y mod 31, 2500 steps; a minute.",
    {
        "p": 31,
        "train_fraction": 0.75,
        "weight_decay": 1.0,
        "train_steps": 2500,
        "batch_size": 256,
        "eval_steps": 20,
    },
)


@ex.build
def build(c: Config) -> Problem:
    """Train on sequences `a o b =`, whose label is read at the last position.

    Logged at every evaluation step: loss and accuracy on train and test pairs, and the norm of all
    weights.
    """
    table = parts.operation_table(c)
    split = parts.tokenize_split(c, table, LAYOUT)
    data = parts.sequence_data(split, c.batch_size)
    shape = TransformerConfig(
        vocabulary=table.elements + 2,
        classes=table.classes,
        length=5,  # the template has a position more than the sequence
        width=c.width,
        depth=c.depth,
        heads=c.heads,
        mlp_width=4 * c.width,
        norm="post",
        final_norm=True,
        biases=("attention", "mlp", "output"),
        activation=c.activation,
        positions="learned",
        init="multihead",
    )
    model = parts.make_transformer(c, shape)
    loss = ClassificationLoss(SequenceLogits(), loss_dtype=c.loss_dtype)
    has_grokked = Stop((("train_accuracy", GROKKED), ("test_accuracy", GROKKED)))
    stop = has_grokked if c.stop_when_grokked else None
    return parts.classification_problem(c, model, data, loss, sampling="replacement", stop=stop)


@ex.summarize
def summarize(c: Config, problem: Problem, recorder: Recorder) -> dict[str, Any]:
    """The number of parameters."""
    return {"parameters": sum(p.numel() for p in problem.module.parameters())}


if __name__ == "__main__":
    ex.run_as_script()
