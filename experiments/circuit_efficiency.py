"""Varma, Shah, Kenton, Kramar, Kumar 2023, arXiv:2309.02390.

"Explaining grokking through circuit efficiency": weight decay prefers the circuit that gives more logit for
its norm; trained on, on too little data, a network that has grokked forgets again.
"""

import numpy as np

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import within
from grok.engine.problem import Problem
from grok.experiment import parts as recipes
from grok.models.sum_mlp import SumMLP
from grok.objectives.classification import ClassificationLoss, InputLogits
from grok.tasks.pairs import split_table

ex = Paper("circuit_efficiency", threshold=0.95, delay=1000)


@ex.config
def config():
    operation = "x_plus_y"
    p = 67
    symmetric = True  # of a + b and b + a only one is in the table
    train_fraction = 0.9
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    embedding_width = 500
    width = 48
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 1.0
    warmup_steps = 0
    batch_size = None
    train_steps = 5000
    log_points = 100
    dtype = "float32"
    loss_dtype = "float64"
    device = "auto"


SIZES = (100, 200, 350, 500, 700, 1000)
ex.add_named_config("grokked", {})
ex.add_named_configs({
    f"ungrok_{size}{name}": {"initial_run": "grokked", "train_count": size, "weight_decay": decay,
                             "train_steps": 12_000}
    for size in SIZES for name, decay in (("", 1.0), ("_half_decay", 0.5))
})  # fmt: skip
ex.add_named_config(
    "paper", {"p": 113, "embedding_width": 128, "width": 512, "train_steps": 100_000}
)


@ex.build
def build(c) -> Problem:
    table = recipes.table_of(c)
    model = recipes.drawn(c, lambda: SumMLP(c.p, c.embedding_width, c.width))
    count = recipes.count_of(c, len(table.pairs), least=0)  # fewer than would ever generalize
    data = recipes.in_columns(split_table(table, count, recipes.data_seed_of(c)))
    return recipes.classification_problem(
        c, model, data, ClassificationLoss(InputLogits(), loss_dtype=c.loss_dtype)
    )


ex.claim(
    "E2-start", "The network that is trained on has grokked (added)",
    within(("grokked", "test_accuracy", 0.99, 1.0)), sweep="circuit_efficiency_grokked",
)  # fmt: skip
SWEEP = {"sweep": "circuit_efficiency_cpu"}


@ex.claim("E2b", "Trained on, on little data, it ungroks: sharply, at a size of the data", **SWEEP)
def ungroks(runs):
    tests = {size: runs.one(f"ungrok_{size}").final("test_accuracy") for size in SIZES}
    least = min(runs.one(f"ungrok_{size}").final("train_accuracy") for size in SIZES)
    passed = tests[200] <= 0.1 and tests[700] >= 0.9 and least >= 0.99
    return passed, {f"test, {size} pairs": test for size, test in tests.items()}


@ex.claim("E2b-decay", "Where it ungroks does not depend on the weight decay", pooled=True, **SWEEP)
def decay_alone(runs):
    gaps = {}
    for size in SIZES:
        pair = [[r.final("test_accuracy") for r in runs.all(f"ungrok_{size}{name}")]
                for name in ("", "_half_decay")]  # fmt: skip
        gaps[f"gap, {size} pairs"] = float(np.subtract(*(np.mean(tests) for tests in pair)))
    return max(map(abs, gaps.values())) <= 0.1, gaps


@ex.claim("E2c", "In between it half generalizes (semi-grokking)", **SWEEP)
def between(runs):
    test = runs.one("ungrok_350").final("test_accuracy")
    return 0.1 < test < 0.9, {"test, 350 pairs": test}


if __name__ == "__main__":
    ex.run_as_script()
