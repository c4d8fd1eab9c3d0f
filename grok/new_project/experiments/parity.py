"""Merrill, Tsilivis, Shukla 2023, arXiv:2303.11873: "A Tale of Two Circuits".

A network of one hidden layer learns the parity of 3 of many bits from few examples. It memorizes them
first. Much later a few neurons that read the 3 bits alone take over, and it generalizes.

    grok run parity with cpu     # one run, 3 seconds
    grok replicate parity        # the claims, on 6 runs
"""

from math import inf

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor, nn

from grok.claims.model import Claims, Outcome, Runs
from grok.engine.observation import Observation
from grok.engine.problem import Problem
from grok.engine.spec import Group, Optimizer, Stop
from grok.experiment import parts
from grok.experiment.config_types import Count, Device, Dtype, NonNegative, Seed
from grok.experiment.experiment import Config, Experiment
from grok.experiment.validation import ConfigError
from grok.tasks.parities import sparse_parity
from grok.tensors import Tensors

# threshold: accuracy to be reached and held; delay: least steps from train to test for grokking.
ex = Experiment("parity", threshold=0.99, delay=500)
claim = Claims(ex)


@ex.config
def config() -> None:
    # Task
    bits: Count = 40  # length of the inputs
    relevant: Count = 3  # bits whose parity is learned
    train_count: Count = 1000  # rows to train on
    test_count: Count = 1000  # rows of the test set
    data_seed: Seed | None = None  # seed of the rows; None for the run's seed

    # Model
    width: Count = 1000  # neurons of the hidden layer

    # Optimization: gradient descent
    lr: NonNegative = 0.1  # learning rate
    weight_decay: NonNegative = 0.01  # added to the gradient

    # Training
    batch_size: Count | None = 32  # rows per step; None for all
    train_steps: Count = 9400  # largest number of steps; fewer where both accuracies reach 99 %

    # Evaluation
    log_points: Count = 100  # evaluation steps, logarithmically spaced

    # Numerics
    dtype: Dtype = "float32"  # of weights and activations
    device: Device = "auto"  # auto: CUDA where there is one


CPU = {
    "bits": 30,
    "train_count": 600,
    "width": 200,
    "lr": 0.3,
    "batch_size": None,
    "train_steps": 2500,
}
ex.preset("paper", "The published configuration: 40 bits, 1000 neurons, 300 epochs.")
ex.preset("cpu", "Grokking at a small scale: 30 bits, all rows in each step; 3 seconds.", CPU)
ex.preset(
    "cpu_no_decay", "As cpu without weight decay: it memorizes.", {**CPU, "weight_decay": 0.0}
)


class Network(nn.Module):
    """One hidden layer, written for one replica."""

    def __init__(self, bits: int, width: int):
        super().__init__()
        self.hidden, self.output = nn.Linear(bits, width), nn.Linear(width, 1, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Outputs (N,) for inputs (N, bits); their signs are the predictions."""
        return self.output(self.hidden(inputs).relu())[:, 0]


def loss(model: Network, data: Tensors) -> Tensor:
    """Hinge loss on the train rows."""
    return hinge(model(data["train_inputs"]), data["train_targets"])


def hinge(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean of max(0, 1 - output * target)."""
    return (1 - outputs * targets).relu().mean()


def metrics(model: Network, data: Tensors) -> Tensors:
    """{train,test}_{loss,accuracy}, on all rows."""
    result = {}
    for part in ("train", "test"):
        outputs, targets = model(data[f"{part}_inputs"]), data[f"{part}_targets"]
        result[f"{part}_loss"] = hinge(outputs, targets)
        result[f"{part}_accuracy"] = (outputs * targets > 0).double().mean()
    return result


@ex.instrument("how many hidden neurons have weights that matter")
def neurons(observed: Observation) -> dict[str, float]:
    """Neurons whose weights have at least a tenth of the norm of the largest neuron's."""
    norms = observed.weights["hidden.weight"].norm(dim=1)
    return {"active": float((norms >= norms.max() / 10).sum())}


@ex.build
def build(c: Config) -> Problem:
    """Train on rows of random signs with the hinge loss."""
    if c.relevant > c.bits:
        raise ConfigError("relevant", c.relevant, f"at most bits={c.bits}")
    data = parts.init_with_seed(
        c,
        lambda: sparse_parity(c.bits, c.relevant, c.train_count, c.test_count, parts.data_seed(c)),
    )
    model = parts.init_with_seed(c, lambda: Network(c.bits, c.width))
    optimizer = Optimizer("sgd", (Group(lr=c.lr, weight_decay=c.weight_decay),))
    return parts.make_problem(
        c,
        model,
        data,
        loss,
        metrics,
        optimizer,
        batch_size=c.batch_size,
        minibatch_keys=("train_inputs", "train_targets") if c.batch_size else (),
        stop=Stop((("train_accuracy", 0.99), ("test_accuracy", 0.99))),
    )


# Claims. Each is checked on the runs of one seed of sweeps/parity_cpu.yaml.

# parity-C1. The paper, 40 bits: train accuracy is 100 % within 1,500 steps, test accuracy at 4,000.
# Ours, 30 bits: test accuracy at least twice as late.
LEAST_RATIO = 2


@claim("parity-C1", source="figure 1")
def groks(runs: Runs) -> Outcome:
    """The network generalizes long after it has memorized."""
    train, test = runs.one("cpu", "paper").steps_to_both(0.99)
    numbers = {"train 99 % at": train, "test 99 % at": test}
    return test < inf and test >= LEAST_RATIO * train, numbers


# parity-C2. Ours: test accuracy stays below 90 % in as many steps.
MOST_ACCURACY = 0.9


@claim("parity-C2", source="our own claim", control=True)
def needs_weight_decay(runs: Runs) -> Outcome:
    """Without weight decay it has not generalized by then."""
    accuracy = runs.one("cpu_no_decay").final("test_accuracy")
    return accuracy <= MOST_ACCURACY, {"test accuracy": accuracy}


@ex.figure()
def accuracies(runs: Runs) -> Figure:
    """Train and test accuracy of each run against the step."""
    figure, axes = plt.subplots(figsize=(5, 3))
    for part, colour in (("train", "tab:red"), ("test", "tab:blue")):
        for run in runs.all("cpu"):
            steps, values = run.logged(f"{part}_accuracy")
            axes.semilogx(
                steps[1:], values[1:], color=colour, label=f"{part}, {run.config['seed']}"
            )
    axes.set(xlabel="step", ylabel="accuracy")
    axes.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    ex.run_as_script()
