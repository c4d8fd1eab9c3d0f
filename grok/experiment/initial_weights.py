"""Weights from a file that a run starts from: `initial_weights`.

The file has the format safetensors, which holds tensors and no code. Its names are those of the run's
own network, of TransformerLens's HookedTransformer, or of Hugging Face's GPT-2.
"""

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from grok.engine.functional import learned
from grok.engine.problem import Problem, WeightsFile
from grok.errors import UserError, did_you_mean
from grok.models import gpt2, lens
from grok.models.transformer import Transformer, TransformerConfig
from grok.paths import project_path
from grok.tensors import Tensors

MOST_BYTES = 2**30
MOST_HEADER = 2**20  # bytes; that of a network of a thousand tensors has 100,000
NEAR = 1e-6  # how exactly weights that a network computes itself have to be in the file


class Unfit(ValueError):
    """Why weights are not those of a network."""


@dataclass(frozen=True)
class Names:
    """Names of weights other than ours, for our transformer.

    to, back: translate weights from our names, and back.
    """

    program: str
    to: Callable[[Tensors, TransformerConfig, torch.Tensor], Tensors]
    back: Callable[[Tensors, TransformerConfig], Tensors]


HOOKED = Names("TransformerLens", lens.to_hooked, lens.from_hooked)
GPT2 = Names("GPT-2", gpt2.to_gpt2, gpt2.from_gpt2)


def with_weights_of(problem: Problem, name: str) -> Problem:
    """The problem with the weights of a file.

    Arguments:
        name: of the file, from the working directory or else from the project's folder.

    Raises:
        UserError: it cannot be read, or its names or shapes do not fit.
    """
    try:
        content = read(project_path(name))
        source = fit(_tensors(content), problem.module)
    except Unfit as error:
        raise UserError(f"initial_weights={name}: {error}") from None
    return replace(problem, weights_file=WeightsFile(hashlib.sha256(content).hexdigest(), source))


def check_unchanged(problem: Problem, sha256: str | None, number: int | str) -> None:
    """UserError if a run is to be trained again from another file than it has started from.

    Arguments:
        sha256: of the file that the run has started from; None if that is not known.
        number: of the run.
    """
    now = problem.weights_file
    if now is not None and sha256 is not None and now.sha256 != sha256:
        raise UserError(
            f"run {number} started from a file with the SHA-256 {sha256:.12}...; initial_weights "
            f"now names one with {now.sha256:.12}..."
        )


def read(path: Path) -> bytes:
    """The content of a file in the format safetensors; Unfit if it is too large, or another file."""
    if not os.path.isfile(path):  # a pipe or a device may have no end
        raise Unfit("not a file" if os.path.exists(path) else "no such file")
    try:
        with path.open("rb") as file:
            start = file.read(8)
            if int.from_bytes(start, "little") > MOST_HEADER:
                raise Unfit("not in the format safetensors: a header of more than 1 MiB")
            content = start + file.read(MOST_BYTES)
    except OSError as error:
        raise Unfit(str(error.strerror)) from None
    if len(content) > MOST_BYTES:
        raise Unfit("more than 1 GiB")
    return content


def _tensors(content: bytes) -> Tensors:
    try:
        return load_safetensors(content)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise Unfit(f"not in the format safetensors: {error}") from None


def fit(tensors: Tensors, module: nn.Module) -> str:
    """Load weights into a module, and return whose names they have.

    Raises:
        Unfit: names, shapes or values are not those of the module.
    """
    expected = learned(module)
    if "embed.W_E" in tensors:
        names, found = HOOKED, _without(tensors, lens.BUFFERS)
    elif {gpt2.EMBEDDING, gpt2.PREFIX + gpt2.EMBEDDING} & {*tensors}:
        short = {name.removeprefix(gpt2.PREFIX): value for name, value in tensors.items()}
        names, found = GPT2, _without(short, gpt2.BUFFERS)
    else:
        buffers = {name for name, _ in module.named_buffers()} - {*expected}
        own = {name: value for name, value in tensors.items() if name not in buffers}
        module.load_state_dict(_matching(own, expected), strict=False)
        return "own"
    module.load_state_dict(_translated(found, module, expected, names), strict=False)
    return names.program


def _without(tensors: Tensors, ends: tuple[str, ...]) -> Tensors:
    return {name: value for name, value in tensors.items() if not name.endswith(ends)}


def _translated(tensors: Tensors, module: nn.Module, parameters: Tensors, names: Names) -> Tensors:
    """The weights of a transformer by our names.

    Translated back, they have to be what the file has: otherwise it has a bias, an unembedding or
    positions that this transformer cannot have.
    """
    if not isinstance(module, Transformer):
        raise Unfit(f"names of {names.program}, and this run has no transformer")
    config, positions = module.config, module.positions.detach()
    try:
        expected = names.to(parameters, config, positions)
    except (lens.NotHooked, gpt2.NotGPT2) as error:
        raise Unfit(str(error)) from None
    if names is GPT2 and config.tied and gpt2.EMBEDDING in tensors:
        tensors = {gpt2.UNEMBEDDING: tensors[gpt2.EMBEDDING], **tensors}
    tensors = _matching(tensors, expected)
    ours = names.back(tensors, config)
    weights = {name: ours[name] for name in parameters}
    again = names.to(weights, config, weights.get("positions", positions))
    for name, value in again.items():
        if not torch.allclose(value, tensors[name], rtol=NEAR, atol=NEAR):
            raise Unfit(f"{name} is not a free parameter of this run's network, and differs there")
    return weights


def _matching(tensors: Tensors, expected: Mapping[str, torch.Tensor]) -> Tensors:
    """The tensors in the types of those expected; Unfit unless they have these names and shapes."""
    for name in tensors:
        if name not in expected:
            hint = did_you_mean(name, expected)
            raise Unfit(f"{name:.100} is no parameter of this run's network{hint}")
    matching = {}
    for name, parameter in expected.items():
        shape = tuple(parameter.shape)
        if name not in tensors:
            raise Unfit(f"no {name}, which this run's network has, of shape {shape}")
        value = tensors[name]
        if tuple(value.shape) != shape:
            raise Unfit(f"{name} has the shape {tuple(value.shape)}; expected {shape}")
        if value.is_floating_point() != parameter.is_floating_point():
            raise Unfit(f"{name} has values of type {str(value.dtype).removeprefix('torch.')}")
        value = value.to(parameter)
        if not value.isfinite().all():
            raise Unfit(f"{name} has values that are not finite")
        matching[name] = value
    return matching
