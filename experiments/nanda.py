"""Nanda, Chan, Lieberum, Smith, Steinhardt 2023, arXiv:2301.05217.

"Progress measures for grokking via mechanistic interpretability": a one-layer transformer learns to
add modulo p by rotations of a few frequencies; measures of that circuit move long before test loss.
"""

from math import inf

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import within
from grok.engine.problem import Problem
from grok.experiment import parts as recipes
from grok.measures import progress
from grok.objectives.classification import ClassificationLoss, SequenceLogits

ex = Paper("nanda", threshold=0.99, delay=1000)


@ex.config
def config():
    operation = "x_plus_y"
    p = 113
    train_fraction = 0.3
    train_count = None
    data_seed = None  # of the split; None: the run's seed
    width = 128
    heads = 4
    mlp_width = 512
    activation = "relu"
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.98)
    eps = 1e-8
    weight_decay = 1.0
    warmup_steps = 10
    batch_size = None  # the train set
    train_steps = 40_000
    log_points = 300
    dtype = "float32"
    loss_dtype = "float64"  # in float32 the loss has spikes that look like more grokking
    device = "auto"
    record_trajectory = True  # the progress measures are taken on it


CPU = {
    "p": 59, "train_fraction": 0.45, "width": 64, "mlp_width": 256, "train_steps": 8000,
    "log_points": 150,
}  # fmt: skip
CONTROL = {**CPU, "record_trajectory": False}
ex.add_named_config("paper", {})
ex.add_named_config("cpu", CPU)
ex.add_named_config("cpu_no_decay", {**CONTROL, "weight_decay": 0.0, "train_steps": 4000})
ex.add_named_config("cpu_most_data", {**CONTROL, "train_fraction": 0.8, "train_steps": 2000})
ex.add_named_config("laptop_paper_model", {"train_fraction": 0.4, "train_steps": 4000})


@ex.build
def build(c) -> Problem:
    table = recipes.table_of(c)
    split, elements = recipes.tokenized(c, table, "ab="), table.elements
    data = recipes.sequence_data(split, c.batch_size)
    loss = ClassificationLoss(SequenceLogits(), loss_dtype=c.loss_dtype)
    return recipes.classification_problem(c, recipes.one_layer_of(c, elements), data, loss)


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """The final network's circuit; logs the progress measures of every step at its frequencies."""
    if recorder.outcome is None or c.operation != "x_plus_y" or not c.record_trajectory:
        return {}
    train = progress.grid_of(recipes.split_of(c, recipes.table_of(c))["train_pairs"], c.p)
    weights = recorder.kept_weights()
    found = progress.summary(progress.circuit_of(problem.module, weights[-1], c.p), train)
    keys = found["key_frequencies"]
    for name, values in progress.history(problem.module, weights, keys, train).items():
        recorder.add(name, [record.step for record in recorder.records], values)
    return found


@ex.claim("03-C1", "Groks long after it has memorized (figure 2)")
def groks(runs):
    train, test = runs.one("cpu", "paper").steps_to_both(0.99)
    numbers = {"train 99 % at": train, "test 99 % at": test, "ratio": test / train}
    return train <= 400 and test < inf and test / train >= 8, numbers


@ex.claim("03-C2", "A few key frequencies have most of the embedding's power (figure 3)")
def sparse(runs):
    run = runs.one("cpu", "paper")
    count, share = len(run["key_frequencies"]), run["embedding_share"]
    return 2 <= count <= 8 and share >= 0.6, {"frequencies": count, "share": share}


ex.claim(
    "03-C3", "The logits are sums of cos(w (a + b - c)) (section 4.2)",
    within(("cpu", "cosine_share", 0.8, 1)),
)  # fmt: skip
ex.claim(
    "03-C4", "Most neurons have one frequency (section 4.3)",
    within(("cpu", "single_frequency_neurons", 0.6, 1)),
)  # fmt: skip


@ex.claim("03-C5", "Restricted loss falls, excluded loss rises, before test loss falls (figure 7)")
def before(runs):
    run = runs.one("cpu", "paper")
    kept, test = (run.half_fallen(f"{name}_loss") for name in ("restricted", "test"))
    ends = run.final("excluded_loss") / run.final("train_loss")
    numbers = {"restricted halved at": kept, "test halved at": test, "excluded over train": ends}
    early = run.at("excluded_loss", test / 2) > 2 * run.at("train_loss", test / 2)
    return kept < test and early and ends >= 10, numbers


@ex.claim("03-C6", "Weights shrink as the test loss drops; spectra sharpen fastest then (figure 7)")
def cleanup(runs):
    run = runs.one("cpu", "paper")
    train, test = run.steps_to_both(0.99)
    steps = train, run.half_fallen("test_loss"), test
    numbers = dict(zip(("memorized", "test loss halved", "grokked"), steps, strict=True))
    rises = [run.rates(name, steps) for name in ("embedding_gini", "neuron_logit_gini")]
    norms = [run.at("weight_norm", step) for step in steps]
    return norms[0] > norms[1] > norms[2] and all(a < b for a, b in rises), numbers


@ex.claim("03-C7", "No grokking without weight decay, no delay with most of the data (figure 20)")
def controls(runs):
    idle, full = runs.one("cpu_no_decay"), runs.one("cpu_most_data")
    train, test = full.steps_to_both(0.99)
    numbers = {"test without decay": idle.final("test_accuracy"), "ratio at 80 %": test / train}
    return idle.final("test_accuracy") < 0.6 and test / train < 3, numbers


@ex.claim("03-C8", "The circuit alone does better; without one frequency, far worse (section 4.4)")
def ablations(runs):
    run = runs.one("cpu", "paper")
    whole, kept, ablated = (run[n] for n in ("loss", "restricted_loss", "least_ablated_loss"))
    numbers = {"loss": whole, "circuit's": kept, "without a frequency": ablated}
    return kept <= whole and ablated >= 10 * whole, numbers


if __name__ == "__main__":
    ex.run_as_script()
