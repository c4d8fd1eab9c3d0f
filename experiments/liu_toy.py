"""Liu, Kitouni, Nolte, Michaud, Tegmark, Williams 2022, arXiv:2205.10343.

"Towards Understanding Grokking: An Effective Theory of Representation Learning": symbols become
vectors, two are added, a decoder names the sum, not modular; they generalize as parallelograms form.
"""

import numpy as np
import torch

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import within
from grok.engine.problem import Problem
from grok.engine.spec import Group, Optimizer, Stop
from grok.experiment import parts as recipes
from grok.experiment.validation import ConfigError
from grok.objectives import toys
from grok.tasks import toy as tasks
from grok.theory import representation as theory

DECIDED = Stop((("train_accuracy", 0.9), ("test_accuracy", 0.9)))
CHOICES = {
    "variant": ("encoder", "table", "permutation"),
    "combine": ("add", "multiply", "concatenate"),
}  # fmt: skip
AUTHORS = "authors_seed58"  # their own run
ex = Paper("liu_toy", threshold=0.9, delay=1000, choices=CHOICES)


@ex.config
def config():
    variant = "encoder"  # encoder: MLP of fixed vectors; table: free vectors; permutation: S_3
    p = 10  # symbols, or 3 for S_3
    train_fraction = 0.8  # of the table
    train_count = None  # training pairs, overrides train_fraction
    symbol_rep_dim = 10  # dimension of the targets (and of the encoder's fixed inputs)
    hidden_rep_dim = 1  # dimension of the representation
    combine = "add"  # how two representations meet
    encoder_width = 200
    encoder_depth = 3  # linear layers
    encoder_lr = 1e-3  # of the encoder, or of the free vectors
    encoder_weight_decay = 0.0
    decoder_width = 200
    decoder_depth = 3
    decoder_lr = 1e-3
    decoder_weight_decay = 0.0
    init_scale = 1.0  # free vectors are uniform in +- init_scale / 2
    activation = "tanh"
    optimizer = "adam"
    loss = "squared_error"
    representation_l1 = 0.0  # weight of the mean |E| in the loss
    train_steps = 5000
    log_points = 200  # logarithmically spaced
    authors_grid = False  # draw numbers in the order of the authors' phase-diagram notebooks
    stop_when_decided = False  # retire once train and test accuracy have reached the threshold
    dtype = "float64"
    loss_dtype = None  # of the cross-entropy, if another
    device = "auto"


TABLE = {  # the authors' train_add: 45 of the 55 pairs, free vectors, AdamW
    "variant": "table", "train_count": 45, "symbol_rep_dim": 30, "decoder_lr": 1e-4,
    "optimizer": "adamw", "dtype": "float32",
}  # fmt: skip
PERMUTATION = {
    **TABLE, "variant": "permutation", "p": 3, "combine": "multiply", "hidden_rep_dim": 9,
    "train_count": 24, "init_scale": 0.1, "representation_l1": 1e-3, "decoder_weight_decay": 5.0,
    "train_steps": 10_000, "seed": 0,
}  # fmt: skip
GRID = {"train_steps": 100_000, "log_points": 250, "authors_grid": True, "stop_when_decided": True}

ex.add_named_configs({
    "paper": {"train_steps": 1000},  # the published script's defaults
    AUTHORS: {**TABLE, "seed": 58},  # figure 4d
    "cpu": {**TABLE, "decoder_lr": 2.154e-5, "train_steps": 20_000, "seed": 58},  # 5b
    "classification": {**TABLE, "loss": "cross_entropy", "seed": 1},  # figure 5c
    "permutation": PERMUTATION,  # figure 5d: S_3, 3 x 3 matrices, multiplied
    "two_dimensional": {**TABLE, "hidden_rep_dim": 2, "seed": 58},
    "phase_diagram": {**TABLE, **GRID, "seed": 58},  # one cell of the large grid
})  # fmt: skip


@ex.build
def build(c) -> Problem:
    if c.variant == "permutation" and c.p > 4:
        raise ConfigError("p", c.p, "at most 4 with variant=permutation (S_4 has 576 pairs)")
    if c.combine == "multiply" and int(c.hidden_rep_dim**0.5) ** 2 != c.hidden_rep_dim:
        raise ConfigError("hidden_rep_dim", c.hidden_rep_dim, "a square with combine=multiply")
    pairs, labels = tasks.table_of(c.p, c.variant == "permutation")
    count = recipes.count_of(c, len(pairs), least=0)
    loss = toys.ToyLoss(c.loss, c.representation_l1, c.loss_dtype)
    task, model = recipes.drawn(c, lambda: toys.draw(c, pairs, labels, count))
    quads = torch.as_tensor(theory.quads(pairs.numpy(), labels.numpy()))
    data = {
        **task.split(),
        "pairs": pairs,
        "answers": labels,
        "targets": task.targets,
        "train": task.train,
        "quads": quads,
    }
    decoder = Group("decoder", c.decoder_lr, c.decoder_weight_decay)
    encoder = Group("", c.encoder_lr, c.encoder_weight_decay)
    parts = data, loss, toys.ToyMetrics(loss, c.combine), Optimizer(c.optimizer, (decoder, encoder))
    stop = DECIDED if c.stop_when_decided else None
    return recipes.problem_of(c, model, *parts, saved_data=("pairs", "answers", "train"), stop=stop)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """RQI and steps to it; the test accuracy that the train set, or the representation, allows."""
    if c.combine == "concatenate":  # has no parallelograms
        return {}
    pairs, labels, train = (problem.data[name].cpu().numpy() for name in problem.saved_data)
    holds = recorder.trajectory("parallelogram_holds")[-1]
    result = {"predicted_accuracy": theory.predicted_accuracy(labels, train, holds)}
    result["steps_to_rqi"] = recorder.first_step_held("rqi", 0.95)
    if c.combine == "add":
        result["ideal_accuracy"] = ideal = theory.ideal_accuracy(pairs, labels, train)
        result["ideal_gap"] = abs(recorder.final("test_accuracy") - ideal)
    return result


@ex.claim("02-C1", "Representations predict accuracy (fig. 3)", sweep="liu_figure3", pooled=True)
def predicted(runs):
    both = [[run[n] for run in runs] for n in ("test_accuracy", "predicted_accuracy")]
    return np.corrcoef(both)[0, 1] >= 0.95, {"correlation": np.corrcoef(both)[0, 1]}


@ex.claim("02-C2", "Train sets pin the representation from 40 % on (figure 4a)", pooled=True)
def critical(runs):
    table = (tensor.numpy() for tensor in tasks.table_of(10, False))
    fraction = theory.critical_fraction(*table, 100, np.random.default_rng(0))
    return 0.38 <= fraction <= 0.44, {"critical fraction": fraction}


@ex.claim("02-C3", "Below that RQI never nears 1 (fig. 4b)", sweep="liu_figure4b", pooled=True)
def diverges(runs):
    few, many = (
        [r.first_step_held("rqi", 0.95) for r in runs.where(train_count=n)] for n in (20, 45)
    )
    return min(few) == np.inf and max(many) <= 1500, {"20 pairs": min(few), "45": max(many)}


@ex.claim("02-C6", "There are all four phases (figure 5b)", sweep="liu_figure5b", pooled=True)
def phases(runs):
    return len({run["phase"] for run in runs}) == 4, {"runs": len(runs)}


ex.claim(
    "02-C4", "The authors' own run: train at 1130, test at 1530 (figure 4d)", sweep="liu_figure4d",
    check=within((AUTHORS, "steps_to_train", 1075, 1190), (AUTHORS, "steps_to_test", 1450, 1610)),
)  # fmt: skip
ex.claim(
    "02-ideal", "The test accuracy is what the train set allows in theory (section 3.2)",
    within((AUTHORS, "ideal_gap", 0, 0.1)),
)  # fmt: skip


if __name__ == "__main__":
    ex.run_as_script()
