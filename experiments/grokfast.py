"""Lee, Kang, Kim, Lee 2024, arXiv:2405.20233.

"Grokfast: Accelerated Grokking by Amplifying Slow Gradients": the low-pass filtered gradient, added to the
gradient, takes a transformer to x y mod 97 in a fiftieth of the updates.
"""

from math import inf

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts as recipes
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, SequenceLogits

ex = Paper("grokfast", threshold=0.95, delay=1000)


@ex.config
def config():
    operation = "x_times_y"
    p = 97
    train_fraction = 0.5
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    depth = 2
    width = 128
    heads = 4
    optimizer = "adam"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 0.0  # added to the gradient
    warmup_steps = 10
    batch_size = 512
    train_steps = 300_000
    log_points = 100
    stop_when_grokked = True
    dtype = "float32"
    loss_dtype = None
    device = "auto"


EMA = {"grokfast": "ema", "grokfast_gain": 2.0, "grokfast_alpha": 0.98, "weight_decay": 0.005}
WINDOW = {"grokfast": "window", "grokfast_gain": 5.0, "grokfast_window": 100, "weight_decay": 0.01}
ex.add_named_config("paper", {})
ex.add_named_config("paper_ema", EMA)
ex.add_named_config("paper_window", WINDOW)
ex.add_named_config("cpu", {**EMA, "train_steps": 2000})
ex.add_named_config("cpu_baseline", {"train_steps": 4000})
ex.add_named_config("cpu_decay_alone", {"train_steps": 4000, "weight_decay": 0.005})


@ex.build
def build(c) -> Problem:
    split, count, vocabulary, classes = recipes.sequences_of(c, "aob=")
    shape = TransformerConfig(
        vocabulary, classes, 4, c.width, c.depth, c.heads, 4 * c.width, norm="pre", final_norm=True,
        biases=("attention", "mlp"), activation="gelu", positions="learned", init="multihead",
    )  # fmt: skip
    data = recipes.sequence_data(split, c.batch_size)
    stop = Stop((("test_accuracy", ex.threshold),)) if c.stop_when_grokked else None
    loss = ClassificationLoss(SequenceLogits(count), loss_dtype=c.loss_dtype)
    return recipes.classification_problem(
        c, recipes.transformer_of(c, shape), data, loss, stop=stop
    )


SWEEP = {"sweep": "grokfast_cpu"}


def steps(run) -> float:
    """To 95 % of the test set."""
    return run.first_step_held("test_accuracy", 0.95)


@ex.claim(
    "E1a", "Amplified slow gradients generalize in a fraction of the updates (figure 1)", **SWEEP
)
def faster(runs):
    fast, base = steps(runs.one("cpu")), runs.one("cpu_baseline")
    numbers = {
        "95 % at": fast,
        "without": steps(base),
        "without, in the end": base.final("test_accuracy"),
    }
    return fast <= 2000 and 2 * fast <= steps(base), numbers


@ex.claim("E1c", "Not by the weight decay that goes with them (table 4)", **SWEEP)
def not_decay(runs):
    fast, alone = steps(runs.one("cpu")), steps(runs.one("cpu_decay_alone"))
    return 2 * fast <= alone, {"95 % at": fast, "with the decay alone": alone}


@ex.claim("E1-paper", "By 44 times at 3e5 updates (figure 1)", report_only=True, **SWEEP)
def as_published(runs):
    fast, base = (steps(runs.one(name)) for name in ("paper_ema", "paper"))
    return 20 * fast <= base < inf, {"with": fast, "without": base}


if __name__ == "__main__":
    ex.run_as_script()
