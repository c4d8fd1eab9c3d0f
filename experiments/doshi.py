"""Gromov 2023, arXiv:2301.02679; Doshi, Das, He, Gromov 2024, arXiv:2406.03495, and 2310.13061.

"Grokking modular arithmetic", "Grokking modular polynomials", "To grok or not to grok": two layers
with a power between them add by periodic neurons; the weights are known in closed form.
"""

from dataclasses import replace

import torch

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import within
from grok.engine.problem import Problem
from grok.experiment import parts as recipes
from grok.models.power_mlp import PowerMLP
from grok.objectives.classification import ClassificationLoss, InputLogits
from grok.objectives.periodic import PeriodicMetrics, final_look, pruning
from grok.theory import modular

PRODUCT = "x_times_y"
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
    "cpu": {}, "product": {"operation": PRODUCT},
    "polynomial": {"operation": "(4*a + b**2)**3"},
    "polynomial_perturbed": {"operation": "(4*a + b**2)**3 + a*b"},
    "not_separable": {"operation": "a**3 + a*b**2 + b"},
    "outlier": OUTLIER,
    "outlier_59": {**OUTLIER, "p": 59, "width": 600},
    "least_data": {"train_fraction": 0.2},
    "little_data": {"train_fraction": 0.35},
    "little_data_small_p": {"train_fraction": 0.35, "p": 23},
    "noisy": {"noisy_answers": 1646, "lr": 1e-2, "weight_decay": 0.0, "train_steps": 1000},
    "descent": DESCENT,
    "descent_slow": {**DESCENT, "lr": 2.5e4, "train_steps": 6000},
    "descent_fast": {**DESCENT, "lr": 1.67e5},
    "analytic": {**ANALYTIC, "widths": [25, 50, 100, 200, 500]},
    "analytic_product": {**ANALYTIC, "operation": PRODUCT, "width": 200},
    "analytic_three": {**ANALYTIC, "terms": 3, "p": 23, "widths": [200, 500, 1000]},
    "analytic_four": {**ANALYTIC, "terms": 4, "p": 11, "widths": [1000, 4000]},
    "paper": {"width": 5000, "train_steps": 400},
    "paper_descent": {**DESCENT, "p": 97, "width": 500, "train_fraction": 0.5, "lr": 1e5,
                      "train_steps": 30_000},
}  # fmt: skip
ex.add_named_configs(PRESETS)


@ex.build
def build(c) -> Problem:
    data = recipes.in_columns(recipes.split_of(c, recipes.table_of(c)))
    data["order"] = torch.from_numpy(modular.spectral_order(c.p, c.operation == PRODUCT))
    model = recipes.drawn(c, lambda: PowerMLP(c.p, c.width, c.terms, c.init))
    if c.init == "analytic":
        model.set(*map(torch.from_numpy, analytic(c, c.width)))
    loss = ClassificationLoss(InputLogits(), "squared_error", c.loss_dtype)
    problem = recipes.classification_problem(c, model, data, loss)
    return replace(problem, metrics=PeriodicMetrics(problem.metrics))


def analytic(c, width: int):
    return modular.network(c.p, width, c.terms, c.operation == PRODUCT, c.seed)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """The final neurons; what pruning leaves, and what networks by construction do."""
    table, result = recipes.table_of(c), {"initial_ipr": recorder.series["ipr"][1][0]}
    for width in c.widths:
        rows = table.pairs.numpy(), table.labels.numpy()
        result[f"accuracy_{width}"] = modular.accuracy(*analytic(c, width), *rows)
    if recorder.outcome is None or c.terms != 2:
        return result
    weights, split = recorder.outcome.weights, recipes.split_of(c, table)
    if c.noisy_answers:
        curves = pruning(weights, split, problem.data["order"], c.noisy_answers)
        for name, values in curves.items():
            recorder.add(f"pruned/{name}", range(0, 100, 10), values)
            result[f"half_{name}"] = values[5]
    return {**result, **final_look(weights, table, split)}


CLAIMS = {  # a sentence, then recipes, entries of their results, and the ranges of these
    "08a": ("Gradient descent alone groks (2301.02679, figure 1)",
            ("descent", "steps_to_test", 1, 2000), ("descent", "delay_ratio", 1.05, 1.5)),
    "08b": ("Its delay is a time scale: at any learning rate the ratio is the same (Gromov)",
            ("descent_slow", "delay_ratio", 1.05, 1.35), ("descent_fast", "delay_ratio", 1.05, 1.35)),
    "08c": ("Weights in closed form add without training, better the wider (section 3)",
            ("analytic", "accuracy_25", 0.38, 0.5), ("analytic", "accuracy_50", 0.84, 0.92),
            ("analytic", "accuracy_100", 0.99, 1), ("analytic", "accuracy_500", 1, 1)),
    "08d": ("Neurons become periodic, and their phases add up (2301.02679, figure 3)",
            ("cpu", "initial_ipr", 0, 0.06), ("cpu", "ipr", 0.7, 1), ("cpu", "phase_gap", 0, 0.2)),
    "08e": ("AdamW with decay groks in tens of epochs (2406.03495)", ("cpu", "steps_to_test", 1, 100)),
    "08f": ("Products likewise, periodic in the logarithm (appendix A)", ("product", "ipr", 0.7, 1),
            ("product", "raw_ipr", 0, 0.06), ("analytic_product", "test_accuracy", 1, 1)),
    "08g": ("Sums of more terms take a higher power and more width (figure 1)",
            ("analytic_three", "accuracy_200", 0.7, 0.9), ("analytic_three", "accuracy_1000", 0.99, 1),
            ("analytic_four", "accuracy_4000", 0.99, 1)),
    "08h": ("Of polynomials only h(f(a) + g(b)) are learned (table 1)",
            ("polynomial", "test_accuracy", 0.99, 1), ("not_separable", "test_accuracy", 0, 0.1),
            ("polynomial_perturbed", "test_accuracy", 0, 0.1)),
    "08i": ("Neurons that are not periodic hold the corrupted answers (2310.13061, figure 4)",
            ("noisy", "half_low_corrupted", 0, 0.6), ("noisy", "half_low_test", 0.9, 1),
            ("noisy", "half_high_test", 0, 0.5)),
    "08j": ("A larger p needs a smaller share of the table (2301.02679, figure 6)",
            ("little_data", "test_accuracy", 0.99, 1), ("least_data", "test_accuracy", 0, 0.5),
            ("little_data_small_p", "test_accuracy", 0, 0.5)),
    "08k": ("The one exception in table 1 is a lookup of siblings (added)",
            ("outlier", "lookup_excess", 0, 0.02), ("outlier", "uncovered_accuracy", 0, 0.03),
            ("outlier_59", "test_accuracy", 0, 0.03)),
}  # fmt: skip
for id, (says, *rules) in CLAIMS.items():
    ex.claim(id, says, within(*rules))

if __name__ == "__main__":
    ex.run_as_script()
