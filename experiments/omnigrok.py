"""Liu, Michaud, Tegmark 2022, arXiv:2210.01117.

"Omnigrok: Grokking Beyond Algorithmic Data": test loss against the weights' norm is U-shaped; from large
weights a network memorizes at once and generalizes when decay has brought it down.
"""

from math import inf

from grok.claims.legacy import Paper
from grok.claims.legacy_checks import decays, delays, dependences
from grok.experiment import datasets
from grok.experiment import parts as recipes
from grok.objectives.classification import ClassificationLoss, InputLogits, SequenceLogits

ex = Paper("omnigrok", threshold=0.8, delay=1000, choices={"dataset": datasets.SOURCES})


@ex.config
def config():
    dataset = "mnist"
    data_folder = None  # of mnist, imdb or qm9; None: .grok/DATASET, MNIST downloaded if need be
    train_count = 1000
    test_count = 250  # of sequences, imdb, qm9
    operation = "x_plus_y"  # of addition
    p = 113
    messiness = 1.0  # of sums and images: 0, laid out by their answers
    train_fraction = 0.3  # of addition, where there is no train_count
    data_seed = None  # of the split; None: the run's seed
    width = 200
    depth = 3
    heads = 4
    mlp_width = 512
    activation = "relu"
    init_scale = 8.0  # alpha, of weights and biases
    loss = "squared_error"
    near = 0.001  # squared error that counts as right, of teacher, diabetes and qm9
    optimizer = "adamw"
    lr = 1e-3
    betas = (0.9, 0.999)
    eps = 1e-8
    weight_decay = 0.01
    warmup_steps = 0
    batch_size = None
    train_steps = 100_000
    log_points = 200
    dtype = "float32"
    loss_dtype = None
    device = "auto"


DIGITS = {"dataset": "digits", "train_count": 200, "weight_decay": 0.3, "train_steps": 12_000}
TEACHER = {"dataset": "teacher", "train_count": 100, "test_count": 100, "width": 100, "lr": 3e-4,
           "activation": "tanh", "init_scale": 2.0, "weight_decay": 0.3, "train_steps": 25_000}  # fmt: skip
SUM = {"dataset": "addition", "loss": "cross_entropy", "loss_dtype": "float64", "init_scale": 1.0,
       "betas": (0.9, 0.98), "weight_decay": 1.0, "train_count": None, "width": 128}  # fmt: skip
SMALL_SUM = {**SUM, "p": 59, "train_fraction": 0.45, "width": 64, "mlp_width": 256,
             "train_steps": 8000}  # fmt: skip
TEXT = {"loss": "cross_entropy", "depth": 2, "init_scale": 6.0, "weight_decay": 1.0}
DRAWN = {**TEXT, "dataset": "sequences", "train_count": 200, "width": 64, "train_steps": 300}
ROWS = {"train_count": 100, "width": 64, "init_scale": 3.0, "weight_decay": 0.0, "near": 0.25}
FIXED = {"fixed_norm": True, "weight_decay": 0.0, "train_steps": 3000}  # of any init_scale
TOY = {"dataset": "sums", "train_count": 45, "lr": 1e-2, "betas": (0.9, 0.99), "near": 0.25}
PLAIN = {"init_scale": 1.0, "weight_decay": 0.0, "train_steps": 800}
ex.add_named_configs({
    "paper": {"batch_size": 200, "dtype": "float64"}, "paper_addition": SUM, "teacher": TEACHER,
    "paper_teacher": {**TEACHER, "weight_decay": 0.03, "train_steps": 100_000},
    "paper_imdb": {**TEXT, "dataset": "imdb", "train_count": 750, "width": 128, "batch_size": 50},
    "paper_qm9": {**ROWS, "dataset": "qm9", "test_count": 100, "batch_size": 32},
    "cpu": DIGITS, "little_decay": {**DIGITS, "weight_decay": 0.1},
    "addition": SMALL_SUM, "addition_fixed": {**SMALL_SUM, **FIXED, "init_scale": 0.8},
    "sequences": DRAWN, "plain_sequences": {**DRAWN, **PLAIN, "train_steps": 300}, "plain": {**DIGITS, **PLAIN},
    **{f"count_{count}": {**DIGITS, "train_count": count} for count in (500, 1000)},
    "diabetes": {**ROWS, "dataset": "diabetes", "train_steps": 12_000},
    "plain_diabetes": {**ROWS, **PLAIN, "dataset": "diabetes"},
    "plain_teacher": {**TEACHER, "init_scale": 0.5, "weight_decay": 0.03, "train_steps": 3000},
    "landscape": {**TEACHER, **FIXED}, "landscape_digits": {**DIGITS, **FIXED},
    "messy_sums": {**TOY, **FIXED}, "messy_digits": {**DIGITS, **FIXED, "train_steps": 1000},
})  # fmt: skip


@ex.build
def build(c):
    if c.dataset in ("teacher", "sums", "diabetes", "qm9"):
        return recipes.regression_problem(c, datasets.rows_of(c))
    if c.dataset == "addition":
        split = recipes.tokenized(c, table := recipes.table_of(c), "ab=")
        data, read = recipes.sequence_data(split, None), SequenceLogits()
        model = recipes.one_layer_of(c, table.elements)
    elif c.dataset in ("sequences", "imdb"):
        data, read = recipes.in_columns(datasets.texts_of(c)), InputLogits("tokens")
        model = recipes.lstm_of(c, datasets.TOKENS[c.dataset], classes=2)
    else:
        data, read = recipes.in_columns(datasets.tidied_images_of(c)), InputLogits("images")
        model = recipes.perceptron_of(c, data["train_images"].shape[1], 10)
    return recipes.classification_problem(
        c, model, data, ClassificationLoss(read, c.loss, c.loss_dtype)
    )


@ex.summarize
def summarize(c, problem, recorder) -> dict:
    """Whether the data are the paper's own."""
    return {"data_source": datasets.SOURCES[c.dataset]}


def landscape(runs):
    """Test loss has its least at a norm, above which there is no train loss."""
    mine = {run.config["init_scale"]: run for run in runs.where(dataset="teacher")}
    test = {scale: run.final("test_loss") for scale, run in mine.items()}
    train = max(run.final("train_loss") for scale, run in mine.items() if scale >= 1)
    best = min(test, key=test.get)
    passed = 0.4 <= best <= 1.6 and test[10.0] >= 1000 * test[best] and train <= 1e-4
    return passed, {"best": best, "test": test[best], "test at 10": test[10.0], "train": train}


def norm(runs):
    """The weights' norm is largest between memorizing and generalizing, and below the first at last."""
    run = runs.one("addition")
    first, last = (
        run.first_crossing("train_accuracy", 0.99),
        run.first_crossing("test_accuracy", 0.5),
    )
    steps, values = run.logged("weight_norm")
    passed = first <= (top := steps[values.argmax()]) <= last < inf and values[-1] < values[0]
    return passed, {"from": first, "top": top, "to": last}


LAND, DECAY = {"sweep": "omnigrok_landscape"}, {"sweep": "omnigrok_decay"}
for id, says, check, how in (
    ("05-C1", "Train loss is L-shaped in the norm, test loss U-shaped (figure 2)", landscape, LAND),
    ("05-C2", "A student from small weights does not delay (figure 2)",
     delays(lambda ratio: ratio <= 4, "plain_teacher", train=0.95, test=0.95), {}),
    ("05-C3", "Teacher: in time to 1 / weight decay, never without (figure 2)",
     decays(0.95, 0.95, -1.2, -0.7, spread=1.3, dataset="teacher"), DECAY),
    ("05-C4", "Images from large weights: memorized at once, known long after (figure 3)",
     delays(lambda ratio: 5 <= ratio < inf, "little_decay"), DECAY),
    ("05-C5", "From plain weights, or with more images, they are not (figure 3)",
     delays(lambda plain, *counts: plain <= 2 and counts[0] < counts[1] < counts[2] < inf,
            "plain", "count_1000", "count_500", "cpu"), {}),
    ("05-C6", "Images: in time to 1 / weight decay, never without (section 3)",
     decays(0.99, 0.9, -1.3, -0.7, dataset="digits"), DECAY),
    ("05-C7", "Addition: the norm rises to memorize, falls to generalize (figure 7)", norm, {}),
    ("05-C8", "Addition at a fixed small norm does not grok (figure 7)",
     delays(lambda free, fixed: fixed <= 2 and 8 <= free < inf, "addition", "addition_fixed", test=0.99), {}),
    ("05-C9", "Texts grok weakly, from large weights; tables are shown (section 4)",
     delays(lambda large, plain, *tables: plain < 3 <= large < inf, "sequences", "plain_sequences",
            "diabetes", "plain_diabetes", test=0.65), {"report_only": True}),
    ("05-C10", "Messy inputs harm sums, hardly digits (figures 6, 8)",
     dependences("messiness", "test_loss", sums=(10, inf), digits=(1, 3)),
     {"sweep": "omnigrok_messiness", "report_only": True}),
):  # fmt: skip
    ex.claim(id, says, check, **how)


if __name__ == "__main__":
    ex.run_as_script()
