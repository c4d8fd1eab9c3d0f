"""Liu, Kitouni, Nolte, Michaud, Tegmark, Williams 2022, arXiv:2205.10343.

"Towards Understanding Grokking: An Effective Theory of Representation Learning": symbols become
vectors, two vectors are added, a decoder names the sum. Generalization comes when the vectors form
parallelograms. Addition here is not modular.
"""

import torch

from grok.lab.config import ConfigError, device_of
from grok.lab.experiment import Paper
from grok.models.toy import Toy, encoded_toy, free_toy
from grok.tasks import toy as tasks
from grok.tasks.tables import train_size
from grok.theory import representation as theory
from grok.training.determinism import drawing
from grok.training.losses import DTYPES
from grok.training.objectives import ToyLoss, ToyMetrics
from grok.training.problem import Group, Optimizer, Problem, Stop, log_steps

DECIDED = Stop((("train_accuracy", 0.9), ("test_accuracy", 0.9)))

CHOICES = {
    "variant": ("encoder", "table", "permutation"),
    "loss": ("squared_error", "cross_entropy"),
    "combine": ("add", "multiply", "concatenate"),
}
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

ex.add_named_config("paper", {"train_steps": 1000})  # the published script's defaults
ex.add_named_config("authors_seed58", {**TABLE, "seed": 58})  # figure 4d
# A grokking cell of figure 5b: test follows train by some 2000 steps.
ex.add_named_config("cpu", {**TABLE, "decoder_lr": 2.154e-5, "train_steps": 20_000, "seed": 58})
ex.add_named_config("classification", {**TABLE, "loss": "cross_entropy", "seed": 1})  # figure 5c
ex.add_named_config("permutation", PERMUTATION)  # figure 5d: S_3, 3 x 3 matrices, multiplied
ex.add_named_config("two_dimensional", {**TABLE, "hidden_rep_dim": 2, "seed": 58})
ex.add_named_config("phase_diagram", {**TABLE, **GRID, "seed": 58})  # one cell of the large grid


@ex.build
def build(c) -> Problem:
    if c.variant == "permutation" and c.p > 4:
        raise ConfigError("p", c.p, "at most 4 with variant=permutation (S_4 has 576 pairs)")
    if c.combine == "multiply" and int(c.hidden_rep_dim**0.5) ** 2 != c.hidden_rep_dim:
        raise ConfigError("hidden_rep_dim", c.hidden_rep_dim, "a square with combine=multiply")
    pairs, answers = tasks.table_of(c.p, c.variant == "permutation")
    count = c.train_count or train_size(len(pairs), c.train_fraction)
    if not 0 < count < len(pairs):
        key = "train_count" if c.train_count else "train_fraction"
        raise ConfigError(key, vars(c)[key], f"to give 1 to {len(pairs) - 1} of {len(pairs)} pairs")
    loss = ToyLoss(c.loss, c.representation_l1, c.loss_dtype)
    with drawing(c.seed, DTYPES[c.dtype]):
        task, model = draw(c, pairs, answers, count)
    quads = torch.as_tensor(theory.quads(pairs.numpy(), answers.numpy()))
    data = {**task.split(), **vars(task), "quads": quads}
    device = device_of(c.device)
    groups = (
        Group("decoder", c.decoder_lr, c.decoder_weight_decay),
        Group("", c.encoder_lr, c.encoder_weight_decay),
    )
    return Problem(
        module=model.to(device),
        data={name: tensor.to(device) for name, tensor in data.items()},
        loss=loss,
        metrics=ToyMetrics(loss, c.combine),
        optimizer=Optimizer(c.optimizer, groups),
        train_steps=c.train_steps,
        log_steps=log_steps(c.train_steps, c.log_points),
        seed=c.seed,
        stop=DECIDED if c.stop_when_decided else None,
        kept=("pairs", "answers", "train"),
    )


def draw(c, pairs, answers, count: int) -> tuple[tasks.ToyTask, Toy]:
    """Task and model, drawn in the order of the published code. Call inside `drawing`."""
    dim = int(answers.max()) + 1 if c.loss == "cross_entropy" else c.symbol_rep_dim
    inputs = c.hidden_rep_dim * (2 if c.combine == "concatenate" else 1)
    decoder = [inputs, *[c.decoder_width] * (c.decoder_depth - 1), dim]
    encoder = [*[c.encoder_width] * (c.encoder_depth - 1), c.hidden_rep_dim]
    if c.variant == "encoder":
        task = tasks.script_task(pairs, answers, count, c.symbol_rep_dim, c.seed)
        sizes = [c.symbol_rep_dim, *encoder]
        return task, encoded_toy(task.targets[: c.p], sizes, decoder, c.activation, c.combine)
    task = tasks.table_task(pairs, answers, count, dim, c.seed, c.p if c.authors_grid else 0)
    notebook = c.authors_grid or c.variant == "permutation"
    unused = [10 if c.authors_grid else 1, *encoder] if notebook else None
    shape = (int(pairs.max()) + 1, c.hidden_rep_dim)
    return task, free_toy(shape, c.init_scale, decoder, c.activation, c.combine, unused)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """RQI and steps to it; the test accuracy that the train set, or the representation, allows."""
    pairs, answers, train = (problem.data[name].cpu().numpy() for name in problem.kept)
    if c.combine == "concatenate":  # has no parallelograms
        return {}
    holds = recorder.trajectory("parallelogram_holds")[-1]
    predicted = theory.predicted_accuracy(answers, train, holds)
    result = {"steps_to_rqi": recorder.steps_to("rqi", 0.95), "predicted_accuracy": predicted}
    if c.combine == "add":
        result["ideal_accuracy"] = theory.ideal_accuracy(pairs, answers, train)
    return result


if __name__ == "__main__":
    ex.run_as_script()
