"""Markdown text: tables, cells and the rows of a page's table."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

RULE = re.compile(r"^\|[ :|-]+\|$")  # the line below a table's header
CODE_SPAN = re.compile(r"`[^`]*`")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; cells are Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in lines)


def cell(text: object) -> str:
    """Plain text as the content of a cell, on one line; text between backticks stays code."""
    line = " ".join(str(text).split())
    parts, position = [], 0
    for span in CODE_SPAN.finditer(line):
        parts += [_escaped(line[position : span.start()]), span.group().replace("|", r"\|")]
        position = span.end()
    return "".join([*parts, _escaped(line[position:])])


def code(text: object) -> str:
    """Text as code within a cell."""
    return "`" + str(text).replace("|", r"\|") + "`"


def section_rows(page: str, heading: str) -> list[dict[str, str]]:
    """The rows of the tables in a page's section.

    Arguments:
        page: Markdown.
        heading: of the section, of any level; it ends at the next heading of the same or a higher
            level.

    Returns:
        the cells of each row by the header of their column.
    """
    match = re.search(rf"^(#+) +{re.escape(heading)} *$", page, re.MULTILINE | re.IGNORECASE)
    if match is None:
        return []
    text = page[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", text, re.MULTILINE)
    lines = text[: end.start() if end else None].splitlines()
    rows: list[dict[str, str]] = []
    header: list[str] = []
    for line, following in pairwise([*lines, ""]):
        if RULE.match(following):
            header = _cells(line)
        elif line.startswith("|") and not RULE.match(line):
            rows.append(dict(zip(header, _cells(line), strict=True)))
    return rows


def _cells(line: str) -> list[str]:
    """The cells of a line of a table."""
    return [text.strip() for text in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def code_spans(text: str) -> list[str]:
    """The texts between backticks."""
    return [span.strip("`") for span in CODE_SPAN.findall(text)]


def _escaped(text: str) -> str:
    """Text whose special characters are escaped; an underscore within a word is not special."""
    return re.sub(r"([|*<\[\]]|\b_|_\b)", r"\\\1", text)
