"""The fused step: equal to the traced one, and to itself bit for bit whatever else is trained."""

import os
import stat
from dataclasses import replace

import pytest
import torch
from torch import nn

from grok.engine import fused
from grok.engine import threads as threads_module
from grok.engine import train as train_module
from grok.engine.determinism import drawing
from grok.engine.events import Outcome, Record, Saved, Start
from grok.engine.fused import FusedStep, Unsupported, compiler
from grok.engine.optimizers import norm_of
from grok.engine.problem import Problem, log_steps
from grok.engine.spec import Grokfast, Group, Optimizer, Stop
from grok.engine.train import make_program, train
from grok.experiment import parts
from grok.experiment.experiment import load
from grok.models.mlp import PairMLP, mlp
from grok.models.sum_mlp import SumMLP
from grok.objectives.classification import ClassificationLoss, ClassificationMetrics, InputLogits
from grok.objectives.regression import RegressionLoss, RegressionMetrics
from grok.paths import experiment_file
from tests.engine.test_resume import assert_continues
from tests.engine.toy import losses, outcome

STEPS = 200
GROUPS = (Group("0.", 3e-3, 0.3, (0.9, 0.99), momentum=0.9), Group("", 1e-3, 0.1, momentum=0.5))


def optimizer(kind: str, **options) -> Optimizer:
    """Two groups with different rates and decays, and a warm-up."""
    return Optimizer(kind, GROUPS, warmup_steps=5, **options)


class Activations(nn.Sequential):
    """A layer with each activation."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(
            *(nn.Linear(inputs, 9), nn.Tanh(), nn.Linear(9, 17), nn.ReLU()),
            *(nn.Linear(17, 12), nn.GELU(), nn.Linear(12, outputs)),
        )


def regression(seed: int, module=Activations, kind: str = "adamw", **options) -> Problem:
    """Six outputs of 21 rows of 5 numbers; every seed has its data, weights and rates."""
    loss = RegressionLoss()
    with drawing(seed, torch.float64):
        network = module(5, 6)
        data = {
            f"{part}_{name}": torch.randn(21, size)
            for part in ("train", "test")
            for name, size in (("inputs", 5), ("targets", 6))
        }
    settings = {"optimizer": optimizer(kind), "train_steps": STEPS, "seed": seed, **options}
    settings.setdefault("log_steps", log_steps(settings["train_steps"], 12))
    return Problem(network, data, loss, RegressionMetrics(loss, 0.1), **settings)


def classification(
    seed: int,
    module,
    kind: str = "adamw",
    rows: int = 30,
    name: str = "pairs",
    loss: str = "cross_entropy",
    loss_dtype: str | None = None,
    dtype: torch.dtype = torch.float64,
    **options,
) -> Problem:
    """Seven classes of pairs of 11 symbols, or of rows of five numbers."""
    objective = ClassificationLoss(InputLogits(name), loss, loss_dtype)
    with drawing(seed, dtype):
        network = module()
        data = {}
        for part in ("train", "test"):
            inputs = torch.randint(11, (rows, 2)) if name == "pairs" else torch.randn(rows, 5)
            data |= {
                f"{part}_{name}": inputs,
                f"{part}_labels": torch.randint(7, (rows, 1)),
            }
    settings = {"optimizer": optimizer(kind), "train_steps": STEPS, "seed": seed, **options}
    settings.setdefault("log_steps", log_steps(settings["train_steps"], 12))
    return Problem(network, data, objective, ClassificationMetrics(objective), **settings)


def assert_equals_traced(problem: Problem, tolerance: float = 1e-10) -> None:
    """All weights after the last step agree, relative to the largest of their tensor."""
    events = list(train([problem], fused=True))
    assert next(e for e in events if isinstance(e, Start)).fused
    weights, reference = outcome(events).weights, outcome(train([problem], compiled=False)).weights
    for name, expected in reference.items():
        change = (expected - dict(problem.module.named_parameters())[name]).abs().max()
        assert change > 0, f"{name} was trained"
        gap = (weights[name] - expected).abs().max() / expected.abs().max()
        assert gap < tolerance, f"{name} differs by {gap:.1e}"


def assert_equal_events(first, second) -> None:
    """Records and weights of replicas are equal bit for bit."""
    for one, other in zip(first, second, strict=True):
        for a, b in zip(records(one), records(other), strict=True):
            assert (a.step, a.metrics) == (b.step, b.metrics)
        for name, weight in ended(one).weights.items():
            assert torch.equal(weight, ended(other).weights[name]), name


def records(events) -> list[Record]:
    return [event for event in events if isinstance(event, Record)]


def ended(events) -> Outcome:
    return next(event for event in events if isinstance(event, Outcome))


def of(events, replica: int) -> list:
    return [event for event in events if event.replica == replica]


# -- equal to the traced step ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "lion"])
def test_regression_through_every_activation_equals_the_traced_step(kind):
    assert_equals_traced(regression(0, kind=kind))


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd", "lion"])
def test_classification_through_every_activation_equals_the_traced_step(kind):
    assert_equals_traced(classification(1, lambda: Activations(5, 7), kind, name="images"))


def test_decay_to_the_initial_weights_and_a_cosine():
    options = {"decay_to": "init", "anneal_steps": 150}
    assert_equals_traced(regression(2, optimizer=optimizer("adamw", **options)))


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_weights_that_keep_their_initial_norm(kind):
    problem = regression(2, optimizer=optimizer(kind, fixed_norm=True))
    assert_equals_traced(problem)
    weights = outcome(train([problem], fused=True)).weights
    initial = norm_of(dict(problem.module.named_parameters()))
    assert float(norm_of(weights)) == pytest.approx(initial.item())


def test_weights_that_keep_a_given_norm():
    problem = regression(2, optimizer=optimizer("adamw", fixed_norm=3.5))
    assert_equals_traced(problem)
    assert float(norm_of(outcome(train([problem], fused=True)).weights)) == pytest.approx(3.5)


@pytest.mark.parametrize("loss", ["cross_entropy", "squared_error"])
@pytest.mark.parametrize("loss_dtype", [None, "float64"])
def test_divided_logits(loss, loss_dtype):
    """A temperature is a number of each replica's own: runs that differ in it share a program."""
    problems = [
        parts.with_temperature(
            classification(7, lambda: SumMLP(11, 6, 9), loss=loss, loss_dtype=loss_dtype), tau
        )
        for tau in (0.7, 2.5)
    ]
    for problem in problems:
        assert_equals_traced(problem)
    batch = list(train(problems, fused=True))
    for replica, problem in enumerate(problems):
        assert_equal_events([list(train([problem], fused=True))], [of(batch, replica)])


def test_an_activated_output_is_not_divided():
    """Its slope is computed from the undivided output, so that the traced step is used."""
    network = lambda: nn.Sequential(nn.Linear(5, 7), nn.Tanh())  # noqa: E731
    problem = parts.with_temperature(classification(7, network, name="images"), 2.0)
    with pytest.raises(Unsupported):
        FusedStep(problem)


def test_mini_batches():
    """They go on through 40 epochs, of five batches each."""
    keys = ("train_inputs", "train_targets")
    assert_equals_traced(regression(3, batch_size=4, minibatch_keys=keys))


def test_an_activation_at_the_outputs():
    assert_equals_traced(regression(3, lambda i, o: nn.Sequential(nn.Linear(i, o), nn.Tanh())))


def test_examples_that_exceed_the_cache_are_taken_in_parts(monkeypatch):
    """21 examples in parts of 16 and 5: every gradient is a sum over the parts."""
    monkeypatch.setattr(fused.source, "WHOLE_BYTES", 0)
    assert_equals_traced(regression(4))


@pytest.mark.parametrize("embedding", [None, 4, 3])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-2)])
def test_layers_of_looked_up_rows(embedding, dtype, tolerance):
    """Both halves of the first layer's weights, or of a product of two parameters, are tables.

    The second half of 8 or 6 columns begins within a vector of the CPU: at an address that must not
    be loaded as an aligned one.
    """

    def network():
        return PairMLP(11, 7, [13], "relu", embedding)

    problem = classification(5, network, loss="squared_error", dtype=dtype)
    assert_equals_traced(problem, tolerance)


def test_products_of_parameters_and_a_loss_of_higher_precision():
    problem = classification(6, lambda: SumMLP(11, 6, 9), loss_dtype="float64", dtype=torch.float32)
    assert_equals_traced(problem, 1e-3)


PAPERS = {
    "liu_toy": ({}, ()),
    "minegishi": ({"width": 5, "embedding_width": 6, "p": 11, "dtype": "float64"}, ("random",)),
    "levi": ({"input_dim": 9, "hidden_dim": 4, "output_dim": 2, "activation": "tanh"}, ()),
    "doshi": ({"p": 11, "width": 9, "dtype": "float64"}, ("cpu",)),
}


@pytest.mark.parametrize("name", PAPERS)
def test_networks_of_papers(name):
    """An encoder of symbols, masked weights, matrices without biases, powers of sums."""
    updates, named_configs = PAPERS[name]
    paper = load(experiment_file(name))
    config = paper.full_config({"train_steps": 50, "seed": 0, **updates}, named_configs)
    assert_equals_traced(replace(paper.problem_of(config), log_steps=[0, 50]), 1e-9)


# -- equal to itself -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solo_runs():
    """The events of five runs, each alone."""
    return [list(train([regression(seed)], fused=True)) for seed in range(5)]


@pytest.mark.parametrize(("slots", "threads"), [(1, 1), (2, 1), (5, 1), (5, 2), (3, 2)])
def test_a_replica_of_a_batch_is_the_run_alone_bit_for_bit(solo_runs, slots, threads):
    before = torch.get_num_threads()
    try:
        problems = [regression(seed) for seed in range(5)]
        batch = list(train(problems, slots, fused=True, threads=threads))
    finally:
        torch.set_num_threads(before)
    assert {e.threads for e in batch if isinstance(e, Start)} == {threads}
    assert_equal_events([of(batch, replica) for replica in range(5)], solo_runs)


def test_neighbours_that_diverge_stop_or_are_saved_change_nothing(solo_runs):
    diverging = replace(regression(1), optimizer=Optimizer("sgd", (GROUPS[0], Group(lr=1e9))))
    problems = [replace(regression(s), optimizer=diverging.optimizer) for s in range(3)]
    problems[0] = replace(problems[0], optimizer=Optimizer("sgd", (GROUPS[0], Group(lr=1e-3))))
    problems[2] = replace(problems[0], stop=Stop((("train_loss", 0.0),)), checkpoint_every=50)
    alone = list(train([problems[0]], fused=True))
    batch = list(train(problems, slots=3, fused=True))
    reasons = [ended(of(batch, replica)).reason for replica in range(3)]
    assert reasons == ["budget", "diverged", "stopped"]
    assert_equal_events([of(batch, 0)], [alone])


def test_it_goes_on_from_a_checkpoint_bit_for_bit():
    keys = ("train_inputs", "train_targets")
    options = {"batch_size": 5, "minibatch_keys": keys, "checkpoint_every": 30}
    problems = [regression(seed, keep_weights=True, **options) for seed in range(3)]
    assert_continues(problems, 30, 120, fused=True)


def test_checkpoints_change_nothing(solo_runs):
    events = list(train([regression(0, checkpoint_every=7)], fused=True))
    assert sum(isinstance(event, Saved) for event in events) == STEPS // 7
    assert_equal_events([events], solo_runs[:1])


def test_a_measured_run_is_the_unmeasured_one_bit_for_bit():
    paper = load(experiment_file("mlp"))
    settings = {"p": 7, "train_steps": 60, "width": 16, "train_fraction": 0.5, "seed": 0}
    runs = []
    for measures in ([], ["weight_tracking", "batch_dynamics"]):
        config = paper.full_config({**settings, "measures": measures, "snapshot_every": 1})
        runs.append(list(train([paper.problem_of(config)], fused=True)))
    plain, measured = runs
    for name, weight in ended(plain).weights.items():
        assert torch.equal(weight, ended(measured).weights[name])
    assert len(records(measured)[-1].metrics) > len(records(plain)[-1].metrics)


def test_measures_find_the_same_whether_or_not_other_steps_are_recorded():
    """The steps between two measurements are made by calls of many steps."""
    paper = load(experiment_file("mlp"))
    settings = {"p": 7, "train_steps": 60, "width": 16, "train_fraction": 0.5, "seed": 0}
    settings["eval_steps"] = 10
    found = []
    for measures in (["weight_tracking"], ["weight_tracking", "path_length"]):
        config = paper.full_config({**settings, "measures": measures, "snapshot_every": 3})
        of_run = records(list(train([paper.problem_of(config)], fused=True)))
        names = [name for name in of_run[-1].metrics if name.startswith("weight_tracking/")]
        found.append([{n: r.metrics[n] for n in names if n in r.metrics} for r in of_run])
    assert found[0] == found[1]
    assert [bool(metrics) for metrics in found[0]] == [False] * 3 + [True, False, False, True]


# -- which problems have a fused step --------------------------------------------------------------


class Scaled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


OTHERS = {
    "another activation": lambda: regression(
        0, lambda i, o: nn.Sequential(nn.Linear(i, o), nn.SiLU())
    ),
    "a scaled layer": lambda: regression(0, Scaled),
    "a gradient filter": lambda: regression(
        0, optimizer=optimizer("adamw", grokfast=Grokfast("ema", 2.0))
    ),
    "clipping": lambda: regression(0, optimizer=optimizer("adamw", clip_norm=1.0)),
    "noise": lambda: regression(0, optimizer=optimizer("adamw", update_noise=0.1)),
    "approximate GELU": lambda: regression(
        0, lambda i, o: nn.Sequential(nn.Linear(i, 4), nn.GELU("tanh"), nn.Linear(4, o))
    ),
    "a sum of squares": lambda: replace(regression(0), loss=sum_of_squares),
    "stablemax": lambda: classification(
        0, lambda: mlp([5, 7], "relu"), name="images", loss="stablemax"
    ),
}


def sum_of_squares(model, data):
    return ((model(data["train_inputs"]) - data["train_targets"]) ** 2).sum()


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_code_falls_back(name):
    problem = OTHERS[name]()
    with pytest.raises(Unsupported):
        FusedStep(problem)
    start = next(event for event in train([problem], fused=True))
    assert isinstance(start, Start) and not start.fused


def test_row_numbers_outside_of_the_table_fall_back():
    """torch reads a negative number from the end, and raises where one is too large."""
    problem = classification(0, lambda: SumMLP(11, 6, 9))
    step = FusedStep(problem)
    step.check_data(problem)
    for wrong in (-1, 11):
        problem.data["train_pairs"][3, 1] = wrong
        with pytest.raises(Unsupported):
            step.check_data(problem)


def test_short_runs_and_runs_that_ask_for_it_are_not_fused():
    short, long = regression(0), regression(0, train_steps=1000)
    started = [next(train([problem])) for problem in (short, long, replace(long, fused=False))]
    assert [start.fused for start in started] == [False, True, False]
    assert [start.compiled for start in started] == [False, True, False]


def test_a_layer_that_is_too_wide_for_a_stack_falls_back():
    """The copy of its weights lay on a thread's stack, whose overflow ended the process without a word."""

    def wide(width: int) -> Problem:
        return regression(
            0,
            lambda i, o: nn.Sequential(nn.Linear(i, width), nn.ReLU(), nn.Linear(width, o)),
            train_steps=3,
            log_steps=[0, 3],
        )

    assert_equals_traced(wide(4096))
    with pytest.raises(Unsupported, match="a wide layer"):
        FusedStep(wide(4097))


@pytest.mark.parametrize(
    ("threads", "slots", "is_fused"), [(2, 1, True), (3, 1, False), (4, 2, True), (5, 2, False)]
)
def test_a_large_step_is_fused_where_few_cores_wait(monkeypatch, threads, slots, is_fused):
    """A fused step trains a replica on one core, and about as fast as two threads train the compiled one."""
    problems = [regression(seed, train_steps=1000) for seed in range(slots)]
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads_module, "idle_cores", lambda: threads)
    assert make_program(problems, slots).fused is not None
    monkeypatch.setattr(train_module, "FUSED_MULTIPLICATIONS", 0)
    for given in (threads, None):
        program = make_program(problems, slots, threads=given)
        assert (program.fused is not None) == is_fused
    assert make_program(problems, slots, threads=threads, fused=True).fused is not None


def test_a_network_that_no_cache_holds_falls_back(monkeypatch):
    monkeypatch.setattr(fused, "MOST_WEIGHTS", 10)
    with pytest.raises(Unsupported, match="many weights"):
        FusedStep(regression(0))


# -- the compiler ----------------------------------------------------------------------------------


def test_without_a_compiler_a_run_falls_back_in_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "/nowhere/c++")
    events = list(train([regression(0)], fused=True, compiled=False))
    assert not ended(events).compiled
    assert losses(events) == losses(list(train([regression(0)], compiled=False)))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["warning: training without a fused step, slower: no C++ compiler was found"]


def test_without_a_folder_for_programs_a_run_falls_back_in_one_line(monkeypatch, capsys, tmp_path):
    """A cache folder that cannot be made, as on a read-only disk, ended every long run of an MLP with
    a traceback, although the fused step is only a faster way to the same weights."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "file"))
    events = list(train([regression(0)], fused=True, compiled=False))
    assert losses(events) == losses(list(train([regression(0)], compiled=False)))
    (line,) = capsys.readouterr().err.splitlines()
    start = "warning: training without a fused step, slower: cannot make or load the program: "
    assert line.startswith(start) and str(tmp_path / "file") in line


def test_a_compiler_that_cannot_be_started_is_one_line(monkeypatch, tmp_path):
    def no_memory(*args, **options):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiler.subprocess, "run", no_memory)
    with pytest.raises(compiler.CompilerError, match="Cannot allocate memory"):
        compiler.load('extern "C" int number() { return 4; }')


def test_a_program_is_compiled_once_and_kept_for_its_user_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    first = compiler.load('extern "C" int number() { return 3; }')
    assert first.number() == 3
    (path,) = compiler.folder().iterdir()
    assert stat.S_IMODE(os.stat(compiler.folder()).st_mode) == 0o700
    monkeypatch.setattr(compiler, "_compile", None)  # a call of it would fail
    assert compiler.load('extern "C" int number() { return 3; }').number() == 3
    monkeypatch.undo()
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    with pytest.raises(compiler.CompilerError, match=r"failed: .*error"):
        compiler.load("int number() { return; }")
    assert list(compiler.folder().iterdir()) == [path]
