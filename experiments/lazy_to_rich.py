"""Kumar, Bordelon, Gershman, Pehlevan 2023, arXiv:2310.06110.

"Grokking as the Transition from Lazy to Rich Training Dynamics": a wide network with curved units first fits
a quadratic teacher as a linear model would, and learns the feature long after; by plain gradient descent,
without decay, its weights growing.
"""

from math import inf

import torch

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.engine.spec import Group, Optimizer
from grok.experiment import parts as recipes
from grok.models.quadratic import QuadraticUnits
from grok.objectives.curved import CurvedLoss, CurvedMetrics
from grok.objectives.losses import DTYPES
from grok.tasks import gaussian

ex = Paper("lazy_to_rich", threshold=0.9, delay=1000)


@ex.config
def config():
    input_dim = 100
    units = 500
    train_count = 550
    test_count = 1000
    data_seed = None  # of inputs and teacher; None: the run's seed
    alpha = 1.0  # laziness: the output's factor
    eps = 0.02  # curvature of the units
    centred = False  # less the output at the start
    near = 0.05  # squared error of a row that counts as right
    lr = 1.0  # of gradient descent, in units of N / alpha^2
    train_steps = 100_000
    log_points = 120
    dtype = "float64"
    loss_dtype = None
    device = "auto"


CPU = {"input_dim": 40, "units": 200, "train_count": 160, "eps": 0.1, "train_steps": 40_000}
ex.add_named_config("paper", {})
ex.add_named_config("cpu", CPU)
ex.add_named_config("cpu_lazy", {**CPU, "alpha": 4.0})
ex.add_named_config("cpu_rich", {**CPU, "alpha": 0.25})
ex.add_named_config("cpu_little_data", {**CPU, "train_count": 30})


@ex.build
def build(c) -> Problem:
    seed, dtype = recipes.data_seed_of(c), DTYPES[c.dtype]
    teacher = gaussian.inputs(1, c.input_dim, seed + 2**21)[0].to(dtype)
    module = recipes.drawn(c, lambda: QuadraticUnits(c.input_dim, c.units))
    data = {"teacher": teacher}
    data |= {name: torch.tensor(getattr(c, name), dtype=dtype) for name in ("alpha", "eps")}
    for split, count, own in (("train", c.train_count, seed), ("test", c.test_count, seed + 2**20)):
        x = gaussian.inputs(count, c.input_dim, own).to(dtype) / c.input_dim**0.5
        start = c.alpha * module(x, data["eps"]).detach()
        data[f"{split}_inputs"], data[f"{split}_targets"] = x, (x @ teacher) ** 2 / 2
        data[f"{split}_start"] = start if c.centred else torch.zeros_like(start)
    loss = CurvedLoss(c.loss_dtype)
    group = Group("", c.lr * c.units / c.alpha**2)
    metrics = CurvedMetrics(loss, c.near)
    return recipes.problem_of(c, module, data, loss, metrics, Optimizer("sgd", (group,)))


SWEEP = {"sweep": "lazy_to_rich_cpu"}
LOSS = 0.05  # that counts as fitted


def fitted(run) -> tuple[float, float]:
    """The first logged steps at which train and test loss are below 0.05; inf if never."""
    found = []
    for split in ("train", "test"):
        steps, values = run.logged(f"{split}_loss")
        found.append(float(min(steps[values < LOSS], default=inf)))
    return tuple(found)


@ex.claim(
    "E3a", "Descent alone groks: a linear fit first, the feature long after (figure 1)", **SWEEP
)
def groks(runs):
    run = runs.one("cpu")
    train, test = fitted(run)
    turned = run.at("alignment", test) - run.at("alignment", train)
    rises = run.at("test_loss", 100) > run.at("test_loss", 0)
    passed = 5 <= test / train < inf and rises and turned > 0.1
    return passed, {"train": train, "test": test, "ratio": test / train, "alignment gained": turned}


@ex.claim("E3b", "The weights' norm grows all the while (section 4)", **SWEEP)
def grows(runs):
    run = runs.one("cpu")
    train, test = fitted(run)
    first, last = (run.at("weight_norm", step) for step in (0, test))
    passed = last >= 1.5 * first and run.at("weight_norm", train) < last
    return passed, {"at the start": first, "as test loss is down": last}


@ex.claim("E3c", "With too little data it never generalizes (figure 4)", **SWEEP)
def too_little(runs):
    run = runs.one("cpu_little_data")
    train, test = fitted(run)
    return train < test == inf, {"train": train, "test loss": run.final("test_loss")}


@ex.claim("E3d", "The lazier the start, the longer the delay (figure 2)", **SWEEP)
def lazier(runs):
    found = {name: fitted(runs.one(name)) for name in ("cpu_rich", "cpu", "cpu_lazy")}
    rich, plain, lazy = (test for _, test in found.values())
    return rich < plain < lazy, {f"{name}, test": test for name, (_, test) in found.items()}


if __name__ == "__main__":
    ex.run_as_script()
