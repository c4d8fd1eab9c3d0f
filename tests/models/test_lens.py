"""Weights under TransformerLens's names give the logits of our transformer."""

import json
from importlib.metadata import version

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from grok.errors import UserError
from grok.experiment.experiment import load
from grok.experiment.initial_weights import fit
from grok.experiment.weights import export
from grok.models import lens
from grok.models.transformer import Transformer, TransformerConfig
from tests.conftest import PROJECT

NANDA = TransformerConfig(
    12, 11, 3, width=16, depth=1, heads=4, norm="none", biases=("mlp",), positions="learned"
)
GPT = TransformerConfig(
    9,
    9,
    5,
    width=12,
    depth=2,
    heads=3,
    norm="pre",
    final_norm=True,
    biases=("attention", "mlp", "output"),
    activation="gelu",
)
TIED = TransformerConfig(9, 7, 5, width=12, norm="none", tied=True, causal=False)
CONFIGS = {"nanda": NANDA, "pre": GPT, "tied": TIED}


def module_of(config: TransformerConfig) -> Transformer:
    torch.manual_seed(0)
    module = Transformer(config).double()
    for parameter in module.parameters():  # also those that are 0 or 1 at first
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def hooked_logits(
    w: dict[str, torch.Tensor], arguments: dict, tokens: torch.Tensor
) -> torch.Tensor:
    """What HookedTransformer computes, from its documentation."""

    def normed(x, name):
        if arguments["normalization_type"] is None:
            return x
        x = x - x.mean(-1, keepdim=True)
        x = x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
        return x * w[f"{name}.w"] + w[f"{name}.b"]

    x = w["embed.W_E"][tokens] + w["pos_embed.W_pos"][: tokens.shape[1]]
    activation = {"relu": torch.relu, "gelu": torch.nn.functional.gelu}[arguments["act_fn"]]
    for layer in range(arguments["n_layers"]):
        name = f"blocks.{layer}"
        inner = normed(x, f"{name}.ln1")
        q, k, v = (
            torch.einsum("bpm,hmd->bphd", inner, w[f"{name}.attn.W_{letter}"])
            + w[f"{name}.attn.b_{letter}"]
            for letter in "QKV"
        )
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / arguments["d_head"] ** 0.5
        if arguments["attention_dir"] == "causal":
            later = torch.ones(scores.shape[-2:]).triu(1).bool()
            scores = scores.masked_fill(later, -torch.inf)
        z = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v)
        x = x + torch.einsum("bqhd,hdm->bqm", z, w[f"{name}.attn.W_O"]) + w[f"{name}.attn.b_O"]
        inner = normed(x, f"{name}.ln2")
        hidden = activation(inner @ w[f"{name}.mlp.W_in"] + w[f"{name}.mlp.b_in"])
        x = x + hidden @ w[f"{name}.mlp.W_out"] + w[f"{name}.mlp.b_out"]
    x = normed(x, "ln_final")
    return x @ w["unembed.W_U"] + w["unembed.b_U"]


@pytest.mark.parametrize("name", CONFIGS)
def test_the_logits_are_equal(name):
    config, module = CONFIGS[name], module_of(CONFIGS[name])
    tokens = torch.randint(config.vocabulary, (7, config.length))
    weights = {key: value.detach() for key, value in module.named_parameters()}
    hooked = lens.to_hooked(weights, config, module.positions.detach())
    logits = hooked_logits(hooked, lens.hooked_config(config), tokens)
    torch.testing.assert_close(logits, module(tokens), rtol=0, atol=1e-10)


@pytest.fixture(scope="module")
def exported(store, tmp_path_factory):
    """A run of `nanda with cpu` as a file for HookedTransformer, and all logits of its module."""
    ex = load(PROJECT / "experiments" / "nanda.py")
    run = ex.run(named_configs=["cpu"], config_updates={"train_steps": 4, "seed": 0})
    folder = tmp_path_factory.mktemp("weights")
    hooked, plain = folder / "hooked.safetensors", folder / "plain.safetensors"
    assert export(store, run._id, hooked, hooked=True) == 4
    export(store, run._id, plain)
    module = ex.problem_of(dict(run.config)).module
    module.load_state_dict(load_file(plain), strict=False)
    tokens = torch.cartesian_prod(torch.arange(59), torch.arange(59), torch.tensor([59]))
    return run._id, hooked, tokens, module(tokens).detach()


def arguments_of(path):
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["config"])


def test_the_file_of_a_run_of_nanda_gives_its_logits(exported):
    """It has the configuration and the weights; nothing else of ours is needed."""
    _, path, tokens, logits = exported
    theirs = hooked_logits(load_file(path), arguments_of(path), tokens)
    torch.testing.assert_close(theirs, logits, rtol=0, atol=1e-5)


def test_transformer_lens_loads_the_file_of_a_run_of_nanda(exported):
    """With the package itself, where it is installed. Its state dictionary is read in again."""
    transformer_lens = pytest.importorskip("transformer_lens")
    if int(version("transformer_lens").split(".")[0]) >= 4:
        pytest.skip("TransformerLens 4 has no HookedTransformer")
    _, path, tokens, logits = exported
    config = transformer_lens.HookedTransformerConfig(**arguments_of(path), device="cpu")
    model = transformer_lens.HookedTransformer(config)
    assert model.load_state_dict(load_file(path), strict=False).unexpected_keys == []
    torch.testing.assert_close(model(tokens).detach(), logits, rtol=0, atol=1e-5)
    ex = load(PROJECT / "experiments" / "nanda.py")
    module = ex.problem_of(ex.full_config({}, ["cpu"])).module
    assert fit(dict(model.state_dict()), module) == "TransformerLens"
    torch.testing.assert_close(module(tokens).detach(), logits, rtol=0, atol=0)


def test_the_weights_of_a_step_are_exported(exported, store, tmp_path):
    """Of a run that keeps them; between two logged steps, those of the next one."""
    number, *_ = exported
    assert export(store, number, tmp_path / "early.safetensors", step=1) == 1
    assert load_file(tmp_path / "early.safetensors")["tokens"].shape == (60, 64)
    with pytest.raises(UserError, match="no weights from step 5 on"):
        export(store, number, tmp_path / "x.safetensors", step=5)


@pytest.mark.parametrize("change", [{"norm": "post"}, {"pool": True}, {"activation": "tanh"}])
def test_what_hooked_transformer_cannot_be_is_refused(change):
    config = TransformerConfig(12, 11, 3, **{"norm": "none", **change})
    with pytest.raises(lens.NotHooked, match="HookedTransformer has no"):
        lens.hooked_config(config)


def test_a_run_without_a_transformer_has_no_hooked_weights(store, liu_toy, tmp_path):
    run = liu_toy.run(config_updates={"p": 5, "train_steps": 1, "seed": 0})
    with pytest.raises(UserError, match="without --lens"):
        export(store, run._id, tmp_path / "x.safetensors", hooked=True)
    assert list(tmp_path.iterdir()) == []
