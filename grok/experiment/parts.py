"""From config keys that mean the same in every paper to the parts of a problem."""

from collections.abc import Callable
from dataclasses import replace
from math import ceil, isqrt
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from grok.engine import instruments
from grok.engine.determinism import drawing
from grok.engine.problem import Problem, log_steps
from grok.engine.spec import Grokfast, Group, MeasureConfig, Optimizer
from grok.experiment.validation import ConfigError, device_of
from grok.models.lstm import SequenceLSTM
from grok.models.mlp import mlp, scaled
from grok.models.transformer import Transformer, TransformerConfig, share_prefixes
from grok.objectives.classification import ClassificationLoss, ClassificationMetrics
from grok.objectives.losses import DTYPES
from grok.objectives.regression import RegressionLoss, RegressionMetrics
from grok.tasks import operations
from grok.tasks.lists import LIST_OPERATIONS, lists
from grok.tasks.pairs import split_table
from grok.tasks.splits import split_rows, train_size
from grok.tasks.tables import sums

# Of a table: less never generalizes, and is mostly a percent taken for a fraction.
LEAST_SHARE = 0.1
LARGEST_DRAW = 10**8  # numbers of all lists together
OPTIONS = (  # of the optimizer, where a config has them
    "decay_to", "anneal_steps", "lr_floor", "weight_noise", "update_noise", "clip_norm", "sam_rho",
)  # fmt: skip


def table_of(c: SimpleNamespace) -> operations.Table:
    """The table of `operation` modulo p, `symmetric` or whole; ConfigError if there is none. With
    `terms` above 2, the rows are that many numbers and the operation can only be their sum."""
    terms = getattr(c, "terms", 2)
    if terms > 2:
        if c.operation != "x_plus_y":
            raise ConfigError("terms", terms, f"2 with operation={c.operation}")
        return operations.Table(*sums(c.p, terms), c.p, c.p)
    try:
        return operations.table(c.operation, c.p, getattr(c, "symmetric", False))
    except operations.OperationError as error:
        raise ConfigError(
            error.key, vars(c)[error.key], str(error).removeprefix("expected ")
        ) from None


def split_of(c: SimpleNamespace, table: operations.Table) -> dict[str, Tensor]:
    """Train and test rows by train_count, else train_fraction; drawn from data_seed, else seed."""
    train_count, noisy = count_of(c, len(table.pairs)), getattr(c, "noisy_answers", 0)
    if noisy > train_count:
        raise ConfigError("noisy_answers", noisy, f"at most {train_count}, the train rows")
    return split_table(table, train_count, data_seed_of(c), noisy)


def data_seed_of(c: SimpleNamespace) -> int:
    """data_seed, else the run's seed."""
    return c.seed if c.data_seed is None else c.data_seed


def count_of(c: SimpleNamespace, total: int, least: float = LEAST_SHARE) -> int:
    """How many rows are for training; ConfigError unless a share of `least` is, and one is left."""
    count = c.train_count or train_size(total, c.train_fraction)
    if not max(least * total, 1) <= count < total:
        key = "train_count" if c.train_count else "train_fraction"
        expected = f"to give {max(ceil(least * total), 1)} to {total - 1} of {total} rows"
        raise ConfigError(key, vars(c)[key], expected)
    return count


def in_columns(split: dict[str, Tensor]) -> dict[str, Tensor]:
    """The split with one answer a row: {train,test}_labels (N, 1)."""
    answers = {name: split[name].view(-1, 1) for name in ("train_labels", "test_labels")}
    return {**split, **answers}


def pair_tokens(pairs: Tensor, elements: int, layout: str) -> Tensor:
    """Token sequences (N, S) of pairs (N, 2): in `layout` "a" and "b" are the operands, and every
    other character is a token of its own, numbered from `elements` in order."""
    others = [letter for letter in layout if letter not in "ab"]
    numbers = {letter: elements + place for place, letter in enumerate(others)}
    a, b = pairs.unbind(1)
    columns = {"a": a, "b": b, **{k: torch.full_like(a, v) for k, v in numbers.items()}}
    return torch.stack([columns[letter] for letter in layout], 1)


def list_split(c: SimpleNamespace) -> dict[str, Tensor]:
    """Rows of a list operation: sequences `o x1 .. xL = y1 .. yL-1` and answers y1 .. yL."""
    if c.p > operations.LARGEST_MODULUS:
        raise ConfigError("p", c.p, f"at most {operations.LARGEST_MODULUS}")
    if c.list_count > LARGEST_DRAW // c.p:
        raise ConfigError("list_count", c.list_count, f"at most {LARGEST_DRAW // c.p} with p={c.p}")
    for key in ("symmetric", "noisy_answers"):
        if getattr(c, key, 0):
            raise ConfigError(key, vars(c)[key], f"none with operation={c.operation}")
    if c.list_length > c.p:
        raise ConfigError("list_length", c.list_length, f"at most p={c.p} different numbers")
    inputs, answers = lists(c.operation, c.p, c.list_length, c.list_count, data_seed_of(c))
    ends = [torch.full((len(inputs), 1), token) for token in (c.p, c.p + 1)]
    tokens = torch.cat([ends[0], inputs, ends[1], answers[:, :-1]], 1)
    count = count_of(c, len(tokens))
    return split_rows({"tokens": tokens, "labels": answers}, count)


def sequences_of(c: SimpleNamespace, layout: str) -> tuple[dict[str, Tensor], int, int, int]:
    """Token sequences of a table's rows in this layout, or of a list operation's; how many tokens are
    the answer; how many tokens, and answers, there are."""
    if c.operation in LIST_OPERATIONS:
        return list_split(c), c.list_length, c.p + 2, c.p
    table = table_of(c)
    others = len([letter for letter in layout if letter not in "ab"])
    return tokenized(c, table, layout), 1, table.elements + others, table.classes


def tokenized(c: SimpleNamespace, table: operations.Table, layout: str) -> dict[str, Tensor]:
    """The table's split as token sequences: {train,test}_tokens and _labels."""
    split, elements = split_of(c, table), table.elements
    return {
        f"{part}_{kind}": values
        for part in ("train", "test")
        for kind, values in (
            ("tokens", pair_tokens(split[f"{part}_pairs"], elements, layout)),
            ("labels", split[f"{part}_labels"]),
        )
    }


def sequence_data(split: dict[str, Tensor], batch: int | None) -> dict[str, Tensor]:
    """Data of a transformer from {train,test}_tokens (N, S) and _labels (N,) or (N, count): prefixes
    that are equal shared, for batches of `batch` (None: the train set; 0: none shared), answers
    (N, count)."""
    train, test = split["train_tokens"], split["test_tokens"]
    batch = len(train) if batch is None else batch
    prefixes, index, suffixes = share_prefixes(torch.cat([train, test]), batch)
    return {
        "prefixes": prefixes,
        **split_rows({"prefix_index": index, "suffixes": suffixes}, len(train)),
        "train_labels": split["train_labels"].view(len(train), -1),
        "test_labels": split["test_labels"].view(len(test), -1),
    }


def transformer_of(c: SimpleNamespace, shape: TransformerConfig) -> Transformer:
    """A transformer drawn from the run's seed; ConfigError if its heads do not divide its width."""
    if shape.width % shape.heads:
        raise ConfigError("width", shape.width, f"a multiple of heads={shape.heads}")
    return drawn(c, lambda: Transformer(shape))


def drawn(c: SimpleNamespace, make: Callable[[], nn.Module]) -> nn.Module:
    """The module that `make` makes, drawn from the run's seed, in its dtype."""
    with drawing(c.seed, DTYPES[c.dtype]):
        return make()


def one_layer_of(c: SimpleNamespace, elements: int) -> Transformer:
    """The transformer of Nanda et al. 2023, reading `a b =`: one layer, no normalization."""
    shape = TransformerConfig(
        elements + 1, elements + 1, 3, c.width, 1, c.heads, c.mlp_width, norm="none",
        biases=("mlp",), activation=c.activation, positions="learned", init="normal",
        init_scale=getattr(c, "init_scale", 1.0), elements=elements,
    )  # fmt: skip
    return transformer_of(c, shape)


def perceptron_of(c: SimpleNamespace, inputs: int, outputs: int) -> nn.Module:
    """`depth` linear layers of `width`, torch's initial parameters times init_scale."""
    sizes = [inputs, *[c.width] * (c.depth - 1), outputs]
    return drawn(c, lambda: scaled(mlp(sizes, c.activation), c.init_scale))


def lstm_of(c: SimpleNamespace, vocabulary: int, classes: int) -> nn.Module:
    """`depth` layers of LSTM of `width`, torch's initial parameters times init_scale."""
    sizes = vocabulary, c.width, c.width, c.depth, classes
    return drawn(c, lambda: scaled(SequenceLSTM(*sizes), c.init_scale))


def regression_problem(c: SimpleNamespace, data: dict[str, Tensor]) -> Problem:
    """A perceptron that learns {train,test}_targets (N, K) of _inputs (N, D); right within `near`."""
    sizes = (data[f"train_{part}"].shape[1] for part in ("inputs", "targets"))
    loss = RegressionLoss(c.loss_dtype)
    metrics = RegressionMetrics(loss, c.near)
    return problem_of(c, perceptron_of(c, *sizes), data, loss, metrics, optimizer_of(c),
                      batch_size=c.batch_size, minibatch_keys=("train_inputs", "train_targets"))  # fmt: skip


def optimizer_of(c: SimpleNamespace) -> Optimizer:
    """One group for all parameters, or without decay of biases and LayerNorm's if the config has
    decay_vectors=False; and the options that the config has."""
    if getattr(c, "decay_to", "zero") != "zero" and c.optimizer == "adam":
        raise ConfigError("decay_to", c.decay_to, "zero with optimizer=adam (or optimizer=adamw)")
    group = Group("", c.lr, c.weight_decay, tuple(c.betas), c.eps)
    plain = ()
    if not getattr(c, "decay_vectors", True):
        parts = ("bias", "norm", "final")
        plain = tuple(replace(group, weight_decay=0.0, part=part) for part in parts)
    given = {name: vars(c)[name] for name in OPTIONS if name in vars(c)}
    return Optimizer(c.optimizer, (*plain, group), warmup_steps=c.warmup_steps, **given)


def looks_of(c: SimpleNamespace) -> list[int]:
    """The steps at which a run is looked at: every eval_steps updates, or log_points in all."""
    if getattr(c, "eval_steps", None):
        return list(range(0, c.train_steps + 1, c.eval_steps))
    return log_steps(c.train_steps, c.log_points)


def problem_of(
    c: SimpleNamespace,
    module: nn.Module,
    data: dict[str, Tensor],
    loss: Callable,
    metrics: Callable,
    optimizer: Optimizer,
    **more,
) -> Problem:
    """The problem of these parts, on the config's device; `more` is what else a Problem takes.

    Looks every eval_steps or at log_points, unless `log_steps` is given.
    """
    device, size = device_of(c.device), more.get("batch_size")
    rows = len(data[more["minibatch_keys"][0]]) if size else 0
    if size and size > rows and more.get("sampling") != "replacement":
        raise ConfigError("batch_size", size, f"at most {rows}, the train rows, or None")
    return Problem(
        module.to(device),
        {name: tensor.to(device) for name, tensor in data.items()},
        loss,
        metrics,
        optimizer,
        c.train_steps,
        more.pop("log_steps", None) or looks_of(c),
        c.seed,
        **more,
    )


def classification_problem(
    c: SimpleNamespace, model: nn.Module, data: dict[str, Tensor], loss: ClassificationLoss, **more
) -> Problem:
    """The problem of a model that answers with classes; `more` is what else a Problem takes.

    Mini-batches where batch_size is given, evaluation on drawn rows where the config says so.
    """
    looks = [getattr(c, f"eval_{split}_count", None) for split in ("train", "test")]
    metrics = ClassificationMetrics(loss, *looks)
    more = {"batch_size": c.batch_size, **more}
    batched = loss.logits.batched if more["batch_size"] else ()
    draws = metrics.draws or loss.logits.draws
    optimizer = optimizer_of(c)
    return problem_of(
        c, model, data, loss, metrics, optimizer, minibatch_keys=batched, needs_rng=draws, **more
    )


def with_engine_options(
    problem: Problem, c: SimpleNamespace, reference: dict[str, Tensor] | None = None
) -> Problem:
    """The problem with the options that every experiment has; `reference`: reference_run's weights."""
    problem = replace(
        problem,
        checkpoint_every=c.checkpoint_every,
        keep_weights=c.record_trajectory,
        arrays_every=c.trajectory_every,
    )
    if c.grokfast is not None:
        filter = Grokfast(c.grokfast, c.grokfast_gain, c.grokfast_alpha, c.grokfast_window)
        problem = replace(problem, optimizer=replace(problem.optimizer, grokfast=filter))
    if c.orthogonal_gradient:
        problem = replace(problem, optimizer=replace(problem.optimizer, orthogonal=True))
    if c.fixed_norm:
        problem = replace(problem, optimizer=replace(problem.optimizer, fixed_norm=True))
    if c.stablemax:
        problem = with_stablemax(problem)
    if c.measures:
        problem = replace(problem, measures=measures_of(c, problem, reference))
    return problem


def with_stablemax(problem: Problem) -> Problem:
    """The problem with StableMax in its cross-entropy; ConfigError if it has none."""
    loss, metrics = problem.loss, problem.metrics
    if getattr(loss, "kind", None) != "cross_entropy":
        raise ConfigError("stablemax", True, "False: no cross-entropy of classes to put it in")
    loss = replace(loss, kind="stablemax")
    if hasattr(metrics, "classification"):
        metrics = replace(metrics, classification=replace(metrics.classification, loss=loss))
    else:
        metrics = replace(metrics, loss=loss)
    return replace(problem, loss=loss, metrics=metrics)


def measures_of(c: SimpleNamespace, problem: Problem, reference: dict | None) -> MeasureConfig:
    """The measures that the config asks for; ConfigError where they cannot be had."""
    names = c.measures.split(",") if isinstance(c.measures, str) else list(c.measures)
    shapes = {name: p.shape for name, p in problem.module.named_parameters()}
    if reference is not None and {k: v.shape for k, v in reference.items()} != shapes:
        raise ConfigError("reference_run", c.reference_run, "a run with weights of these shapes")
    try:
        chosen = instruments.resolve_names(names, problem, reference is not None)
    except instruments.MeasureError as error:
        raise ConfigError("measures", c.measures, error.expected) from None
    stride = getattr(c, "stride", None) or isqrt(getattr(c, "p", 1))
    return MeasureConfig(chosen, c.snapshot_every, stride, reference)
