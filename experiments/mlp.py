"""A plain MLP on operation tables: the NumPy reproduction framework's four presets.

Two one-hot vectors in, one class out. The published presets keep their numbers, though their weight
decay is a hundredth of what groks; each has a `_small` sibling that shows what its name says.
"""

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.experiment.parts import classification_problem, drawn, in_columns, split_of, table_of
from grok.models.mlp import PairMLP
from grok.objectives.classification import ClassificationLoss, InputLogits

ex = Paper("mlp", threshold=0.99, delay=1000)


@ex.config
def config():
    operation = "x_plus_y"
    p = 97
    symmetric = False
    train_fraction = 0.3
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    width = 4096
    depth = 4  # linear layers: three hidden ones
    embedding_width = None  # learned vectors in place of one-hot ones
    activation = "relu"
    init_scale = 1.0
    loss = "cross_entropy"
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.999)
    eps = 1e-8
    weight_decay = 0.0
    warmup_steps = 0
    batch_size = 512  # drawn with replacement; None: the train set
    train_steps = 50_000
    eval_steps = 100  # updates between evaluations
    dtype = "float32"
    loss_dtype = "float64"
    device = "auto"


PERMUTATION = {
    "operation": "permutation", "train_fraction": 0.5, "train_steps": 80_000, "eval_steps": 200,
}  # fmt: skip
SMALL = {"width": 256, "depth": 2, "eval_steps": 200, "train_steps": 6000}
SMALL_MODULAR = {**SMALL, "p": 59, "train_fraction": 0.5, "batch_size": None, "lr": 2e-3}
SMALL_PERMUTATION = {
    **PERMUTATION, **SMALL, "train_fraction": 0.8, "batch_size": 3000, "lr": 3e-3,
}  # fmt: skip

ex.add_named_config("mod_add_baseline", {})
ex.add_named_config("mod_add_grokking", {"weight_decay": 0.01})
ex.add_named_config("perm_s5_baseline", PERMUTATION)
ex.add_named_config("perm_s5_grokking", {**PERMUTATION, "weight_decay": 0.003})
ex.add_named_config("mod_add_baseline_small", SMALL_MODULAR)
ex.add_named_config("mod_add_grokking_small", {**SMALL_MODULAR, "weight_decay": 2.0})
ex.add_named_config("perm_s5_baseline_small", SMALL_PERMUTATION)
ex.add_named_config("perm_s5_grokking_small", {**SMALL_PERMUTATION, "weight_decay": 1.0})


@ex.build
def build(c) -> Problem:
    table = table_of(c)
    split = in_columns(split_of(c, table))
    hidden = [c.width] * (c.depth - 1)
    sizes = table.elements, table.classes, hidden
    model = drawn(c, lambda: PairMLP(*sizes, c.activation, c.embedding_width, c.init_scale))
    loss = ClassificationLoss(InputLogits(), c.loss, c.loss_dtype)
    return classification_problem(c, model, split, loss, sampling="replacement")


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Parameter count and sizes of the split."""
    return {
        "parameters": sum(p.numel() for p in problem.module.parameters()),
        "train_size": len(problem.data["train_labels"]),
        "test_size": len(problem.data["test_labels"]),
    }


if __name__ == "__main__":
    ex.run_as_script()
