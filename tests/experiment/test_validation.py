"""Bad input is one clear line that names the value and what was expected."""

import inspect
import re
import subprocess
import sys

import pytest
import torch

from grok.errors import UserError
from grok.experiment.experiment import load
from tests.conftest import PROJECT


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ({"pp": 3}, "pp; did you mean p"),
        ({"p": "ten"}, "p='ten': expected a whole number of at least 2"),
        ({"p": 1}, "p=1: expected"),
        ({"p": True}, "p=True: expected"),
        ({"train_fraction": 1.5}, "train_fraction=1.5: expected a number between 0 and 1"),
        ({"train_fraction": 45}, "exclusive (45 percent is 0.45"),
        ({"train_fraction": 0}, "train_fraction=0: expected"),
        ({"train_fraction": 0.001}, "train_fraction=0.001: expected to give 1 to 54 of 55"),
        ({"train_count": 55}, "train_count=55: expected"),
        ({"encoder_lr": -1}, "encoder_lr=-1: expected a number of at least 0"),
        ({"encoder_lr": float("nan")}, "encoder_lr=nan: expected"),
        ({"variant": "foo"}, "variant='foo': expected one of encoder, table, permutation"),
        ({"variant": "tabel"}, "did you mean table"),
        ({"seed": "abc"}, "seed='abc': expected"),
        ({"seed": -1}, "seed=-1: expected"),
        ({"seed": 2**32}, "seed=4294967296: expected a whole number from 0 to 4294967295"),
        ({"stop_when_decided": None}, "stop_when_decided=None: expected True or False"),
        ({"optimizer": "adamm"}, "did you mean adam"),
        ({"stop_when_decided": 3}, "stop_when_decided=3: expected True or False"),
        ({"combine": "multiply", "hidden_rep_dim": 3}, "hidden_rep_dim=3: expected a square"),
        ({"variant": "permutation", "p": 5}, "p=5: expected at most 4"),
    ],
)
def test_bad_values_are_named_and_nothing_starts(liu_toy, store, updates, message):
    before = store.database.runs.count_documents({})
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        liu_toy.run(config_updates=updates)
    assert store.database.runs.count_documents({}) == before


@pytest.mark.parametrize(
    ("program", "key", "meant"),
    [
        ("power", "train_size", "train_count (a number of rows) or train_fraction (a fraction of"),
        ("power", "split", "train_fraction or"),
        ("power", "frac_train", "train_fraction or"),
        ("power", "steps", "train_steps?"),
        ("power", "iters", "train_steps?"),
        ("power", "epochs", "train_steps (in steps of the optimizer; an epoch is"),
        ("power", "n_epochs", "train_steps (in steps of the optimizer; an epoch is"),
        ("ordering", "n_epochs", "epochs?"),
        ("ordering", "steps", "epochs (an epoch is one pass through the train set, not a step)"),
        ("power", "log_freq", "log_points (the number of evaluations)"),
        ("mlp", "eval_every", "eval_steps (steps between evaluations)"),
        ("power", "wd", "weight_decay?"),
        ("liu_toy", "wd", "decoder_weight_decay or encoder_weight_decay?"),
        ("power", "learning_rate", "lr?"),
        ("liu_toy", "lr", "decoder_lr or encoder_lr?"),
        ("power", "bs", "batch_size?"),
        ("power", "hidden", "width?"),
        ("lazy_to_rich", "hidden", "units?"),
        ("power", "d_model", "width?"),
        ("power", "n_layers", "depth?"),
        ("power", "n_heads", "heads?"),
        ("ordering", "strategy", "ordering?"),
        ("power", "math_operator", "operation?"),
        ("power", "Train_Frac", "train_fraction or"),
        ("power", "weight_deacy", "weight_decay?"),
    ],
)
def test_other_programs_names_of_a_key_lead_to_the_key(program, key, meant):
    paper = load(PROJECT / "experiments" / f"{program}.py")
    with pytest.raises(UserError) as raised:
        paper.full_config({key: 1})
    assert f"key of {program} {key}; did you mean {meant}" in str(raised.value)


@pytest.mark.parametrize("key", ["patience", "strategy", "test_size"])
def test_a_key_of_another_meaning_is_not_suggested(key):
    paper = load(PROJECT / "experiments" / "power.py")
    with pytest.raises(UserError, match=f"{key}; there are: activation, anneal_steps, "):
        paper.full_config({key: 1})


@pytest.mark.parametrize(
    ("updates", "expected"),
    [
        ({"optimizer": "AdamW"}, "adamw"),
        ({"loss": "Cross_Entropy"}, "cross_entropy"),
        ({"grokfast": "none"}, None),
        ({"grokfast": "EMA"}, "ema"),
        ({"train_count": "None"}, None),
        ({"record_trajectory": "true"}, True),
        ({"loss_dtype": "null"}, None),
    ],
)
def test_values_are_read_in_upper_and_lower_case(liu_toy, updates, expected):
    (key,) = updates
    assert liu_toy.full_config({"seed": 0, **updates})[key] == expected


def test_a_list_in_json_is_read(liu_toy):
    """Sacred reads Python's True only, and the message for true did not say what was wrong."""
    found = liu_toy.full_config(
        {
            "interventions": '[{"when": 10, "reset": true}]',
            "measure_options": '{"hessian": {"per_parameter": false}}',
        }
    )
    assert found["interventions"] == [{"when": 10, "reset": True}]
    assert found["measure_options"] == {"hessian": {"per_parameter": False}}
    for wrong in ('[{"when": 10, "reset": tru}]', "[true]", "[" * 100_000):
        with pytest.raises(UserError, match="expected a list of entries"):
            liu_toy.full_config({"interventions": wrong})


def test_none_stays_a_choice_where_it_is_one():
    paper = load(PROJECT / "experiments" / "minegishi.py")
    assert paper.full_config({"mask": "None"})["mask"] == "none"


@pytest.mark.parametrize(
    ("updates", "suggestion"),
    [
        ({"loss": "mse"}, " you mean squared_error?)"),
        ({"optimizer": "adamax"}, ""),
        ({"optimizer": "rmsprop"}, ""),
        ({"activation": "elu"}, ""),
        ({"activation": "silu"}, ""),
        ({"loss_dtype": "bfloat16"}, ""),
        ({"device": "gpu"}, " you mean cuda?)"),
    ],
)
def test_a_value_of_another_kind_is_not_suggested(liu_toy, updates, suggestion):
    with pytest.raises(UserError) as raised:
        liu_toy.full_config(updates)
    _, _, found = str(raised.value).partition(" (did")
    assert found == suggestion


def test_annotations_are_not_part_of_the_configuration(liu_toy):
    """Python keeps them among the variables of a config function; they must not be stored."""
    assert not [key for key in liu_toy.full_config({"seed": 0}) if key.startswith("_")]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(liu_toy):
    with pytest.raises(UserError, match="device='cuda': expected a CUDA device"):
        liu_toy.run(config_updates={"device": "cuda"})


def test_unknown_named_config(liu_toy):
    with pytest.raises(UserError, match="did you mean paper"):
        liu_toy.run(named_configs=["papr"])


@pytest.mark.parametrize("words", [["with", "pp=3"], ["with", "p=1"], ["-m", "localhost:1:x"]])
def test_the_command_line_says_one_line_and_exits_with_2(words):
    command = [sys.executable, "experiments/liu_toy.py", *words]
    ended = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=180)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert ended.stdout == ""


@pytest.mark.parametrize(
    ("program", "updates", "message"),
    [
        ("thilak", {"p": 13}, "batch_size=512: expected at most 78, the train rows, or None"),
        ("thilak", {"dataset": "digits"}, "train_count=None: expected 1 to 1796 of the digits"),
        ("doshi", {"terms": 3, "operation": "x_times_y"}, "terms=3: expected 2 with operation"),
        ("doshi", {"preset": "outlayer"}, "unknown named config of doshi outlayer; did you mean"),
        ("nanda", {"width": 30}, "width=30: expected a multiple of heads=4"),
        ("minegishi", {"embedding_width": None}, "embedding_width=None: expected a whole number"),
        (
            "humayun",
            {"dataset": "mnist_5k", "train_count": 5000},
            "train_count=5000: expected 1 to",
        ),
        ("humayun", {"dataset": "digits", "directions": 65}, "directions=65: expected at most 64"),
        ("humayun", {"directions": -1}, "directions=-1: expected a whole number"),
        ("omnigrok", {"messiness": 1.5}, "messiness=1.5: expected a fraction from 0 to 1"),
        ("omnigrok", {"dataset": "sums", "train_count": 18}, "train_count=18: expected 19 to 54"),
        (
            "power",
            {"noisy_answers": 4705},
            "noisy_answers=4705: expected at most 4704, the train rows",
        ),
        ("power", {"noisy_answers": -1}, "noisy_answers=-1: expected a whole number of at least 0"),
        ("power", {"operation": "sort", "noisy_answers": 5}, "noisy_answers=5: expected none with"),
        ("power", {"operation": "copy", "symmetric": True}, "symmetric=True: expected none with"),
        (
            "power",
            {"operation": "sort", "list_length": 0},
            "list_length=0: expected a whole number",
        ),
        (
            "power",
            {"operation": "sort", "list_count": 10**12},
            "expected at most 1030927 with p=97",
        ),
        ("power", {"operation": "sort", "p": 10**6}, "p=1000000: expected at most 5000"),
        ("power", {"operation": None}, "operation=None: expected a text"),
        ("power", {"operation": "revers"}, "did you mean reverse"),
        ("power", {"operation": "a / 0"}, "expected an operation that does not divide by zero"),
        ("power", {"betas": 0.9}, "betas=0.9: expected two numbers below 1"),
        ("power", {"optimizer": "adam", "decay_to": "init"}, "decay_to='init': expected zero with"),
        (
            "capacity",
            {"eval_test_count": 0},
            "eval_test_count=0: expected a whole number of at least 1",
        ),
        ("power", {"betas": [0.9, 1]}, "betas=[0.9, 1]: expected two numbers below 1"),
        ("power", {"betas": [0.9]}, "betas=[0.9]: expected two numbers below 1"),
        ("wang", {"dropout": 1}, "dropout=1: expected a number of at least 0 and below 1"),
        ("wang", {"ood_fraction": 1.0}, "ood_share=1.0: expected a number of at least 0 and below"),
        ("nanda", {"grokfast_alpha": 1}, "grokfast_alpha=1: expected a number of at least 0 and"),
        ("nanda", {"train_fraction": 1}, "train_fraction=1: expected a number between 0 and 1"),
        ("nanda", {"lr": float("inf")}, "lr=inf: expected a number of at least 0"),
        ("minegishi", {"keep": 0}, "keep=0: expected a fraction above 0, up to 1"),
        ("levi", {"hidden_dim": 0}, "hidden_dim=0: expected a whole number"),
        ("levi", {"activation": "relu"}, "activation='relu': expected one of linear, tanh"),
    ],
)
def test_bad_values_of_other_papers(program, updates, message):
    paper = load(PROJECT / "experiments" / f"{program}.py")
    with pytest.raises(UserError) as raised:
        paper.problem_of(paper.full_config({"seed": 0, **updates}))
    assert message in str(raised.value)


@pytest.mark.parametrize("program", ["capacity", "grokfast", "nanda", "power"])
def test_no_batch_size_is_the_whole_train_set(program):
    paper = load(PROJECT / "experiments" / f"{program}.py")
    problem = paper.problem_of(paper.full_config({"seed": 0, "p": 13, "batch_size": None}))
    assert problem.batch_size is None and len(problem.data["train_labels"]) < 13**2


@pytest.mark.parametrize(
    "path", sorted((PROJECT / "experiments").glob("*.py")), ids=lambda p: p.stem
)
def test_every_key_has_a_type_and_a_sentence_and_every_named_config_too(path):
    """A key without a type is unchecked; one without a comment is unexplained in `print_config`."""
    ex = load(path)
    keys = ex.defaults()
    assert set(ex.types) == {*keys, "seed"}
    comments = {k: text for scope in ex.configurations for k, text in scope._var_docs.items()}
    assert [key for key in keys if len(comments.get(key, "")) <= 3] == []
    # The comment is the key's own, and not the heading of a group of keys above it.
    source = "".join(inspect.getsource(scope._func) for scope in ex.configurations)
    assert not set(re.findall("^    # ([A-Z].*)$", source, re.MULTILINE)) & set(comments.values())
    assert all((config.__doc__ or "").endswith(".") for config in ex.named_configs.values())
    for name in ex.named_configs:  # its values are of the declared types
        ex.full_config({"seed": 0}, [name])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("muon_lr", 0.01),
        ("muon_momentum", 0.0),
        ("muon_weight_decay", 0.0),
        ("muon_parameters", ["hidden"]),
    ],
)
def test_options_of_muon_are_refused_with_another_optimizer(key, value):
    """They were ignored, and a run that looked like one of Muon was one of AdamW."""
    paper = load(PROJECT / "experiments" / "muon.py")
    config = {"seed": 0, "p": 7, key: value}
    paper.problem_of(paper.full_config({**config, "optimizer": "muon"}))
    expected = f"{key}=.*: expected (None|\\[\\]) unless optimizer=muon, which alone reads it"
    for optimizer in ("adamw", "sgd"):
        with pytest.raises(UserError, match=expected):
            paper.problem_of(paper.full_config({**config, "optimizer": optimizer}))
