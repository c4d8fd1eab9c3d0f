"""Gromov 2023, arXiv:2301.02679; Doshi, Das, He, Gromov 2024, arXiv:2406.03495, and 2310.13061.

"Grokking modular arithmetic", "Grokking modular polynomials", "To grok or not to grok": two layers
with a power between them add modulo p by periodic neurons; the weights are known in closed form.
"""

from dataclasses import replace

import numpy as np
import torch

from grok.lab import recipes
from grok.lab.config import ConfigError
from grok.lab.experiment import Paper
from grok.models.power_mlp import PowerMLP
from grok.tasks import tables
from grok.tasks.operations import Table
from grok.theory import modular
from grok.training.answers import AnswerLoss, Inputs
from grok.training.periodic import PeriodicMetrics
from grok.training.problem import Problem

ex = Paper("doshi", threshold=0.99, delay=10, choices={"init": ("doshi", "gromov", "analytic")})


@ex.config
def config():
    operation = "x_plus_y"
    p = 97
    terms = 2  # more are summed
    train_fraction = 0.5
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    noisy_answers = 0  # train rows with a random answer
    width = 500
    widths = []  # of analytic networks to look at besides
    init = "doshi"
    optimizer = "adamw"  # sgd without decay: gradient descent
    lr = 5e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 5.0
    warmup_steps = 0
    train_steps = 150
    eval_steps = 10  # updates between looks
    dtype = "float32"
    loss_dtype = None
    device = "auto"
    batch_size = None  # the train set


DESCENT = {
    "p": 53, "width": 256, "train_fraction": 0.7, "init": "gromov", "optimizer": "sgd",
    "weight_decay": 0.0, "lr": 8.35e4, "train_steps": 2000, "eval_steps": 50,
}  # fmt: skip
ANALYTIC = {"init": "analytic", "lr": 0.0, "train_steps": 1}
OUTLIER = {"operation": "(5*a**3 + 2*b**4)**2 - b", "width": 1000, "train_steps": 300}
PRESETS = {
    "cpu": {},
    "product": {"operation": "x_times_y"},
    "polynomial": {"operation": "(4*a + b**2)**3"},
    "polynomial_perturbed": {"operation": "(4*a + b**2)**3 + a*b"},
    "not_separable": {"operation": "a**3 + a*b**2 + b"},
    "outlier": OUTLIER,
    "outlier_59": {**OUTLIER, "p": 59, "width": 600},
    "little_data": {"train_fraction": 0.2},
    "small_p": {"p": 23},
    "small_p_most_data": {"p": 23, "train_fraction": 0.8},
    "noisy": {"noisy_answers": 1646, "lr": 1e-2, "weight_decay": 0.0, "train_steps": 1000},
    "descent": DESCENT,
    "descent_slow": {**DESCENT, "lr": 2.5e4, "train_steps": 6000},
    "descent_fast": {**DESCENT, "lr": 1.67e5},
    "analytic": {**ANALYTIC, "widths": [25, 50, 100, 200, 500]},
    "analytic_product": {**ANALYTIC, "operation": "x_times_y", "width": 200},
    "analytic_three": {**ANALYTIC, "terms": 3, "p": 23, "widths": [200, 500, 1000]},
    "analytic_four": {**ANALYTIC, "terms": 4, "p": 11, "widths": [1000, 4000]},
    "paper": {"width": 5000, "train_steps": 400},
    "paper_descent": {**DESCENT, "p": 97, "width": 500, "train_fraction": 0.5, "lr": 1e5,
                      "train_steps": 30_000},
}  # fmt: skip
for name, changes in PRESETS.items():
    ex.add_named_config(name, changes)


@ex.build
def build(c) -> Problem:
    if c.terms != 2 and c.operation != "x_plus_y":
        raise ConfigError("terms", c.terms, f"2 with operation={c.operation}")
    table = table_of(c)
    data = recipes.in_columns(recipes.split_of(c, table))
    model = recipes.drawn(c, lambda: PowerMLP(c.p, c.width, c.terms, c.init))
    if c.init == "analytic":
        weights = analytic(c, c.width)
        with torch.no_grad():
            for parameter, values in zip(model.parameters(), weights, strict=True):
                parameter.copy_(torch.from_numpy(values))
    logs = modular.discrete_logarithm(c.p)[1:] if c.operation == "x_times_y" else np.arange(c.p)
    data["order"] = torch.from_numpy(np.argsort(logs) + (c.operation == "x_times_y"))
    loss = AnswerLoss(Inputs(), "squared_error", c.loss_dtype)
    problem = recipes.answer_problem(c, model, data, loss)
    return replace(problem, metrics=PeriodicMetrics(problem.metrics))


def table_of(c) -> Table:
    return recipes.table_of(c) if c.terms == 2 else Table(*tables.sums(c.p, c.terms), c.p, c.p)


def analytic(c, width: int) -> tuple[np.ndarray, np.ndarray]:
    """U and W by construction, their phases drawn from the run's seed."""
    generator = np.random.default_rng(c.seed)
    if c.operation == "x_times_y":
        return modular.analytic_product(c.p, width, generator)
    return modular.analytic_weights(c.p, width, c.terms, generator)


if __name__ == "__main__":
    ex.run_as_script()
