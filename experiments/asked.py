"""Sums."""

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment.parts import answer_problem, drawn, in_columns, split_of, table_of
from grok.models.mlp import PairMLP
from grok.objectives.classification import AnswerLoss, Inputs

ex = Paper("asked", threshold=0.99, delay=1000)


@ex.config
def config():
    operation = "x_plus_y"
    p = 31
    train_fraction = 0.5
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    depth = 2  # linear layers
    width = 256
    embedding_width = None  # learned vectors in place of one-hot ones
    activation = "relu"
    init_scale = 1.0
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 1.0
    warmup_steps = 10
    batch_size = None  # the train set
    train_steps = 5000
    log_points = 100
    dtype = "float32"
    loss_dtype = None
    device = "auto"
    measures = ["norms"]


ex.add_named_config("cpu", {})  # shows the effect in minutes
ex.add_named_config("paper", {"p": 97})  # the published numbers


@ex.build
def build(c) -> Problem:
    table = table_of(c)
    data = in_columns(split_of(c, table))
    sizes = table.elements, table.classes, [c.width] * (c.depth - 1)
    model = drawn(c, lambda: PairMLP(*sizes, c.activation, c.embedding_width, c.init_scale))
    loss = AnswerLoss(Inputs(), loss_dtype=c.loss_dtype)
    stop = Stop((("train_accuracy", 0.99), ("test_accuracy", 0.99)))
    return answer_problem(c, model, data, loss, stop=stop)


if __name__ == "__main__":
    ex.run_as_script()
