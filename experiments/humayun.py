"""Humayun, Balestriero, Baraniuk 2024, arXiv:2402.15555.

"Deep Networks Always Grok and Here is Why": long after it is right on the test set, a network becomes
right under attack too, as its linear regions leave the data.
"""

from math import inf

import torch

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import compared
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import datasets
from grok.experiment import parts as recipes
from grok.experiment.validation import ConfigError
from grok.models.image_mlp import ImageMLP
from grok.objectives.classification import ClassificationLoss
from grok.objectives.robustness import ImageLogits, adversarial, complexity, probes, with_robustness
from grok.tasks.images import relabelled

ex = Paper("humayun", threshold=0.5, delay=1000, choices={"dataset": ("digits", "mnist")})
SIZES, RADII = (0.03, 0.06, 0.10), (0.005, 0.05)
ROBUST, REGIONS, SWEEP = adversarial(0.03), complexity("train", 0.05), {"sweep": "humayun_cpu"}


@ex.config
def config():
    dataset = "mnist"
    data_folder = None  # of MNIST's files; None: .grok/mnist, downloaded if need be
    train_count = 1000
    random_labels = 0.0  # share of the train rows with a drawn answer
    data_seed = None  # of the split; None: the run's seed
    width = 200
    depth = 4
    activation = "relu"
    normalized = False  # batch normalization
    init_scale = 1.0
    loss = "cross_entropy"
    attack_steps = 100
    directions = 25  # of local complexity; 0: it is not taken
    complexity_points = 1000  # of each kind, about which it is taken
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.999)
    eps = 1e-8
    weight_decay = 0.01
    warmup_steps = 0
    batch_size = 200  # drawn with replacement
    train_steps = 100_000
    log_points = 60
    eval_steps = None  # updates between looks; None: log_points of them
    stop_when_robust = False
    dtype = "float32"
    loss_dtype = None
    device = "auto"


CPU = {"dataset": "digits", "init_scale": 8.0, "loss": "squared_error", "weight_decay": 0.05,
       "attack_steps": 10, "train_steps": 93_000, "complexity_points": 250}  # fmt: skip
SMALL = {"init_scale": 1.0, "loss": "cross_entropy", "weight_decay": 0.01, "train_steps": 5000}
TREND = {**CPU, "stop_when_robust": True, "train_steps": 50_000, "eval_steps": 1000,
         "directions": 0}  # fmt: skip
LATER = {  # than `trend`, by table 1
    "shallow": {"depth": 3}, "narrow": {"width": 100}, "little_data": {"train_count": 500},
    "small_batch": {"batch_size": 50}, "random_labels": {"random_labels": 0.1},
}  # fmt: skip
ex.add_named_configs({
    "paper": {}, "paper_large_init": {"init_scale": 8.0, "loss": "squared_error"},
    "cpu": CPU, "cpu_normalized": {**CPU, "normalized": True, "train_steps": 40_000},
    "cpu_small_init": {**CPU, **SMALL},  # no delay on these easy digits
    "trend": TREND, **{name: {**TREND, **less} for name, less in LATER.items()},
})  # fmt: skip


@ex.build
def build(c) -> Problem:
    split, seed = datasets.images_of(c), recipes.data_seed_of(c)
    generator = torch.Generator().manual_seed(seed + 2**20)
    split["train_labels"] = relabelled(split["train_labels"], c.random_labels, generator)
    images = split["test_images"]
    if c.directions > (pixels := images.shape[1]):
        raise ConfigError("directions", c.directions, f"at most {pixels}, as many as pixels")
    data = recipes.in_columns(split) | probes(images, c.directions, seed, generator)
    sizes = [pixels, *[c.width] * (c.depth - 1), 10]
    model = recipes.drawn(c, lambda: ImageMLP(sizes, c.activation, c.init_scale, c.normalized))
    loss = ClassificationLoss(ImageLogits(), c.loss, c.loss_dtype)
    stop = Stop(((ROBUST, ex.threshold),)) if c.stop_when_robust else None
    problem = recipes.classification_problem(
        c, model, data, loss, sampling="replacement", stop=stop
    )
    about = RADII if c.directions else ()
    return with_robustness(problem, SIZES, about, c.attack_steps, c.complexity_points)


@ex.claim("06a", "Robustness comes long after the test accuracy (figures 1, 7)", **SWEEP)
def delayed(runs):
    run = runs.one("cpu")
    clean, robust = (run.first_step_held(name, 0.5) for name in ("test_accuracy", ROBUST))
    then, last = run.at(ROBUST, run.first_step_held("train_accuracy", 0.99)), run.final(ROBUST)
    passed = 1.1 * clean < robust < inf and then <= 0.1 and last >= 0.75
    return passed, {"clean": clean, "robust": robust, "robust, memorized": then, "in the end": last}


@ex.claim("06b", "Linear regions gather at the data, then leave it (figure 29)", **SWEEP)
def migrate(runs):
    steps, values = runs.one("cpu").logged(REGIONS)
    top = int(values.argmax())
    passed = values[top] > values[0] and values[top:].min() <= values[top] / 2
    return passed, {"first": values[0], "most": values[top], "at": steps[top], "last": values[-1]}


@ex.claim("06c", "They leave before robustness is complete (figure 1)", report_only=True, **SWEEP)
def before(runs):
    steps, values = runs.one("cpu").logged(REGIONS)
    leave, complete = steps[values.argmax()], runs.one("cpu").first_step_held(ROBUST, 0.75)
    return leave <= complete, {"leave from": leave, "robust 75 % at": complete}


@ex.claim("06d", "In the end there are fewer about train points than others (figure 2)", **SWEEP)
def fewer(runs):
    found = {s: runs.one("cpu").final(complexity(s, RADII[1])) for s in ("train", "test", "random")}
    return found["train"] < min(found["test"], found["random"]), found


@ex.claim("06e", "Larger attacks are withstood later, and less (figure 7)", **SWEEP)
def larger(runs):
    last = {name: runs.one("cpu").final(name) for name in map(adversarial, SIZES)}
    steps = [runs.one("cpu").first_step_held(name, 0.5) for name in last]
    return steps == sorted(steps) and [*last.values()] == sorted(last.values(), reverse=True), last


@ex.claim("06f", "Batch normalization takes it away (figure 12)", **SWEEP)
def normalized(runs):
    plain, norm = (runs.one(name).at(ROBUST, 40_000) for name in ("cpu", "cpu_normalized"))
    return norm <= plain / 2, {"plain": plain, "normalized": norm}


for name in LATER:  # the paper's trends; from initial weights as large as these some turn round
    check = compared(lambda whole, less: whole < less, "trend", name,
                     of=lambda run: run.first_crossing(ROBUST, 0.5))  # fmt: skip
    says = f"Later: {name.replace('_', ' ')} (table 1)"
    ex.claim(f"06g-{name}", says, check, sweep="humayun_trends")


@ex.claim("06-small", "From torch's initial weights these digits show no delay (added)", **SWEEP)
def small(runs):
    clean, robust = (
        runs.one("cpu_small_init").first_crossing(n, 0.5) for n in ("test_accuracy", ROBUST)
    )
    return robust <= 2 * clean, {"clean": clean, "robust": robust}


if __name__ == "__main__":
    ex.run_as_script()
