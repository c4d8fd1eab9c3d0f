"""YAML from anywhere is read at once, or refused at once in one line."""

import time

import pytest

from grok import limited_yaml
from grok.errors import UserError

LEVELS = range(1, 11)
ITEMS = ["[" + ",".join([f"*a{i - 1}"] * 10) + "]" for i in LEVELS]
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} {ITEMS[i - 1]}\n" for i in LEVELS)
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: {ITEMS[i - 1]}}}\n" for i in LEVELS)
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))
HOSTILE = {
    "billion laughs": (LAUGHS, "line 6: too many values, with each alias written out"),
    "billion laughs by merge keys": (MERGED, "too many values, with each alias written out"),
    "one long text many times": (f"a: &a {'x' * 100_000}\nb: [*a, *a, *a]", "line 2: too many"),
    "deep lists": ("[" * 100_000, "nested more than 32 deep"),
    "deep mappings": ("{a: " * 30_000, "nested more than 32 deep"),
    "deep aliases": (CHAIN, "line 31: nested more than 32 deep"),
    "a list in itself": ("a: &a [*a]", "an alias stands for what it is in"),
    "large": ("x" * 2**18, "YAML of more than 131,072 characters"),
    "many": ("[" + "[]," * 43_000 + "]", "line 1: too many values"),
    "object": ("a: !!python/object/apply:os.getpid []", "line 1: tags are not read"),
    "tag": ("a: !!binary aGk=", "line 1: tags are not read"),
    "date": ("a: 2001-99-99", "month must be in 1..12"),
    "digits": ("a: " + "1" * 5000, "4300 digits"),
    "characters": ("a: \x01", "unacceptable character"),
    "key": ("[1]: 2", "unhashable key"),
    "syntax": ("a: [1\nb: }", "line 2: did not find expected"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_yaml_is_refused_at_once_in_one_line(name):
    text, message = HOSTILE[name]
    start = time.process_time()
    with pytest.raises(UserError) as caught:
        limited_yaml.load(text)
    assert time.process_time() - start < 2
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_what_people_write_is_read():
    """Aliases, merge keys and numbers in scientific notation; a list of a thousand values."""
    text = "x: &x {a: 1e-3, b: [1, 2]}\ny: {<<: *x, b: no}\nz: [*x, *x]\nq: '1e-3'"
    x = {"a": 0.001, "b": [1, 2]}
    expected = {"x": x, "y": {"a": 0.001, "b": False}, "z": [x, x], "q": "1e-3"}
    assert limited_yaml.load(text) == expected
    assert limited_yaml.load(f"values: {list(range(10_000))}")["values"][-1] == 9999
    assert limited_yaml.load("") is None
