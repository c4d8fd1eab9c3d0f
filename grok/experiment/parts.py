"""Parts of problems from configuration keys that mean the same in every paper.

Each function takes a run's configuration `c` and reads the keys that it names. A ConfigError says
which key cannot be used, and what was expected.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import ceil, isqrt, log
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from grok.engine import instruments, interventions
from grok.engine.determinism import drawing
from grok.engine.functional import running_statistics
from grok.engine.hopeless import rule_of
from grok.engine.measure import Measure, MeasureError
from grok.engine.problem import Problem, log_steps
from grok.engine.spec import NO_GRADIENT_STEPS, Grokfast, Group, MeasureConfig, Optimizer
from grok.errors import check_names
from grok.experiment.validation import ConfigError, device_of
from grok.models.transformer import Block, Transformer, TransformerConfig, share_prefixes
from grok.objectives.classification import (
    TEMPERATURE,
    ClassificationLoss,
    ClassificationMetrics,
    DividedLogits,
)
from grok.objectives.losses import DTYPES
from grok.tasks import operations
from grok.tasks.lists import LIST_OPERATIONS, lists
from grok.tasks.pairs import split_table
from grok.tasks.splits import split_rows, train_size
from grok.tasks.tables import sums
from grok.tensors import Tensors
from grok.theory import modular

# Networks do not generalize from less of a table, and a smaller number is mostly a percentage that
# was taken for a fraction.
LEAST_TRAIN_FRACTION = 0.1
MOST_TABLE_ROWS = 25_000_000  # of sums of more than two numbers
MOST_LIST_NUMBERS = 10**8  # numbers in all lists of a data set together
OPTIMIZER_OPTIONS = (  # configuration keys of an Optimizer's fields, where a paper has them
    "decay_to",
    "anneal_steps",
    "lr_floor",
    "weight_noise",
    "update_noise",
    "clip_norm",
    "sam_rho",
)
OPERANDS = "ab"
MUON_LR, MUON_MOMENTUM = 0.02, 0.95  # those of Jordan et al. 2024
MUON_OPTIONS = ("muon_parameters", "muon_lr", "muon_momentum", "muon_weight_decay")
OUTER_MATRICES = ("tokens", "positions", "embed", "unembed", "output")
# Parameters that are several matrices of equal size, one below the other: the module, the beginning of
# the parameter's name, and how many.
STACKED_MATRICES = (
    (Block, ("keys_values.weight",), 2),
    ((nn.LSTM, nn.LSTMCell), ("weight_ih", "weight_hh"), 4),
    ((nn.GRU, nn.GRUCell), ("weight_ih", "weight_hh"), 3),
    (nn.MultiheadAttention, ("in_proj_weight",), 3),
)
MOST_LOGITS = 2**27  # of an evaluation in one piece; more take too much memory
ROWS_AT_ONCE = 4096  # of a larger evaluation


def operation_table(c: SimpleNamespace) -> operations.Table:
    """The table of `operation` modulo `p`.

    With `symmetric`, it has one row for each unordered pair. With `terms` above 2, its rows are
    that many numbers, and the operation can only be their sum.
    """
    terms = getattr(c, "terms", 2)
    if terms > 2:
        if c.operation != "x_plus_y":
            raise ConfigError("terms", terms, f"2 with operation={c.operation}")
        most = max(2, int(log(MOST_TABLE_ROWS, c.p)))
        if terms > most:
            raise ConfigError("terms", terms, f"at most {most} with p={c.p}")
        return operations.Table(*sums(c.p, terms), c.p, c.p)
    try:
        return operations.table(c.operation, c.p, getattr(c, "symmetric", False))
    except operations.OperationError as error:
        expected = str(error).removeprefix("expected ")
        raise ConfigError(error.key, vars(c)[error.key], expected) from None


def spectral_order(c: SimpleNamespace, is_product: bool) -> Tensor:
    """The numbers below `p` in the order in which the weights become periodic as the operation is
    learned.

    Arguments:
        is_product: 1 to p - 1 by discrete logarithm, which needs a prime; else 0 to p - 1.
    """
    try:
        return torch.from_numpy(modular.spectral_order(c.p, is_product))
    except ValueError:
        expected = f"a prime number with operation={c.operation}"
        raise ConfigError("p", c.p, expected) from None


def split_operation_table(
    c: SimpleNamespace, table: operations.Table, least: float = LEAST_TRAIN_FRACTION
) -> Tensors:
    """Train and test rows of a table, drawn from `data_seed`.

    There are `train_count` train rows, or `train_fraction` of all rows; `noisy_answers` of them
    have a random label. `least` is the smallest fraction for training that is accepted.
    """
    train_count = train_row_count(c, len(table.pairs), least)
    noisy_labels = getattr(c, "noisy_answers", 0)
    if noisy_labels > train_count:
        raise ConfigError("noisy_answers", noisy_labels, f"at most {train_count}, the train rows")
    return split_table(table, train_count, data_seed(c), noisy_labels)


def data_seed(c: SimpleNamespace) -> int:
    """The seed of the train/test split: `data_seed`, or the run's seed if that is None."""
    return c.seed if c.data_seed is None else c.data_seed


def further_generator(seed: int, stream: int = 1) -> torch.Generator:
    """A generator of what a run draws beside its data and initial weights, which `seed` itself gives.

    Arguments:
        stream: 1 to 3; different draws of one run take different streams.
    """
    # torch's CPU generator reads the low 32 bits of a seed alone
    return torch.Generator().manual_seed(seed + stream * 2**30)


def train_row_count(c: SimpleNamespace, total: int, least: float = LEAST_TRAIN_FRACTION) -> int:
    """The number of train rows: `train_count`, or `train_fraction` of all rows.

    Arguments:
        total: number of all rows.
        least: the smallest fraction of them that is accepted. One row must be left for the test.
    """
    count = c.train_count or train_size(total, c.train_fraction)
    if not max(least * total, 1) <= count < total:
        key = "train_count" if c.train_count else "train_fraction"
        expected = f"to give {max(ceil(least * total), 1)} to {total - 1} of {total} rows"
        raise ConfigError(key, vars(c)[key], expected)
    return count


def labels_as_columns(split: Tensors) -> Tensors:
    """The split with its {train,test}_labels (N,) as columns (N, 1): one label for each row."""
    columns = {name: split[name].view(-1, 1) for name in ("train_labels", "test_labels")}
    return {**split, **columns}


def pair_tokens(pairs: Tensor, elements: int, layout: str) -> Tensor:
    """Token sequences of pairs.

    Arguments:
        pairs: (N, 2), elements of the table.
        elements: how many elements there are.
        layout: one character for each position: "a" and "b" are the operands; every other
            character is a token of its own, numbered from `elements` on.

    Returns:
        tokens (N, S), S the length of the layout.
    """
    others = [character for character in layout if character not in OPERANDS]
    tokens = {character: elements + index for index, character in enumerate(others)}
    a, b = pairs.unbind(1)
    columns = {"a": a, "b": b, **{k: torch.full_like(a, v) for k, v in tokens.items()}}
    return torch.stack([columns[character] for character in layout], 1)


def split_list_operation(c: SimpleNamespace) -> Tensors:
    """Train and test rows of a list operation.

    With L = `list_length`, tokens are the sequences `o x1 ... xL = y1 ... y(L-1)`, and labels are
    y1 ... yL.
    """
    if c.p > operations.LARGEST_MODULUS:
        raise ConfigError("p", c.p, f"at most {operations.LARGEST_MODULUS}")
    most = MOST_LIST_NUMBERS // c.p
    if c.list_count > most:
        raise ConfigError("list_count", c.list_count, f"at most {most} with p={c.p}")
    for key in ("symmetric", "noisy_answers"):
        if getattr(c, key, 0):
            raise ConfigError(key, vars(c)[key], f"none with operation={c.operation}")
    if c.list_length > c.p:
        raise ConfigError("list_length", c.list_length, f"at most p={c.p} different numbers")
    inputs, labels = lists(c.operation, c.p, c.list_length, c.list_count, data_seed(c))
    operator, equals = (torch.full((len(inputs), 1), token) for token in (c.p, c.p + 1))
    tokens = torch.cat([operator, inputs, equals, labels[:, :-1]], 1)
    return split_rows({"tokens": tokens, "labels": labels}, train_row_count(c, len(tokens)))


def token_sequences(c: SimpleNamespace, layout: str) -> tuple[Tensors, int, int, int]:
    """Token sequences of a table's rows, or of a list operation's.

    Arguments:
        layout: of a table's rows, as in `pair_tokens`.

    Returns:
        {train,test}_tokens and _labels, the number of labels for each row, the number of tokens,
        and the number of classes.
    """
    if c.operation in LIST_OPERATIONS:
        return split_list_operation(c), c.list_length, c.p + 2, c.p
    table = operation_table(c)
    others = sum(character not in OPERANDS for character in layout)
    return tokenize_split(c, table, layout), 1, table.elements + others, table.classes


def tokenize_split(c: SimpleNamespace, table: operations.Table, layout: str) -> Tensors:
    """The table's train/test split as token sequences: {train,test}_tokens and _labels."""
    split = split_operation_table(c, table)
    return {
        f"{part}_{kind}": values
        for part in ("train", "test")
        for kind, values in (
            ("tokens", pair_tokens(split[f"{part}_pairs"], table.elements, layout)),
            ("labels", split[f"{part}_labels"]),
        )
    }


def sequence_data(split: Tensors, batch_size: int | None) -> Tensors:
    """A transformer's data, in which equal prefixes of the sequences are held once.

    Arguments:
        split: {train,test}_tokens (N, S) and _labels, (N,) or (N, count).
        batch_size: of training; None for the train set, 0 to share no prefixes.

    Returns:
        prefixes, {train,test}_prefix_index, _suffixes, and _labels (N, count).
    """
    train, test = split["train_tokens"], split["test_tokens"]
    batch_size = len(train) if batch_size is None else batch_size
    prefixes, index, suffixes = share_prefixes(torch.cat([train, test]), batch_size)
    return {
        "prefixes": prefixes,
        **split_rows({"prefix_index": index, "suffixes": suffixes}, len(train)),
        "train_labels": split["train_labels"].view(len(train), -1),
        "test_labels": split["test_labels"].view(len(test), -1),
    }


def init_with_seed(c: SimpleNamespace, make: Callable[[], Any]) -> Any:
    """What `make` returns, initialized from the run's seed in its dtype."""
    with drawing(c.seed, DTYPES[c.dtype]):
        return make()


def needs_drawn_weights(c: SimpleNamespace, what: str) -> None:
    """ConfigError if the run starts from other weights than those that its seed gives.

    Arguments:
        what: comes from the seed's weights, in `build`.
    """
    for key in ("initial_run", "initial_weights"):
        if getattr(c, key) is not None:
            raise ConfigError(
                key, getattr(c, key), f"None: {what} comes from the weights of the seed"
            )


def check_heads(width: int, heads: int) -> None:
    """ConfigError if the width cannot be divided among the heads."""
    if width % heads:
        raise ConfigError("width", width, f"a multiple of heads={heads}")


def make_transformer(c: SimpleNamespace, shape: TransformerConfig) -> Transformer:
    """A transformer initialized from the run's seed."""
    check_heads(shape.width, shape.heads)
    return init_with_seed(c, lambda: Transformer(shape))


def make_one_layer_transformer(c: SimpleNamespace, elements: int) -> Transformer:
    """The transformer of Nanda et al. 2023 on sequences `a b =`: one layer, no normalization."""
    shape = TransformerConfig(
        elements + 1,
        elements + 1,
        3,
        width=c.width,
        depth=1,
        heads=c.heads,
        mlp_width=c.mlp_width,
        norm="none",
        biases=("mlp",),
        activation=c.activation,
        positions="learned",
        init="normal",
        init_scale=getattr(c, "init_scale", 1.0),
        elements=elements,
    )
    return make_transformer(c, shape)


def make_optimizer(c: SimpleNamespace) -> Optimizer:
    """The optimizer that the configuration describes.

    It has one group of all parameters; with `decay_vectors` False, biases and the parameters of
    LayerNorm are in groups without weight decay.
    """
    if getattr(c, "decay_to", "zero") != "zero" and c.optimizer == "adam":
        raise ConfigError("decay_to", c.decay_to, "zero with optimizer=adam (or optimizer=adamw)")
    beta1, beta2 = c.betas
    group = Group("", c.lr, c.weight_decay, (beta1, beta2), c.eps)
    undecayed: tuple[Group, ...] = ()
    if not getattr(c, "decay_vectors", True):
        parts = ("bias", "norm", "final")
        undecayed = tuple(
            replace(group, weight_decay=0.0, part=part, decayed=False) for part in parts
        )
    options = {name: vars(c)[name] for name in OPTIMIZER_OPTIONS if name in vars(c)}
    return Optimizer(c.optimizer, (*undecayed, group), warmup_steps=c.warmup_steps, **options)


def evaluation_steps(c: SimpleNamespace) -> list[int]:
    """The steps at which a run is evaluated: every `eval_steps`, or `log_points` of them."""
    if getattr(c, "eval_steps", None):
        return list(range(0, c.train_steps + 1, c.eval_steps))
    return log_steps(c.train_steps, c.log_points)


def make_problem(
    c: SimpleNamespace,
    module: nn.Module,
    data: Tensors,
    loss: Callable,
    metrics: Callable,
    optimizer: Optimizer,
    log_steps: list[int] | None = None,
    **fields: Any,
) -> Problem:
    """The problem of these parts, on the configuration's device.

    Arguments:
        log_steps: the steps at which it is evaluated; `evaluation_steps` if None.
        fields: further fields of Problem.
    """
    device, batch_size = device_of(c.device), fields.get("batch_size")
    rows = len(data[fields["minibatch_keys"][0]]) if batch_size else 0
    if batch_size and batch_size > rows and fields.get("sampling") != "replacement":
        raise ConfigError("batch_size", batch_size, f"at most {rows}, the train rows, or None")
    return Problem(
        module.to(device),
        {name: tensor.to(device) for name, tensor in data.items()},
        loss,
        metrics,
        optimizer,
        c.train_steps,
        log_steps or evaluation_steps(c),
        c.seed,
        **fields,
    )


def classification_problem(
    c: SimpleNamespace,
    model: nn.Module,
    data: Tensors,
    loss: ClassificationLoss,
    metrics: Callable[[ClassificationMetrics], Callable] | None = None,
    **fields: Any,
) -> Problem:
    """The problem of a model that predicts classes.

    It trains on mini-batches where `batch_size` is given, and is evaluated on drawn rows where the
    configuration has `eval_train_count` or `eval_test_count`.

    Arguments:
        metrics: makes the paper's own metrics of loss and accuracies; None for these alone.
        fields: further fields of Problem.
    """
    counts = [getattr(c, f"eval_{part}_count", None) for part in ("train", "test")]
    labels = [data[f"{part}_labels"] for part in ("train", "test")]
    rows = max(count or len(values) for count, values in zip(counts, labels, strict=True))
    logits = rows * labels[0].shape[-1] * (int(labels[0].max()) + 1)
    rows_at_once = ROWS_AT_ONCE if logits > MOST_LOGITS else None
    classification = ClassificationMetrics(loss, counts[0], counts[1], rows_at_once)
    fields = {"batch_size": c.batch_size, **fields}
    return make_problem(
        c,
        model,
        data,
        loss,
        metrics(classification) if metrics else classification,
        make_optimizer(c),
        minibatch_keys=loss.logits.batched if fields["batch_size"] else (),
        needs_rng=classification.draws or loss.logits.draws,
        **fields,
    )


def with_engine_options(
    problem: Problem,
    c: SimpleNamespace,
    threshold: float,
    reference: Tensors | None = None,
    own_measures: Sequence[Measure] = (),
) -> Problem:
    """The problem with the options that every experiment has.

    Arguments:
        threshold: the accuracy from which a run has memorized, or generalized.
        reference: the final weights of `reference_run`, if there is one.
        own_measures: instruments that the paper defines.
    """
    if not problem.optimizer.gradient_steps:
        for key, off in (("grokfast", None), ("orthogonal_gradient", False)):
            if getattr(c, key) is not off:
                raise ConfigError(key, getattr(c, key), f"{off}: {NO_GRADIENT_STEPS}")
    optimizer = replace(
        problem.optimizer, orthogonal=c.orthogonal_gradient, fixed_norm=c.fixed_norm
    )
    if c.grokfast is not None:
        grokfast = Grokfast(c.grokfast, c.grokfast_gain, c.grokfast_alpha, c.grokfast_window)
        optimizer = replace(optimizer, grokfast=grokfast)
    problem = replace(
        problem,
        optimizer=optimizer,
        checkpoint_every=c.checkpoint_every,
        keep_weights=c.record_trajectory,
        arrays_every=c.trajectory_every,
        fused=c.fused,
    )
    if problem.optimizer.kind == "muon":
        problem = with_muon(problem, c)
    else:
        _check_no_muon_options(c)
    if c.stablemax:
        problem = with_stablemax(problem)
    if c.temperature is not None:
        problem = with_temperature(problem, c.temperature)
    if c.measures or c.measure_options:
        problem = replace(problem, measures=measure_config(c, problem, reference, own_measures))
    if c.interventions:
        problem = with_interventions(problem, c, threshold)
    if c.stop_when_hopeless:
        problem = with_hopeless_rule(problem, threshold)
    return problem


def with_hopeless_rule(problem: Problem, threshold: float) -> Problem:
    """The problem with the rule by which it is given up if it will not grok.

    Arguments:
        threshold: the accuracy from which a run has memorized.
    """
    rule = rule_of(problem.train_steps, sorted(problem.log_steps), threshold)
    expected = None
    if problem.optimizer.rescales:
        expected = "False with a fixed norm: the rule reads how it changes"
    elif "train_accuracy" not in interventions.metric_names(problem):
        expected = "False: the rule reads train_accuracy, which this run does not have"
    elif rule is None:
        expected = "False: too few evaluations in the first tenth of train_steps for the rule"
    if expected is not None:
        raise ConfigError("stop_when_hopeless", True, expected)
    return replace(problem, hopeless=rule)


def with_interventions(problem: Problem, c: SimpleNamespace, threshold: float) -> Problem:
    """The problem with the changes that `interventions` lists.

    Arguments:
        threshold: the accuracy from which a run has memorized, or generalized.
    """
    try:
        changes = [interventions.parse(entry, threshold) for entry in c.interventions]
        sets_temperature = any(TEMPERATURE in dict(one.settings) for one in changes)
        if sets_temperature and TEMPERATURE not in problem.data:
            problem = with_temperature(problem, 1.0)
        return interventions.add(problem, changes)
    except interventions.InterventionError as error:
        raise ConfigError("interventions", c.interventions, error.expected) from None


def with_muon(problem: Problem, c: SimpleNamespace) -> Problem:
    """The problem with Muon for the matrices that `muon_parameters` names, or the hidden ones."""
    matrices = [name for name, p in problem.module.named_parameters() if p.ndim == 2]
    names = hidden_matrices(matrices)
    if c.muon_parameters:
        names = [name for name in matrices if name.startswith(tuple(c.muon_parameters))]
    if not names:
        found = ", ".join(matrices)
        raise ConfigError("muon_parameters", c.muon_parameters, f"names of matrices: {found}")
    stacked = stacked_matrices(problem.module)
    optimizer, groups = problem.optimizer, []
    for name in names:
        group = optimizer.groups[optimizer.group_of(name)]
        groups.append(
            replace(
                group,
                prefix=name,
                lr=MUON_LR if c.muon_lr is None else c.muon_lr,
                momentum=MUON_MOMENTUM if c.muon_momentum is None else c.muon_momentum,
                weight_decay=(
                    group.weight_decay if c.muon_weight_decay is None else c.muon_weight_decay
                ),
                muon=True,
                stacked=stacked.get(name, 1),
            )
        )
    optimizer = replace(optimizer, groups=(*groups, *optimizer.groups))
    return replace(problem, optimizer=optimizer)


def _check_no_muon_options(c: SimpleNamespace) -> None:
    """ConfigError if an option of Muon is set, in a run that does not use it."""
    for key in MUON_OPTIONS:
        value = getattr(c, key)
        if value not in (None, []):
            default = "[]" if key == "muon_parameters" else "None"
            expected = f"{default} unless optimizer=muon, which alone reads it"
            raise ConfigError(key, value, expected)


def stacked_matrices(module: nn.Module) -> dict[str, int]:
    """How many matrices a parameter is, by its name, for each that is more than one."""
    counts: dict[str, int] = {}
    for path, part in module.named_modules():
        for kind, beginnings, count in STACKED_MATRICES:
            if isinstance(part, kind):
                names = (name for name, _ in part.named_parameters() if name.startswith(beginnings))
                counts |= {f"{path}.{name}".lstrip("."): count for name in names}
    return counts


def hidden_matrices(names: Sequence[str]) -> list[str]:
    """Those of some matrices that are no embeddings or output layers, as in Jordan et al. 2024.

    Embeddings and output layers are known by their names, or are the first and the last matrix.
    """
    inner = [name for name in names if not name.startswith(OUTER_MATRICES)]
    return inner if len(inner) < len(names) else inner[1:-1]


def with_stablemax(problem: Problem) -> Problem:
    """The problem with StableMax in place of the softmax in its cross-entropy."""
    loss: Any = problem.loss
    if getattr(loss, "kind", None) != "cross_entropy":
        raise ConfigError("stablemax", True, "False: no cross-entropy of classes to put it in")
    return _with_loss(problem, replace(loss, kind="stablemax"))


def with_temperature(problem: Problem, temperature: float) -> Problem:
    """The problem with its logits divided by a temperature, in the loss and in the metrics."""
    loss = problem.loss
    if not isinstance(loss, ClassificationLoss):
        raise ConfigError("temperature", temperature, "None: no logits of classes to divide")
    dtype = next(problem.module.parameters()).dtype
    divisor = torch.tensor(temperature, dtype=dtype, device=problem.device)
    problem = replace(problem, data={**problem.data, TEMPERATURE: divisor})
    return _with_loss(problem, replace(loss, logits=DividedLogits(loss.logits)))


def _with_loss(problem: Problem, loss: Any) -> Problem:
    """The problem with another loss, in training and in its metrics."""
    metrics: Any = problem.metrics
    if hasattr(metrics, "classification"):
        metrics = replace(metrics, classification=replace(metrics.classification, loss=loss))
    else:
        metrics = replace(metrics, loss=loss)
    return replace(problem, loss=loss, metrics=metrics)


def measure_config(
    c: SimpleNamespace,
    problem: Problem,
    reference: Tensors | None,
    own: Sequence[Measure] = (),
) -> MeasureConfig:
    """The instruments that `measures` names, with the options of `measure_options`.

    Arguments:
        own: instruments that the paper defines.
    """
    names = c.measures.split(",") if isinstance(c.measures, str) else list(c.measures)
    names = [name.strip() for name in names]
    shapes = {name: p.shape for name, p in problem.module.named_parameters()}
    if reference is not None:
        statistics = running_statistics(problem.module)
        reference = {name: w for name, w in reference.items() if name not in statistics}
        if {name: w.shape for name, w in reference.items()} != shapes:
            raise ConfigError(
                "reference_run", c.reference_run, "a run with weights of these shapes"
            )
    try:
        chosen = instruments.resolve(names, problem, reference is not None, own)
    except MeasureError as error:
        raise ConfigError("measures", c.measures, error.expected) from None
    measures = {measure.name: measure for measure in chosen}
    wanted = c.measure_options or {}
    if wanted and not measures:
        raise ConfigError("measure_options", wanted, "None without measures")
    check_names(wanted, measures, "instrument of this run")
    for name, options in wanted.items():
        for option, value in options.items():
            try:
                measures[name] = measures[name].with_option(option, value)
            except MeasureError as error:
                key = f"measure_options.{name}.{option}"
                raise ConfigError(key, value, error.expected) from None
    for name, measure in measures.items():
        if measure.every is None:
            measures[name] = measure.with_option("every", c.snapshot_every)
    stride = getattr(c, "stride", None) or isqrt(getattr(c, "p", 1))
    return MeasureConfig(tuple(measures.values()), stride, reference)
