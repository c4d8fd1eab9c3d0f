"""How a value is read from text, on a command line, in a sweep file and in a filter of runs."""

import ast
import re
from collections.abc import Mapping
from typing import Any

SCIENTIFIC = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+\Z")


def parse_value(text: Any, names: Mapping[str, Any] | None = None) -> Any:
    """The value that a text stands for: a Python literal, else the text itself, as Sacred reads it.

    Arguments:
        text: what is written. A value that is not a text is returned as it is.
        names: further names of values, in lower case; they are read in any case.
    """
    if not isinstance(text, str):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return (names or {}).get(text.lower(), text)


def with_numbers(value: Any) -> Any:
    """The value with each text in scientific notation as a number, inside lists and mappings too.

    YAML 1.1 reads `1e-4` and `1.5e3` as texts: it wants a dot and a signed exponent.
    """
    if isinstance(value, dict):
        return {key: with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and SCIENTIFIC.match(value) else value


def whole_if_integral(value: Any) -> Any:
    """The value, a float without a fractional part as an int."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
