"""The measures' formulas against computations written out another way."""

import math

import numpy as np
import pytest
import torch

from grok.measures import decomposition, spectra, vectors


@pytest.fixture
def draw():
    generator = torch.Generator().manual_seed(7)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


def test_diagnostics(draw):
    losses, norms, rates, sizes = draw(9).abs(), draw(9).abs(), draw(9).abs(), draw(9).abs() + 1
    found = vectors.diagnostics(losses, norms, rates, sizes)
    x = losses.numpy()
    assert found["loss_std"] == pytest.approx(x.std(ddof=1))
    assert found["loss_volatility"] == pytest.approx(x.std(ddof=1) / x.mean())
    lag = sum((x[i] - x.mean()) * (x[i + 1] - x.mean()) for i in range(8))
    assert found["loss_autocorrelation"] == pytest.approx(lag / (x.var(ddof=1) * 8))
    assert found["grad_norm_cv"] == pytest.approx(float(norms.std() / norms.mean()))
    ratios = (rates * norms / sizes).numpy()
    assert found["update_ratio_mean"] == pytest.approx(ratios.mean())
    assert found["update_ratio_std"] == pytest.approx(ratios.std(ddof=1))
    assert found["weight_norm"] == float(sizes[-1])


def test_path_of_a_known_walk():
    points = [torch.tensor(p) for p in ([0.0, 0.0], [3.0, 0.0], [3.0, 4.0])]
    assert vectors.path(7.0, points[-1], points[0]) == {
        "path_length": 7.0,
        "net_displacement": 5.0,
        "path_efficiency": 5 / 7,
    }
    assert vectors.parameter_delta(points[2], points[1]) == {
        "relative_delta": 4 / 3,
        "absolute_delta": 4.0,
        "param_norm": 5.0,
    }


def test_norms_and_angles(draw):
    g = {"a.weight": torch.tensor([[3.0, 0.0]]), "b": torch.tensor([-4.0])}
    assert vectors.norms(g) == {
        "total_norm": 5.0,
        "max_component": 4.0,
        "mean_component": pytest.approx(7 / 3),
        "norm/a/weight": 3.0,
        "norm/b": 4.0,
    }
    right = vectors.consecutive(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]))
    assert right == {"cos_sim": 0.0, "angle_degrees": 90.0}
    tiny = 1e-9 * draw(5)  # late in training; a guard of 1e-8 would call them orthogonal
    assert vectors.consecutive(tiny, tiny)["cos_sim"] == pytest.approx(1)


def test_variance_of_a_window(draw):
    window = draw(4, 6)
    found, x = vectors.variance(window), window.numpy()
    assert found["gradient_variance"] == pytest.approx(x.var(axis=0).mean())
    assert found["window_mean_norm"] == pytest.approx(np.linalg.norm(x.mean(0)))
    assert found["signal_to_noise"] == pytest.approx(
        np.linalg.norm(x.mean(0)) / np.linalg.norm(x.std(0))
    )
    cosines = [
        x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j])
        for i in range(4)
        for j in range(i)
    ]
    assert found["mean_pairwise_cos"] == pytest.approx(np.mean(cosines))


def test_batch_dynamics(draw):
    g = draw(60, 8)
    found, x = vectors.batch_dynamics(g @ g.T, 10), g.numpy()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for lag in (1, 2, 5, 10, 20, 50):
        expected = np.mean([unit[i] @ unit[i - lag] for i in range(50, 60)])
        assert found[f"lag_{lag}"] == pytest.approx(expected)
    together = np.linalg.norm(x[-5:].sum(0)) / np.linalg.norm(x[-5:], axis=1).sum()
    assert found["efficiency_5"] == pytest.approx(together)
    energy = np.linalg.svd(x[-50:], compute_uv=False) ** 2
    shares = energy / energy.sum()
    assert found["effective_rank"] == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert found["top1_variance"] == pytest.approx(shares[0])
    aligned = vectors.batch_dynamics(3 * torch.ones(50, 50), 50)
    assert aligned["effective_rank"] == pytest.approx(1)


def test_projection_on_the_way_to_a_reference():
    before, now = {"w": torch.tensor([0.0, 0.0])}, {"w": torch.tensor([1.0, 0.0])}
    reference, g = {"w": torch.tensor([2.0, 2.0])}, {"w": torch.tensor([0.0, -1.0])}
    found = vectors.projection(now, before, g, reference)
    half = math.sqrt(0.5)
    assert found["overall_grad_cossim_to_solution"] == pytest.approx(half)
    assert found["disp_cossim_to_solution/w"] == pytest.approx(half)
    assert found["displacement_norm"] == 1.0
    assert found["distance_to_reference"] == pytest.approx(math.sqrt(5))


def test_subspace_against_a_plain_svd(draw):
    window, way = draw(30, 40), draw(40)
    found = vectors.subspace(window, way)
    x = (window - window.mean(0)).numpy()
    _, s, v = np.linalg.svd(x, full_matrices=False)
    s, v = s[:20], v[:20]
    energy = s**2
    assert found["svd_total_variance"] == pytest.approx(energy.sum())
    assert found["participation_ratio"] == pytest.approx(energy.sum() ** 2 / (energy**2).sum())
    assert found["top_sv_ratio"] == pytest.approx(s[0] / s.sum())
    assert found["top5_explained"] == pytest.approx(energy[:5].sum() / energy.sum())
    shares = np.cumsum(energy) / energy.sum()
    assert found["dims_for_90pct"] == 1 + int((shares < 0.9).sum())
    along = energy * (v @ (way / way.norm()).numpy()) ** 2
    assert found["grad_energy_fraction_toward_solution"] == pytest.approx(
        along.sum() / energy.sum()
    )
    assert found["top5_energy_fraction_toward_solution"] == pytest.approx(
        along[:5].sum() / energy[:5].sum()
    )


def test_fourier_of_a_single_wave():
    p, k = 31, 4
    tokens = torch.arange(p, dtype=torch.float64)
    table = torch.stack(
        [torch.cos(2 * math.pi * k * tokens / p), torch.sin(2 * math.pi * k * tokens / p)], 1
    )
    found = spectra.fourier(table, stride=2)
    assert found["peak_frequency"] == k and found["peak_power"] == pytest.approx(0.5)
    assert found["n_significant_freqs"] == 2  # it and its mirror
    assert found["spectral_entropy"] == pytest.approx(math.log(2) / math.log(p))
    assert found["stride_harmonic_power"] == pytest.approx(0.5)  # 4 = 2 strides, mirror 27 is none
    assert found["low_freq_power"] == pytest.approx(0.5)
    assert spectra.significant(table).nonzero().flatten().tolist() == [k - 1]
    neurons = spectra.neuron_fourier([torch.eye(2, dtype=torch.float64)], table)
    assert neurons["neuron_fourier_top1"] == pytest.approx(1)
    assert neurons["neuron_fourier_entropy"] == pytest.approx(0, abs=1e-6)


def test_the_powers_of_planted_frequencies():
    """A table of two waves: their powers are as their squared amplitudes, each split over k and -k."""
    p, x = 23, torch.arange(23, dtype=torch.float64)
    waves = [a * torch.cos(2 * torch.pi * k * x / p) for k, a in ((3, 2.0), (7, 1.0))]
    table = sum(waves).unsqueeze(1)
    tracked = torch.zeros(11, dtype=torch.bool)
    tracked[[2, 6]] = True
    new = torch.zeros(11, dtype=torch.bool)
    new[6] = True
    found = spectra.frequency_powers(table, tracked, new)
    expected = {"freq_power/3": 0.4, "freq_power/7": 0.1, "acquired/7": 0.1}
    assert found == pytest.approx(expected)


def test_energy_along_a_direction_is_that_of_the_singular_vectors(draw):
    vectors, direction = draw(5, 12), draw(12)
    _, sizes, rows = torch.linalg.svd(vectors, full_matrices=False)
    weights = sizes**2 / (sizes**2).sum()
    expected = float(weights @ (rows @ direction / direction.norm()) ** 2)
    assert decomposition.energy_fraction(vectors, direction) == pytest.approx(expected)
    assert decomposition.energy_fraction(direction[None], 3 * direction) == pytest.approx(1)


def test_entropy_rank_counts_equal_singular_values(draw):
    """exp of the entropy: k for k equal values and zeros, 1 for a single one, 0 / 0 is no NaN."""
    assert spectra.entropy_rank(torch.tensor([2.0, 2.0, 2.0, 0.0])) == pytest.approx(3)
    assert spectra.entropy_rank(torch.tensor([5.0])) == pytest.approx(1)
    s = torch.linalg.svdvals(draw(6, 4))
    shares = (s / s.sum()).numpy()
    assert spectra.entropy_rank(s) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    assert spectra.entropy_rank(torch.zeros(3)) == 1


def test_matrices(draw):
    weights = {"a.weight": draw(5, 3), "norm": draw(4), "b": draw(80, 70)}
    g = {name: draw(*w.shape) for name, w in weights.items()}
    found = spectra.weight_tracking(weights, g)
    s = np.linalg.svd(weights["a.weight"].numpy(), compute_uv=False)
    assert found["effective_rank/a/weight"] == pytest.approx(s.sum() ** 2 / (s**2).sum())
    assert found["top_sv/a/weight"] == pytest.approx(s[0])
    large = np.linalg.svd(weights["b"].numpy(), compute_uv=False)[:20]
    assert found["effective_rank/b"] == pytest.approx(large.sum() ** 2 / (large**2).sum())
    assert "weight_norm/norm" not in found
    total = math.hypot(*(float(weights[name].norm()) for name in ("a.weight", "b")))
    assert found["total_weight_norm"] == pytest.approx(total)
    assert found["grad_weight_align/b"] == pytest.approx(
        float((g["b"] * weights["b"]).sum() / g["b"].norm() / weights["b"].norm())
    )


def test_attention_of_even_and_of_fixed_looks():
    even, fixed = torch.full((3, 2, 4, 4), 0.25), torch.eye(4).expand(3, 2, 4, 4)
    found = spectra.attention([{"q": torch.eye(3)}] * 2, [even, fixed])
    assert found["attn_entropy/0"] == pytest.approx(1) and found["attn_entropy/1"] == 0
    assert found["attn_variance"] == 0
    assert found["effective_rank/0/q"] == pytest.approx(3)
    assert found["mean_sv_concentration"] == pytest.approx(1 / 3)


def test_token_gradient_of_even_and_of_one_token():
    even = spectra.token_gradient(torch.ones(10, 2), stride=3)
    assert even["gradient_gini"] == pytest.approx(0) and even["gradient_sparsity"] == 0
    assert even["tokens_for_50pct"] == 5 and even["tokens_for_90pct"] in (9, 10)
    assert even["stride_group_max_ratio"] == pytest.approx(1)
    one = torch.zeros(10, 2)
    one[3] = 1.0
    found = spectra.token_gradient(one, stride=3)
    assert found["gradient_gini"] == pytest.approx(0.9)
    assert found["tokens_for_50pct"] == found["tokens_for_90pct"] == 1  # never more than p
    assert found["gradient_sparsity"] == pytest.approx(0.9)
    means = np.array([1 / 4, 0, 0]) * math.sqrt(2)  # groups 0 3 6 9, 1 4 7, 2 5 8
    assert found["stride_group_variance"] == pytest.approx(means.var())


def test_hessian_term_of_a_quadratic(draw):
    """Its gradient is linear, so the content is the batch's gradient before the last SGD update."""
    matrix = draw(6, 6)
    matrix = matrix @ matrix.T
    start, lr, g_before = draw(6), 0.1, draw(6)
    now = matrix @ (start - lr * g_before)
    found, vector = decomposition.hessian(g_before, now, matrix @ g_before, lr, None, None)
    assert found["content_norm"] == pytest.approx(float((matrix @ start).norm()))
    top = torch.linalg.eigh(matrix)
    along = top.eigenvectors[:, -1]
    found, again = decomposition.hessian(along, now, matrix @ along, lr, along, vector)
    assert found["rayleigh_quotient"] == pytest.approx(float(top.eigenvalues[-1]))
    assert found["edge_of_stability"] == pytest.approx(lr * float(top.eigenvalues[-1]))
    assert found["entanglement_cossim_to_solution"] == pytest.approx(-1)
    assert found["entanglement_coherence"] == pytest.approx(vectors.cosine(again, vector))


def test_adam_beside_the_gradient():
    g, update = torch.tensor([1.0, 0.0]), torch.tensor([0.3, 0.4])
    found = decomposition.adam_dynamics(g, 2 * g, torch.tensor([1.0, 3.0]), update, 0.5, -g)
    assert found["update_deflection"] == pytest.approx(0.8)
    assert found["amplification_ratio"] == pytest.approx(0.5 / 0.5)
    assert found["effective_lr_cv"] == pytest.approx(math.sqrt(2) / 2)
    assert found["momentum_solution_cossim"] == 1.0  # descent, towards the reference
    assert found["optimizer_solution_amplification"] == pytest.approx(0.6 - 1)


def test_counterfactual_split_and_its_null(draw):
    observed, shuffled = torch.tensor([3.0, 4.0, 0.0]), torch.tensor([[2.0, 0, 0], [4.0, 0, 0]])
    found = decomposition.counterfactual(observed, shuffled, None)
    assert found["content_component_norm"] == 3 and found["ordering_component_norm"] == 4
    assert found["ordering_fraction"] == pytest.approx(16 / 25)
    assert found["ordering_alignment"] == pytest.approx(0.6)
    assert found["null_ordering_fraction"] == 0
    many = draw(6, 50)
    null = decomposition.counterfactual(many[0], many[1:], None)
    assert null["ordering_fraction"] == pytest.approx(null["null_ordering_fraction"], abs=0.15)


def test_validator_over_all_subsets():
    shuffled = torch.tensor([[1.0, 0], [0, 1.0], [1.0, 0], [0, 1.0]], dtype=torch.float64)
    found = decomposition.counterfactual_validator(shuffled, None)
    subset = math.sqrt(5) / 3
    assert found["k_content_norm_min"] == pytest.approx(subset)
    assert found["kp1_content_norm"] == pytest.approx(math.sqrt(0.5))
    assert found["kp1_norm_strictly_lower"] == 1
    assert found["norm_convergence_gap"] == pytest.approx(subset / math.sqrt(0.5) - 1)
    assert found["k_to_kp1_cossim_min"] == pytest.approx(3 / math.sqrt(10))


def test_phases():
    tables = [torch.zeros(2, 2) + 1, torch.zeros(2, 2) + 2]
    assert decomposition.phases([1.0, 3.0, 4.0], tables, 0.985) == {
        "phase_code": 3,
        "grad_velocity": 1.0,
        "grad_acceleration": -1.0,
        "embedding_change": 2.0,
        "embedding_change_normalized": 1.0,
    }
    assert decomposition.phases([1.0], tables[:1], 0.04) == {"phase_code": 0}


def test_principal_shares_are_those_of_the_covariance(draw):
    """Eigenvalues of the covariance of the rows, divided by their sum, whatever the mean of the rows is."""
    table = draw(9, 4) + 5
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(table.numpy().T)))[::-1]
    np.testing.assert_allclose(spectra.principal_shares(table), eigenvalues / eigenvalues.sum())
    angles = torch.arange(7, dtype=torch.float64) * 2 * math.pi / 7
    circle = torch.stack([angles.cos(), angles.sin(), torch.ones_like(angles)], 1)
    assert spectra.principal_shares(circle)[:2].tolist() == pytest.approx([0.5, 0.5])
