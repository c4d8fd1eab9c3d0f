"""`grok new` and `grok init`: the files of a new paper, and of a project, which run at once."""

import contextlib
import json
import keyword
import os
import re
import sys
import tempfile
import textwrap
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template

from grok.engine.instruments import BY_NAME, GROUPS, resolve
from grok.engine.measure import MeasureError
from grok.errors import UserError, writing
from grok.experiment.experiment import load
from grok.experiment.validation import ConfigError
from grok.paths import experiment_file
from grok.tasks import operations

LINE_LENGTH = 100  # as ruff.toml has it
LONGEST_NAME = 100  # characters; the files' names have some more, and file systems take 255 bytes
NEW_PROJECT = Path(__file__).parents[1] / "new_project"  # the files that `grok init` copies


@dataclass(frozen=True)
class ModelParts:
    """The lines of an experiment that depend on the kind of model.

    imports: the model's module.
    logits: how the model is called, in `grok.objectives.classification`.
    keys: the group `# Model` of the configuration.
    build: lines of `build` that make `data` and `model` from `table`.
    """

    imports: str
    logits: str
    keys: str
    build: str


MODELS = {
    "transformer": ModelParts(
        imports="from grok.models.transformer import TransformerConfig",
        logits="SequenceLogits",
        keys="""\
    depth: Count = 1  # layers of attention and MLP
    width: Count = 64  # dimension of the residual stream
    heads: Count = 4  # attention heads of each layer
    activation: Activation = "relu"  # of the MLPs' neurons
    init_scale: Positive = 1.0  # factor of the initial weights""",
        build="""\
    split = parts.tokenize_split(c, table, "ab=")
    data = parts.sequence_data(split, c.batch_size)
    shape = TransformerConfig(
        vocabulary=table.elements + 1,  # the operands and "="
        classes=table.classes,
        length=3,
        width=c.width,
        depth=c.depth,
        heads=c.heads,
        mlp_width=4 * c.width,
        activation=c.activation,
        init_scale=c.init_scale,
    )
    model = parts.make_transformer(c, shape)""",
    ),
    "mlp": ModelParts(
        imports="from grok.models.mlp import PairMLP",
        logits="InputLogits",
        keys="""\
    depth: Count = 2  # linear layers
    width: Count = 256  # neurons of each hidden layer
    embedding_width: Count | None = None  # of learned vectors; None for one-hot vectors
    activation: Activation = "relu"  # of the hidden layers
    init_scale: Positive = 1.0  # factor of the initial weights and biases""",
        build="""\
    data = parts.labels_as_columns(parts.split_operation_table(c, table))
    hidden = [c.width] * (c.depth - 1)
    sizes = table.elements, table.classes, hidden
    model = parts.init_with_seed(
        c, lambda: PairMLP(*sizes, c.activation, c.embedding_width, c.init_scale)
    )""",
    ),
}
EXPERIMENT = Template('''"""$description

One run, and the sweep on which the claims are checked:

    python experiments/$name.py with cpu
    grok replicate $name
"""

from math import inf

from grok.claims.model import Claims, Outcome, Runs
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts
from grok.experiment.config_types import (
    Activation,
    Betas,
    Count,
    CountFromZero,
    Device,
    Dtype,
    Modulus,
    NonNegative,
    OpenFraction,
    OptimizerKind,
    Positive,
    Seed,
    Texts,
)
from grok.experiment.experiment import Config, Experiment
$imports
from grok.objectives.classification import ClassificationLoss, $logits

ex = Experiment("$name", threshold=0.99, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # Task
    operation: str = $operation  # operation of a and b whose result is the label, modulo p
    p: Modulus = 97  # the modulus
    train_fraction: OpenFraction = 0.5  # fraction of the table to train on; the rest is for test
    train_count: Count | None = None  # number of rows to train on, in place of train_fraction
    data_seed: Seed | None = None  # seed of the train/test split; None for the run's seed

    # Model
$keys

    # Optimization
    optimizer: OptimizerKind = "adamw"  # adamw: decoupled weight decay
    lr: NonNegative = 1e-3  # learning rate after warmup
    betas: Betas = (0.9, 0.98)  # Adam's decay rates of the gradient's moments
    eps: NonNegative = 1e-8  # Adam's epsilon
    weight_decay: NonNegative = 1.0  # of all parameters
    warmup_steps: CountFromZero = 10  # steps over which lr rises from zero, linearly

    # Training
    batch_size: Count | None = None  # rows per step; None for the whole train set
    train_steps: Count = 5000  # largest number of steps; fewer where both accuracies reach 99 %

    # Evaluation
    log_points: Count = 100  # evaluation steps, logarithmically spaced
$measures

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    loss_dtype: Dtype | None = None  # of the loss; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


ex.preset("paper", "The published configuration, p = 97.")
ex.preset("cpu", "The effect at a small scale, p = 31: minutes on a CPU.", {"p": 31})


@ex.build
def build(c: Config) -> Problem:
    """Train on pairs of operands with cross-entropy.

    Logged at every evaluation step: loss and accuracy on all train and all test rows, and the norm
    of all weights.
    """
    table = parts.operation_table(c)
$build
    loss = ClassificationLoss($logits(), loss_dtype=c.loss_dtype)
    stop = Stop((("train_accuracy", 0.99), ("test_accuracy", 0.99)))
    return parts.classification_problem(c, model, data, loss, stop=stop)


# Claims. Each is checked on the runs of one seed of sweeps/${name}_cpu.yaml.
# A step "at" which an accuracy is reached is the first evaluation step that reaches it and holds it
# at the next one.

# $name-C1, an example. The paper: write its number here.
# Ours: the network does not generalize before it has memorized.
LEAST_RATIO = 1  # steps to 99 % test accuracy over steps to 99 % train accuracy


@claim("$name-C1", source="figure 1")
def generalizes_after_memorizing(runs: Runs) -> Outcome:
    """The network generalizes, and not before it has memorized."""
    train, test = runs.one("cpu", "paper").steps_to_both(0.99)
    numbers = {"train 99 % at": train, "test 99 % at": test}
    return test < inf and test >= LEAST_RATIO * train, numbers


if __name__ == "__main__":
    ex.run_as_script()
''')
SWEEP = Template("""\
$description
# What the claims are checked on: the named config cpu, three seeds.
# grok replicate $name
program: experiments/$name.py
method: grid
metric: {name: test_accuracy, goal: maximize}
command: ["$${env}", "$${interpreter}", "$${program}", with, "$${args_no_hyphens}"]
parameters:
  preset: {values: [cpu]}
  seed: {values: [0, 1, 2]}
""")
TEST = Template('''"""Facts of experiments/$name.py."""

import pytest

from grok.claims.testing import claim_run, finding
from grok.engine.events import Record
from grok.engine.train import train
from grok.errors import UserError
from grok.experiment.experiment import load_module
from grok.paths import experiment_file

SMALL = {"p": 7, "train_steps": 20, "seed": 3}


@pytest.fixture(scope="module")
def paper():
    return load_module(experiment_file("$name"))


def metrics_by_step(paper):
    problem = paper.ex.problem_of(paper.ex.full_config(SMALL))
    events = train([problem], compiled=False)
    return {event.step: event.metrics for event in events if isinstance(event, Record)}


def test_equal_seeds_give_equal_runs(paper):
    """All randomness comes from the run's seed."""
    metrics = metrics_by_step(paper)
    assert metrics == metrics_by_step(paper)
    assert metrics[20]["train_loss"] < metrics[0]["train_loss"]


def test_a_fraction_above_one_is_refused(paper):
    with pytest.raises(UserError, match="train_fraction"):
        paper.ex.full_config({"train_fraction": 1.5})


@pytest.mark.parametrize(("test_steps", "passed"), [([0, 10, 20], True), ([0, 40, 50], False)])
def test_the_claim_needs_test_accuracy_to_be_held(paper, test_steps, passed):
    """99 % at one evaluation step alone is not enough."""
    series = {
        "train_accuracy": ([0, 10, 20], [0.0, 1.0, 1.0]),
        "test_accuracy": (test_steps, [0.0, 1.0, 1.0 if passed else 0.5]),
    }
    assert finding(paper, "$name-C1", claim_run("cpu", {}, series)).passed == passed
''')


def write(
    root: Path, name: str, description: str, operation: str, model: str, measures: list[str]
) -> list[Path]:
    """Write the files of a new paper: all of them, or none.

    Arguments:
        root: the project's folder.
        name: of the experiment and its files.
        description: one line, the first of the experiment's docstring.
        operation: whose table is learned.
        model: a key of MODELS.
        measures: names or groups of instruments.

    Returns:
        paths of the experiment, the sweep file on which its claims are checked, and the test.

    Raises:
        UserError: a value cannot be used, a run cannot take a measure, or one of the files exists or
            cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise UserError(f"name {name!r}: expected small letters, digits and _, as my_paper")
    if len(name) > LONGEST_NAME:
        raise UserError(f"name {name:.20}...: expected at most {LONGEST_NAME} characters")
    if keyword.iskeyword(name):
        raise UserError(f"name {name!r}: it is a keyword of Python")
    if name in sys.stdlib_module_names or (find_spec(name) and not experiment_file(name).exists()):
        raise UserError(f"name {name!r}: it would hide the Python module of this name")
    if '"' in description or "\\" in description:
        raise UserError(
            f"description {description!r}: expected text without quotes and backslashes"
        )
    try:
        operations.table(operation, 31)
    except operations.OperationError as error:
        raise UserError(f"operation {operation!r}: {error}") from None
    unknown = [measure for measure in measures if measure not in (*BY_NAME, *GROUPS)]
    if unknown:
        raise UserError(f"measure {unknown[0]!r}: `grok measures` lists them")

    sentence = description if description.endswith(".") else f"{description}."
    values = {
        "name": name,
        "description": textwrap.fill(sentence, 97),
        "operation": json.dumps(operation),
        "measures": _measures_key(measures),
        **asdict(MODELS[model]),
    }
    tests = root / "tests"
    if (tests / "papers").is_dir():
        tests = tests / "papers"
    comment = textwrap.fill(sentence, 100, initial_indent="# ", subsequent_indent="# ")
    files = {
        root / "experiments" / f"{name}.py": EXPERIMENT.substitute(values),
        root / "sweeps" / f"{name}_cpu.yaml": SWEEP.substitute(name=name, description=comment),
        tests / f"test_{name}.py": TEST.substitute(name=name),
    }
    for path in files:
        if path.exists():
            raise UserError(f"{path.relative_to(root)} exists already")
    _check_measures(name, files[root / "experiments" / f"{name}.py"], measures)
    try:
        for path, text in files.items():
            with writing(path):
                path.parent.mkdir(exist_ok=True)
                path.write_text(text)
    except BaseException:  # else the next attempt would say that a file exists already
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
        raise
    return list(files)


def write_project(folder: Path) -> list[Path]:
    """Write a project of one's own into a new or empty folder.

    Returns:
        paths of its files: an experiment, its sweep, figure and test, README, requirements and a
        script for Slurm.

    Raises:
        UserError: the folder is not empty, or cannot be written.
    """
    if os.path.exists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already and is not empty")
    written = []
    for source in sorted(NEW_PROJECT.rglob("*")):
        if source.is_dir() or source.parent.name == "__pycache__":
            continue
        name = source.relative_to(NEW_PROJECT)
        path = folder / (".gitignore" if str(name) == "gitignore" else name)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(source.read_text().replace("$title", folder.resolve().name))
            path.chmod(0o755 if path.suffix == ".sh" else 0o644)
        written.append(path)
    return written


def _check_measures(name: str, text: str, measures: list[str]) -> None:
    """UserError unless the runs of an experiment's text can take the measures, and one of each group."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"{name}.py")
        path.write_text(text)
        experiment = load(path)
        problem = experiment.problem_of(
            experiment.full_config({"seed": 0, "device": "cpu"}, ["cpu"])
        )
    for measure in measures:
        try:
            resolve([measure], problem, has_reference=False)
        except MeasureError as error:
            raise ConfigError("measures", [measure], error.expected) from None


def _measures_key(measures: list[str]) -> str:
    """The key `measures` of a configuration, in the formatter's layout."""
    key, comment = "    measures: str | Texts = ", "# instruments, by name or group"
    line = f"{key}{json.dumps(measures)}  {comment}"
    if len(line) <= LINE_LENGTH:
        return line
    names = "".join(f"        {json.dumps(name)},\n" for name in measures)
    return f"    {comment}\n{key}[\n{names}    ]"
