"""Runs that start from a file of weights."""

import hashlib
import json
import os
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from grok.errors import UserError
from grok.experiment import initial_weights, weights
from grok.experiment.experiment import load
from grok.experiment.initial_weights import Unfit, fit
from grok.experiment.repeat import repeat, resume
from grok.models.gpt2 import NotGPT2, to_gpt2
from grok.models.lens import to_hooked
from grok.models.transformer import Transformer, TransformerConfig
from grok.sweep import file as files
from grok.sweep import plan
from grok.sweep.local import LocalSweep, points_of
from grok.sweep.progress import SweepProgress
from tests.conftest import PROJECT

TINY = {"p": 7, "width": 8, "mlp_width": 16, "heads": 2, "train_steps": 6, "log_points": 6}
GPT = TransformerConfig(
    9,
    9,
    5,
    width=12,
    depth=2,
    heads=3,
    norm="pre",
    final_norm=True,
    biases=("attention", "mlp"),
    activation="gelu",
    positions="learned",
)
TIED = replace(GPT, tied=True)
SINUSOIDAL = TransformerConfig(9, 7, 5, width=12, norm="none", biases=("mlp",))


@pytest.fixture(scope="module")
def nanda():
    return load(PROJECT / "experiments" / "nanda.py")


@pytest.fixture(scope="module")
def exported(store, nanda, tmp_path_factory):
    """A run of `nanda with cpu`, and its final weights under our names and TransformerLens's."""
    run = nanda.run(named_configs=["cpu"], config_updates={**TINY, "seed": 0})
    folder = tmp_path_factory.mktemp("weights")
    own, hooked = folder / "own.safetensors", folder / "hooked.safetensors"
    weights.export(store, run._id, own)
    weights.export(store, run._id, hooked, hooked=True)
    return run, own, hooked


def problem(nanda, path, **updates):
    return nanda.problem_of(
        nanda.full_config({**TINY, "initial_weights": str(path), **updates}, ["cpu"])
    )


def logged(store, number: int, name: str) -> dict[int, float]:
    found = store.database.metrics.find_one({"run_id": number, "name": name})
    return dict(zip(found["steps"], found["values"], strict=True))


def module_of(config: TransformerConfig, seed: int = 0) -> Transformer:
    torch.manual_seed(seed)
    module = Transformer(config)
    for parameter in module.parameters():  # also those that are 0 or 1 at first
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


@pytest.mark.parametrize("index, names", [(1, "own"), (2, "TransformerLens")])
def test_a_run_starts_exactly_where_the_exported_one_ended(store, nanda, exported, index, names):
    """No rounding: the logits at step 0 are the final ones, bit for bit. The run says which file it
    started from, and repeats."""
    first, path = exported[0], exported[index]
    module = problem(nanda, path, seed=5).module
    state = load_file(exported[1])
    assert all(torch.equal(value, state[name]) for name, value in module.named_parameters())
    tokens = torch.cartesian_prod(torch.arange(7), torch.arange(7), torch.tensor([7]))
    again = problem(nanda, exported[1]).module
    assert torch.equal(module(tokens), again(tokens))

    updates = {**TINY, "seed": 5, "data_seed": 0, "initial_weights": str(path)}
    run = nanda.run(named_configs=["cpu"], config_updates=updates)
    for metric in ("train_loss", "test_loss", "weight_norm"):
        assert logged(store, run._id, metric)[0] == logged(store, first._id, metric)[6]
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    stored = store.database.runs.find_one({"_id": run._id})
    assert stored["info"]["initial_weights"] == {"sha256": sha256, "names": names}
    assert repeat(store, run._id).first is None


def test_another_file_in_its_place_is_not_taken_for_the_same(store, nanda, exported, tmp_path):
    """Repeated or resumed from other weights, a run would be another one under the same id."""
    path = tmp_path / "start.safetensors"
    path.write_bytes(exported[1].read_bytes())
    updates = {**TINY, "seed": 5, "initial_weights": str(path)}
    run = nanda.run(named_configs=["cpu"], config_updates=updates)
    values = logged(store, run._id, "train_loss")
    one = {"_id": run._id}
    store.database.runs.update_one(one, {"$set": {"status": "INTERRUPTED"}})
    assert logged(store, resume(store, run._id)[0]._id, "train_loss") == values
    save_file({name: 2 * value for name, value in load_file(path).items()}, path)
    with pytest.raises(UserError, match=f"run {run._id} started from a file with the SHA-256"):
        repeat(store, run._id)
    path.unlink()
    with pytest.raises(UserError, match="no such file"):
        repeat(store, run._id)


def test_the_points_of_a_sweep_start_from_files_as_one_program(store, exported, tmp_path):
    """The file may be a swept value; points of the same shapes train together."""
    other = tmp_path / "other.safetensors"
    save_file({name: 2 * value for name, value in load_file(exported[1]).items()}, other)
    swept = {"initial_weights": {"values": [str(exported[2]), str(other)]}}
    fixed = {key: {"value": value} for key, value in {**TINY, "preset": "cpu", "seed": 5}.items()}
    program = {"program": "experiments/nanda.py", "method": "grid"}
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps({**program, "parameters": {**fixed, **swept}}))
    file = files.read(path)
    assert len(plan.plan(file, dict(enumerate(points_of(file, None, None))))) == 1
    sweep = LocalSweep.begin(file, store, None, None)
    with SweepProgress(2, 1) as progress:
        sweep.run(progress)
    found = store.database.runs.find({"meta.sweep.id": sweep.id})
    runs = {run["info"]["initial_weights"]["names"]: run["_id"] for run in found}
    assert {*runs} == {"TransformerLens", "own"}
    start, doubled = (logged(store, runs[n], "weight_norm")[0] for n in ("TransformerLens", "own"))
    assert doubled == pytest.approx(2 * start)


@pytest.mark.parametrize("config", [GPT, TIED, SINUSOIDAL], ids=["untied", "tied", "sinusoidal"])
@pytest.mark.parametrize("names", ["own", "TransformerLens", "GPT-2"])
def test_every_form_of_a_state_dictionary_is_read_exactly(config, names):
    """With the buffers and prefixes that the programs save, and without what they leave out."""
    source, module = module_of(config), module_of(config, seed=1)
    state = {name: value.detach() for name, value in source.named_parameters()}
    positions = source.positions.detach()
    if names == "TransformerLens":
        state = to_hooked(state, config, positions)
        state["blocks.0.attn.mask"] = torch.ones(5, 5).bool()
        state["blocks.0.attn.IGNORE"] = torch.tensor(-torch.inf)
    elif names == "GPT-2":
        if config is SINUSOIDAL:
            with pytest.raises(NotGPT2, match="norm=none"):
                to_gpt2(state, config, positions)
            return
        state = to_gpt2(state, config, positions)
        unembedding = {"lm_head.weight": state.pop("lm_head.weight")}
        state = {f"transformer.{name}": value for name, value in state.items()}
        state["transformer.h.0.attn.bias"] = torch.ones(1, 1, 5, 5).bool()
        state |= {} if config.tied else unembedding
    assert fit(state, module) == names
    tokens = torch.randint(9, (4, 5))
    assert torch.equal(module(tokens), source(tokens))


def test_gpt2_of_transformers_has_the_same_logits():
    """With the package itself, where it is installed."""
    transformers = pytest.importorskip("transformers")
    arguments = {"vocab_size": 9, "n_positions": 5, "n_embd": 12, "n_layer": 2, "n_head": 3}
    torch.manual_seed(0)
    arguments |= {"n_inner": 512, "activation_function": "gelu"}
    no_tokens = {"bos_token_id": None, "eos_token_id": None}
    config = transformers.GPT2Config(**arguments, **no_tokens)
    model = transformers.GPT2LMHeadModel(config).eval()
    module = module_of(TIED)
    assert fit(dict(model.state_dict()), module) == "GPT-2"
    tokens = torch.randint(9, (4, 5))
    torch.testing.assert_close(module(tokens), model(tokens).logits, rtol=0, atol=1e-5)


def test_what_a_network_cannot_have_is_refused():
    """Its logits would differ from those of the file: a bias that it lacks, another unembedding,
    other positions."""
    cases = [
        (TIED, "unembed.W_U", "unembed.W_U is not a free parameter"),
        (GPT, "unembed.b_U", "unembed.b_U is not a free parameter"),
        (SINUSOIDAL, "pos_embed.W_pos", "pos_embed.W_pos is not a free parameter"),
        (SINUSOIDAL, "blocks.0.attn.b_Q", "blocks.0.attn.b_Q is not a free parameter"),
    ]
    for config, name, message in cases:
        module = module_of(config)
        before = [value.clone() for value in module.parameters()]
        state = {key: value.detach() for key, value in module.named_parameters()}
        hooked = to_hooked(state, config, module.positions.detach())
        hooked[name] = hooked[name] + 0.1
        with pytest.raises(Unfit, match=message):
            fit(hooked, module)
        assert all(map(torch.equal, before, module.parameters()))
    post = module_of(replace(SINUSOIDAL, norm="post"))
    with pytest.raises(Unfit, match="HookedTransformer has no norm=post"):
        fit({"embed.W_E": torch.zeros(1)}, post)
    with pytest.raises(Unfit, match="names of GPT-2, and this run has no transformer"):
        fit({"transformer.wte.weight": torch.zeros(1)}, torch.nn.Linear(1, 1))


def changed(own, **changes) -> bytes:
    tensors = {
        name: value for name, value in (load_file(own) | changes).items() if value is not None
    }
    return save(tensors)


BAD_TENSORS = {
    "no tokens, which this run's network has, of shape": {"tokens": None},
    "token is no parameter of this run's network; did you mean tokens": {"token": torch.zeros(1)},
    r"tokens has the shape \(2, 2\); expected \(8, 8\)": {"tokens": torch.zeros(2, 2)},
    "tokens has values of type int64": {"tokens": torch.zeros(8, 8, dtype=torch.int64)},
    "tokens has values that are not finite": {"tokens": torch.full((8, 8), torch.nan)},
}
BAD_FILES = {
    "not in the format safetensors": b"\x02\x00\x00\x00\x00\x00\x00\x00{}tail",
    "not in the format safetensors: a header of more": b"\xff" * 100,
    "not in the format": b"",
    "not in the  format safetensors": torch.arange(3).numpy().tobytes(),
    "not in the format safetensors: ": b"\x80\x04K\x01.",  # a pickle
}


@pytest.mark.parametrize("message", BAD_TENSORS)
def test_weights_that_do_not_fit_are_one_line(nanda, exported, tmp_path, message):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(changed(exported[1], **BAD_TENSORS[message]))
    with pytest.raises(UserError, match=f"initial_weights={path}: {message}"):
        problem(nanda, path)


@pytest.mark.parametrize("message", BAD_FILES)
def test_other_files_are_one_line(nanda, tmp_path, message):
    """A pickle too: nothing of it is executed, since only safetensors is read."""
    path = tmp_path / "bad.safetensors"
    path.write_bytes(BAD_FILES[message])
    with pytest.raises(UserError, match=message.replace("  ", " ")):
        problem(nanda, path)


def test_other_paths_are_one_line(nanda, tmp_path, monkeypatch):
    """A pipe has no end and a file may be too large; neither is read."""
    os.mkfifo(tmp_path / "pipe")
    for name, message in {
        "missing": "no such file",
        "pipe": "not a file",
        ".": "not a file",
        "a\0b": "no such file",
        "a" * 300: "no such file",
    }.items():
        with pytest.raises(UserError, match=message):
            problem(nanda, tmp_path / name)
    monkeypatch.setattr(initial_weights, "MOST_BYTES", 10)
    (tmp_path / "large").write_bytes(b"\0" * 100)
    with pytest.raises(UserError, match="more than"):
        problem(nanda, tmp_path / "large")


def test_nothing_is_stored_of_a_run_that_cannot_start(store, nanda, exported, tmp_path, capsys):
    """One line and exit code 2."""
    runs = store.database.runs.count_documents({})
    words = f"nanda.py with cpu initial_weights={tmp_path}/none".split()
    with pytest.raises(SystemExit) as exit:
        nanda.run_commandline(words)
    assert exit.value.code == 2
    error = capsys.readouterr().err
    assert error == f"error: initial_weights={tmp_path}/none: no such file\n"
    updates = {**TINY, "initial_weights": str(exported[1]), "initial_run": exported[0]._id}
    with pytest.raises(UserError, match=r"initial_weights=.*expected None with initial_run="):
        nanda.run(named_configs=["cpu"], config_updates=updates)
    assert store.database.runs.count_documents({}) == runs


@pytest.mark.parametrize(
    "paper, updates, what",
    [
        ("thilak", {}, "the reference of the distances"),
        ("lazy_to_rich", {"centred": True}, "the output that centred=True subtracts"),
        ("minegishi", {"mask": "magnitude"}, "the mask"),
        ("xor_clusters", {}, "the part of the weights"),
    ],
)
def test_what_is_computed_from_the_weights_of_the_seed_needs_them(paper, updates, what):
    """Other weights would be loaded later, and the numbers would be about the wrong ones."""
    ex = load(PROJECT / "experiments" / f"{paper}.py")
    config = ex.full_config({**updates, "initial_weights": "x.safetensors"})
    with pytest.raises(UserError, match=f"initial_weights='x.safetensors': expected None: {what}"):
        ex.problem_of(config)
