"""The checkpoint of a run: what `grok resume` trusts, and what it refuses in one line."""

import random

import numpy as np
import pytest
import torch

from grok.engine.checkpoint import Checkpoint, write
from grok.engine.events import Record, Saved
from grok.errors import UserError
from grok.experiment import resume
from grok.store.connection import Store

RUN = {"_id": 3}
RECORDS = [
    Record(0, 0, {"loss": 1.0}, {"weights": np.ones((2, 3))}, ((1, {"loss": 0.75}),)),
    Record(0, 5, {"loss": float("nan")}, {}),
    Record(0, 10, {"loss": 0.25}, {"weights": np.zeros((2, 3))}),
]
FACTS = {
    "run": 3,
    "step": 10,
    "met": 0,
    "seconds": 1.5,
    "records": [
        [0, {"loss": 1.0}, True, [[1, {"loss": 0.75}]]],
        [10, {"loss": 0.25}, True, []],
    ],
}
WRONG_RECORDS = (
    None,
    {},
    [None],
    [[]],
    [[0, {}]],
    [["0", {}, True, []]],
    [[0, [], True, []]],
    [[0, {"loss": "x"}, True, []]],
    [[0, {}, 1, []]],
    [[0, {}, True, None]],
    [[0, {}, True, [1]]],
    [[-1, {}, True, []]],
    [[True, {}, True, []]],
    [[0, {}, False, [[1, {"a": None}]]]],
)
PROGRAM = {"slot": 0, "slots": 2, "compiled": True, "threads": 1, "fused": False}
WRONG = [
    *({key: value for key, value in FACTS.items() if key != missing} for missing in FACTS),
    *({**FACTS, "run": value} for value in (None, 4, [3], {"$gt": 0}, 3.5)),
    *({**FACTS, "step": value} for value in (None, "10", -1, 1.5, float("nan"), 2**70, True)),
    *({**FACTS, "met": value} for value in (None, [], -1)),
    *({**FACTS, "seconds": value} for value in (None, "1", [])),
    *({**FACTS, "records": value} for value in WRONG_RECORDS),
    *(
        {**FACTS, "program": {**PROGRAM, **part}}
        for part in ({"slot": 2}, {"slots": "2"}, {"fused": None}, {"threads": -1}, {"compiled": 1})
    ),
    *({**FACTS, "program": value} for value in ([], {}, "fused")),
    *([], None, "facts", 5),
]
ARRAYS = {"array/weights": torch.ones(2, 2, 3)}


@pytest.fixture
def store(tmp_path):
    return Store("files", "", home=tmp_path)


@pytest.fixture
def path(store):
    path = store.checkpoint_path(3)
    saved = Saved(0, 10, 2, {"program/w": torch.ones(3)})
    resume.write(path, 3, saved, RECORDS, 1.5, program=PROGRAM)
    return path


def test_a_checkpoint_is_read_as_it_was_written_and_is_private(store, path):
    point = resume.load_resume_point(store, RUN)
    assert (point.step, point.seconds, point.saved.stop_streak) == (10, 1.5, 2)
    assert point.program == PROGRAM
    assert [record.step for record in point.records] == [0, 5, 10]
    assert point.records[2].arrays["weights"].tolist() == np.zeros((2, 3)).tolist()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def refusal(store: Store) -> str:
    with pytest.raises(UserError) as caught:
        resume.load_resume_point(store, RUN)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_facts_of_the_wrong_shape_are_refused_in_one_line(store):
    """The hash is right: whoever writes a file can compute it."""
    path = store.checkpoint_path(3)
    write(path, Checkpoint(FACTS, ARRAYS))
    assert resume.load_resume_point(store, RUN).step == 10
    for facts in WRONG:
        write(path, Checkpoint(facts, ARRAYS))
        assert str(path) in refusal(store), facts
    for array in (torch.ones(()), torch.ones(1, 3), torch.ones(3, 3)):
        write(path, Checkpoint(FACTS, {"array/weights": array}))
        assert "its arrays are not those of its records" in refusal(store)


def test_two_hundred_damaged_checkpoints_are_refused(store, path):
    """Cut, with flipped bits, holes, or foreign bytes: never a traceback, never another state."""
    whole, chance = path.read_bytes(), random.Random(0)
    refused = 0
    for trial in range(200):
        content = bytearray(whole)
        start = chance.randrange(len(whole))
        end = min(len(whole), start + chance.randrange(1, 200))
        if trial % 4 == 0:
            del content[start:]
        elif trial % 4 == 1:
            content[start] ^= 1 << chance.randrange(8)
        elif trial % 4 == 2:
            content[start:end] = bytes(end - start)
        else:
            content[start:end] = chance.randbytes(end - start)
        path.write_bytes(content)
        try:
            point = resume.load_resume_point(store, RUN)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
        else:  # only padding was changed
            assert point.saved.tensors["program/w"].tolist() == [1.0, 1.0, 1.0]
            assert [record.step for record in point.records] == [0, 5, 10]
    assert refused > 190


def test_an_id_is_never_a_path(store):
    """The id of a foreign run cannot make `delete` or `resume` leave the folder of checkpoints."""
    for hostile in ("../../x", "/etc/passwd", "..", "a/b", "*", "a\0b"):
        path = store.checkpoint_path(hostile)
        assert path.parent == store.home / "checkpoints" and "\0" not in str(path)
        assert path.resolve() == path and "*" not in path.name
