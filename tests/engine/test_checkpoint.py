"""Checkpoints come back as they were, or not at all."""

import pickle

import pytest
import torch
from safetensors.torch import save_file

from grok.engine.checkpoint import Checkpoint, CheckpointError, read, write

FACTS = {"step": 7, "seed": 3, "name": "power"}


@pytest.fixture
def path(tmp_path):
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "weight": torch.randn(5, 3, generator=generator, dtype=torch.float64),
        "steps": torch.arange(4),
        "transposed": torch.randn(3, 2, generator=generator).T,
    }
    write(tmp_path / "one.safetensors", Checkpoint(FACTS, tensors))
    return tmp_path / "one.safetensors"


def test_what_is_written_is_read(path):
    found = read(path)
    assert found.facts == FACTS
    assert found.tensors["weight"].dtype == torch.float64 and found.tensors["steps"].tolist() == [
        0,
        1,
        2,
        3,
    ]
    again = path.with_name("again")
    write(again, found)
    assert all((read(again).tensors[name] == value).all() for name, value in found.tensors.items())
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


@pytest.mark.parametrize("kept", [0, 1, 7, 100, -1])
def test_a_truncated_file_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match="not a whole"):
        read(path)


def test_any_flipped_byte_is_noticed(path):
    content = path.read_bytes()
    for place in range(0, len(content), 13):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            found = read(path)
        except CheckpointError:
            continue
        assert found.facts == FACTS  # a byte of padding
        assert found.tensors.keys() == {"weight", "steps", "transposed"}


def test_foreign_and_hostile_files_are_refused(path):
    class Hostile:
        def __reduce__(self):
            return (exit, ("executed",))

    path.write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(CheckpointError, match="not a whole"):
        read(path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not a whole"):
        read(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="no checkpoint of this program"):
        read(path)
    with pytest.raises(CheckpointError, match="no such file"):
        read(path.with_name("missing"))
