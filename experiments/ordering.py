"""The OrderedLearning study, arXiv:2603.25047: does the order of the data decide what is learned?

Sums modulo p from a thin slice of the table, shown to a small transformer encoder in one fixed order
or another. The published runs generalize with some orders (stride) and never with a fresh shuffle.
"""

from math import isqrt

import torch

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment.parts import (
    classification_problem,
    data_seed_of,
    sequence_data,
    transformer_of,
)
from grok.experiment.validation import ConfigError
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, SequenceLogits
from grok.tasks.orderings import ORDERINGS, Resonant, order_of, resonant_batches
from grok.tasks.pairs import sample_pairs

ex = Paper("ordering", threshold=0.995, delay=1000, choices={"ordering": ORDERINGS})


@ex.config
def config():
    # random (a fresh shuffle each epoch), fixed_random, stride, target, resonant
    ordering = "stride"
    p = 97
    train_count = 2800
    test_count = 4000
    data_seed = None  # of the split and the order; None: the run's seed
    stride = None  # of stride and resonant; None: floor(sqrt(p))
    n_harmonics = 4  # of resonant
    overlap_frac = 0.4
    n_cycles = 3
    depth = 2
    width = 128
    heads = 4
    mlp_width = 512
    dropout = 0.1
    optimizer = "adamw"
    lr = 1e-3
    lr_floor = 5e-4  # of lr, at the end of the cosine
    betas = (0.9, 0.999)
    eps = 1e-8
    weight_decay = 0.1
    warmup_steps = 0
    batch_size = 256
    epochs = 500  # at most: a run stops at 99.5 % test accuracy
    dtype = "float32"
    loss_dtype = None
    eval_train_count = None  # rows drawn for an evaluation; None: all
    eval_test_count = None
    device = "auto"


PAPER = {
    "p": 9973, "train_count": 300_000, "test_count": 1_000_000, "width": 256, "mlp_width": 2048,
    "epochs": 5000, "eval_train_count": 20_000, "eval_test_count": 100_000, "seed": 199,
}  # fmt: skip

ex.add_named_config("paper", PAPER)
CPU = {
    "p": 59, "train_count": 1408, "test_count": 2000, "batch_size": 128, "weight_decay": 1.0,
    "seed": 0,
}  # fmt: skip

ex.add_named_config("cpu", CPU)


@ex.build
def build(c) -> Problem:
    if c.train_count + c.test_count > c.p**2:
        raise ConfigError(
            "test_count", c.test_count, f"at most {c.p**2 - c.train_count} of the table"
        )
    data, batch = ordered_data(c)
    shape = TransformerConfig(
        c.p, c.p, 2, c.width, c.depth, c.heads, c.mlp_width, norm="pre",
        biases=("attention", "mlp", "output"), positions="learned", dropout=c.dropout,
        causal=False, pool=True, init="multihead",
    )  # fmt: skip
    per_epoch = len(data["train_suffixes"]) // batch
    c.train_steps = c.anneal_steps = c.epochs * per_epoch
    loss = ClassificationLoss(SequenceLogits(dropout=c.dropout > 0), loss_dtype=c.loss_dtype)
    return classification_problem(
        c, transformer_of(c, shape), data, loss, batch_size=batch,
        log_steps=list(range(0, c.train_steps + 1, per_epoch)),
        sampling="epochs" if c.ordering == "random" else "in_order",
        stop=Stop((("test_accuracy", 0.995),)),
    )  # fmt: skip


def ordered_data(c) -> tuple[dict[str, torch.Tensor], int]:
    """Train rows in their order, test rows, and the batch size."""
    seed, stride = data_seed_of(c), c.stride or isqrt(c.p)
    train, test = sample_pairs(c.p, c.train_count, c.test_count, seed)
    batch = c.batch_size
    if c.ordering == "resonant":
        batches = resonant_batches(
            c.p, seed, Resonant(stride, c.n_harmonics, c.overlap_frac, c.n_cycles)
        )
        train, batch = batches.flatten(0, 1), batches.shape[1]
        known = torch.isin(test @ torch.tensor([c.p, 1]), train @ torch.tensor([c.p, 1]))
        test = test[~known]
    elif c.ordering != "random":
        train = train[order_of(c.ordering, train, train.sum(1) % c.p, c.p, seed, stride)]
    split = {"train_tokens": train, "test_tokens": test}
    split |= {"train_labels": train.sum(1) % c.p, "test_labels": test.sum(1) % c.p}
    return sequence_data(split, 0), batch  # both positions see each other: no prefix is shared


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Epochs to 99.5 % of the test set."""
    per_epoch = len(problem.data["train_suffixes"]) // problem.batch_size
    steps = recorder.first_step_held("test_accuracy", 0.995)
    return {
        "epochs_to_test": None if steps is None else steps // per_epoch,
        "epoch_steps": per_epoch,
    }


if __name__ == "__main__":
    ex.run_as_script()
