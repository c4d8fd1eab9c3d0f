"""W&B's sweep files: every form that W&B documents, and what people write."""

import math
import time
from pathlib import Path

import pytest
import sweeps
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from grok.errors import UserError
from grok.sweep import commands, search
from grok.sweep import file as files
from grok.sweep.local import points_of
from grok.values import with_numbers

CASES = Path(__file__).parent / "cases"
TOY = "experiments/liu_toy.py"
# Each distribution: its specification as written in YAML, a config key, and its smallest and largest value.
DISTRIBUTIONS = {
    "constant": ("{distribution: constant, value: 1e-3}", "decoder_lr", 1e-3, 1e-3),
    "categorical": ("{distribution: categorical, values: [1e-3, 1e-2]}", "decoder_lr", 1e-3, 1e-2),
    "categorical_w_probabilities": (
        "{values: [1e-3, 1e-2], probabilities: [1e-1, 9e-1]}",
        "decoder_lr",
        1e-3,
        1e-2,
    ),
    "int_uniform": ("{distribution: int_uniform, min: 1e1, max: 20}", "p", 10, 20),
    "int_uniform_by_bounds": ("{min: 1e1, max: 20}", "p", 10, 20),
    "uniform": ("{distribution: uniform, min: 1e-4, max: 1}", "decoder_lr", 1e-4, 1),
    "uniform_by_bounds": ("{min: 1e-4, max: 1e0}", "decoder_lr", 1e-4, 1),
    "q_uniform": ("{distribution: q_uniform, min: 1e1, max: 30, q: 5}", "p", 10, 30),
    "log_uniform": ("{distribution: log_uniform, min: -9, max: -2}", "decoder_lr", 1e-4, 0.136),
    "log_uniform_values": (
        "{distribution: log_uniform_values, min: 1e-4, max: 1e-2}",
        "decoder_lr",
        1e-4,
        1e-2,
    ),
    "q_log_uniform": ("{distribution: q_log_uniform, min: 2, max: 4}", "p", 7, 55),
    "q_log_uniform_values": (
        "{distribution: q_log_uniform_values, min: 5, max: 1e2, q: 1e0}",
        "p",
        5,
        100,
    ),
    "inv_log_uniform": (
        "{distribution: inv_log_uniform, min: 2, max: 9}",
        "decoder_lr",
        1e-4,
        0.136,
    ),
    "inv_log_uniform_values": (
        "{distribution: inv_log_uniform_values, min: 1e-4, max: 1e-2}",
        "decoder_lr",
        1e-4,
        1e-2,
    ),
    "normal": ("{distribution: normal, mu: 1e2, sigma: 1e-3}", "decoder_weight_decay", 99, 101),
    "q_normal": ("{distribution: q_normal, mu: 50, sigma: 1e0, q: 2}", "p", 30, 70),
    "log_normal": ("{distribution: log_normal, mu: -7, sigma: 1e-1}", "decoder_lr", 0, 1e-2),
    "q_log_normal": ("{distribution: q_log_normal, mu: 4, sigma: 1e-1}", "p", 20, 200),
    "beta": ("{distribution: beta, a: 2e0, b: 5}", "decoder_lr", 0, 1),
    "q_beta": ("{distribution: q_beta, a: 2, b: 5, q: 1e-1}", "decoder_weight_decay", 0, 1),
}
MACROS = ("${args}", "${args_no_hyphens}", "${args_json}", "${args_no_boolean_flags}")


def checked(text: str, **changes) -> files.SweepFile:
    """The checked sweep of a YAML text, the toy's random sweep of ten points unless it says else."""
    config = {"program": TOY, "method": "random", "run_cap": 10, **yaml.safe_load(text), **changes}
    return files.check({k: v for k, v in config.items() if v is not None}, "sweep", "sweep.yaml")


def updates(file: files.SweepFile) -> list[dict]:
    return [file.updates(point) for point in points_of(file, file.config["run_cap"], None)]


@pytest.mark.parametrize("path", sorted(CASES.glob("*.yaml")), ids=lambda path: path.stem)
def test_files_as_people_write_them_have_valid_points(path):
    file = files.read(path)
    points = points_of(file, file.config.get("run_cap"), None)
    assert len(points) == {"c01b_scientific_range": 2, "c06_nested": 2, "c12_anchor": 4}[path.stem]
    for point in points:
        config = file.experiment.full_config(file.updates(point), file.named_configs)
        assert 1e-4 <= config["decoder_lr"] <= 1e-2


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_distribution_gives_values_that_its_key_takes(name):
    spec, key, low, high = DISTRIBUTIONS[name]
    file = checked(f"parameters: {{{key}: {spec}}}")
    values = [point[key] for point in updates(file)]
    assert len(values) == 10 and all(low <= value <= high for value in values)
    for value in set(values):
        file.experiment.full_config({key: value})


def test_bounds_of_logarithmic_distributions_are_exponents_or_values():
    spec = {"distribution": "log_uniform", "min": -9, "max": -2}
    file = checked("{}", parameters={"decoder_lr": spec})
    bounds = {"min": math.exp(-9), "max": math.exp(-2)}
    expected = {"distribution": "log_uniform_values", **bounds}
    assert file.config["parameters"]["decoder_lr"] == expected
    with pytest.raises(UserError, match="Use log_uniform_values"):  # these are no exponents
        checked("parameters: {decoder_lr: {distribution: log_uniform, min: 1e-4, max: 1e-2}}")


def test_a_grid_takes_the_distributions_that_are_finite():
    text = """
        parameters:
          p: {distribution: int_uniform, min: 5, max: 6}
          decoder_width: {distribution: q_uniform, min: 1e1, max: 3e1, q: 10}
          decoder_lr: {value: 1e-3}
          seed: {values: [0, 1]}
    """
    points = updates(checked(text, method="grid", run_cap=100))
    assert len(points) == 8
    assert {point["p"] for point in points} == {5, 6}
    assert {point["decoder_width"] for point in points} == {10, 20}
    assert {point["decoder_lr"] for point in points} == {1e-3}


def test_a_grid_has_the_points_of_w_and_b_s_own_function_in_its_order():
    text = """
        parameters:
          p: {distribution: int_uniform, min: 5, max: 8}
          decoder_width: {distribution: q_uniform, min: 10, max: 31, q: 7}
          decoder_weight_decay: {distribution: q_uniform, min: 0.1, max: 0.75, q: 0.1}
          decoder_lr: {values: [1e-3, 1e-2, 1e-3, 1]}
          seed: {value: 3}
    """
    config = checked(text, method="grid").config
    expected = [search.plain(run.config) for run in sweeps.next_runs(config, [], n=1000) if run]
    assert len(expected) == 4 * 3 * 7 * 3
    for limit in (None, 1, 50, 1000):
        assert search.grid(config, limit) == expected[:limit]


@pytest.mark.parametrize(
    ("spec", "count"), [({"values": list(range(10))}, 10), ({"min": 1, "max": 10**12}, 10**12)]
)
def test_a_large_grid_is_counted_before_it_is_listed(spec, count):
    """Of 10^7 and more points the first ones are given at once, if there is a limit."""
    config = {"method": "grid", "parameters": dict.fromkeys("abcdefg", spec)}
    start = time.process_time()
    with pytest.raises(UserError, match=f"at most 100,000 points, not {count**7:,}: give --limit"):
        search.grid(config, None)
    with pytest.raises(UserError, match="at most 100,000 points, not 100,001"):
        search.grid(config, 100_001)
    assert len(search.grid(config, 3)) == 3
    assert time.process_time() - start < 1


def test_a_random_search_has_a_bound_too():
    file = checked("parameters: {p: {min: 5, max: 9}}")
    for limit, seeds in ((10**9, None), (10, 10**5)):
        with pytest.raises(UserError, match="at most 100,000 points, not"):
            points_of(file, limit, seeds)


@pytest.mark.parametrize("method", ["grid", "random"])
def test_points_that_do_not_fit_into_a_document_are_refused(method):
    """MongoDB refused them after minutes, in which all had been planned, with an error of its own."""
    keys = (
        "decoder_lr",
        "encoder_lr",
        "decoder_weight_decay",
        "encoder_weight_decay",
        "init_scale",
    )
    one = {key: {"value": 0.1} if method == "grid" else {"min": 0.1, "max": 1.0} for key in keys}
    parameters = {**one, "p": {"min": 5, "max": 9}, "seed": {"min": 0, "max": 19_999}}
    file = checked(yaml.safe_dump({"parameters": parameters}), method=method)
    with pytest.raises(UserError, match=r"^100,000 points take 1\d\.\d MiB, and a sweep stores at"):
        if method == "grid":
            points_of(file, None, None)
        else:
            commands._new_points(file, 100_000, None)
    assert len(points_of(file, 1000, None)) == 1000


def test_nested_parameters_reach_the_keys_that_are_one_word():
    text = """
        parameters:
          decoder: {parameters: {lr: {values: [1e-2, 1e-3]}, weight: {parameters: {decay: {value: 1}}}}}
    """
    file = checked(text, method="grid")
    assert updates(file) == [{"decoder_lr": lr, "decoder_weight_decay": 1} for lr in (1e-2, 1e-3)]
    # the points of W&B's own server keep the file's nesting
    assert file.updates({"decoder": {"lr": 0.5}}) == {"decoder_lr": 0.5}
    with pytest.raises(
        UserError, match="config key of liu_toy decoder_rl; did you mean decoder_lr"
    ):
        checked("parameters: {decoder: {parameters: {rl: {value: 1}}}}")
    with pytest.raises(UserError, match="decoder_lr is given twice"):
        checked(text.rstrip() + "\n          decoder_lr: {value: 1}")


@pytest.mark.parametrize("macro", MACROS)
def test_every_macro_for_the_arguments_becomes_the_one_that_sacred_reads(macro):
    parameters = {"decoder_lr": {"value": 1e-3}}
    command = ["${env}", "${interpreter}", "${program}", macro]
    file = checked("{}", command=command, parameters=parameters)
    assert file.config["command"] == files.DEFAULT_COMMAND
    command = ["python", "${program}", "with", "authors_seed58", "p=6", macro]
    file = checked("{}", command=command, parameters=parameters)
    assert (file.named_configs, file.fixed) == (("authors_seed58",), {"p": 6})
    assert file.config["command"] == [*command[:-1], "${args_no_hyphens}"]


def test_without_a_command_the_program_gets_its_arguments_as_sacred_reads_them():
    assert checked("parameters: {p: {value: 6}}").config["command"] == files.DEFAULT_COMMAND


def test_early_termination_run_cap_and_target_may_be_in_scientific_notation():
    text = """
        parameters: {p: {value: 6}}
        metric: {name: train_loss, goal: minimize, target: 1e-3}
        early_terminate: {type: hyperband, max_iter: 1e3, s: 2, eta: 1.5e0}
    """
    config = checked(text, run_cap="1e1").config
    assert config["run_cap"] == 10 and config["metric"]["target"] == 1e-3
    assert config["early_terminate"] == {"type": "hyperband", "max_iter": 1000, "s": 2, "eta": 1.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parameters: {p: {min: small, max: 9}}", "p: min='small': expected a number"),
        ("parameters: {p: {min: 9, max: 1}}", "p: min 9 is not less than max 1"),
        ("parameters: {p: {min: 1, max: .inf}}", "p: max=inf: expected a number"),
        ("{parameters: {p: {value: 5}}, run_cap: -1}", "run_cap=-1: expected a whole number"),
        ("{parameters: {p: {value: 5}}, 1: 2}", "expected a mapping with program"),
        ("parameters: {p: 5}", "Invalid configuration for hyperparameter 'p'"),
        ("parameters: {p: {values: [5], probabilities: [2e-1]}}", "do not sum to 1"),
        (
            "{parameters: {p: {value: 5}}, early_terminate: {type: hyperband, min_iter: 3}}",
            "metric",
        ),
        ("{parameters: {p: {value: 5}}, y-rates: [1]}", "'y-rates' was unexpected"),
    ],
)
def test_a_wrong_specification_is_one_line(text, message):
    with pytest.raises(UserError, match=message) as caught:
        checked(text)
    assert "\n" not in str(caught.value)


@pytest.fixture
def subnormal_numbers():
    """Other tests train, which lets this process treat subnormal numbers as zero."""
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("subnormal_numbers")
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_scientific_notation_is_a_number_wherever_it_stands(number):
    text = f"{number:.17e}"
    assert with_numbers({"a": ["x", text, "1e", "e5", 3]}) == {"a": ["x", number, "1e", "e5", 3]}


def test_a_checked_config_is_checked_to_itself():
    for path in CASES.glob("*.yaml"):
        config = files.read(path).config
        assert files.check(config, path.stem, str(path)).config == config


@pytest.mark.parametrize(
    "parameter",
    [
        "measure_options.hessian.every: {values: [20, 30]}",
        "measure_options: {parameters: {hessian: {parameters: {every: {values: [20, 30]}}}}}",
    ],
)
def test_an_option_of_an_instrument_is_swept(parameter):
    """By its dotted name as in Sacred, or nested as in W&B; its value reaches the instrument."""
    text = (
        f"program: {TOY}\nmethod: grid\nparameters:\n  measures: {{value: hessian}}\n  {parameter}"
    )
    file = files.check(yaml.safe_load(text), "x", "x")
    problems = [
        file.experiment.problem_of(file.experiment.full_config({**file.updates(point), "seed": 0}))
        for point in points_of(file, None, None)
    ]
    assert [problem.measures.measures[0].every for problem in problems] == [20, 30]
