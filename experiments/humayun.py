"""Humayun, Balestriero, Baraniuk 2024, arXiv:2402.15555.

"Deep Networks Always Grok and Here is Why": long after it is right on the test set, a network becomes
right under attack too, as its linear regions leave the data.
"""

from math import inf

import numpy as np
import torch

from grok.lab import recipes
from grok.lab.experiment import Paper
from grok.measures.local_complexity import frame
from grok.models.image_mlp import ImageMLP
from grok.training.answers import AnswerLoss
from grok.training.problem import Problem
from grok.training.robustness import Images, adversarial, complexity, with_robustness

KINDS = {"dataset": ("digits", "mnist"), "loss": ("cross_entropy", "squared_error")}
ex = Paper("humayun", threshold=0.5, delay=1000, choices=KINDS)
SIZES, RADII = (0.03, 0.06, 0.10), (0.005, 0.05)


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
    directions = 25  # of local complexity
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.999)
    eps = 1e-8
    weight_decay = 0.01
    warmup_steps = 0
    batch_size = 200  # drawn with replacement
    train_steps = 100_000
    log_points = 60
    dtype = "float32"
    loss_dtype = None
    device = "auto"


CPU = {
    "dataset": "digits", "init_scale": 8.0, "loss": "squared_error", "weight_decay": 0.05,
    "attack_steps": 10, "train_steps": 93_000,
}  # fmt: skip
ex.add_named_config("paper", {})
ex.add_named_config("paper_large_init", {"init_scale": 8.0, "loss": "squared_error"})
ex.add_named_config("cpu", CPU)
ex.add_named_config("cpu_normalized", {**CPU, "normalized": True, "train_steps": 40_000})
SMALL = {"init_scale": 1.0, "loss": "cross_entropy", "weight_decay": 0.01, "train_steps": 5000}
ex.add_named_config("cpu_small_init", {**CPU, **SMALL})  # no delay on these easy digits


@ex.build
def build(c) -> Problem:
    split = recipes.images_of(c)
    generator = torch.Generator().manual_seed(recipes.data_seed_of(c) + 2**20)
    answers = split["train_answers"]
    drawn = torch.randint(10, answers.shape, generator=generator)
    anew = torch.rand(answers.shape, generator=generator) < c.random_labels
    split["train_answers"] = torch.where(anew, drawn, answers)
    images, size = split["test_images"], split["test_images"].shape[1]
    data = recipes.in_columns(split)
    data["start"] = 2 * torch.rand(images.shape, generator=generator, dtype=images.dtype) - 1
    data["random_images"] = torch.rand(1000, size, generator=generator, dtype=images.dtype)
    data["directions"] = frame(c.directions, size, recipes.data_seed_of(c)).to(images.dtype)
    sizes = [size, *[c.width] * (c.depth - 1), 10]
    model = recipes.drawn(c, lambda: ImageMLP(sizes, c.activation, c.init_scale, c.normalized))
    loss = AnswerLoss(Images(), c.loss, c.loss_dtype)
    problem = recipes.answer_problem(c, model, data, loss, sampling="replacement")
    return with_robustness(problem, SIZES, RADII, c.attack_steps)


SWEEP = {"sweep": "humayun_cpu"}
ROBUST, REGIONS = adversarial(SIZES[0]), complexity("train", RADII[1])


@ex.claim("06a", "Robustness comes long after the test accuracy (figures 1, 7)", **SWEEP)
def delayed(runs):
    run = runs.one("cpu")
    clean, robust = (run.steps_to(name, 0.5) for name in ("test_accuracy", ROBUST))
    then, last = run.at(ROBUST, run.steps_to("train_accuracy", 0.99)), run.final(ROBUST)
    passed = 1.1 * clean < robust < inf and then <= 0.1 and last >= 0.75
    return passed, {"clean": clean, "robust": robust, "robust, memorized": then, "in the end": last}


@ex.claim("06b", "Linear regions gather at the data, then leave it (figure 29)", **SWEEP)
def migrate(runs):
    steps, values = runs.one("cpu").logged(REGIONS)
    top = int(values.argmax())
    passed = values[top] > values[0] and values[top:].min() <= values[top] / 2
    return passed, {"first": values[0], "most": values[top], "at": steps[top], "last": values[-1]}


@ex.claim(
    "06d", "In the end there are fewer about train points than about others (figure 2)", **SWEEP
)
def fewer(runs):
    run = runs.one("cpu")
    found = {split: run.final(complexity(split, RADII[1])) for split in ("train", "test", "random")}
    return found["train"] < min(found["test"], found["random"]), found


@ex.claim("06e", "Larger attacks are withstood later, and less (figure 7)", **SWEEP)
def larger(runs):
    run = runs.one("cpu")
    last = [run.final(adversarial(size)) for size in SIZES]
    steps = [run.steps_to(adversarial(size), 0.5) for size in SIZES]
    passed = (np.diff(last) < 0).all() and steps == sorted(steps)
    return passed, {f"{size}, in the end": value for size, value in zip(SIZES, last, strict=True)}


@ex.claim("06f", "Batch normalization takes it away (figure 12)", **SWEEP)
def normalized(runs):
    plain, norm = (runs.one(name).at(ROBUST, 40_000) for name in ("cpu", "cpu_normalized"))
    return norm <= plain / 2, {"plain": plain, "normalized": norm}


@ex.claim(
    "06-small", "With torch's own initial weights these digits show no delay (added)", **SWEEP
)
def small(runs):
    run = runs.one("cpu_small_init")
    clean, robust = (run.steps_to(name, 0.5) for name in ("test_accuracy", ROBUST))
    return robust <= 2 * clean, {"clean": clean, "robust": robust}


@ex.claim(
    "06c", "Regions leave before robustness is complete (figure 1)", report_only=True, **SWEEP
)
def before(runs):
    steps, values = runs.one("cpu").logged(REGIONS)
    leave, complete = steps[values.argmax()], runs.one("cpu").steps_to(ROBUST, 0.75)
    return leave <= complete, {"leave from": leave, "robust 75 % at": complete}


if __name__ == "__main__":
    ex.run_as_script()
