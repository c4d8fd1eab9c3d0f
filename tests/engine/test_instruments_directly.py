"""Every metric of OrderedLearning's instruments against a direct computation.

A small run is trained twice: by the engine, with all instruments on, and by torch's own AdamW in a
plain loop. All that an instrument reads (weights, batch gradients, moments, epochs in other orders) is
taken from the plain loop, and each metric is computed from it by its definition, with double autograd
and numpy. An instrument that reads the wrong step, batch, learning rate or axis has other numbers. The
instrument `margins`, which is not of OrderedLearning, is compared in the same way.
"""

import copy
import math
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
import pytest
import torch
from torch.nn import functional

from grok.engine.events import Outcome, Record
from grok.engine.instruments import BY_NAME
from grok.engine.problem import batch_order
from grok.engine.train import train
from grok.experiment.experiment import load
from tests.conftest import PROJECT
from tests.helpers import SMALL_ORDERING

SEED, P, STRIDE = 3, SMALL_ORDERING["p"], 3  # floor(sqrt(11))
EPOCHS, EPOCH_STEPS, BATCH = 14, 3, SMALL_ORDERING["batch_size"]
STEPS = EPOCHS * EPOCH_STEPS
LR, FLOOR, DECAY, BETAS, EPS = 1e-3, 5e-4, 0.1, (0.9, 0.999), 1e-8  # defaults of the paper
EVALUATIONS = range(EPOCH_STEPS, STEPS + 1, EPOCH_STEPS)
SNAPSHOT = 2 * EPOCH_STEPS  # steps from one snapshot to the next
SNAPSHOTS = range(SNAPSHOT, STEPS + 1, SNAPSHOT)
OPTIONS = {
    "variance": {"window": 4},
    "batch_dynamics": {"lags": [1, 2, 5], "windows": [2, 7]},
    "fourier": {"significance": 1.2, "per_frequency": True},
    "attention": {"rows": 16},
    "token_gradient": {"threshold": 0.8},
    "phases": {"accuracies": [0.0, 0.04, 0.08, 0.12, 2.0]},
    "hessian": {"every": 12, "burst": 3, "per_parameter": True},
    "adam_dynamics": {"every": 10, "burst": 2},
    "counterfactual": {"k": 3, "energy_window": 2, "per_parameter": True},
    "counterfactual_validator": {"k": 4},
    "margins": {"rows": 32, "degree": 2.0},
}
INSTRUMENTS = [
    *OPTIONS,
    *("training_metrics", "training_diagnostics", "parameter_delta", "path_length", "norms"),
    *("consecutive", "weight_tracking", "subspace_gradient_info"),
]


@dataclass
class Plain:
    """The run as torch's AdamW makes it; dictionaries by the number of the step, from 1.

    weights: after each step; those of step 0 are the initial ones.
    gradients, losses: of the batch of a step, at the weights before it.
    means, squares: Adam's moments after a step.
    shuffled: the mean gradients of the epoch that ends with a step, trained from its beginning in
        other orders, (5, weights that are no biases).
    """

    module: torch.nn.Module
    data: dict
    reference: dict
    weights: dict = field(default_factory=dict)
    gradients: dict = field(default_factory=dict)
    losses: dict = field(default_factory=dict)
    means: dict = field(default_factory=dict)
    squares: dict = field(default_factory=dict)
    shuffled: dict = field(default_factory=dict)

    def at(self, step: int) -> torch.nn.Module:
        """The network after a step."""
        module = copy.deepcopy(self.module)
        module.load_state_dict(self.weights[step], strict=False)
        return module

    def to_reference(self, step: int) -> np.ndarray:
        """From the weights after a step to the reference."""
        return vector(self.reference) - vector(self.weights[step])

    def mean_gradient(self, end: int) -> dict:
        """G of the epoch that ends with a step, by parameter."""
        steps = range(end - EPOCH_STEPS + 1, end + 1)
        parts = [self.gradients[step] for step in steps]
        return {name: sum(part[name] for part in parts) / EPOCH_STEPS for name in parts[0]}


def rate(step: int) -> float:
    """The learning rate of a step, along a cosine."""
    return LR * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * (step - 1) / STEPS)) / 2)


def rows_of(step: int) -> slice:
    """The rows of a step's batch, where every epoch goes through them in their order."""
    first = (step - 1) % EPOCH_STEPS * BATCH
    return slice(first, first + BATCH)


def loss_of(module, data, rows) -> torch.Tensor:
    logits = module(data["train_suffixes"][rows])[:, -1]
    return functional.cross_entropy(logits, data["train_labels"][rows, 0])


def copied(tensors) -> dict:
    return {name: value.detach().clone() for name, value in tensors}


def vector(tensors: dict) -> np.ndarray:
    """All weights that are no biases."""
    return np.concatenate(
        [value.numpy().ravel() for name, value in tensors.items() if "bias" not in name]
    )


def with_biases(tensors: dict) -> np.ndarray:
    return np.concatenate([value.numpy().ravel() for value in tensors.values()])


def without_biases(tensors: dict) -> dict:
    """The tensors as arrays, by the names that metrics have."""
    return {n.replace(".", "/"): v.numpy() for n, v in tensors.items() if "bias" not in n}


def cos(a, b) -> float:
    return float(np.sum(a * b) / np.sqrt(np.sum(a * a) * np.sum(b * b)))


def length(a) -> float:
    return float(np.sqrt(np.sum(a * a)))


def adamw_step(module, optimizer, data, rows, step: int) -> tuple[float, dict]:
    """One step; the loss and the gradient at the weights before it."""
    optimizer.param_groups[0]["lr"] = rate(step)
    optimizer.zero_grad()
    loss = loss_of(module, data, rows)
    loss.backward()
    gradient = copied((name, p.grad) for name, p in module.named_parameters())
    optimizer.step()
    return float(loss), gradient


def shuffled_epochs(module, optimizer, data, first: int, count: int) -> np.ndarray:
    """Mean gradients of the epoch that begins with a step, in orders of other seeds."""
    gradients = []
    for number in range(1, count + 1):
        net, adamw = copy.deepcopy((module, optimizer))  # one copy of the weights for both
        order = batch_order(SEED + 7919 * number, (first - 1) // EPOCH_STEPS, EPOCH_STEPS * BATCH)
        batches = order.split(BATCH)
        parts = [
            vector(adamw_step(net, adamw, data, rows, first + offset)[1])
            for offset, rows in enumerate(batches)
        ]
        gradients.append(sum(parts) / len(parts))
    return np.stack(gradients)


def trained_plainly(problem) -> Plain:
    module, data = copy.deepcopy(problem.module), problem.data
    plain = Plain(module, data, problem.measures.reference)
    plain.weights[0] = copied(module.named_parameters())
    optimizer = torch.optim.AdamW(module.parameters(), betas=BETAS, eps=EPS, weight_decay=DECAY)
    for step in range(1, STEPS + 1):
        end = step + EPOCH_STEPS - 1
        if end in SNAPSHOTS:
            plain.shuffled[end] = shuffled_epochs(module, optimizer, data, step, 5)
        plain.losses[step], plain.gradients[step] = adamw_step(
            module, optimizer, data, rows_of(step), step
        )
        plain.weights[step] = copied(module.named_parameters())
        for kind, kept in (("exp_avg", plain.means), ("exp_avg_sq", plain.squares)):
            states = ((n, optimizer.state[p][kind]) for n, p in module.named_parameters())
            kept[step] = copied(states)
    return plain


@dataclass
class Run:
    """The engine's run: the final weights, and metrics by step."""

    weights: dict
    metrics: dict

    def of(self, instrument: str) -> dict:
        """The metrics of an instrument by their names, at each step that it was taken at."""
        found: dict = {}
        for step, metrics in self.metrics.items():
            own = {k: v for k, v in metrics.items() if k.startswith(f"{instrument}/")}
            if own:
                found[step] = {k.removeprefix(f"{instrument}/"): v for k, v in own.items()}
        return found


@pytest.fixture(scope="module")
def problem():
    paper = load(PROJECT / "experiments" / "ordering.py")
    config = {
        **SMALL_ORDERING,
        "ordering": "stride",
        "epochs": EPOCHS,
        "seed": SEED,
        "snapshot_every": SNAPSHOT // EPOCH_STEPS,
        "measures": INSTRUMENTS,
        "measure_options": OPTIONS,
        "dropout": 0.0,
        "dtype": "float64",
    }
    made = paper.problem_of(paper.full_config(config))
    generator = torch.Generator().manual_seed(0)
    reference = {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype)
        for name, value in made.module.named_parameters()
    }
    measures = (*made.measures.measures, BY_NAME["gradient_projection"])
    return replace(made, measures=replace(made.measures, measures=measures, reference=reference))


@pytest.fixture(scope="module")
def plain(problem) -> Plain:
    return trained_plainly(problem)


@pytest.fixture(scope="module")
def run(problem, plain) -> Run:
    """After the plain one, which starts from the same module."""
    metrics: dict = {}
    for event in train([problem], compiled=False):
        if isinstance(event, Record):
            metrics.setdefault(event.step, {}).update(event.metrics)
            for step, found in event.burst_metrics:
                metrics.setdefault(step, {}).update(found)
        elif isinstance(event, Outcome):
            weights = event.weights
    return Run(weights, metrics)


def assert_equal(found: dict, expected: dict) -> None:
    """The same metrics, none missing on either side, with the same values."""
    assert found.keys() == expected.keys()
    wrong = {
        name: (value, expected[name])
        for name, value in found.items()
        if value != pytest.approx(expected[name], rel=1e-6, abs=1e-11)
    }
    assert wrong == {}


def test_the_plain_run_is_the_measured_one(run, plain):
    """All other tests compare with it. Its weights are the engine's, to rounding."""
    for name, value in plain.weights[STEPS].items():
        torch.testing.assert_close(run.weights[name], value, rtol=1e-9, atol=1e-10)


def test_training_metrics_are_those_of_all_rows(run, plain):
    """Of the weights after the epoch, and of all rows, not of the last batch."""
    found = run.of("training_metrics")
    assert [*found] == [*EVALUATIONS]
    for step in EVALUATIONS:
        module = plain.at(step)
        expected = {"loss": float(loss_of(module, plain.data, slice(None)))}
        for name, part in (("training", "train"), ("validation", "test")):
            expected[f"{name}_accuracy"] = accuracy(module, plain.data, part)
        expected |= {"learning_rate": rate(step), "perplexity": math.exp(expected["loss"])}
        assert_equal(found[step], expected)


def accuracy(module, data, part: str) -> float:
    predicted = module(data[f"{part}_suffixes"])[:, -1].argmax(-1)
    right = [int(a == b) for a, b in zip(predicted, data[f"{part}_labels"][:, 0], strict=True)]
    return sum(right) / len(right)


def test_training_diagnostics_are_those_of_the_steps(run, plain):
    """The loss and the gradient are those before a step, of its batch; the weights those after it."""
    found = run.of("training_diagnostics")
    assert [*found] == [*EVALUATIONS]
    for end in EVALUATIONS:
        steps = range(end - EPOCH_STEPS + 1, end + 1)
        losses = np.array([plain.losses[step] for step in steps])
        norms = np.array([length(vector(plain.gradients[step])) for step in steps])
        sizes = np.array([length(with_biases(plain.weights[step])) for step in steps])
        ratios = np.array([rate(step) for step in steps]) * norms / sizes
        mean, std = losses.mean(), losses.std(ddof=1)
        lagged = sum((losses[i] - mean) * (losses[i + 1] - mean) for i in range(len(losses) - 1))
        assert_equal(
            found[end],
            {
                "loss_mean": mean,
                "loss_std": std,
                "loss_volatility": std / mean,
                "loss_autocorrelation": lagged / sum((losses - mean) ** 2),
                "grad_norm_mean": norms.mean(),
                "grad_norm_std": norms.std(ddof=1),
                "grad_norm_cv": norms.std(ddof=1) / norms.mean(),
                "grad_norm_max": norms.max(),
                "update_ratio_mean": ratios.mean(),
                "update_ratio_std": ratios.std(ddof=1),
                "weight_norm": sizes[-1],
            },
        )


def test_the_path_is_that_of_the_weights(run, plain):
    """Biases are part of it. The length is summed over the steps, not over the epochs."""
    deltas, paths = run.of("parameter_delta"), run.of("path_length")
    assert [*deltas] == [*paths] == [*EVALUATIONS]
    points = [with_biases(plain.weights[step]) for step in range(STEPS + 1)]
    for end in EVALUATIONS:
        moved = length(points[end] - points[end - EPOCH_STEPS])
        expected = {
            "relative_delta": moved / length(points[end - EPOCH_STEPS]),
            "absolute_delta": moved,
            "param_norm": length(points[end]),
        }
        assert_equal(deltas[end], expected)
        walked = sum(length(points[i + 1] - points[i]) for i in range(end))
        net = length(points[end] - points[0])
        expected = {"path_length": walked, "net_displacement": net, "path_efficiency": net / walked}
        assert_equal(paths[end], expected)


def test_norms_and_angles_are_those_of_the_mean_gradients(run, plain):
    """G is the mean over the steps of the epoch, each at its own weights."""
    norms, angles, variances = (run.of(name) for name in ("norms", "consecutive", "variance"))
    assert [*norms] == [*EVALUATIONS] and [*angles] == [*variances] == [*EVALUATIONS][1:]
    means = {end: vector(plain.mean_gradient(end)) for end in EVALUATIONS}
    for end in EVALUATIONS:
        expected = {
            "total_norm": length(means[end]),
            "max_component": max(abs(means[end])),
            "mean_component": np.mean(abs(means[end])),
        }
        for name, part in without_biases(plain.mean_gradient(end)).items():
            expected[f"norm/{name}"] = length(part)
        assert_equal(norms[end], expected)
    for end in [*EVALUATIONS][1:]:
        cosine = cos(means[end], means[end - EPOCH_STEPS])
        degrees = math.acos(cosine) * 180 / math.pi
        assert_equal(angles[end], {"cos_sim": cosine, "angle_degrees": degrees})
        last = np.stack([means[one] for one in EVALUATIONS if one <= end][-4:])
        variance = ((last - last.mean(0)) ** 2).mean(0)
        expected = {
            "gradient_variance": variance.mean(),
            "mean_pairwise_cos": np.mean([cos(a, b) for a, b in combinations(last, 2)]),
            "signal_to_noise": length(last.mean(0)) / np.sqrt(variance.sum()),
            "window_mean_norm": length(last.mean(0)),
        }
        assert_equal(variances[end], expected)


def test_batch_dynamics_are_those_of_the_batch_gradients(run, plain):
    """The cosines are of this epoch's gradients with any before them; the mean is over the lags."""
    found = run.of("batch_dynamics")
    assert [*found] == [*SNAPSHOTS]
    for end in SNAPSHOTS:
        gradients = [vector(plain.gradients[step]) for step in range(1, end + 1)]
        expected = {}
        for lag in (1, 2, 5):
            new = [i for i in range(end - EPOCH_STEPS, end) if i >= lag]
            cosines = [cos(gradients[i], gradients[i - lag]) for i in new]
            expected[f"lag_{lag}"] = np.mean(cosines)
        expected["autocorrelation_mean"] = np.mean([expected[f"lag_{k}"] for k in (1, 2, 5)])
        for width in (2, 7):
            last = gradients[-width:]
            if len(last) == width:
                expected[f"efficiency_{width}"] = length(sum(last)) / sum(map(length, last))
        shares = np.linalg.svd(np.stack(gradients[-7:]), compute_uv=False) ** 2
        shares = shares / shares.sum()
        expected["effective_rank"] = math.exp(-sum(share * math.log(share) for share in shares))
        expected["top1_variance"] = shares[0]
        assert_equal(found[end], expected)


def test_weight_tracking_is_that_of_the_matrices(run, plain):
    """Every aggregate is over the matrices alone: vectors and biases are left out."""
    found = run.of("weight_tracking")
    assert [*found] == [*SNAPSHOTS]
    for end in SNAPSHOTS:
        gradient = without_biases(plain.mean_gradient(end))
        weights = without_biases(plain.weights[end])
        matrices = {name: matrix for name, matrix in weights.items() if matrix.ndim == 2}
        assert len(matrices) == 13 < len(weights)
        columns = {}
        for name, matrix in matrices.items():
            values = np.linalg.svd(matrix, compute_uv=False)
            columns[name] = {
                "weight_norm": length(matrix),
                "top_sv": values[0],
                "effective_rank": values.sum() ** 2 / (values**2).sum(),
                "grad_weight_align": cos(gradient[name], matrix),
            }
        expected = {f"{k}/{name}": v for name, row in columns.items() for k, v in row.items()}
        rows = list(columns.values())
        for key in rows[0]:
            expected[f"mean_{key}"] = np.mean([row[key] for row in rows])
        whole = np.concatenate([matrix.ravel() for matrix in matrices.values()])
        expected["total_weight_norm"] = length(whole)
        expected["max_top_sv"] = max(row["top_sv"] for row in rows)
        assert_equal(found[end], expected)


def test_gradient_projection_is_onto_the_way_from_the_beginning_of_the_epoch(run, plain):
    """The mean over parameters is not weighted by their sizes; that of all weights is another number."""
    found = run.of("gradient_projection")
    assert [*found] == [*EVALUATIONS]
    for end in EVALUATIONS:
        before, now = plain.weights[end - EPOCH_STEPS], plain.weights[end]
        way, gap, moved = (
            {name: b[name] - a[name] for name in a}
            for a, b in ((before, plain.reference), (now, plain.reference), (before, now))
        )
        descent = {name: -value for name, value in plain.mean_gradient(end).items()}
        expected = {
            "displacement_norm": length(vector(moved)),
            "distance_to_reference": length(vector(gap)),
        }
        for kind, tensors in (("grad", descent), ("disp", moved)):
            ways = without_biases(way)
            cosines = {name: cos(v, ways[name]) for name, v in without_biases(tensors).items()}
            key = f"{kind}_cossim_to_solution"
            expected |= {f"{key}/{name}": value for name, value in cosines.items()}
            expected[f"overall_{key}"] = cos(vector(tensors), vector(way))
            expected[f"mean_layer_{key}"] = np.mean(list(cosines.values()))
        assert_equal(found[end], expected)


def test_subspace_gradient_info_is_the_svd_of_all_mean_gradients(run, plain):
    """About their mean. The window is longer than the run, so that the energies are of all G's."""
    found = run.of("subspace_gradient_info")
    assert [*found] == [*SNAPSHOTS]
    for end in SNAPSHOTS:
        means = np.stack([vector(plain.mean_gradient(one)) for one in EVALUATIONS if one <= end])
        _, values, directions = np.linalg.svd(means - means.mean(0), full_matrices=False)
        energies, way = values**2, plain.to_reference(end - EPOCH_STEPS)
        along = energies * (directions @ (way / length(way))) ** 2
        shares = np.cumsum(energies) / energies.sum()
        expected = {
            "dims_for_90pct": next(i for i, share in enumerate(shares, 1) if share >= 0.9),
            "participation_ratio": energies.sum() ** 2 / (energies**2).sum(),
            "top_sv_ratio": values[0] / values.sum(),
            "svd_total_variance": energies.sum(),
            "grad_energy_fraction_toward_solution": along.sum() / energies.sum(),
        }
        for k in (1, 5, 10):
            expected[f"top{k}_explained"] = energies[:k].sum() / energies.sum()
            fraction = along[:k].sum() / energies[:k].sum()
            expected[f"top{k}_energy_fraction_toward_solution"] = fraction
        assert_equal(found[end], expected)
    last = found[STEPS]  # with more components than are counted
    assert last["top1_explained"] < last["top5_explained"] < last["top10_explained"] < 0.9999


def test_fourier_is_that_of_explicit_sums(run, plain):
    """Of the token table and of the output layer over their p rows, and of the neurons over the tokens."""
    found = run.of("fourier")
    assert [*found] == [*EVALUATIONS]
    ever: set[int] = set()
    for end in EVALUATIONS:
        weights = without_biases(plain.weights[end])
        tokens, output = weights["tokens"], weights["output/weight"]
        power = relative_powers(tokens)
        significant = {k for k in range(1, P // 2 + 1) if power[k] > 1.2 / P}
        new, ever = significant - ever, ever | significant
        fractions = []
        for layer in (0, 1):
            inputs = weights[f"blocks/{layer}/up/weight"] @ tokens.T  # neurons by tokens
            for neuron in inputs:
                powers = dft_powers(neuron)[1 : P // 2 + 1]
                fractions.append(powers / powers.sum())
        expected = {
            "low_freq_power": sum(power[:10]),  # the first tenth of 11, or ten
            "stride_harmonic_power": power[STRIDE] + power[2 * STRIDE],
            **peaks_of(power),
            **{f"decoder_{k}": v for k, v in peaks_of(relative_powers(output)).items()},
            "neuron_fourier_top1": np.mean([max(f) for f in fractions]),
            "neuron_fourier_entropy": np.mean([entropy(f) / math.log(P // 2) for f in fractions]),
            **{f"freq_power/{k}": power[k] for k in ever},
            **{f"acquired/{k}": power[k] for k in new},
            "n_tracked_freqs": len(ever),
            "newly_acquired_freqs": len(new),
        }
        assert_equal(found[end], expected)
    assert 0 < len(ever) < P // 2
    assert 0 < found[STEPS]["decoder_n_significant_freqs"] < P


def test_spectra_of_the_output_layer_leave_out_the_class_of_the_equals_sign():
    """Nanda's network has p + 1 classes; over p + 1 rows the power of a pure wave is spread.
    A frequency and its mirror image are counted, as in the spectra of the embedding."""
    elements = torch.arange(23)
    wave = torch.cos(2 * math.pi * 3 * elements / 23)
    rows = torch.stack([*wave, torch.tensor(5.0)]).unsqueeze(1)
    paper = load(PROJECT / "experiments" / "nanda.py")
    config = {"seed": 0, "p": 23, "width": 8, "mlp_width": 8, "lr": 0.0, "train_steps": 1}
    problem = paper.problem_of(paper.full_config({**config, "measures": "fourier"}))
    assert problem.module.output.weight.shape == (24, 8)
    with torch.no_grad():
        problem.module.output.weight.copy_(rows.expand(24, 8))
    *_, last = (e for e in train([problem], compiled=False) if isinstance(e, Record))
    assert last.metrics["fourier/decoder_n_significant_freqs"] == 2


def dft_powers(signal: np.ndarray) -> np.ndarray:
    """|sum over x of f(x) exp(-2 pi i k x / p)|^2 of the frequencies k = 0..p-1."""
    turns = -2j * math.pi / P
    return np.array(
        [abs(sum(signal[x] * np.exp(turns * k * x) for x in range(P))) ** 2 for k in range(P)]
    )


def relative_powers(table: np.ndarray) -> np.ndarray:
    """Of a table with p rows, all columns together, as fractions."""
    powers = sum(dft_powers(column) for column in table.T)
    return powers / powers.sum()


def entropy(shares) -> float:
    return -sum(share * math.log(share) for share in shares if share > 0)


def peaks_of(power: np.ndarray) -> dict:
    peak = max(range(1, P // 2 + 1), key=lambda k: power[k])
    return {
        "spectral_entropy": entropy(power) / math.log(P),
        "peak_frequency": peak,
        "peak_power": power[peak],
        "n_significant_freqs": sum(share > 1.2 / P for share in power),
    }


def test_attention_is_that_of_explicit_maps(run, plain):
    """The variance is between the inputs, of each head, query and key; that over another axis differs."""
    found = run.of("attention")
    assert [*found] == [*SNAPSHOTS]
    for end in SNAPSHOTS:
        module, expected, means = plain.at(end), {}, {}
        tokens = plain.data["train_suffixes"][:16]
        for layer in (0, 1):
            block = module.blocks[layer]
            W_K, W_V = block.keys_values.weight.detach().numpy().reshape(2, 8, 8)
            W_Q = block.queries.weight.detach().numpy()
            rows = {}
            for name, matrix in (("q", W_Q), ("k", W_K), ("v", W_V)):
                values = np.linalg.svd(matrix, compute_uv=False)
                rows[f"sv_concentration/{layer}/{name}"] = values[0] / values.sum()
                rows[f"effective_rank/{layer}/{name}"] = values.sum() ** 2 / (values**2).sum()
                rows[f"top5_explained_var/{layer}/{name}"] = (values[:5] ** 2).sum() / (
                    values**2
                ).sum()
            maps = attention_maps(block, module.residual_stream(tokens)[layer])
            assert maps.shape == (16, 2, 2, 2)
            entropies = [entropy(row) / math.log(2) for row in maps.reshape(-1, 2)]
            rows[f"attn_entropy/{layer}"] = np.mean(entropies)
            places = [maps[:, h, q, k] for h in (0, 1) for q in (0, 1) for k in (0, 1)]
            rows[f"attn_variance/{layer}"] = np.mean([place.var(ddof=1) for place in places])
            for key, value in rows.items():
                means.setdefault(key.split("/")[0], []).append(value)
            expected |= rows
        for key, values in means.items():
            expected[key if key.startswith("attn") else f"mean_{key}"] = np.mean(values)
        assert_equal(found[end], expected)


@torch.no_grad()
def attention_maps(block, x: torch.Tensor) -> np.ndarray:
    """Attention (inputs, heads, queries, keys) of a layer on the residual stream before it."""
    x = functional.layer_norm(x, x.shape[-1:], block.norm1.weight, block.norm1.bias)
    queries = x @ block.queries.weight.T + block.queries.bias
    keys = x @ block.keys_values.weight[:8].T + block.keys_values.bias[:8]
    heads = []
    for head in (slice(0, 4), slice(4, 8)):
        scores = torch.einsum("nqd,nkd->nqk", queries[..., head], keys[..., head]) / math.sqrt(4)
        heads.append(scores.exp() / scores.exp().sum(-1, keepdim=True))
    return torch.stack(heads, 1).numpy()


def test_token_gradient_is_that_of_the_rows(run, plain):
    """The rows of G's token table, one for each token, in groups of the residues modulo the stride."""
    found = run.of("token_gradient")
    assert [*found] == [*EVALUATIONS]
    for end in EVALUATIONS:
        norms = np.array([length(row) for row in plain.mean_gradient(end)["tokens"].numpy()])
        assert len(norms) == P
        counts = {}
        for percent in (50, 90):
            falling, total = iter(sorted(norms, reverse=True)), 0.0
            while total < percent / 100 * norms.sum():
                total += next(falling)
                counts[percent] = counts.get(percent, 0) + 1
        groups = np.array([norms[np.arange(P) % STRIDE == k].mean() for k in range(STRIDE)])
        differences = sum(abs(a - b) for a in norms for b in norms)
        assert_equal(
            found[end],
            {
                "gradient_sparsity": np.mean(norms < 0.8 * norms.mean()),
                "gradient_gini": differences / (2 * P * norms.sum()),
                "stride_group_variance": groups.var(),
                "stride_group_max_ratio": groups.max() / groups.mean(),
                "tokens_for_50pct": counts[50],
                "tokens_for_90pct": counts[90],
                "concentration_ratio": counts[50] / P,
            },
        )
    assert {metrics["gradient_sparsity"] for metrics in found.values()} != {0.0}


def test_phases_are_differences_between_snapshots(run, plain):
    """Between snapshots, not between evaluations."""
    found = run.of("phases")
    assert [*found] == [*SNAPSHOTS]
    norms = {end: length(vector(plain.mean_gradient(end))) for end in SNAPSHOTS}
    for end in SNAPSHOTS:
        reached = accuracy(plain.at(end), plain.data, "test")
        expected = {"phase_code": sum(reached >= edge for edge in (0.0, 0.04, 0.08, 0.12, 2.0))}
        if end > SNAPSHOT:
            expected["grad_velocity"] = norms[end] - norms[end - SNAPSHOT]
            before = plain.weights[end - SNAPSHOT]["tokens"].numpy()
            change = length(plain.weights[end]["tokens"].numpy() - before)
            expected["embedding_change"] = change
            expected["embedding_change_normalized"] = change / length(before)
        if end > 2 * SNAPSHOT:
            earlier = norms[end - SNAPSHOT] - norms[end - 2 * SNAPSHOT]
            expected["grad_acceleration"] = norms[end] - norms[end - SNAPSHOT] - earlier
        assert_equal(found[end], expected)


def hessian_product(plain: Plain, step: int) -> dict:
    """H g by double autograd: g, of all parameters, is the gradient of the step before, and H that of
    the loss of this step's batch, both at the weights before those two steps."""
    module = plain.at(step - 2)
    names, parameters = zip(*module.named_parameters(), strict=True)
    loss = loss_of(module, plain.data, rows_of(step))
    gradient = torch.autograd.grad(loss, parameters, create_graph=True)
    before = plain.gradients[step - 1]
    product = sum((g * before[name]).sum() for name, g in zip(names, gradient, strict=True))
    return dict(zip(names, torch.autograd.grad(product, parameters), strict=True))


def hessian_metrics(before, now, product, lr: float, way) -> dict:
    """The metrics of vectors, of all weights or of one parameter."""
    entanglement = lr * product
    content = now + entanglement
    return {
        "entanglement_norm": length(entanglement),
        "content_norm": length(content),
        "observed_grad_norm": length(now),
        "entanglement_energy_ratio": length(entanglement) ** 2 / length(now) ** 2,
        "entanglement_content_cossim": cos(entanglement, content),
        "amplification_ratio": length(product) / length(before),
        "edge_of_stability": lr * length(product) / length(before),
        "rayleigh_quotient": np.sum(before * product) / length(before) ** 2,
        "entanglement_cossim_to_solution": cos(-entanglement, way),
        "content_cossim_to_solution": cos(-content, way),
    }


OF_PARAMETERS = (
    "entanglement_norm",
    "content_norm",
    "observed_grad_norm",
    "entanglement_energy_ratio",
    "entanglement_cossim_to_solution",
    "content_cossim_to_solution",
)


def test_hessian_is_that_of_double_autograd(run, plain):
    """The step before moved the weights by its gradient times its learning rate, so these two count,
    and the expansion of this batch's gradient is about the weights from which that step started: with
    the weights between the two steps, the norms are off by 1 %. The metrics of a parameter are those
    of its part of the same vectors."""
    found = dict(sorted(run.of("hessian").items()))
    assert [*found] == [12, 13, 14, 24, 25, 26, 36, 37, 38]
    before_that = None  # the entanglement of the step before, within a burst
    for step, metrics in found.items():
        if step - 1 not in found:
            before_that = None
        lr, product = rate(step - 1), hessian_product(plain, step)
        before, now = plain.gradients[step - 1], plain.gradients[step]
        expected = hessian_metrics(
            vector(before), vector(now), vector(product), lr, plain.to_reference(step - 2)
        )
        if before_that is not None:
            expected["entanglement_coherence"] = cos(lr * vector(product), before_that)
        before_that = lr * vector(product)
        way = {name: plain.reference[name] - w for name, w in plain.weights[step - 2].items()}
        parts = [without_biases(tensors) for tensors in (before, now, product, way)]
        for name in parts[0]:
            g_before, g, h, to_part = (part[name] for part in parts)
            own = hessian_metrics(g_before, g, h, lr, to_part)
            expected |= {f"{key}/{name}": own[key] for key in OF_PARAMETERS}
        assert_equal(metrics, expected)


def test_adam_dynamics_are_those_of_the_real_step(run, plain):
    """Adam's update is what the step changed the weights by, without the weight decay; the momentum and
    the rates are those of torch's own optimizer. The reference is seen from the weights after it."""
    found = run.of("adam_dynamics")
    assert sorted(found) == [10, 11, 20, 21, 30, 31, 40, 41]
    for step, metrics in found.items():
        lr, gradient = rate(step), vector(plain.gradients[step])
        before, after = vector(plain.weights[step - 1]), vector(plain.weights[step])
        update = before * (1 - lr * DECAY) - after
        unit = gradient / length(gradient)
        momentum, corrected = vector(plain.means[step]), 1 - BETAS[1] ** step
        rates = lr / (np.sqrt(vector(plain.squares[step]) / corrected) + EPS)
        way = plain.to_reference(step)
        assert_equal(
            metrics,
            {
                "momentum_grad_cossim": cos(momentum, gradient),
                "update_deflection": length(update - unit * (unit @ update)) / length(update),
                "effective_lr_cv": rates.std(ddof=1) / rates.mean(),
                "amplification_ratio": length(update) / (lr * length(gradient)),
                "momentum_solution_cossim": cos(-momentum, way),
                "update_solution_cossim": cos(-update, way),
                "grad_solution_cossim": cos(-gradient, way),
                "optimizer_solution_amplification": cos(-update, way) - cos(-gradient, way),
            },
        )


def split(observed, mean) -> tuple:
    """The parts of a vector along another and across it."""
    unit = mean / length(mean)
    content = unit * np.sum(observed * unit)
    return content, observed - content


def counterfactual_metrics(observed, shuffled, way) -> dict:
    mean = sum(shuffled) / len(shuffled)
    content, ordering = split(observed, mean)
    nulls = []
    for number, one in enumerate(shuffled):
        others = [other for index, other in enumerate(shuffled) if index != number]
        across = split(one, sum(others))[1]
        nulls.append(length(across) ** 2 / length(one) ** 2)
    return {
        "counterfactual_mean_norm": length(mean),
        "content_component_norm": length(content),
        "ordering_component_norm": length(ordering),
        "ordering_fraction": 1 - cos(observed, mean) ** 2,
        "ordering_alignment": cos(observed, mean),
        "null_ordering_fraction": sum(nulls) / len(nulls),
        "content_cossim_to_solution": cos(-content, way),
        "ordering_cossim_to_solution": cos(-ordering, way),
        "cf_grad_cossim_to_solution": cos(-mean, way),
    }


NOT_OF_PARAMETERS = ("counterfactual_mean_norm", "null_ordering_fraction")


def test_counterfactual_is_that_of_epochs_that_torch_trained_in_other_orders(run, plain):
    """From the weights and the moments at the beginning of the epoch, over as many steps. The reference
    is seen from there, too. The energies are of the components at the last two snapshots."""
    found = run.of("counterfactual")
    assert [*found] == [*SNAPSHOTS]
    kept: list = []
    for end, metrics in found.items():
        gradient, shuffled = plain.mean_gradient(end), plain.shuffled[end][:3]
        observed, way = vector(gradient), plain.to_reference(end - EPOCH_STEPS)
        expected = counterfactual_metrics(observed, shuffled, way)
        first = 0
        for name, part in without_biases(gradient).items():
            where = slice(first, first := first + part.size)
            own = counterfactual_metrics(observed[where], shuffled[:, where], way[where])
            of_part = {k: v for k, v in own.items() if k not in NOT_OF_PARAMETERS}
            expected |= {f"{key}/{name}": value for key, value in of_part.items()}
        kept = [*kept, split(observed, shuffled.mean(0))][-2:]
        for name, vectors in zip(("content", "ordering"), zip(*kept, strict=True), strict=True):
            along = sum((v @ way) ** 2 for v in vectors) / length(way) ** 2
            energy = sum(length(v) ** 2 for v in vectors)
            expected[f"{name}_energy_fraction_toward_solution"] = along / energy
        assert_equal(metrics, expected)


def test_the_validator_is_that_of_all_subsets(run, plain):
    """Five shuffled epochs, and their subsets of four, each of which leaves out one."""
    found = run.of("counterfactual_validator")
    assert [*found] == [*SNAPSHOTS]
    for end, metrics in found.items():
        shuffled, way = plain.shuffled[end], plain.to_reference(end - EPOCH_STEPS)
        whole = shuffled.mean(0)
        subsets = [np.delete(shuffled, one, 0).mean(0) for one in range(5)]
        norms = [length(subset) for subset in subsets]
        cosines = [cos(subset, whole) for subset in subsets]
        progress = [cos(-subset, way) for subset in subsets]
        assert_equal(
            metrics,
            {
                "kp1_content_norm": length(whole),
                "k_content_norm_max": max(norms),
                "k_content_norm_min": min(norms),
                "k_content_norm_mean": np.mean(norms),
                "kp1_norm_strictly_lower": float(all(length(whole) < norm for norm in norms)),
                "norm_convergence_gap": (np.mean(norms) - length(whole)) / length(whole),
                "k_to_kp1_cossim_mean": np.mean(cosines),
                "k_to_kp1_cossim_min": min(cosines),
                "kp1_cossim_to_solution": cos(-whole, way),
                "k_cossim_to_solution_mean": np.mean(progress),
                "k_cossim_to_solution_std": np.std(progress, ddof=1),
                "k_cossim_to_solution_spread": max(progress) - min(progress),
            },
        )


def test_margins_are_those_of_the_first_rows(run, plain):
    """At the weights after the epoch. Of an even number of rows, the median is the lower of the two in
    the middle, as torch has it."""
    found = run.of("margins")
    assert [*found] == [*EVALUATIONS]
    for end in EVALUATIONS:
        with torch.no_grad():
            logits = plain.at(end)(plain.data["train_suffixes"][:32])[:, -1].numpy()
        margins = []
        for row, label in zip(logits, plain.data["train_labels"][:32, 0].tolist(), strict=True):
            margins.append(row[label] - max(row[c] for c in range(P) if c != label))
        weight_norm = length(with_biases(plain.weights[end]))
        expected = {
            "least": min(margins),
            "median": sorted(margins)[15],
            "mean": np.mean(margins),
            "positive": sum(margin > 0 for margin in margins) / 32,
            "least_normalized": min(margins) / weight_norm**2,
        }
        assert_equal(found[end], expected)
