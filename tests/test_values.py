"""How a value is read from text."""

from grok.values import parse_value


def test_a_text_that_python_cannot_parse_for_its_depth_is_a_text():
    """RecursionError or MemoryError was a traceback on the command line, and HTTP 500 in the filters of
    the board."""
    for text in ("-" * 5000 + "1", "-" * 100_000 + "1", "(" * 5000, "[" * 5000 + "]" * 5000):
        assert parse_value(text) == text
