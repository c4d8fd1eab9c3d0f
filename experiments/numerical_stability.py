"""Prieto, Barsbey, Mediano, Birdal 2025, arXiv:2501.04697.

"Grokking at the Edge of Numerical Stability": without regularization the logits are scaled up until the
softmax saturates and learning ends; take out the gradient's part along the weights, and a network
generalizes at once.
"""

from math import inf

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.experiment import parts as recipes
from grok.models.mlp import PairMLP
from grok.objectives.classification import ClassificationLoss, InputLogits
from grok.objectives.saturation import with_saturation

ex = Paper("numerical_stability", threshold=0.99, delay=1000)


@ex.config
def config():
    operation = "x_plus_y"
    p = 113
    train_fraction = 0.4
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    width = 200
    depth = 3
    activation = "relu"
    optimizer = "adamw"
    lr = 1e-2
    betas = (0.9, 0.99)
    eps = 1e-25
    weight_decay = 0.0
    warmup_steps = 0
    batch_size = None
    train_steps = 80_000
    log_points = 200
    dtype = "float32"
    loss_dtype = None  # float64 postpones the collapse
    device = "auto"


SHORT = {"betas": (0.9, 0.999), "eps": 1e-8, "train_steps": 300}
LONG = {"p": 59, "lr": 5e-4, "train_steps": 4000}
ex.add_named_config("paper", {})
ex.add_named_config("paper_orthogonal", {**SHORT, "orthogonal_gradient": True})
ex.add_named_config(
    "paper_stablemax", {"stablemax": True, "loss_dtype": "float64", "betas": (0.9, 0.999)}
)
ex.add_named_config("cpu", {**SHORT, "orthogonal_gradient": True})
ex.add_named_config("cpu_plain", SHORT)
ex.add_named_config("cpu_collapse", LONG)
ex.add_named_config("cpu_collapse_float64", {**LONG, "loss_dtype": "float64"})


@ex.build
def build(c) -> Problem:
    table = recipes.table_of(c)
    hidden = [c.width] * (c.depth - 1)
    model = recipes.drawn(
        c, lambda: PairMLP(table.elements, table.classes, hidden, c.activation, bias=False)
    )
    data = recipes.in_columns(recipes.split_of(c, table))
    loss = ClassificationLoss(InputLogits(), loss_dtype=c.loss_dtype)
    return with_saturation(recipes.classification_problem(c, model, data, loss))


SWEEP = {"sweep": "numerical_stability_cpu"}
SHARE = 0.05  # of the rows: a collapse


def collapse(run) -> float:
    """The first step at which a share of the train rows gives no more gradient; inf if never."""
    return run.first_step_held("collapsed", SHARE)


@ex.claim("E4a", "Unregularized, the softmax collapses and learning ends (figure 2)", **SWEEP)
def ends(runs):
    run = runs.one("cpu_collapse")
    most, test = run.logged("collapsed")[1].max(), run.final("test_accuracy")
    return most > SHARE and test < 0.1, {
        "most collapsed": most,
        "from step": collapse(run),
        "test": test,
    }


@ex.claim("E4b", "A higher precision postpones the collapse (figure 2)", **SWEEP)
def postponed(runs):
    single, double = collapse(runs.one("cpu_collapse")), collapse(runs.one("cpu_collapse_float64"))
    return single < double, {"float32 at": single, "float64 at": double}


@ex.claim(
    "E4d", "Gradients across the weights generalize at once, without decay (figure 5)", **SWEEP
)
def at_once(runs):
    run, plain = runs.one("cpu"), runs.one("cpu_plain")
    step = run.first_step_held("test_accuracy", 0.99)
    least, most = plain.at("test_accuracy", step), run.logged("collapsed")[1].max()
    passed = step <= 300 and least <= 0.1 and most == 0
    return passed, {"test 99 % at": step, "plain test then": least, "collapsed": most}


@ex.claim("E4d-along", "The plain gradient comes to lie along the weights (section 5)", **SWEEP)
def along(runs):
    run = runs.one("cpu_plain")
    memorized = run.first_step_held("train_accuracy", 0.99)
    return run.final("alignment") > 0.5, {
        "train 99 % at": memorized,
        "cosine": run.final("alignment"),
    }


@ex.claim("E4c", "StableMax groks without decay (figure 3)", report_only=True, **SWEEP)
def stable(runs):
    step = runs.one("paper_stablemax").first_step_held("test_accuracy", 0.95)
    return step < inf, {"test 95 % at": step}


if __name__ == "__main__":
    ex.run_as_script()
