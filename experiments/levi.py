"""Levi, Beck, Bar-Sinai 2023, arXiv:2310.16441.

"Grokking in Linear Estimators": a linear student of a linear teacher, whose losses fall smoothly; yet
accuracy, the share of errors below a bound, rises on the train set first. All is in closed form.
"""

from functools import partial

import numpy as np

from grok.claims.legacy import Paper
from grok.engine.problem import Problem
from grok.engine.spec import Group, Optimizer
from grok.experiment import parts as recipes
from grok.models.linear import Student
from grok.objectives import regression as teachers
from grok.tasks import gaussian
from grok.theory import linear as theory

ex = Paper("levi", threshold=0.95, delay=100, choices={"activation": ("linear", "tanh")})


@ex.config
def config():
    input_dim = 1000
    output_dim = 1
    hidden_dim = None  # of a student, and teacher, of two layers
    activation = "linear"
    inputs_per_sample = 0.9  # lambda; above 1 nothing generalizes
    data_seed = None  # of the inputs; None: the run's seed
    rotated = True  # one layer: into the covariance's eigenvectors, the same descent far cheaper
    eps = 1e-3  # a squared error up to here is right
    lr = 0.01
    weight_decay = 0.0  # gamma; divided by output_dim, as there
    train_steps = 100_000
    log_points = 200
    dtype = "float64"
    loss_dtype = None
    device = "auto"


TWO_LAYERS = {
    "input_dim": 100, "hidden_dim": 50, "output_dim": 5, "lr": 0.5, "eps": 1e-4, "train_steps": 20_000,
}  # fmt: skip
RATIOS = (0.3, 0.5, 0.7, 0.8, 0.95, 1.5, 2.0)
DECAYS = {"1e5": 1e-5, "1e4": 1e-4, "1e3": 1e-3, "3e3": 3e-3, "1e2": 1e-2, "3e2": 3e-2}
OUTPUTS = (10, 30, 100, 500)
ex.add_named_configs({
    "paper": {}, "cpu": {}, "inputs": {"rotated": False, "train_steps": 30_000},
    "two_layers": TWO_LAYERS, "two_layers_tanh": {**TWO_LAYERS, "activation": "tanh"},
    **{f"ratio_{round(100 * ratio)}": {"inputs_per_sample": ratio} for ratio in RATIOS},
    **{f"decay_{name}": {"weight_decay": value} for name, value in DECAYS.items()},
    **{f"outputs_{count}": {"output_dim": count, "train_steps": 3000} for count in OUTPUTS},
})  # fmt: skip


@ex.build
def build(c) -> Problem:
    sizes = [c.input_dim, *([c.hidden_dim] if c.hidden_dim else []), c.output_dim]
    student, teacher = recipes.drawn(c, lambda: [Student(sizes, c.activation) for _ in range(2)])
    count, seed = round(c.input_dim / c.inputs_per_sample), recipes.data_seed_of(c)
    if c.rotated and not c.hidden_dim:
        axes = gaussian.principal(count, c.input_dim, seed)
        data, loss, metrics = teachers.rotated(student, teacher, *axes, c.eps, c.loss_dtype)
    else:
        parts = [
            gaussian.inputs(n, c.input_dim, s) for n, s in ((count, seed), (2000, seed + 2**20))
        ]
        data, loss, metrics = teachers.sampled(teacher, *parts, c.eps, c.loss_dtype)
    optimizer = Optimizer("sgd", (Group("", c.lr, c.weight_decay / c.output_dim),))
    return recipes.problem_of(c, student, data, loss, metrics, optimizer)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Times by this sample's exact recursion, and how far training was from it; delay by the law."""
    if "eigenvalues" not in problem.data:
        return {}
    values, teacher = (problem.data[name].cpu().numpy() for name in ("eigenvalues", "teacher"))
    gap = problem.module.layers[0].detach().cpu().numpy() - teacher
    rates = {"lr": c.lr, "decay": c.weight_decay}
    exact = partial(theory.descent, nu=values, gap=gap, teacher=teacher, **rates)
    known = np.array(exact(np.array(recorder.series["train_loss"][0])))
    logged = np.array([recorder.series[f"{part}_loss"][1] for part in ("train", "test")])
    seen = known > 1e-14
    times = theory.sample_times(exact, c.eps, c.output_dim)
    law = theory.times(c.inputs_per_sample, eps=c.eps, d_out=c.output_dim, **rates)
    return {
        "recursion_error": float(np.abs(logged[seen] / known[seen] - 1).max()),
        "train_time": times[0], "test_time": times[1],
        "delay": theory.delay(times), "predicted_delay": theory.delay(law),
    }  # fmt: skip


def follow(runs, *recipes: str):
    """Whether delays, meaned over the seeds, are within a tenth of the law's, or both without end."""
    found = {r: (runs.mean(r, "delay"), runs.mean(r, "predicted_delay")) for r in recipes}
    ratios = {name: 1.0 if a == b else a / b for name, (a, b) in found.items()}
    return all(0.9 <= ratio <= 1.1 for ratio in ratios.values()), ratios


@ex.claim("09a", "Accuracy groks while both losses fall smoothly (figure 1)", pooled=True)
def groks(runs):
    losses = [run.logged(f"{p}_loss")[1] for run in runs.all("cpu") for p in ("train", "test")]
    passed, numbers = follow(runs, "cpu")
    numbers |= {"delay": runs.mean("cpu", "delay"), "test": runs.mean("cpu", "test_accuracy")}
    return passed and numbers["test"] > 0.99 and max(np.diff(x).max() for x in losses) <= 0, numbers


@ex.claim("09b", "Losses and delays follow the closed form (section 3)", pooled=True)
def closed_form(runs):
    passed, numbers = follow(runs, "ratio_50", "ratio_70", "ratio_80", "cpu")
    numbers["recursion error"] = max(run.result.get("recursion_error", 0) for run in runs)
    return passed and numbers["recursion error"] <= 1e-6, numbers


@ex.claim("09c", "The delay diverges as lambda nears 1; above, nothing generalizes", pooled=True)
def diverges(runs):
    growth = runs.mean("ratio_95", "delay") / runs.mean("ratio_50", "delay")
    floors = [runs.mean(f"ratio_{n}", "test_loss") / (1 - 100 / n) for n in (150, 200)]
    reached = max(runs.mean(f"ratio_{n}", "test_accuracy") for n in (150, 200))
    numbers = {"growth": growth, "loss / floor": floors[0], "accuracy above 1": reached}
    return growth > 100 and reached < 0.1 and np.allclose(floors, 1, atol=0.05), numbers


@ex.claim(
    "09d", "Weight decay lengthens the delay, then forbids generalizing (fig. 3)", pooled=True
)
def decay(runs):
    return follow(runs, *(f"decay_{name}" for name in DECAYS))


@ex.claim("09e", "The delay has a maximum in the number of outputs (figure 2)", pooled=True)
def outputs(runs):
    passed, numbers = follow(runs, *(f"outputs_{count}" for count in OUTPUTS))
    one, some, many = (runs.mean(r, "delay") for r in ("cpu", "outputs_30", "outputs_500"))
    return passed and one < some > many, numbers


@ex.claim("09f", "Students of two layers, linear or tanh, do the same (figure 5)")
def two_layers(runs):
    times = [runs.one(f"two_layers{kind}").steps_to_both(0.95) for kind in ("", "_tanh")]
    numbers = {"linear": times[0][1] - times[0][0], "tanh": times[1][1] - times[1][0]}
    return all(0 < delay < np.inf for delay in numbers.values()), numbers


if __name__ == "__main__":
    ex.run_as_script()
