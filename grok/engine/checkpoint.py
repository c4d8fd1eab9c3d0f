"""Checkpoints: tensors in a safetensors file whose header says what they are, and their hash.

Only this user may read the file; it is whole or absent. Nothing in it is executed.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from grok.errors import UserError
from grok.paths import atomic_write, make_private_folder

FORMAT = "grok-checkpoint-1"


class CheckpointError(UserError):
    """A file that is not a checkpoint, or not whole; one line that says why."""


@dataclass(frozen=True)
class Checkpoint:
    """facts: JSON-plain (step, seed, signature, ...). tensors: by name."""

    facts: dict[str, Any]
    tensors: dict[str, Tensor]


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write atomically: after a crash the old file or the new one is there."""
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()
    }
    metadata = {
        "format": FORMAT,
        "facts": json.dumps(checkpoint.facts),
        "sha256": _digest(tensors, checkpoint.facts),
    }
    make_private_folder(path.parent)
    with atomic_write(path) as file:
        file.write(save(tensors, metadata))


def read(path: Path) -> Checkpoint:
    """The checkpoint in a file; CheckpointError if it is another file, cut, or altered."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error})") from None
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but no checkpoint of this program")
    try:
        facts = json.loads(metadata["facts"])
        if not isinstance(facts, dict):
            raise TypeError
    except (KeyError, ValueError, TypeError, RecursionError):
        raise CheckpointError(f"{path}: its facts cannot be read") from None
    if metadata.get("sha256") != _digest(tensors, facts):
        raise CheckpointError(f"{path}: its content does not have the hash that it claims")
    return Checkpoint(facts, tensors)


def below(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors whose names start with a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _digest(tensors: dict[str, Tensor], facts: dict[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
