"""Kumar, Bordelon, Gershman, Pehlevan 2023, arXiv:2310.06110.

"Grokking as the Transition from Lazy to Rich Training Dynamics". A wide network of slightly curved
units learns a quadratic function of normal inputs by full-batch gradient descent on the mean
squared error, without weight decay. The paper finds that it first fits the train set as a linear
model would, with its features unchanged (lazy), and generalizes long after, when its units have
turned to the teacher's direction (rich), while its weights grow. The larger the factor alpha of
the output, the later this happens. `grok/theory/lazy.py` has the exact dynamics of two moments.

    python experiments/lazy_to_rich.py with cpu    # half a minute
    grok replicate lazy_to_rich                    # all claims, five seeds: 25 runs, ten minutes
    python analysis/extras_figures.py              # losses, alignment and norm
"""

from dataclasses import dataclass
from math import inf

import numpy as np
import torch
from torch import Tensor, nn

from grok.claims.controls import no_effect
from grok.claims.model import Claims, Outcome, Run, Runs, Undecided
from grok.engine.problem import Problem
from grok.engine.spec import Group, Optimizer
from grok.experiment import parts
from grok.experiment.config_types import Count, Device, Dtype, NonNegative, Positive, Seed
from grok.experiment.experiment import Config, Experiment
from grok.objectives.losses import DTYPES, in_dtype
from grok.phases import first_step_held
from grok.tasks import gaussian
from grok.tensors import Tensors

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("lazy_to_rich", threshold=0.9, delay=1000)
claim = Claims(ex)


@ex.config
def config() -> None:
    # All experiments also have seed and the keys of grok.experiment.experiment.engine_options.

    # Task
    input_dim: Count = 100  # dimension D of the inputs, which are N(0, 1 / D)
    units: Count = 500  # hidden units N of the network
    train_count: Count = 550  # train inputs P
    test_count: Count = 1000  # test inputs
    data_seed: Seed | None = None  # seed of inputs and teacher; None for the run's seed

    # Model
    alpha: Positive = 1.0  # factor of the output; the larger, the lazier
    eps: NonNegative = 0.02  # curvature of the units
    centred: bool = False  # subtract the output of the initial network

    # Evaluation: what counts as correct
    near: NonNegative = 0.05  # largest squared error of an input that counts as correct

    # Optimization and training
    lr: NonNegative = 1.0  # learning rate of gradient descent, in units of N / alpha^2
    train_steps: Count = 100_000  # steps of gradient descent
    log_points: Count = 120  # evaluation steps, logarithmically spaced

    # Numerics
    dtype: Dtype = "float64"  # of weights and data
    loss_dtype: Dtype | None = None  # of the squared errors; None for dtype
    device: Device = "auto"  # auto: CUDA where there is one


CPU = {"input_dim": 40, "units": 200, "train_count": 160, "eps": 0.1, "train_steps": 100_000}

ex.preset("paper", "Figure 1: 100 dimensions, 550 train inputs, 100,000 steps.")
ex.preset("cpu", "Groks in 40 dimensions: 100,000 steps, half a minute.", CPU)
ex.preset("cpu_lazy", "As cpu with alpha = 4: groks later.", {**CPU, "alpha": 4.0})
ex.preset("cpu_rich", "As cpu with alpha = 1/4: groks earlier.", {**CPU, "alpha": 0.25})
ex.preset(
    "cpu_little_data",
    "As cpu with 30 train inputs: fits them and never generalizes.",
    {**CPU, "train_count": 30},
)
ex.preset(
    "cpu_much_data",
    "As cpu with 1600 train inputs: generalizes as it fits them.",
    {**CPU, "train_count": 1600, "train_steps": 5000},
)


class QuadraticUnits(nn.Module):
    """f(x) = (1 / N) sum_i phi(w_i . x) with phi(h) = h + (eps / 2) h^2.

    Arguments:
        inputs: D.
        units: N. The weights w (N, D) are standard normal at first.
    """

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(units, inputs))

    def forward(self, x: Tensor, eps: Tensor) -> Tensor:
        """Outputs (n,) for inputs x (n, D) and the curvature eps ()."""
        h_nN = x @ self.weight.T
        return (h_nN + eps / 2 * h_nN**2).mean(-1)


@dataclass(frozen=True)
class QuadraticLoss:
    """Mean of (alpha f(x) - start - y)^2 over the train inputs.

    Data: alpha (), eps (), and for PART train or test PART_inputs (n, D), PART_targets y (n,) and
    PART_start (n,), alpha f(x) of the initial network, or 0.
    """

    loss_dtype: str | None = None

    def __call__(self, model: nn.Module, data: Tensors) -> Tensor:
        return (self.errors(model, data, "train") ** 2).mean()

    def errors(self, model: nn.Module, data: Tensors, part: str) -> Tensor:
        """Errors (n,) on the inputs of PART, in the loss's dtype."""
        outputs = data["alpha"] * model(data[f"{part}_inputs"], data["eps"])
        errors = outputs - data[f"{part}_start"] - data[f"{part}_targets"]
        return in_dtype(errors, self.loss_dtype)


@dataclass(frozen=True)
class QuadraticMetrics:
    """Losses, accuracies, and the alignment of the units with the teacher.

    The accuracy is the fraction of inputs whose squared error is at most `near`. The alignment is
    the cosine of the units' second moment M = (1 / N) sum_i w_i w_i^T with b b^T, for the teacher
    b: 1 if all units lie along b.

    Data: teacher b (D,), and that of the loss.
    """

    loss: QuadraticLoss
    near: float

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        metrics = {}
        for part in ("train", "test"):
            squared_errors = self.loss.errors(model, data, part) ** 2
            metrics[f"{part}_loss"] = squared_errors.mean()
            metrics[f"{part}_accuracy"] = (squared_errors <= self.near).double().mean()
        assert isinstance(model, QuadraticUnits)
        metrics["alignment"] = alignment(model.weight, data["teacher"])
        return metrics


def alignment(weight: Tensor, teacher: Tensor) -> Tensor:
    """Cosine of the second moment of units' weights (N, D) with b b^T, for the teacher b (D,)."""
    second_moment_DD = weight.T @ weight / len(weight)
    along_teacher = ((weight @ teacher) ** 2).mean() / (teacher @ teacher)
    return along_teacher / torch.linalg.matrix_norm(second_moment_DD)


@ex.build
def build(c: Config) -> Problem:
    """Train on inputs x ~ N(0, 1 / D) with targets (b . x)^2 / 2 for a normal teacher b.

    Train inputs are drawn from the data's seed, test inputs from seed + 2^20, the teacher from
    seed + 2^21.
    """
    if c.centred:
        parts.needs_drawn_weights(c, "the output that centred=True subtracts")
    dtype = DTYPES[c.dtype]
    module = parts.init_with_seed(c, lambda: QuadraticUnits(c.input_dim, c.units))
    seed = parts.data_seed(c)
    teacher = gaussian.inputs(1, c.input_dim, seed + 2**21)[0].to(dtype)
    alpha, eps = (torch.tensor(value, dtype=dtype) for value in (c.alpha, c.eps))
    data = {"teacher": teacher, "alpha": alpha, "eps": eps}
    inputs = {
        "train": gaussian.inputs(c.train_count, c.input_dim, seed),
        "test": gaussian.inputs(c.test_count, c.input_dim, seed + 2**20),
    }
    for part, standard_normal in inputs.items():
        x = standard_normal.to(dtype) / c.input_dim**0.5
        initial_output = c.alpha * module(x, eps).detach()
        data[f"{part}_inputs"] = x
        data[f"{part}_targets"] = (x @ teacher) ** 2 / 2
        data[f"{part}_start"] = initial_output if c.centred else torch.zeros_like(initial_output)

    loss = QuadraticLoss(c.loss_dtype)
    metrics = QuadraticMetrics(loss, c.near)
    optimizer = Optimizer("sgd", (Group(lr=c.lr * c.units / c.alpha**2),))
    return parts.make_problem(c, module, data, loss, metrics, optimizer)


# Claims. Each is checked on the runs of one seed of sweeps/lazy_to_rich_cpu.yaml. The ids begin
# with E3 for this paper. A claim that is checked seed by seed passes if it holds on all of them;
# every claim must fail on runs changed as `fails_on` says (docs/concepts/claims.md).

FITTED_LOSS = 0.05  # a loss of at most this counts as fitted


def steps_to_fit(run: Run) -> tuple[float, float]:
    """The first logged steps at which train and test loss are at most FITTED_LOSS and still are at the
    next one; inf if never."""
    train, test = (_step_fitted(run, f"{part}_loss") for part in ("train", "test"))
    return train, test


def _step_fitted(run: Run, metric: str) -> float:
    steps, values = run.logged(metric)
    step = first_step_held(steps, -values, -FITTED_LOSS)
    return inf if step is None else step


# E3a. The paper: train loss falls first, test loss rises and falls long after, as the features
# align with the teacher. Ours: the ratio of steps, about 20 in 40 dimensions, is at least 5.
LEAST_DELAY_RATIO = 5
LEAST_ALIGNMENT_GAINED = 0.1  # from the fit of the train set to that of the test set


@claim("E3a", source="figure 1", fails_on={"eps": 0.0})
def gradient_descent_alone_groks(runs: Runs) -> Outcome:
    """Gradient descent alone groks: a linear fit comes first, and the feature long after."""
    run = runs.one("cpu")
    train, test = steps_to_fit(run)
    gained = run.at("alignment", test) - run.at("alignment", train)
    test_loss_rises = run.at("test_loss", 100) > run.at("test_loss", 0)
    ratio = test / train
    passed = (
        LEAST_DELAY_RATIO <= ratio < inf and test_loss_rises and gained > LEAST_ALIGNMENT_GAINED
    )
    return passed, {"train": train, "test": test, "ratio": ratio, "alignment gained": gained}


# E3b. The paper: the norm increases through grokking, against explanations by its decrease.
LEAST_GROWTH = 1.5  # of the norm, from the start to the fit of the test set
MOST_DECREASE = 1e-3  # of the norm below its largest value before, relative to that


@claim("E3b", source="section 4", fails_on={"eps": 0.0})
def norm_grows(runs: Runs) -> Outcome:
    """The norm of the weights grows all the while, until the network has generalized."""
    run = runs.one("cpu")
    _, test = steps_to_fit(run)
    steps, norms = run.logged("weight_norm")
    norms = norms[steps <= test]
    decrease = float((1 - norms / np.maximum.accumulate(norms)).max())
    numbers = {"at the start": norms[0], "as test loss is down": norms[-1], "decrease": decrease}
    passed = test < inf and norms[-1] >= LEAST_GROWTH * norms[0] and decrease <= MOST_DECREASE
    return passed, numbers


# E3c. The paper, 100 dimensions: of 50, 120 and 500 train inputs the fewest never generalize.
@claim("E3c", source="figure 4", fails_on={"train_count": 160})
def too_little_data_never_generalizes(runs: Runs) -> Outcome:
    """With too little data the network never generalizes."""
    run = runs.one("cpu_little_data")
    train, test = steps_to_fit(run)
    return train < test == inf, {"train": train, "test loss": run.final("test_loss")}


# E3d. A network that never generalizes does not tell when it would have.
@claim("E3d", source="figure 2", fails_on=no_effect)
def lazier_start_lengthens_the_delay(runs: Runs) -> Outcome:
    """The lazier the network starts, the later it generalizes."""
    to_test = {name: steps_to_fit(runs.one(name))[1] for name in ("cpu_rich", "cpu", "cpu_lazy")}
    rich, medium, lazy = to_test.values()
    if rich < medium < lazy == inf:
        raise Undecided("the laziest network never generalizes")
    return rich < medium < lazy, {f"{name}, test": step for name, step in to_test.items()}


# E3-goldilocks. Ours: 30, 160 and 1600 train inputs in 40 dimensions, where 820 numbers determine a
# quadratic function.
MOST_RATIO_WITH_MUCH_DATA = 2


@claim("E3-goldilocks", source="section 4", fails_on=no_effect)
def grokking_needs_an_intermediate_data_set(runs: Runs) -> Outcome:
    """Grokking needs an intermediate size of the data set: with less the network never generalizes,
    with more it does without delay."""
    numbers = {}
    for name in ("cpu_little_data", "cpu", "cpu_much_data"):
        train, test = steps_to_fit(runs.one(name))
        numbers[f"{name}, ratio"] = test / train
    little, medium, much = numbers.values()
    passed = much <= MOST_RATIO_WITH_MUCH_DATA and LEAST_DELAY_RATIO <= medium < inf == little
    return passed, numbers


claim.not_tried(
    "E3c-kernel",
    "Where the initial kernel is aligned with the target, there is no grokking",
    "section 4",
    reason="The project has no initial weights with an aligned kernel; only the amount of data is varied.",
)


if __name__ == "__main__":
    ex.run_as_script()
