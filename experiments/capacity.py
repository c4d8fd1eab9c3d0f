"""The model capacity study on the AI-Scientist grokking template.

Tables below 97 and S_5, as sequences `a o b =`, learned by a small post-norm transformer of 1 to 4
layers of width 64 to 256: does capacity, or its shape, decide when a network groks?
"""

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment.parts import (
    classification_problem,
    sequence_data,
    table_of,
    tokenized,
    transformer_of,
)
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, SequenceLogits

LAYOUT = "aob="
GROKKED = Stop((("train_accuracy", 0.99), ("test_accuracy", 0.99)))

ex = Paper("capacity", threshold=0.99, delay=100)


@ex.config
def config():
    operation = "x_plus_y"  # x_minus_y, x_div_y, permutation, or any other
    p = 97
    train_fraction = 0.5
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    depth = 2
    width = 128
    heads = 4
    activation = "gelu"
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 0.5
    warmup_steps = 50
    batch_size = 512  # drawn with replacement
    train_steps = 7500
    eval_steps = 10  # updates between evaluations
    eval_train_count = None  # rows drawn for an evaluation; None: all
    eval_test_count = None
    stop_when_grokked = False  # retire once train and test accuracy hold at the threshold
    dtype = "float32"
    loss_dtype = None
    device = "auto"


# The template: evaluation on 8 drawn test batches; train accuracy from one drawn train batch.
ex.add_named_config("template", {"eval_train_count": 512, "eval_test_count": 8 * 512})
# One that groks in two minutes: its steps are the template's, its evaluations are fewer.
ex.add_named_config("cpu", {"eval_steps": 50, "stop_when_grokked": True})
# One cell of the grid at a scale for two cores.
ex.add_named_config(
    "small", {"p": 31, "train_fraction": 0.75, "weight_decay": 1.0, "train_steps": 2500,
              "batch_size": 256, "eval_steps": 20},
)  # fmt: skip


@ex.build
def build(c) -> Problem:
    table = table_of(c)
    data = sequence_data(tokenized(c, table, LAYOUT), c.batch_size)
    shape = TransformerConfig(
        table.elements + 2, table.classes, 5, c.width, c.depth, c.heads, 4 * c.width,
        norm="post", final_norm=True, biases=("attention", "mlp", "output"),
        activation=c.activation, positions="learned", init="multihead",
    )  # fmt: skip
    loss = ClassificationLoss(SequenceLogits(), loss_dtype=c.loss_dtype)
    model = transformer_of(c, shape)
    stop = GROKKED if c.stop_when_grokked else None
    return classification_problem(c, model, data, loss, sampling="replacement", stop=stop)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Parameter count."""
    return {"parameters": sum(p.numel() for p in problem.module.parameters())}


if __name__ == "__main__":
    ex.run_as_script()
