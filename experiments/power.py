"""Power, Burda, Edwards, Babuschkin, Misra 2022, arXiv:2201.02177.

"Grokking: Generalization Beyond Overfitting on Small Algorithmic Datasets": a transformer completes
a table of a binary operation; the answer is learned by heart first and understood long after.
"""

from math import inf

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import correlation, fractions, medians, within
from grok.engine.problem import Problem
from grok.engine.spec import Stop
from grok.experiment import parts as recipes
from grok.measures.sharpness import sharpness
from grok.measures.spectra import circle_fraction
from grok.measures.vectors import rms_norms
from grok.models.transformer import TransformerConfig
from grok.objectives.classification import ClassificationLoss, SequenceLogits

LAYOUT = "Eaob="  # E ends and begins a sequence
DECIDED = Stop((("train_accuracy", 0.99), ("test_accuracy", 0.99)))
ex = Paper("power", threshold=0.99, delay=1000)


@ex.config
def config():
    # a name (grok/tasks/operations.py), s5, sort, or an expression: a**2 + b
    operation = "x_plus_y"
    p = 97
    symmetric = False  # only pairs with a <= b
    train_fraction = 0.5
    train_count = None
    noisy_answers = 0  # train rows with a random answer (figure 6)
    data_seed = None  # of the split; None: the run's seed
    list_length = 4  # of sort, reverse, copy: so many different numbers below p
    list_count = 5000  # of them in the table
    depth, width, heads = 2, 128, 4
    activation = "relu"
    norm, positions = "post", "sinusoidal"
    tied, init_scale = False, 1.0
    dropout = 0.0  # after the MLP
    optimizer = "adamw"
    lr = 1e-3
    betas, eps = (0.9, 0.98), 1e-8
    weight_decay = 1.0
    decay_to = "zero"  # or "init"
    warmup_steps = 10
    anneal_steps = 0  # a cosine to a tenth of lr by then; 0 for none
    weight_noise = 0.0  # std, at every gradient
    update_noise = 0.0  # std, on Adam's direction
    sam_rho = 0.0  # of sharpness-aware minimization
    batch_size = 512  # at most half of the train set; None: all of it
    train_steps = 10_000
    log_points = 100
    stop_when_grokked = False
    sharpness = False  # of the final weights (Keskar et al. 2017)
    dtype, loss_dtype = "float32", None
    device = "auto"


SMALL = {"p": 31, "width": 64, "train_steps": 8000, "stop_when_grokked": True}
VARIANTS = {  # of optimizer and regularizer, figure 2 left
    "full_batch_adam": {"weight_decay": 0.0, "batch_size": None},
    "adam": {"weight_decay": 0.0},
    "update_noise": {"weight_decay": 0.0, "batch_size": None, "update_noise": 0.1},
    "dropout": {"weight_decay": 0.0, "dropout": 0.1},
    "adamw": {},
    "adamw_to_init": {"decay_to": "init"},
    "slow_adam": {"weight_decay": 0.0, "lr": 3e-4},
    "fast_adam": {"weight_decay": 0.0, "lr": 3e-3},
    "weight_noise": {"weight_decay": 0.0, "weight_noise": 0.01},
}

ex.add_named_configs({
    "paper": {"operation": "x_div_y", "train_steps": 100_000, "log_points": 300},
    "paper_figure1": {"operation": "x_div_y", "weight_decay": 0.0, "train_steps": 1_000_000},  # left
    "division": {"operation": "x_div_y"}, "permutation": {"operation": "s5"},
    "polynomial": {"operation": "x2_plus_xy_plus_y2"}, "lists": {"operation": "sort", "p": 31},
    "conditional": {"operation": "plus_if_even_else_minus"},
    "cpu": {"train_steps": 6000, "stop_when_grokked": True, "depth": 1},
    "product": {  # Lee et al. 2024: with grokfast=ema and without
        "operation": "x_times_y", "norm": "pre", "activation": "gelu", "positions": "learned",
        "optimizer": "adam", "weight_decay": 0.005, "train_steps": 5000, "stop_when_grokked": True,
    },
    "small": SMALL,  # a figure's worth of runs in minutes
    **{f"small_{name}": {**SMALL, **changes} for name, changes in VARIANTS.items()},
    **{f"paper_{name}": {"operation": "s5", "train_steps": 100_000, **changes}
       for name, changes in VARIANTS.items()},
})  # fmt: skip


@ex.build
def build(c) -> Problem:
    split, count, vocabulary, classes = recipes.sequences_of(c, LAYOUT)
    rows, length = split["train_tokens"].shape
    batch = None if c.batch_size is None else min(c.batch_size, -(-rows // 2))
    data = recipes.sequence_data(split, 0 if c.dropout else batch)  # dropout shares nothing
    shape = TransformerConfig(
        vocabulary, classes, length, c.width, c.depth, c.heads, 4 * c.width, norm=c.norm,
        activation=c.activation, positions=c.positions, tied=c.tied, init_scale=c.init_scale,
        dropout=c.dropout,
    )  # fmt: skip
    loss = ClassificationLoss(SequenceLogits(count, dropout=c.dropout > 0), loss_dtype=c.loss_dtype)
    stop, model = DECIDED if c.stop_when_grokked else None, recipes.transformer_of(c, shape)
    return recipes.classification_problem(c, model, data, loss, batch_size=batch, stop=stop)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Root mean square of every weight matrix at the end, and the sharpness there if asked for."""
    if recorder.outcome is None:
        return {}
    weights = recorder.outcome.weights
    result = {"rms_norms": rms_norms(weights)}
    if c.sharpness:
        measured = sharpness(problem.module, problem.loss, problem.data, weights)
        result["sharpness"], result["published_sharpness"] = measured
    if not c.tied:
        start, end = problem.module.output.weight.detach(), weights["output.weight"]
        result["circle_gain"] = circle_fraction(end) / circle_fraction(start)
    return result


# fmt: off
CENTER, DECAY = "power_figure1_center", "power_decay"
HOUR = {"sweep": "power_figure2_right", "report_only": True}  # its sweep takes more than one
ex.claim("01-C1", "Generalizes long after it has memorized (figure 1 left)", within(
    ("small", "steps_to_train", 1, 400), ("small", "delay_ratio", 8, inf)), sweep=CENTER)
ex.claim("01-C2", "Less data, more steps to generalize (figure 1 center)", medians(
    lambda a, b, c, d: a > b > c > d and a >= 2 * c, "train_fraction", 0.4, 0.5, 0.6, 0.7,
    test=0.99), sweep=CENTER, pooled=True)
ex.claim("01-C3", "With weight decay half the data is enough (figure 2 left)", fractions(
    lambda decay, none: 2 * decay <= none, "preset", "small_adamw", "small_adam"), sweep=DECAY)
ex.claim("01-C3-init", "Decay to the initial weights helps too (figure 2 left)", fractions(
    lambda decay, none: decay < none, "preset", "small_adamw_to_init", "small_adam"), sweep=DECAY)
ex.claim("01-C4", "A symmetric operation needs no more data (figure 2 right)", fractions(
    lambda plus, minus: plus <= minus < inf, "operation", "x_plus_y", "x_minus_y"), **HOUR)
ex.claim("01-C4-never", "x^3 + x y^2 + y is never learned (figure 2 right)", fractions(
    lambda cubic: cubic == inf, "operation", "x3_plus_xy2_plus_y", test=0.3), **HOUR)
ex.claim("01-C5", "A few outliers cost no data, many do (figure 6)", fractions(
    lambda none, few, many: none == few < many, "noisy_answers", 0, 12, 173), sweep="power_figure6")
for claim, measure in (("01-C6", "sharpness"), ("01-C6-published", "published_sharpness")):
    ex.claim(claim, f"The larger the {measure.replace('_', ' ')} the worse the test accuracy (figure 7)",
             correlation(measure, "test_accuracy", -1, -0.5), sweep="power_figure7", pooled=True)
ex.claim("01-C7", "The numbers lie on a circle in the output layer (figure 3)",
         within(("cpu", "circle_gain", 3, inf)))  # modulo 31 it starts at a twelfth


if __name__ == "__main__":
    ex.run_as_script()
