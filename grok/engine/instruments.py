"""The measures that a run can take while it trains: which there are, when they look, what they see.

A measure sees copies and never the program's own tensors, so a measured run is the unmeasured one
bit for bit. What a Watch remembers is tensors and numbers, and goes into the run's checkpoint.
"""

import math
from collections.abc import Callable
from difflib import get_close_matches
from itertools import pairwise

from grok.engine.measurement import LOOK, SNAPSHOT, UPDATE, Measure
from grok.engine.measurement import MeasurementState as Watch
from grok.engine.problem import Problem
from grok.measures import decomposition, spectra, vectors


def _fourier(w: Watch) -> dict:
    table = w.tokens()
    seen = spectra.significant(table)
    known = w.seen if w.seen is not None else seen & False
    w.seen = known | seen
    result = spectra.fourier(table, w.stride)
    if "output.weight" in w.now:
        result |= spectra.decoder_fourier(w.now["output.weight"])
    layers = [v for k, v in w.now.items() if k.endswith("up.weight")]
    if layers:
        result |= spectra.neuron_fourier(layers, table)
    return {
        **result,
        "n_tracked_freqs": int(w.seen.sum()),
        "newly_acquired_freqs": int((seen & ~known).sum()),
    }


def _training(w: Watch) -> dict:
    loss = w.metrics["train_loss"]
    return {
        "loss": loss,
        "training_accuracy": w.metrics["train_accuracy"],
        "validation_accuracy": w.metrics["test_accuracy"],
        "learning_rate": w.lr,
        "perplexity": math.exp(min(loss, 700.0)),
    }


def _diagnostics(w: Watch) -> dict:
    return vectors.diagnostics(*w.update_columns())


def _phases(w: Watch) -> dict:
    norms = [float(g.norm()) for g in w.snapshot_gradients]
    return decomposition.phases(norms, w.snapshot_tables, w.metrics["test_accuracy"])


def _window(formula: Callable, size: int, least: int) -> Callable[[Watch], dict]:
    def take(w: Watch) -> dict:
        window = w.mean_gradients(size)
        return formula(w, window) if len(window) >= least else {}

    return take


MEASURES = (
    Measure("training_metrics", "training", "loss, accuracies, learning rate, perplexity", LOOK, _training),
    Measure("training_diagnostics", "training", "spread and autocorrelation of the loss, gradient norms",
            LOOK, _diagnostics),
    Measure("parameter_delta", "path", "how far the weights moved since the last look", LOOK,
            lambda w: vectors.parameter_delta(vectors.flat(w.now), vectors.flat(w.before))),
    Measure("path_length", "path", "length of the weights' way, and as the crow flies", LOOK,
            lambda w: vectors.path(w.length, vectors.flat(w.now), vectors.flat(w.initial))),
    Measure("norms", "gradients", "norms of the mean gradient G, whole and per parameter", LOOK,
            lambda w: vectors.norms(w.mean_gradient())),
    Measure("consecutive", "gradients", "angle between successive G's", LOOK,
            _window(lambda w, g: vectors.consecutive(g[-1], g[-2]), 2, 2)),
    Measure("variance", "gradients", "spread of the last 10 G's, signal to noise", LOOK,
            _window(lambda w, g: vectors.variance(g), 10, 2)),
    Measure("batch_dynamics", "gradients", "cosines of batch gradients at lags, efficiency of windows, rank",
            SNAPSHOT, lambda w: vectors.batch_dynamics(*w.recent_gradients())),
    Measure("weight_tracking", "weights", "norm, largest singular value and rank of every matrix", SNAPSHOT,
            lambda w: spectra.weight_tracking(w.weighed(w.now), w.mean_gradient())),
    Measure("gradient_projection", "reference", "cosines of -G and of the step with the way to the reference",
            LOOK, lambda w: vectors.projection(w.now, w.before, w.mean_gradient(), w.reference),
            ("reference",)),
    Measure("subspace_gradient_info", "gradients", "spectrum of the last 50 G's", SNAPSHOT,
            _window(lambda w, g: vectors.subspace(g, w.way(w.before)), 50, 2)),
    Measure("fourier", "fourier", "Fourier spectra of token table, output layer and neurons", LOOK,
            _fourier, ("tokens",)),
    Measure("attention", "weights", "spectra of Q, K, V; entropy and variance of the attention", SNAPSHOT,
            lambda w: spectra.attention(w.attention_blocks(), w.attention_maps()), ("attention",)),
    Measure("token_gradient", "fourier", "how G is spread over tokens and stride groups", LOOK,
            lambda w: spectra.token_gradient(w.tokens(w.mean_gradient()), w.stride), ("tokens",)),
    Measure("phases", "training", "velocity of |G| and of the token table, a code of the accuracy",
            SNAPSHOT, _phases, ("tokens",)),
    Measure("hessian", "curvature", "entanglement of successive batches, exact Hessian-vector products",
            UPDATE, lambda w: w.hessian(), (), (1000, 11)),
    Measure("adam_dynamics", "curvature", "Adam's update beside the gradient", UPDATE,
            lambda w: w.adam(), ("adam",), (500, 10)),
    Measure("counterfactual", "order", "G against the mean of 3 epochs in another order", SNAPSHOT,
            lambda w: decomposition.counterfactual(w.mean_gradients(1)[0], w.shuffled(3), w.way(w.before)),
            ("epochs",)),
    Measure("counterfactual_validator", "order", "whether 3 shuffles are enough", SNAPSHOT,
            lambda w: decomposition.counterfactual_validator(w.shuffled(4), w.way(w.before)), ("epochs",)),
)  # fmt: skip
BY_NAME = {measure.name: measure for measure in MEASURES}
GROUPS = tuple(dict.fromkeys(measure.group for measure in MEASURES))


class MeasureError(ValueError):
    """Measures that are asked for and cannot be had; `expected` says what can."""

    def __init__(self, expected: str):
        super().__init__(expected)
        self.expected = expected


def chosen(names: list[str], problem: Problem, has_reference: bool) -> tuple[str, ...]:
    """The names of the measures by these names and groups, "full" being all: of a group, those that the problem
    can have. MeasureError for an unknown name, or one measure that it cannot have."""
    lacking = {m.name: reason for m in MEASURES if (reason := lacks(m, problem, has_reference))}
    wanted: set[str] = set()
    for name in names:
        if name in BY_NAME:
            if name in lacking:
                raise MeasureError(f"measures that this run can have; {name} needs {lacking[name]}")
            wanted.add(name)
        elif name in GROUPS or name == "full":
            wanted |= {m.name for m in MEASURES if name in (m.group, "full")} - lacking.keys()
        else:
            known = ["full", *GROUPS, *BY_NAME]
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "`grok measures` lists them"
            raise MeasureError(f"names or groups of measures; {hint}")
    return tuple(name for name in BY_NAME if name in wanted)


def lacks(measure: Measure, problem: Problem, has_reference: bool) -> str | None:
    """What the problem lacks of a measure's needs, in words, or None."""
    names = dict(problem.module.named_parameters())
    has = {
        "tokens": "tokens" in names,
        "attention": any(name.endswith("queries.weight") for name in names),
        "adam": problem.optimizer.kind in ("adam", "adamw"),
        "epochs": _looks_once_an_epoch(problem),
        "reference": has_reference,
    }
    return next((NEEDS[need] for need in measure.needs if not has[need]), None)


NEEDS = {
    "tokens": "a table of token vectors",
    "attention": "a transformer",
    "adam": "Adam",
    "epochs": "mini-batches by epochs, and one look an epoch",
    "reference": "reference_run",
}


def _looks_once_an_epoch(problem: Problem) -> bool:
    if problem.batch_size is None or problem.sampling == "replacement":
        return False
    epoch = problem.data[problem.minibatch_keys[0]].shape[0] // problem.batch_size
    return all(b - a == epoch for a, b in pairwise(sorted(problem.log_steps)))
