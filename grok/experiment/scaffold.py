"""`grok new`: a new paper's files, which run at once: experiment, sweep, test."""

import json
import keyword
import re
from pathlib import Path
from string import Template

from grok.engine.instruments import BY_NAME, GROUPS
from grok.errors import UserError
from grok.tasks import operations

EXPERIMENT = Template('''"""$says"""

from grok.claims.legacy import Paper
from grok.experiment.parts import $recipes
$imports
from grok.engine.problem import Problem
from grok.engine.spec import Stop

ex = Paper("$name", threshold=0.99, delay=1000)


@ex.config
def config():
    operation = "$operation"
    p = 31
    train_fraction = 0.5
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    depth = $depth
    width = $width
$keys
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
    measures = $measures


ex.add_named_config("cpu", {})  # shows the effect in minutes
ex.add_named_config("paper", {"p": 97})  # the published numbers


@ex.build
def build(c) -> Problem:
    table = table_of(c)
$build
    stop = Stop((("train_accuracy", 0.99), ("test_accuracy", 0.99)))
    return classification_problem(c, model, data, loss, stop=stop)


if __name__ == "__main__":
    ex.run_as_script()
''')
PARTS = {
    "transformer": {
        "recipes": "(\n    classification_problem,\n    sequence_data,\n    table_of,\n"
        "    tokenized,\n    transformer_of,\n)",
        "imports": "from grok.models.transformer import TransformerConfig\n"
        "from grok.objectives.classification import ClassificationLoss, SequenceLogits",
        "depth": "1",
        "width": "64",
        "keys": "    heads = 4",
        "build": """    split = tokenized(c, table, "ab=")
    data = sequence_data(split, c.batch_size)
    shape = TransformerConfig(
        table.elements + 1, table.classes, 3, c.width, c.depth, c.heads, 4 * c.width,
        activation=c.activation, init_scale=c.init_scale,
    )  # fmt: skip
    model = transformer_of(c, shape)
    loss = ClassificationLoss(SequenceLogits(), loss_dtype=c.loss_dtype)""",
    },
    "mlp": {
        "recipes": "classification_problem, drawn, in_columns, split_of, table_of",
        "imports": "from grok.models.mlp import PairMLP\n"
        "from grok.objectives.classification import ClassificationLoss, InputLogits",
        "depth": "2  # linear layers",
        "width": "256",
        "keys": "    embedding_width = None  # learned vectors in place of one-hot ones",
        "build": """    data = in_columns(split_of(c, table))
    sizes = table.elements, table.classes, [c.width] * (c.depth - 1)
    model = drawn(c, lambda: PairMLP(*sizes, c.activation, c.embedding_width, c.init_scale))
    loss = ClassificationLoss(InputLogits(), loss_dtype=c.loss_dtype)""",
    },
}
MODELS = tuple(PARTS)
SWEEP = Template("""# $says Three seeds: grok sweep run sweeps/$name.yaml
program: experiments/$name.py
method: grid
metric: {name: test_accuracy, goal: maximize}
command: ["$${env}", "$${interpreter}", "$${program}", with, cpu, "$${args_no_hyphens}"]
parameters:
  seed: {values: [0, 1, 2]}
""")
TEST = Template('''"""$says"""

import pytest

from grok.errors import UserError
from grok.experiment.experiment import load
from tests.conftest import PROJECT

SMALL = {"p": 7, "train_steps": 20, "seed": 3}


@pytest.fixture
def paper(store):
    found = load(PROJECT / "experiments" / "$name.py")
    found.store = store
    return found


def test_a_seed_decides_all(paper):
    results = [paper.run(config_updates=SMALL).result for _ in range(2)]
    values = [{k: v for k, v in one.items() if k != "seconds"} for one in results]
    assert values[0] == values[1]
    assert results[0]["train_loss"] > 0


def test_a_wrong_value_is_one_line(paper):
    with pytest.raises(UserError, match="train_fraction"):
        paper.full_config({"train_fraction": 1.5})
''')


def write(
    root: Path, name: str, says: str, operation: str, model: str, measures: list[str]
) -> list[Path]:
    """The files of a new paper, written under `root`; UserError, and nothing written, if one of the
    answers cannot be used or a file exists."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"name {name!r}: expected small letters, digits and _, as my_paper")
    if '"' in says or "\\" in says:
        raise UserError(f"description {says!r}: expected text without quotes and backslashes")
    try:
        operations.table(operation, 31)
    except operations.OperationError as error:
        raise UserError(f"operation {operation!r}: {error}") from None
    unknown = [one for one in measures if one not in (*BY_NAME, *GROUPS, "full")]
    if unknown:
        raise UserError(f"measure {unknown[0]!r}: `grok measures` lists them")
    says = says if says.endswith(".") else f"{says}."
    values = {"name": name, "says": says, "operation": operation, "measures": json.dumps(measures)}
    files = {
        root / "experiments" / f"{name}.py": EXPERIMENT.substitute(values, **PARTS[model]),
        root / "sweeps" / f"{name}.yaml": SWEEP.substitute(values),
        root / "tests" / "papers" / f"test_{name}.py": TEST.substitute(values),
    }
    for path in files:
        if path.exists():
            raise UserError(f"{path.relative_to(root)} exists already")
    for path, text in files.items():
        path.write_text(text)
    return list(files)
