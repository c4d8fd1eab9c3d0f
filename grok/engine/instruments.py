"""The catalogue of measures that a run can take while it trains."""

import math
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import pairwise

from torch import Tensor

from grok.engine.measurement import BURST, EVALUATION, SNAPSHOT, Measure, MeasurementState
from grok.engine.problem import Problem
from grok.measures import decomposition, spectra, vectors

LARGEST_EXPONENT = 700.0  # exp of more is beyond float64

# What a measure may need, and how it is said.
NEEDS = {
    "tokens": "a table of token vectors",
    "attention": "a transformer",
    "adam": "Adam",
    "epochs": "mini-batches by epochs, and one evaluation an epoch",
    "reference": "reference_run",
}


def _training(state: MeasurementState) -> dict[str, float]:
    loss = state.metrics["train_loss"]
    return {
        "loss": loss,
        "training_accuracy": state.metrics["train_accuracy"],
        "validation_accuracy": state.metrics["test_accuracy"],
        "learning_rate": state.lr,
        "perplexity": math.exp(min(loss, LARGEST_EXPONENT)),
    }


def _diagnostics(state: MeasurementState) -> dict[str, float]:
    return vectors.diagnostics(*state.step_columns())


def _parameter_delta(state: MeasurementState) -> dict[str, float]:
    before = state.history.weights_before
    return vectors.parameter_delta(vectors.flat(state.weights), vectors.flat(before))


def _path_length(state: MeasurementState) -> dict[str, float]:
    initial = vectors.flat(state.history.initial_weights)
    return vectors.path(state.history.path_length, vectors.flat(state.weights), initial)


def _norms(state: MeasurementState) -> dict[str, float]:
    return vectors.norms(state.mean_gradient())


def _consecutive(state: MeasurementState, gradients_WP: Tensor) -> dict[str, float]:
    return vectors.consecutive(gradients_WP[-1], gradients_WP[-2])


def _variance(state: MeasurementState, gradients_WP: Tensor) -> dict[str, float]:
    return vectors.variance(gradients_WP)


def _subspace(state: MeasurementState, gradients_WP: Tensor) -> dict[str, float]:
    return vectors.subspace(gradients_WP, state.to_reference(state.history.weights_before))


def _batch_dynamics(state: MeasurementState) -> dict[str, float]:
    return vectors.batch_dynamics(*state.recent_gradients())


def _weight_tracking(state: MeasurementState) -> dict[str, float]:
    return spectra.weight_tracking(state.without_biases(state.weights), state.mean_gradient())


def _projection(state: MeasurementState) -> dict[str, float]:
    assert state.reference is not None  # the measure needs one
    before = state.history.weights_before
    return vectors.projection(state.weights, before, state.mean_gradient(), state.reference)


def _fourier(state: MeasurementState) -> dict[str, float]:
    table = state.tokens()
    significant = spectra.significant(table)
    earlier = state.history.significant_frequencies
    if earlier is None:
        earlier = significant & False
    ever = state.history.significant_frequencies = earlier | significant
    result = spectra.fourier(table, state.stride)
    if "output.weight" in state.weights:
        result |= spectra.decoder_fourier(state.weights["output.weight"])
    layers = [value for name, value in state.weights.items() if name.endswith("up.weight")]
    if layers:
        result |= spectra.neuron_fourier(layers, table)
    return {
        **result,
        "n_tracked_freqs": int(ever.sum()),
        "newly_acquired_freqs": int((significant & ~earlier).sum()),
    }


def _attention(state: MeasurementState) -> dict[str, float]:
    return spectra.attention(state.attention_blocks(), state.attention_maps())


def _token_gradient(state: MeasurementState) -> dict[str, float]:
    return spectra.token_gradient(state.tokens(state.mean_gradient()), state.stride)


def _phases(state: MeasurementState) -> dict[str, float]:
    norms = [float(gradient.norm()) for gradient in state.history.snapshot_gradients]
    tables, accuracy = state.history.snapshot_tables, state.metrics["test_accuracy"]
    return decomposition.phases(norms, tables, accuracy)


def _counterfactual(state: MeasurementState) -> dict[str, float]:
    to_reference = state.to_reference(state.history.weights_before)
    return decomposition.counterfactual(state.mean_gradients(1)[0], state.shuffled(3), to_reference)


def _counterfactual_validator(state: MeasurementState) -> dict[str, float]:
    to_reference = state.to_reference(state.history.weights_before)
    return decomposition.counterfactual_validator(state.shuffled(4), to_reference)


def _of_last_gradients(
    formula: Callable[[MeasurementState, Tensor], dict[str, float]], count: int
) -> Callable[[MeasurementState], dict[str, float]]:
    """A measure of the last `count` G's (W, P); no metrics while there are less than two."""

    def compute(state: MeasurementState) -> dict[str, float]:
        gradients_WP = state.mean_gradients(count)
        return formula(state, gradients_WP) if len(gradients_WP) > 1 else {}

    return compute


MEASURES = (
    Measure(
        "training_metrics",
        "training",
        "loss, accuracies, learning rate, perplexity",
        EVALUATION,
        _training,
    ),
    Measure(
        "training_diagnostics",
        "training",
        "variation and autocorrelation of the loss, gradient norms",
        EVALUATION,
        _diagnostics,
    ),
    Measure(
        "parameter_delta",
        "path",
        "how far the weights moved since the last evaluation",
        EVALUATION,
        _parameter_delta,
    ),
    Measure(
        "path_length",
        "path",
        "length of the weights' path, and distance from the initial weights",
        EVALUATION,
        _path_length,
    ),
    Measure(
        "norms",
        "gradients",
        "norms of the mean gradient G, whole and per parameter",
        EVALUATION,
        _norms,
    ),
    Measure(
        "consecutive",
        "gradients",
        "angle between successive G's",
        EVALUATION,
        _of_last_gradients(_consecutive, 2),
    ),
    Measure(
        "variance",
        "gradients",
        "variance of the last 10 G's, signal to noise",
        EVALUATION,
        _of_last_gradients(_variance, 10),
    ),
    Measure(
        "batch_dynamics",
        "gradients",
        "cosines of batch gradients at lags, efficiency of windows, rank",
        SNAPSHOT,
        _batch_dynamics,
    ),
    Measure(
        "weight_tracking",
        "weights",
        "norm, largest singular value and rank of every matrix",
        SNAPSHOT,
        _weight_tracking,
    ),
    Measure(
        "gradient_projection",
        "reference",
        "cosines of -G and of the displacement with the direction to the reference",
        EVALUATION,
        _projection,
        ("reference",),
    ),
    Measure(
        "subspace_gradient_info",
        "gradients",
        "spectrum of the last 50 G's",
        SNAPSHOT,
        _of_last_gradients(_subspace, 50),
    ),
    Measure(
        "fourier",
        "fourier",
        "Fourier spectra of token table, output layer and neurons",
        EVALUATION,
        _fourier,
        ("tokens",),
    ),
    Measure(
        "attention",
        "weights",
        "spectra of Q, K, V; entropy and variance of the attention",
        SNAPSHOT,
        _attention,
        ("attention",),
    ),
    Measure(
        "token_gradient",
        "fourier",
        "how G is spread over tokens and stride groups",
        EVALUATION,
        _token_gradient,
        ("tokens",),
    ),
    Measure(
        "phases",
        "training",
        "velocity of |G| and of the token table, a code of the accuracy",
        SNAPSHOT,
        _phases,
        ("tokens",),
    ),
    Measure(
        "hessian",
        "curvature",
        "entanglement of successive batches, exact Hessian-vector products",
        BURST,
        MeasurementState.hessian,
        burst=(1000, 11),
    ),
    Measure(
        "adam_dynamics",
        "curvature",
        "Adam's update compared with the gradient",
        BURST,
        MeasurementState.adam,
        ("adam",),
        burst=(500, 10),
    ),
    Measure(
        "counterfactual",
        "order",
        "G against the mean of 3 epochs in another order",
        SNAPSHOT,
        _counterfactual,
        ("epochs",),
    ),
    Measure(
        "counterfactual_validator",
        "order",
        "whether 3 shuffles are enough",
        SNAPSHOT,
        _counterfactual_validator,
        ("epochs",),
    ),
)
BY_NAME = {measure.name: measure for measure in MEASURES}
GROUPS = tuple(dict.fromkeys(measure.group for measure in MEASURES))


class MeasureError(ValueError):
    """A run cannot take the measures that were asked for.

    expected: what could be asked for, to be put after "expected".
    """

    def __init__(self, expected: str):
        super().__init__(expected)
        self.expected = expected


def resolve_names(
    requested: Sequence[str], problem: Problem, has_reference: bool
) -> tuple[str, ...]:
    """The names of the measures that names and groups stand for, in the catalogue's order.

    Arguments:
        requested: names of measures, names of groups, or "full" for all; of a group or all, those
            that the problem can take.
        problem: the problem that is to be measured.
        has_reference: whether there are reference weights.

    Raises:
        MeasureError: a name is unknown, or a measure named alone cannot be taken.
    """
    missing = {m.name: need for m in MEASURES if (need := missing_need(m, problem, has_reference))}
    names: set[str] = set()
    for name in requested:
        if name in BY_NAME:
            if name in missing:
                raise MeasureError(f"measures that this run can have; {name} needs {missing[name]}")
            names.add(name)
        elif name in GROUPS or name == "full":
            names |= {m.name for m in MEASURES if name in (m.group, "full")} - missing.keys()
        else:
            known = ["full", *GROUPS, *BY_NAME]
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else "`grok measures` lists them"
            raise MeasureError(f"names or groups of measures; {hint}")
    return tuple(name for name in BY_NAME if name in names)


def missing_need(measure: Measure, problem: Problem, has_reference: bool) -> str | None:
    """The first need of a measure that a problem does not meet, in words; None if it meets all."""
    names = dict(problem.module.named_parameters())
    met = {
        "tokens": "tokens" in names,
        "attention": any(name.endswith("queries.weight") for name in names),
        "adam": problem.optimizer.kind in ("adam", "adamw"),
        "epochs": _is_evaluated_once_an_epoch(problem),
        "reference": has_reference,
    }
    return next((NEEDS[need] for need in measure.needs if not met[need]), None)


def _is_evaluated_once_an_epoch(problem: Problem) -> bool:
    if problem.batch_size is None or problem.sampling == "replacement":
        return False
    epoch = problem.data[problem.minibatch_keys[0]].shape[0] // problem.batch_size
    return all(b - a == epoch for a, b in pairwise(sorted(problem.log_steps)))
