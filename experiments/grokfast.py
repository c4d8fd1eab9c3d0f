"""Lee, Kang, Kim, Lee 2024, arXiv:2405.20233.

"Grokfast: Accelerated Grokking by Amplifying Slow Gradients". A two-layer transformer reads
`a o b =` and is trained on half of all pairs (a, b) to predict a * b mod 97, with cross-entropy at
the last position and Adam on mini-batches. The paper adds to each gradient a multiple of its
low-pass filtered past, an exponential average or the mean of a window, and finds that test accuracy
reaches 95 % in a fiftieth of the steps. The filter is `grokfast=ema` or `window`, options of every
experiment; here are the paper's settings, without the filter, and with its weight decay alone.

    python experiments/grokfast.py with cpu    # the filter, about 2 minutes
    grok replicate grokfast                    # all claims, three seeds: 9 runs, about 22 minutes
    python analysis/extras_figures.py          # test accuracy with and without the filter
"""

from math import inf

from grok.claims.checks import steps_to_test
from grok.claims.model import Claims, Outcome, Runs
from grok.engine.problem import Problem
from grok.engine.spec import Stop
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
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, SequenceLogits

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("grokfast", threshold=0.95, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    operation: str = "x_times_y"  # operation of a and b whose result is the label, modulo p
    p: Modulus = 97  # the modulus; the table has p^2 pairs (the paper leaves out b = 0)
    train_fraction: OpenFraction = 0.5  # fraction of the pairs to train on; the others are for test
    train_count: Count | None = None  # number of pairs to train on, in place of train_fraction
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model: decoder, LayerNorm before each sublayer and at the end, learned positions, GELU
    depth: Count = 2  # layers
    width: Count = 128  # dimension of the residual stream; each MLP has four times as many neurons
    heads: Count = 4  # attention heads of each layer

    # Optimization
    optimizer: OptimizerKind = "adam"  # adam: the weight decay is added to the gradient
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 0.0  # of all parameters
    warmup_steps: CountFromZero = 10  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = 512  # pairs per step; None for the whole train set
    train_steps: Count = 300_000  # steps of the optimizer

    # Evaluation
    log_points: Count = 100  # evaluation steps, logarithmically spaced
    stop_when_grokked: bool = True  # end the run when test accuracy is held at 95 %

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = None  # of the log-softmax; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


EMA = {"grokfast": "ema", "grokfast_gain": 2.0, "grokfast_alpha": 0.98, "weight_decay": 0.005}
WINDOW = {"grokfast": "window", "grokfast_gain": 5.0, "grokfast_window": 100, "weight_decay": 0.01}

ex.preset("paper", "The paper's baseline: Adam without filter and weight decay, 300,000 steps.")
ex.preset("paper_ema", "The paper's run with an exponential average of the gradient.", EMA)
ex.preset("paper_window", "The paper's run with the mean of the last 100 gradients.", WINDOW)
ex.preset(
    "cpu",
    "As paper_ema, at most 2000 steps: groks in about 2 minutes.",
    {**EMA, "train_steps": 2000},
)
ex.preset(
    "cpu_baseline",
    "As paper, cut to 4000 steps: does not grok by then; 3 minutes.",
    {"train_steps": 4000},
)
ex.preset(
    "cpu_decay_alone",
    "The weight decay of cpu without its filter, at most 4000 steps; up to 3 minutes.",
    {"train_steps": 4000, "weight_decay": 0.005},
)


@ex.build
def build(c: Config) -> Problem:
    """Train on sequences `a o b =`, whose label is read at the last position.

    Logged at every evaluation step: loss and accuracy on all train and all test pairs, and the
    norm of all weights.
    """
    table = parts.operation_table(c)
    split = parts.tokenize_split(c, table, "aob=")
    data = parts.sequence_data(split, c.batch_size)
    shape = TransformerConfig(
        vocabulary=table.elements + 2,  # the operands, `o` and `=`
        classes=table.classes,
        length=4,
        width=c.width,
        depth=c.depth,
        heads=c.heads,
        mlp_width=4 * c.width,
        norm="pre",
        final_norm=True,
        biases=("attention", "mlp"),
        activation="gelu",
        positions="learned",
        init="multihead",
    )
    model = parts.make_transformer(c, shape)
    loss = ClassificationLoss(SequenceLogits(), loss_dtype=c.loss_dtype)
    stop = Stop((("test_accuracy", ex.threshold),)) if c.stop_when_grokked else None
    return parts.classification_problem(c, model, data, loss, stop=stop)


# Claims. Each is checked on the runs of one seed of sweeps/grokfast_cpu.yaml. All steps are the
# first evaluation step that reaches a test accuracy of 95 % and holds it at the next one.
# E1 is the paper's number in the laboratory's list.

# E1a. The paper: 910 steps with the exponential average, 790 with the window, 39,890 without (44
# and 50 times as many). Ours: the baseline is cut at 4000 steps, so we ask for half of its steps.
MOST_STEPS_WITH_FILTER = 2000
LEAST_SPEEDUP = 2


@claim("E1a", source="figure 1")
def filter_takes_a_fraction_of_the_steps(runs: Runs) -> Outcome:
    """Amplified slow gradients generalize in a fraction of the steps."""
    filtered, baseline = steps_to_test(runs, "cpu", "cpu_baseline").values()
    numbers = {
        "95 % at": filtered,
        "without": baseline,
        "without, in the end": runs.one("cpu_baseline").final("test_accuracy"),
    }
    return filtered <= MOST_STEPS_WITH_FILTER and LEAST_SPEEDUP * filtered <= baseline, numbers


# E1c. The paper compares its filter with weight decay to a baseline without. Weight decay alone is
# the control.
@claim("E1c", source="table 4", control=True)
def weight_decay_alone_is_slower(runs: Runs) -> Outcome:
    """The weight decay that goes with the filter is not what speeds up generalization."""
    filtered, decay_alone = steps_to_test(runs, "cpu", "cpu_decay_alone").values()
    numbers = {"95 % at": filtered, "with the decay alone": decay_alone}
    return LEAST_SPEEDUP * filtered <= decay_alone, numbers


# E1-paper. The paper: 44 times. It is reported only, as it needs runs of up to 300,000 steps.
LEAST_PAPER_SPEEDUP = 20


@claim("E1-paper", source="figure 1", report_only=True)
def filter_is_as_fast_as_published(runs: Runs) -> Outcome:
    """With the filter, generalization comes 44 times earlier, in the published setting."""
    filtered, baseline = steps_to_test(runs, "paper_ema", "paper").values()
    passed = LEAST_PAPER_SPEEDUP * filtered <= baseline < inf
    return passed, {"with": filtered, "without": baseline}


# Claims of the paper that are not checked here.
claim.not_tried(
    "E1b",
    "The filter accelerates MNIST, QM9 and IMDb too",
    "text",
    reason="These data sets are not trained on here.",
)


if __name__ == "__main__":
    ex.run_as_script()
