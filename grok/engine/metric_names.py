"""The names of the metrics that the instruments of the catalogue log.

In these names PARAMETER stands for the name of a parameter that is no bias, MATRIX for one of two
dimensions, LAYER for the number of a layer of a transformer, FREQUENCY for a number, and LAG and
WINDOW for values of the options of `batch_dynamics`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from grok.engine.measure import Measure
from grok.engine.problem import Problem
from grok.measures.vectors import slashed

METRICS = {
    "training_metrics": "loss training_accuracy validation_accuracy learning_rate perplexity",
    "training_diagnostics": """loss_mean loss_std loss_volatility loss_autocorrelation grad_norm_mean
        grad_norm_std grad_norm_cv grad_norm_max update_ratio_mean update_ratio_std weight_norm""",
    "parameter_delta": "relative_delta absolute_delta param_norm",
    "path_length": "path_length net_displacement path_efficiency",
    "norms": "total_norm max_component mean_component norm/PARAMETER",
    "consecutive": "cos_sim angle_degrees",
    "variance": "gradient_variance mean_pairwise_cos signal_to_noise window_mean_norm",
    "batch_dynamics": """lag_LAG autocorrelation_mean efficiency_WINDOW effective_rank
        top1_variance""",
    "weight_tracking": """weight_norm/MATRIX top_sv/MATRIX effective_rank/MATRIX
        grad_weight_align/MATRIX mean_weight_norm mean_top_sv mean_effective_rank
        mean_grad_weight_align total_weight_norm max_top_sv""",
    "gradient_projection": """grad_cossim_to_solution/PARAMETER overall_grad_cossim_to_solution
        mean_layer_grad_cossim_to_solution disp_cossim_to_solution/PARAMETER
        overall_disp_cossim_to_solution mean_layer_disp_cossim_to_solution displacement_norm
        distance_to_reference""",
    "subspace_gradient_info": """dims_for_90pct participation_ratio top_sv_ratio svd_total_variance
        top1_explained top5_explained top10_explained grad_energy_fraction_toward_solution
        top1_energy_fraction_toward_solution top5_energy_fraction_toward_solution
        top10_energy_fraction_toward_solution""",
    "fourier": """low_freq_power stride_harmonic_power spectral_entropy peak_frequency peak_power
        n_significant_freqs decoder_spectral_entropy decoder_peak_frequency decoder_peak_power
        decoder_n_significant_freqs neuron_fourier_top1 neuron_fourier_entropy
        freq_power/FREQUENCY acquired/FREQUENCY n_tracked_freqs newly_acquired_freqs""",
    "attention": """sv_concentration/LAYER/q effective_rank/LAYER/q top5_explained_var/LAYER/q
        sv_concentration/LAYER/k effective_rank/LAYER/k top5_explained_var/LAYER/k
        sv_concentration/LAYER/v effective_rank/LAYER/v top5_explained_var/LAYER/v
        attn_entropy/LAYER attn_variance/LAYER mean_sv_concentration mean_effective_rank
        mean_top5_explained_var attn_entropy attn_variance""",
    "token_gradient": """gradient_sparsity gradient_gini stride_group_variance stride_group_max_ratio
        tokens_for_50pct tokens_for_90pct concentration_ratio""",
    "phases": """phase_code grad_velocity embedding_change embedding_change_normalized
        grad_acceleration""",
    "counterfactual": """counterfactual_mean_norm content_component_norm ordering_component_norm
        ordering_fraction ordering_alignment null_ordering_fraction content_cossim_to_solution
        ordering_cossim_to_solution cf_grad_cossim_to_solution content_component_norm/PARAMETER
        ordering_component_norm/PARAMETER ordering_fraction/PARAMETER ordering_alignment/PARAMETER
        content_cossim_to_solution/PARAMETER ordering_cossim_to_solution/PARAMETER
        cf_grad_cossim_to_solution/PARAMETER content_energy_fraction_toward_solution
        ordering_energy_fraction_toward_solution""",
    "counterfactual_validator": """kp1_content_norm k_content_norm_max k_content_norm_min
        k_content_norm_mean kp1_norm_strictly_lower norm_convergence_gap k_to_kp1_cossim_mean
        k_to_kp1_cossim_min kp1_cossim_to_solution k_cossim_to_solution_mean
        k_cossim_to_solution_std k_cossim_to_solution_spread""",
    "margins": "least median mean positive least_normalized",
    "addition_circuits": "gradient_symmetricity distance_irrelevance circularity",
    "learning_coefficient": "llc spread",
    "description_length": "naive_bytes bytes kept unit entropy_rank/MATRIX",
}
OPTIONAL = {  # parts of names of metrics that are logged with an option only
    "PARAMETER": "per_parameter",
    "FREQUENCY": "per_frequency",
    "least_normalized": "degree",
    "_energy_fraction_toward": "energy_window",
}


def metric_names_of(measure: Measure, problem: Problem) -> set[str] | None:
    """The metrics that an instrument of the catalogue logs at evaluation steps of a run.

    Returns:
        INSTRUMENT/METRIC each; None for an instrument of the paper's own, whose metrics nobody knows
        before it has been taken.
    """
    if measure.name not in METRICS:
        return None
    assert problem.measures is not None
    parameters = {name: p.shape for name, p in problem.module.named_parameters()}
    blocks = [re.match(r"blocks\.(\d+)\.", name) for name in parameters]
    weights = {slashed(name): shape for name, shape in parameters.items() if "bias" not in name}
    values: dict[str, Iterable[object]] = {
        "PARAMETER": weights,
        "MATRIX": [name for name, shape in weights.items() if len(shape) == 2],
        "LAYER": sorted({match[1] for match in blocks if match}),
        "FREQUENCY": range(1, parameters.get("tokens", [0])[0] // 2 + 1),
        "LAG": measure.values.get("lags", ()),
        "WINDOW": measure.values.get("windows", ()),
    }
    names = set()
    for name in METRICS[measure.name].split():
        options = [option for part, option in OPTIONAL.items() if part in name]
        if not all(measure.values.get(option, True) for option in options):
            continue
        if "solution" in name and problem.measures.reference is None:
            continue
        names |= {f"{measure.name}/{each}" for each in _written_out(name, values)}
    return names


def _written_out(name: str, values: Mapping[str, Iterable[object]]) -> Iterator[str]:
    """The name with each value of the word in capitals that it has, if it has one."""
    for word, replacements in values.items():
        if re.search(rf"(^|[/_]){word}($|/)", name):
            yield from (name.replace(word, str(each)) for each in replacements)
            return
    yield name
