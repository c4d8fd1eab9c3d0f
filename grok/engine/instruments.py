"""The catalogue of measures that a run can take while it trains."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch

from grok.engine.addition import addition_of
from grok.engine.measure import (
    BURST,
    EVALUATION,
    SNAPSHOT,
    Measure,
    MeasureError,
    Option,
    burst,
)
from grok.engine.measurement import MeasurementState, train_rows
from grok.engine.problem import Problem
from grok.errors import near_match
from grok.measures import (
    addition_circuits,
    decomposition,
    learning_coefficient,
    margins,
    spectra,
    vectors,
)
from grok.measures.description_length import decompositions, naive_size, shortest_description
from grok.objectives.classification import ClassificationLoss

LARGEST_EXPONENT = 700.0  # exp of more is beyond float64

# What a measure may need, and how it is said.
NEEDS = {
    "gradient": "gradient steps",
    "tokens": "a table of token vectors",
    "attention": "a transformer",
    "adam": "Adam",
    "epochs": "mini-batches by epochs, and one evaluation an epoch",
    "reference": "reference_run",
    "logits": "a network that predicts classes",
    "loss": "a loss without random numbers, of train rows",
    "addition": "the addition of two numbers modulo an odd number, with learned embeddings",
}
COMPONENTS = Option(spectra.TOP_SINGULAR_VALUES, "singular values counted, of a large matrix")


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


def _consecutive(state: MeasurementState) -> dict[str, float]:
    gradients_WP = state.mean_gradients(2)
    return vectors.consecutive(gradients_WP[1], gradients_WP[0]) if len(gradients_WP) > 1 else {}


def _variance(state: MeasurementState, window: int) -> dict[str, float]:
    gradients_WP = state.mean_gradients(window)
    return vectors.variance(gradients_WP) if len(gradients_WP) > 1 else {}


def _subspace(state: MeasurementState, window: int, components: int) -> dict[str, float]:
    gradients_WP = state.mean_gradients(window)
    to_reference = state.to_reference(state.history.weights_before)
    return vectors.subspace(gradients_WP, to_reference, components) if len(gradients_WP) > 1 else {}


def _batch_dynamics(
    state: MeasurementState, lags: Sequence[int], windows: Sequence[int]
) -> dict[str, float]:
    return vectors.batch_dynamics(*state.recent_products(), lags, windows)


def _weight_tracking(state: MeasurementState, components: int) -> dict[str, float]:
    weights = state.without_biases(state.weights)
    return spectra.weight_tracking(weights, state.mean_gradient(), components)


def _projection(state: MeasurementState) -> dict[str, float]:
    assert state.reference is not None  # the measure needs one
    before = state.history.weights_before
    return vectors.projection(state.weights, before, state.mean_gradient(), state.reference)


def _fourier(state: MeasurementState, significance: float, per_frequency: bool) -> dict[str, float]:
    table = state.tokens()
    significant = spectra.significant(table, significance)
    earlier = state.history.significant_frequencies
    if earlier is None:
        earlier = significant & False
    ever = state.history.significant_frequencies = earlier | significant
    new = significant & ~earlier
    result = spectra.fourier(table, state.stride, significance)
    decoder = state.logit_rows()
    if decoder is not None:
        result |= spectra.decoder_fourier(decoder, significance)
    layers = [value for name, value in state.weights.items() if name.endswith("up.weight")]
    if layers:
        result |= spectra.neuron_fourier(layers, table)
    if per_frequency:
        result |= spectra.frequency_powers(table, ever, new)
    return {
        **result,
        "n_tracked_freqs": int(ever.sum()),
        "newly_acquired_freqs": int(new.sum()),
    }


def _attention(state: MeasurementState, rows: int, components: int) -> dict[str, float]:
    return spectra.attention(state.attention_blocks(), state.attention_maps(rows), components)


def _token_gradient(state: MeasurementState, threshold: float) -> dict[str, float]:
    return spectra.token_gradient(state.tokens(state.mean_gradient()), state.stride, threshold)


def _phases(state: MeasurementState, accuracies: Sequence[float]) -> dict[str, float]:
    norms = [float(gradient.norm()) for gradient in state.history.snapshot_gradients]
    tables, accuracy = state.history.snapshot_tables, state.metrics["test_accuracy"]
    return decomposition.phases(norms, tables, accuracy, accuracies)


def _counterfactual(
    state: MeasurementState, k: int, energy_window: int, per_parameter: bool
) -> dict[str, float]:
    observed, shuffled = state.mean_gradients(1)[0], state.shuffled(k)
    to_reference = state.to_reference(state.history.weights_before)
    result = decomposition.counterfactual(observed, shuffled, to_reference)
    if per_parameter:
        for name, part in state.parts().items():
            to_part = None if to_reference is None else to_reference[part]
            metrics = decomposition.counterfactual(observed[part], shuffled[:, part], to_part)
            wanted = decomposition.COUNTERFACTUAL_OF_PARAMETERS
            result |= vectors.of_parameter(name, metrics, wanted)
    if energy_window and to_reference is not None:
        content, ordering = decomposition.split(observed, shuffled.mean(0))
        history = state.history
        history.contents = [*history.contents, content][-energy_window:]
        history.orderings = [*history.orderings, ordering][-energy_window:]
        for name, kept in (("content", history.contents), ("ordering", history.orderings)):
            fraction = decomposition.energy_fraction(torch.stack(kept), to_reference)
            result[f"{name}_energy_fraction_toward_solution"] = fraction
    return result


def _counterfactual_validator(state: MeasurementState, k: int) -> dict[str, float]:
    to_reference = state.to_reference(state.history.weights_before)
    return decomposition.counterfactual_validator(state.shuffled(k + 1), to_reference)


def _margins(state: MeasurementState, rows: int, degree: float) -> dict[str, float]:
    result = margins.summary(margins.margins(*state.logits(rows)))
    if degree:
        scale = state.metrics["weight_norm"] ** degree
        result["least_normalized"] = result["least"] / scale if scale else math.nan
    return result


def _learning_coefficient(
    state: MeasurementState,
    step_size: float,
    localization: float,
    draws: int,
    burn_in: int,
    chains: int,
) -> dict[str, float]:
    rows = state.train_rows()
    estimate, spread = learning_coefficient.local_learning_coefficient(
        state.train_loss,
        state.weights,
        learning_coefficient.default_n_beta(rows),
        step_size=step_size,
        localization=localization,
        draws=draws,
        burn_in=burn_in,
        chains=chains,
        seed=state.problem.seed,
    )
    return {"llc": estimate, "spread": spread}


def _description_length(state: MeasurementState, tolerance: float) -> dict[str, float]:
    decomposed = decompositions(state.weights)
    found = shortest_description(state.weights, state.train_loss, tolerance, decomposed)
    result: dict[str, float] = {"naive_bytes": naive_size(state.weights)}
    if found is not None:
        result |= {"bytes": found.size, "kept": found.kept, "unit": found.unit}
    for name, (_, values, _) in decomposed.items():
        result[f"entropy_rank/{vectors.slashed(name)}"] = spectra.entropy_rank(values)
    return result


def _addition_circuits(state: MeasurementState, pairs: int) -> dict[str, float]:
    gradients_a_ND, gradients_b_ND = state.gradients_of_sums(pairs)
    embeddings_pD, correct_pp = state.table_of_sums()
    return {
        "gradient_symmetricity": addition_circuits.gradient_symmetricity(
            gradients_a_ND, gradients_b_ND
        ),
        "distance_irrelevance": addition_circuits.distance_irrelevance(correct_pp),
        "circularity": addition_circuits.circularity(embeddings_pD),
    }


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
        ("gradient",),
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
        reads_past=True,
    ),
    Measure(
        "norms",
        "gradients",
        "norms of the mean gradient G, whole and per parameter",
        EVALUATION,
        _norms,
        ("gradient",),
    ),
    Measure(
        "consecutive",
        "gradients",
        "angle between successive G's",
        EVALUATION,
        _consecutive,
        ("gradient",),
        reads_past=True,
    ),
    Measure(
        "variance",
        "gradients",
        "variance of the last G's, signal to noise",
        EVALUATION,
        _variance,
        ("gradient",),
        options={"window": Option(10, "number of the last G's", 2)},
        reads_past=True,
    ),
    Measure(
        "batch_dynamics",
        "gradients",
        "cosines of batch gradients at lags, efficiency of windows, rank",
        SNAPSHOT,
        _batch_dynamics,
        ("gradient",),
        options={
            "lags": Option(vectors.LAGS, "steps between two batch gradients"),
            "windows": Option(vectors.WINDOWS, "numbers of the last batch gradients", 2),
        },
        reads_past=True,
    ),
    Measure(
        "weight_tracking",
        "weights",
        "norm, largest singular value and rank of every matrix",
        SNAPSHOT,
        _weight_tracking,
        ("gradient",),
        options={"components": COMPONENTS},
    ),
    Measure(
        "gradient_projection",
        "reference",
        "cosines of -G and of the displacement with the direction to the reference",
        EVALUATION,
        _projection,
        ("gradient", "reference"),
    ),
    Measure(
        "subspace_gradient_info",
        "gradients",
        "spectrum of the last G's",
        SNAPSHOT,
        _subspace,
        ("gradient",),
        options={
            "window": Option(50, "number of the last G's", 2),
            "components": Option(vectors.SUBSPACE_COMPONENTS, "principal components counted"),
        },
        reads_past=True,
    ),
    Measure(
        "fourier",
        "fourier",
        "Fourier spectra of token table, output layer and neurons",
        EVALUATION,
        _fourier,
        ("tokens",),
        {
            "significance": Option(
                float(spectra.SIGNIFICANT_POWER),
                "least power of a significant frequency, in units of the mean power",
                0,
            ),
            "per_frequency": Option(False, "log freq_power/K and acquired/K of frequencies K"),
        },
    ),
    Measure(
        "attention",
        "weights",
        "spectra of Q, K, V; entropy and variance of the attention",
        SNAPSHOT,
        _attention,
        ("attention",),
        {
            "rows": Option(256, "train rows whose attention is computed", 2),
            "components": COMPONENTS,
        },
    ),
    Measure(
        "token_gradient",
        "fourier",
        "how G is spread over tokens and stride groups",
        EVALUATION,
        _token_gradient,
        ("gradient", "tokens"),
        {
            "threshold": Option(
                spectra.SPARSE_NORM, "norm of a sparse token, in mean norms", 0, above=True
            )
        },
    ),
    Measure(
        "phases",
        "training",
        "velocity of |G| and of the token table, a code of the accuracy",
        SNAPSHOT,
        _phases,
        ("gradient", "tokens"),
        {
            "accuracies": Option(
                decomposition.PHASE_ACCURACIES, "test accuracies that separate the phases", 0
            )
        },
    ),
    Measure(
        "hessian",
        "curvature",
        "entanglement of successive batches, exact Hessian-vector products",
        BURST,
        MeasurementState.hessian,
        ("gradient",),
        options={
            **burst(1000, 11),
            "per_parameter": Option(False, "log metrics of each parameter, too"),
        },
    ),
    Measure(
        "adam_dynamics",
        "curvature",
        "Adam's update compared with the gradient",
        BURST,
        MeasurementState.adam,
        ("adam",),
        burst(500, 10),
    ),
    Measure(
        "counterfactual",
        "order",
        "G against the mean of epochs in other orders",
        SNAPSHOT,
        _counterfactual,
        ("gradient", "epochs"),
        {
            "k": Option(3, "number of epochs in other orders"),
            "energy_window": Option(
                0, "last components whose energy toward the reference is logged; 0: none", 0
            ),
            "per_parameter": Option(False, "log metrics of each parameter, too"),
        },
    ),
    Measure(
        "counterfactual_validator",
        "order",
        "whether k shuffles are enough",
        SNAPSHOT,
        _counterfactual_validator,
        ("gradient", "epochs"),
        {"k": Option(3, "number of shuffles, compared with one more")},
    ),
    Measure(
        "margins",
        "outputs",
        "logit of the label less the largest other, over the train rows",
        EVALUATION,
        _margins,
        ("logits",),
        {
            "rows": Option(4096, "train rows, the first of them"),
            "degree": Option(
                0.0, "power of the weight norm that the least margin is divided by; 0: none", 0
            ),
        },
    ),
    Measure(
        "addition_circuits",
        "outputs",
        "gradient symmetricity, distance irrelevance and circularity: clock or pizza",
        SNAPSHOT,
        _addition_circuits,
        ("addition",),
        {"pairs": Option(200, "random pairs and classes of the gradient symmetricity")},
    ),
    Measure(
        "learning_coefficient",
        "complexity",
        "local learning coefficient of the loss without penalties, by Langevin dynamics at the weights",
        SNAPSHOT,
        _learning_coefficient,
        ("gradient", "loss"),
        {
            "step_size": Option(1e-4, "variance of the noise of a step", 0, above=True),
            "localization": Option(100.0, "strength of the pull towards the weights", 0),
            "draws": Option(400, "steps of a chain whose losses count"),
            "burn_in": Option(200, "steps of a chain before them", 0),
            "chains": Option(2, "independent chains"),
        },
    ),
    Measure(
        "description_length",
        "complexity",
        "bytes of the shortest weights with nearly the same train loss, without penalties",
        SNAPSHOT,
        _description_length,
        ("gradient", "loss"),
        {"tolerance": Option(1.0, "difference of the loss that is allowed", 0, above=True)},
    ),
)
COMPARES_GRADIENTS = ("consecutive", "variance", "subspace_gradient_info")  # two G's or more
COMPARES_SNAPSHOTS = {  # metrics of `phases`, and how many snapshots they need
    "grad_velocity": 2,
    "embedding_change": 2,
    "embedding_change_normalized": 2,
    "grad_acceleration": 3,
}
BY_NAME = {measure.name: measure for measure in MEASURES}
GROUPS: dict[str, tuple[str, ...]] = {
    **{
        group: tuple(measure.name for measure in MEASURES if measure.group == group)
        for group in dict.fromkeys(measure.group for measure in MEASURES)
    },
    # as in OrderedLearning: what only reads, and what computes on the side with other steps
    "minimal": ("training_metrics",),
    "observers": tuple(
        m.name for m in MEASURES if m.group not in ("curvature", "order", "complexity")
    ),
    "interventions": ("hessian", "adam_dynamics", "counterfactual"),
    # those of `complexity` take seconds each, and are taken when they are asked for
    "full": tuple(m.name for m in MEASURES if m.group != "complexity"),
}
GROUPS_WITH_OWN = ("observers", "full")  # that the paper's own measures are in, too


def resolve(
    requested: Sequence[str], problem: Problem, has_reference: bool, own: Sequence[Measure] = ()
) -> tuple[Measure, ...]:
    """The measures that names and groups stand for, in the catalogue's order.

    Arguments:
        requested: names of measures or of groups; of a group, those that the problem can take.
        problem: the problem that is to be measured.
        has_reference: whether there are reference weights.
        own: the paper's own measures, which are also in the groups `observers` and `full`.

    Raises:
        MeasureError: a name is unknown, a measure named alone cannot be taken, or none of the groups
            has one that can.
    """
    measures = {measure.name: measure for measure in (*MEASURES, *own)}
    needs = {m.name: missing_need(m, problem, has_reference) for m in measures.values()}
    chosen: set[str] = set()
    groups: dict[str, list[str]] = {}
    for name in requested:
        if name in measures:
            if needs[name]:
                raise MeasureError(f"measures that this run can have; {name} needs {needs[name]}")
            chosen.add(name)
        elif name in GROUPS:
            names = [*GROUPS[name]]
            if name in GROUPS_WITH_OWN:
                names += [measure.name for measure in own]
            groups[name] = names
            chosen |= {one for one in names if not needs[one]}
        else:
            near = near_match(name, [*GROUPS, *measures])
            hint = f"did you mean {near}?" if near else "`grok measures` lists them"
            raise MeasureError(f"names or groups of measures; {hint}")
    if groups and not chosen:
        group, names = next(iter(groups.items()))
        why = ", ".join(f"{name} needs {needs[name]}" for name in names)
        raise MeasureError(f"measures that this run can have; of the group {group}, {why}")
    return tuple(measure for name, measure in measures.items() if name in chosen)


def too_late(problem: Problem) -> list[str]:
    """The problem's measures, and metrics of them, that it ends too early for, and when they begin."""
    assert problem.measures is not None
    ends = sorted({*problem.log_steps, problem.train_steps} - {0})  # of the intervals
    late = []
    for measure in problem.measures.measures:
        if measure.when == BURST:
            end = measure.every + measure.options["burst"].value - 1
            if measure.every > problem.train_steps:
                late.append(f"{measure.name} (from step {measure.every:,})")
            elif end > problem.train_steps:
                late.append(
                    f"a whole burst of {measure.name} (from step {measure.every:,} to {end:,})"
                )
            continue
        first = max(measure.every, 2 if measure.name in COMPARES_GRADIENTS else 1)
        due = [end for number, end in enumerate(ends, 1) if measure.is_due(number)]
        if first > len(ends):
            late.append(f"{measure.name} (from evaluation {first:,})")
        elif measure.name == "batch_dynamics":
            late += [
                f"{measure.name}/{metric}_{number} (from step {number + more:,}, last at {due[-1]:,})"
                for metric, key, more in (("lag", "lags", 1), ("efficiency", "windows", 0))
                for number in measure.values[key]
                if number + more > due[-1]
            ]
        elif measure.name == "phases":
            late += [
                f"{measure.name}/{metric} (from evaluation {count * measure.every:,})"
                for metric, count in COMPARES_SNAPSHOTS.items()
                if count > len(due)
            ]
    return late


def missing_need(measure: Measure, problem: Problem, has_reference: bool) -> str | None:
    """The first need of a measure that a problem does not meet, in words; None if it meets all."""
    names = dict(problem.module.named_parameters())
    met = {
        "gradient": problem.optimizer.gradient_steps,
        "tokens": "tokens" in names and hasattr(problem.module, "config"),
        "attention": any(name.endswith("queries.weight") for name in names),
        "adam": problem.optimizer.kind in ("adam", "adamw"),
        "epochs": _is_evaluated_once_an_epoch(problem),
        "reference": has_reference,
        "logits": isinstance(problem.loss, ClassificationLoss),
        "loss": _has_fixed_loss(problem),
        "addition": "addition" in measure.needs and addition_of(problem) is not None,
    }
    return next((NEEDS[need] for need in measure.needs if not met[need]), None)


def _has_fixed_loss(problem: Problem) -> bool:
    """Whether the loss of all train rows is a function of the weights."""
    loss = problem.loss
    draws = loss.logits.draws if isinstance(loss, ClassificationLoss) else problem.needs_rng
    return not draws and train_rows(problem) >= 2


def _is_evaluated_once_an_epoch(problem: Problem) -> bool:
    if problem.batch_size is None or problem.sampling == "replacement":
        return False
    epoch = problem.data[problem.minibatch_keys[0]].shape[0] // problem.batch_size
    return all(b - a == epoch for a, b in pairwise(sorted(problem.log_steps)))
