"""Thilak, Littwin, Zhai, Saremi, Paiss, Susskind 2022, arXiv:2206.04817.

"The Slingshot Mechanism": an adaptive optimizer, far past zero loss, goes through cycles of growing
norm and loss spike. The cause is rounding (arXiv:2605.06152).
"""

from functools import partial
from math import inf

import numpy as np

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import within
from grok.engine.problem import Problem
from grok.experiment import datasets
from grok.experiment import parts as recipes
from grok.measures.slingshots import cycles
from grok.models.mlp import PairMLP, mlp
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, InputLogits, SequenceLogits
from grok.objectives.slingshots import with_slingshots

KINDS = {"dataset": ("table", "digits"), "model": ("transformer", "mlp")}
ex = Paper("thilak", threshold=0.9, delay=1000, choices=KINDS)


@ex.config
def config():
    dataset = "table"  # of an operation, or digits: handwritten ones from scikit-learn
    operation = "x_div_y"
    p = 97
    train_fraction = 0.5
    train_count = None  # 200 of the digits
    data_seed = None  # of the split; None: the run's seed
    model = "transformer"
    depth = 2
    width = 128
    heads = 4
    norm = "none"
    activation = "relu"
    optimizer = "adam"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 0.0
    warmup_steps = 10
    batch_size = 512  # None: the train set
    train_steps = 1_000_000
    eval_steps = 20  # updates between looks: a spike lasts some tens
    dtype = "float32"
    loss_dtype = None  # float64 removes the cycles
    device = "auto"


CPU = {
    "dataset": "digits", "model": "mlp", "train_count": 200, "depth": 6, "betas": (0.9, 0.95),
    "warmup_steps": 0, "batch_size": None, "train_steps": 7000,
}  # fmt: skip
ex.add_named_config("paper", {})
ex.add_named_config("cpu", CPU)
ex.add_named_config("cpu_large_eps", {**CPU, "eps": 1e-5})
ex.add_named_config("cpu_float64", {**CPU, "loss_dtype": "float64"})
ex.add_named_config(  # many cycles and no generalization
    "cpu_division", {**CPU, "dataset": "table", "train_count": None, "p": 31, "depth": 4,
                     "train_fraction": 0.6, "betas": (0.9, 0.98)},
)  # fmt: skip


@ex.build
def build(c) -> Problem:
    data, read, model = parts(c)
    loss = ClassificationLoss(read, loss_dtype=c.loss_dtype)
    return with_slingshots(recipes.classification_problem(c, model, data, loss))


def parts(c):
    """Data, what reads it, and the model."""
    hidden = [c.width] * (c.depth - 1)
    if c.dataset == "digits":
        model = recipes.drawn(c, lambda: mlp([64, *hidden, 10], c.activation))
        return recipes.in_columns(datasets.digits_of(c)), InputLogits("images"), model
    table = recipes.table_of(c)
    sizes = table.elements, table.classes
    if c.model == "mlp":
        model = recipes.drawn(c, lambda: PairMLP(*sizes, hidden, c.activation))
        return recipes.in_columns(recipes.split_of(c, table)), InputLogits(), model
    data = recipes.sequence_data(recipes.tokenized(c, table, "aob="), c.batch_size or c.p**2)
    shape = TransformerConfig(
        sizes[0] + 2, sizes[1], 4, c.width, c.depth, c.heads, 4 * c.width, norm=c.norm,
        biases=("attention", "mlp", "output"), activation=c.activation, positions="learned",
    )  # fmt: skip
    return data, SequenceLogits(), recipes.transformer_of(c, shape)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Steps of the cycles' spikes."""
    steps = cycles(*recorder.series["train_loss"])
    return {"cycles": len(steps), "cycle_steps": steps}


@ex.claim("07a", "Without decay Adam goes through cycles: norm grows, loss spikes (figure 1)")
def cyclic(runs):
    run = runs.one("cpu")
    norms = np.array([run.at("classifier_norm", step) for step in run["cycle_steps"]])
    grow = len(norms) >= 3 and (np.diff(norms) > 0).all()
    return grow, {"cycles": len(norms), "norm at the last": norms[-1]}


def peaking(runs, metric: str):
    """Whether a metric has a peak, ten times its median, at every cycle."""
    run = runs.one("cpu")
    least = min(run.peaks(metric, run["cycle_steps"]))
    return least >= 10, {"least peak, in medians": least}


ex.claim(
    "07b", "A larger epsilon removes them (section 4)",
    within(("cpu", "cycles", 3, inf), ("cpu_large_eps", "cycles", 0, 0)),
)  # fmt: skip
ex.claim(
    "07d", "Features change abruptly at each cycle (figure 3)",
    partial(peaking, metric="representation_change"),
)  # fmt: skip
ex.claim(
    "07e", "Sharpness along the update spikes at each (figure 4)",
    partial(peaking, metric="update_sharpness"),
)  # fmt: skip
ex.claim(
    "07f", "None with the loss in float64 (2605.06152)",
    within(("cpu", "cycles", 3, inf), ("cpu_float64", "cycles", 0, 0)),
)  # fmt: skip
ex.claim(
    "07g", "Cycles alone do not make a network generalize (added)",
    within(("cpu_division", "cycles", 5, inf), ("cpu_division", "test_accuracy", 0, 0.6)),
)  # fmt: skip


@ex.claim("07c", "Test accuracy rises within a cycle (transformer, figure 2)", report_only=True)
def coincide(runs):
    run = runs.one("paper")
    rise, spikes = run.first_step_held("test_accuracy", 0.5), np.array(run["cycle_steps"])
    lag = min(rise - spikes[spikes <= rise], default=inf)
    return lag < np.diff(spikes).mean(), {"test 50 % at": rise, "after a spike by": lag}


if __name__ == "__main__":
    ex.run_as_script()
