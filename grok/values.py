"""How a value is read from text, on a command line, in a sweep file and in a filter of runs."""

import ast
from collections.abc import Mapping
from typing import Any


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
    except (ValueError, TypeError, SyntaxError):
        return (names or {}).get(text.lower(), text)
