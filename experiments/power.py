"""Power, Burda, Edwards, Babuschkin, Misra 2022, arXiv:2201.02177.

"Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets": a transformer completes
a table of a binary operation; the answer is learned by heart first and understood long after.
"""

from grok.lab.experiment import Paper
from grok.lab.recipes import (
    answer_problem,
    list_split,
    sequence_data,
    table_of,
    tokenized,
    transformer_of,
)
from grok.measures.sharpness import sharpness
from grok.measures.weights import rms_norms
from grok.models.transformer import Shape
from grok.tasks.lists import LIST_OPERATIONS
from grok.training.answers import AnswerLoss, Sequences
from grok.training.problem import Problem, Stop

LAYOUT = "Eaob="  # E ends and begins a sequence
DECIDED = Stop((("train_accuracy", 0.99), ("test_accuracy", 0.99)))

ex = Paper("power", threshold=0.99, delay=1000)


@ex.config
def config():
    # a name (grok/tasks/operations.py), s5, sort, or an expression: a**2 + b
    operation = "x_plus_y"
    p = 97
    symmetric = False  # only pairs with a <= b
    train_fraction = 0.5
    train_count = None
    noisy_answers = 0  # train rows with a random answer (figure 6)
    data_seed = None  # of the split; None: the run's seed
    list_length = 4  # of sort, reverse, copy: so many different numbers below p
    list_count = 5000  # of them in the table
    depth = 2
    width = 128
    heads = 4
    activation = "relu"
    norm = "post"
    positions = "sinusoidal"
    tied = False
    init_scale = 1.0
    dropout = 0.0  # after the MLP
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 1.0
    decay_to = "zero"  # or "init"
    warmup_steps = 10
    anneal_steps = 0  # a cosine to a tenth of lr by then; 0 for none
    weight_noise = 0.0  # std, at every gradient
    update_noise = 0.0  # std, on Adam's direction
    sam_rho = 0.0  # of sharpness-aware minimization
    batch_size = 512  # at most half of the train set; None: all of it
    train_steps = 10_000
    log_points = 100
    stop_when_grokked = False
    sharpness = False  # of the final weights (Keskar et al. 2017)
    dtype = "float32"
    loss_dtype = None
    device = "auto"


SMALL = {"p": 31, "width": 64, "train_steps": 8000, "stop_when_grokked": True}
VARIANTS = {  # of optimizer and regularizer, figure 2 left
    "full_batch_adam": {"weight_decay": 0.0, "batch_size": None},
    "adam": {"weight_decay": 0.0},
    "update_noise": {"weight_decay": 0.0, "batch_size": None, "update_noise": 0.1},
    "dropout": {"weight_decay": 0.0, "dropout": 0.1},
    "adamw": {},
    "adamw_to_init": {"decay_to": "init"},
    "slow_adam": {"weight_decay": 0.0, "lr": 3e-4},
    "fast_adam": {"weight_decay": 0.0, "lr": 3e-3},
    "weight_noise": {"weight_decay": 0.0, "weight_noise": 0.01},
}

ex.add_named_config("paper", {"operation": "x_div_y", "train_steps": 100_000, "log_points": 300})
ex.add_named_config(  # figures 1 left and 4: no weight decay, a million updates
    "paper_figure1", {"operation": "x_div_y", "weight_decay": 0.0, "train_steps": 1_000_000}
)
ex.add_named_config("division", {"operation": "x_div_y"})
ex.add_named_config("polynomial", {"operation": "x2_plus_xy_plus_y2"})
ex.add_named_config("conditional", {"operation": "plus_if_even_else_minus"})
ex.add_named_config("permutation", {"operation": "s5"})
ex.add_named_config("lists", {"operation": "sort", "p": 31})
ex.add_named_config("cpu", {"train_steps": 6000, "stop_when_grokked": True, "depth": 1})
ex.add_named_config(  # Lee et al. 2024: with grokfast=ema and without
    "product", {
        "operation": "x_times_y", "norm": "pre", "activation": "gelu", "positions": "learned",
        "optimizer": "adam", "weight_decay": 0.005, "train_steps": 5000, "stop_when_grokked": True,
    },
)  # fmt: skip
ex.add_named_config("small", SMALL)  # a figure's worth of runs in minutes
for name, changes in VARIANTS.items():
    ex.add_named_config(f"small_{name}", {**SMALL, **changes})
    ex.add_named_config(f"paper_{name}", {"operation": "s5", "train_steps": 100_000, **changes})


@ex.build
def build(c) -> Problem:
    if c.operation in LIST_OPERATIONS:
        split, count = list_split(c), c.list_length
        vocabulary, classes, length = c.p + 2, c.p, 2 * c.list_length + 1
    else:
        table, count = table_of(c), 1
        split = tokenized(c, table, LAYOUT)
        vocabulary, classes, length = table.elements + 3, table.classes, len(LAYOUT)
    rows = len(split["train_tokens"])
    batch = None if c.batch_size is None else min(c.batch_size, -(-rows // 2))
    # dropout differs between sequences, so prefixes are not shared then
    data = sequence_data(split, 0 if c.dropout else batch or rows)
    shape = Shape(
        vocabulary, classes, length, c.width, c.depth, c.heads, 4 * c.width, norm=c.norm,
        activation=c.activation, positions=c.positions, tied=c.tied, init_scale=c.init_scale,
        dropout=c.dropout,
    )  # fmt: skip
    model = transformer_of(c, shape)
    loss = AnswerLoss(Sequences(count, dropout=c.dropout > 0), loss_dtype=c.loss_dtype)
    stop = DECIDED if c.stop_when_grokked else None
    return answer_problem(c, model, data, loss, batch_size=batch, stop=stop)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Root mean square of every weight matrix at the end, and the sharpness there if asked for."""
    if recorder.outcome is None:
        return {}
    weights = recorder.outcome.weights
    result = {"rms_norms": rms_norms(weights)}
    if c.sharpness:
        result["sharpness"] = sharpness(problem.module, problem.loss, problem.data, weights)
    return result


if __name__ == "__main__":
    ex.run_as_script()
