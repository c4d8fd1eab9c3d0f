"""Weights of our transformer under the names of GPT-2 in Hugging Face's transformers, and back.

Radford et al. 2019. Its matrices act on row vectors, and queries, keys and values are one matrix.
"""

from functools import partial

import torch
from torch import Tensor

from grok.models.transformer import TransformerConfig, bias_of
from grok.tensors import Tensors

PREFIX = "transformer."  # of all names but the unembedding's, in GPT2LMHeadModel
BUFFERS = (".attn.bias", ".attn.masked_bias")  # ends of names, without PREFIX, that are no weights
UNEMBEDDING = "lm_head.weight"  # files of models in which it is tied lack it
EMBEDDING = "wte.weight"
LAYERS = {"mix": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}


class NotGPT2(ValueError):
    """Why a transformer cannot be GPT-2."""


def check_gpt2(config: TransformerConfig) -> None:
    """NotGPT2 unless GPT2LMHeadModel has this architecture."""
    unlike = {
        f"norm={config.norm}": config.norm != "pre",
        "final_norm=False": not config.final_norm,
        "pool=True": config.pool,
        "repeats above 1": config.repeats > 1,
        "causal=False": not config.causal,
        "bias of the output": "output" in config.biases,
        "other number of classes than of tokens": config.classes != config.vocabulary,
    }
    for what, applies in unlike.items():
        if applies:
            raise NotGPT2(f"GPT-2 has no {what}")


def to_gpt2(weights: Tensors, config: TransformerConfig, positions: Tensor) -> Tensors:
    """Weights by the names and in the shapes of GPT2LMHeadModel, without PREFIX.

    Arguments:
        weights: of the module, by its parameters' names.
        positions: (S, D), its positional embedding, which may be fixed.

    Raises:
        NotGPT2: GPT-2 has no such architecture.
    """
    check_gpt2(config)
    first = weights["tokens"]

    bias = partial(bias_of, weights)

    gpt2 = {EMBEDDING: first, "wpe.weight": positions}
    sizes = {"mix": config.width, "up": config.mlp_width, "down": config.width}
    for layer in range(config.depth):
        ours, theirs = f"blocks.{layer}", f"h.{layer}"
        names = [(f"{ours}.queries", config.width), (f"{ours}.keys_values", 2 * config.width)]
        matrices = [weights[f"{name}.weight"] for name, _ in names]
        gpt2[f"{theirs}.attn.c_attn.weight"] = torch.cat(matrices).T
        gpt2[f"{theirs}.attn.c_attn.bias"] = torch.cat([bias(*name) for name in names])
        for our_name, their_name in LAYERS.items():
            gpt2[f"{theirs}.{their_name}.weight"] = weights[f"{ours}.{our_name}.weight"].T
            gpt2[f"{theirs}.{their_name}.bias"] = bias(f"{ours}.{our_name}", sizes[our_name])
        for number in (1, 2):
            for part in ("weight", "bias"):
                gpt2[f"{theirs}.ln_{number}.{part}"] = weights[f"{ours}.norm{number}.{part}"]
    gpt2 |= {"ln_f.weight": weights["final.weight"], "ln_f.bias": weights["final.bias"]}
    gpt2[UNEMBEDDING] = first if config.tied else weights["output.weight"]
    return {name: value.contiguous() for name, value in gpt2.items()}


def from_gpt2(gpt2: Tensors, config: TransformerConfig) -> Tensors:
    """Weights by our names, of weights by those of GPT-2: the inverse of `to_gpt2`.

    They include all biases and embeddings, whether or not our transformer has them as parameters.
    """
    weights = {"tokens": gpt2[EMBEDDING], "positions": gpt2["wpe.weight"]}
    D = config.width
    for layer in range(config.depth):
        ours, theirs = f"blocks.{layer}", f"h.{layer}"
        matrix, bias = gpt2[f"{theirs}.attn.c_attn.weight"].T, gpt2[f"{theirs}.attn.c_attn.bias"]
        weights |= {f"{ours}.queries.weight": matrix[:D], f"{ours}.queries.bias": bias[:D]}
        weights |= {f"{ours}.keys_values.weight": matrix[D:], f"{ours}.keys_values.bias": bias[D:]}
        for our_name, their_name in LAYERS.items():
            weights[f"{ours}.{our_name}.weight"] = gpt2[f"{theirs}.{their_name}.weight"].T
            weights[f"{ours}.{our_name}.bias"] = gpt2[f"{theirs}.{their_name}.bias"]
        for number in (1, 2):
            for part in ("weight", "bias"):
                weights[f"{ours}.norm{number}.{part}"] = gpt2[f"{theirs}.ln_{number}.{part}"]
    weights |= {"final.weight": gpt2["ln_f.weight"], "final.bias": gpt2["ln_f.bias"]}
    return weights | {"output.weight": gpt2[UNEMBEDDING]}
