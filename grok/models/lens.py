"""Weights of our transformer under the names of TransformerLens's HookedTransformer, and back.

Nanda & Bloom 2022, https://github.com/TransformerLensOrg/TransformerLens. Its matrices act on row
vectors and have an axis for the heads; ours are those of torch.nn.Linear.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor

from grok.models.transformer import TransformerConfig, bias_of
from grok.tensors import Tensors

NORMS = {"none": None, "pre": "LN"}
BUFFERS = (".attn.mask", ".attn.IGNORE")  # ends of names of a state dictionary that are no weights


class NotHooked(ValueError):
    """Why a transformer cannot be a HookedTransformer."""


def hooked_config(config: TransformerConfig) -> dict[str, Any]:
    """The arguments of HookedTransformerConfig for a transformer.

    Raises:
        NotHooked: HookedTransformer has no such architecture.
    """
    unlike = {
        "norm=post": config.norm not in NORMS,
        "activation=tanh": config.activation == "tanh",
        "pool=True": config.pool,
        "repeats above 1": config.repeats > 1,
        "norm=none with final_norm, or norm=pre without it": (config.norm == "pre")
        != config.final_norm,
    }
    for what, applies in unlike.items():
        if applies:
            raise NotHooked(f"HookedTransformer has no {what}")
    return {
        "n_layers": config.depth,
        "d_model": config.width,
        "n_ctx": config.length,
        "d_head": config.width // config.heads,
        "n_heads": config.heads,
        "d_mlp": config.mlp_width,
        "d_vocab": config.vocabulary,
        "d_vocab_out": config.classes,
        "act_fn": config.activation,
        "normalization_type": NORMS[config.norm],
        "attention_dir": "causal" if config.causal else "bidirectional",
    }


def to_hooked(weights: Tensors, config: TransformerConfig, positions: Tensor) -> Tensors:
    """Weights by the names and in the shapes that HookedTransformer loads.

    Arguments:
        weights: of the module, by its parameters' names.
        positions: (S, D), its positional embedding, which may be fixed.

    Raises:
        NotHooked: HookedTransformer has no such architecture.
    """
    hooked_config(config)
    H, D, d = config.heads, config.width, config.width // config.heads
    first = weights["tokens"]

    def matrix(name: str) -> Tensor:
        return weights[f"{name}.weight"].T

    bias = partial(bias_of, weights)

    hooked = {"embed.W_E": first, "pos_embed.W_pos": positions}
    for layer in range(config.depth):
        block = f"blocks.{layer}"
        W_K, W_V = matrix(f"{block}.keys_values").chunk(2, 1)
        b_K, b_V = bias(f"{block}.keys_values", 2 * D).chunk(2)
        W_Q, b_Q = matrix(f"{block}.queries"), bias(f"{block}.queries", D)
        for letter, W, b in (("Q", W_Q, b_Q), ("K", W_K, b_K), ("V", W_V, b_V)):
            hooked[f"{block}.attn.W_{letter}"] = W.unflatten(1, (H, d)).transpose(0, 1)
            hooked[f"{block}.attn.b_{letter}"] = b.unflatten(0, (H, d))
        hooked[f"{block}.attn.W_O"] = matrix(f"{block}.mix").unflatten(0, (H, d))
        hooked[f"{block}.attn.b_O"] = bias(f"{block}.mix", D)
        hooked[f"{block}.mlp.W_in"] = matrix(f"{block}.up")
        hooked[f"{block}.mlp.b_in"] = bias(f"{block}.up", config.mlp_width)
        hooked[f"{block}.mlp.W_out"] = matrix(f"{block}.down")
        hooked[f"{block}.mlp.b_out"] = bias(f"{block}.down", D)
        if config.norm == "pre":
            for number in (1, 2):
                hooked[f"{block}.ln{number}.w"] = weights[f"{block}.norm{number}.weight"]
                hooked[f"{block}.ln{number}.b"] = weights[f"{block}.norm{number}.bias"]
    if config.final_norm:
        hooked |= {"ln_final.w": weights["final.weight"], "ln_final.b": weights["final.bias"]}
    unembedding = first[: config.classes].T if config.tied else matrix("output")
    hooked |= {"unembed.W_U": unembedding, "unembed.b_U": bias("output", config.classes)}
    return {name: value.contiguous() for name, value in hooked.items()}


def from_hooked(hooked: Tensors, config: TransformerConfig) -> Tensors:
    """Weights by our names, of weights by those of HookedTransformer: the inverse of `to_hooked`.

    They include all biases and embeddings, whether or not our transformer has them as parameters.
    """
    weights = {"tokens": hooked["embed.W_E"], "positions": hooked["pos_embed.W_pos"]}
    for layer in range(config.depth):
        block = f"blocks.{layer}"
        W_Q, W_K, W_V = (
            hooked[f"{block}.attn.W_{letter}"].transpose(0, 1).flatten(1).T for letter in "QKV"
        )
        b_Q, b_K, b_V = (hooked[f"{block}.attn.b_{letter}"].flatten() for letter in "QKV")
        weights |= {f"{block}.queries.weight": W_Q, f"{block}.queries.bias": b_Q}
        weights[f"{block}.keys_values.weight"] = torch.cat([W_K, W_V])
        weights[f"{block}.keys_values.bias"] = torch.cat([b_K, b_V])
        weights[f"{block}.mix.weight"] = hooked[f"{block}.attn.W_O"].flatten(0, 1).T
        weights[f"{block}.mix.bias"] = hooked[f"{block}.attn.b_O"]
        for ours, theirs in (("up", "in"), ("down", "out")):
            weights[f"{block}.{ours}.weight"] = hooked[f"{block}.mlp.W_{theirs}"].T
            weights[f"{block}.{ours}.bias"] = hooked[f"{block}.mlp.b_{theirs}"]
        if config.norm == "pre":
            for number in (1, 2):
                weights[f"{block}.norm{number}.weight"] = hooked[f"{block}.ln{number}.w"]
                weights[f"{block}.norm{number}.bias"] = hooked[f"{block}.ln{number}.b"]
    if config.final_norm:
        weights |= {"final.weight": hooked["ln_final.w"], "final.bias": hooked["ln_final.b"]}
    return weights | {
        "output.weight": hooked["unembed.W_U"].T,
        "output.bias": hooked["unembed.b_U"],
    }
