"""Markdown text: tables, cells and the rows of a page's table."""

import re
from collections.abc import Iterable, Sequence

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


def section_rows(page: str, heading: str) -> list[list[str]]:
    """The rows of the tables in a page's section.

    Arguments:
        page: Markdown.
        heading: of the section, of any level; it ends at the next heading of the same or a higher
            level.

    Returns:
        the cells of each row, without the header.
    """
    match = re.search(rf"^(#+) +{re.escape(heading)} *$", page, re.MULTILINE | re.IGNORECASE)
    if match is None:
        return []
    text = page[match.end() :]
    end = re.search(rf"^#{{1,{len(match[1])}}} ", text, re.MULTILINE)
    rows = []
    lines = text[: end.start() if end else None].splitlines()
    for number, line in enumerate(lines):
        is_header = number + 1 < len(lines) and re.match(r"^\|[ :|-]+\|$", lines[number + 1])
        if line.startswith("|") and not is_header and not re.match(r"^\|[ :|-]+\|$", line):
            cells = re.split(r"(?<!\\)\|", line.strip().strip("|"))
            rows.append([text.strip() for text in cells])
    return rows


def code_spans(text: str) -> list[str]:
    """The texts between backticks."""
    return [span.strip("`") for span in CODE_SPAN.findall(text)]


def _escaped(text: str) -> str:
    """Text whose special characters are escaped; an underscore within a word is not special."""
    return re.sub(r"([|*<\[\]]|\b_|_\b)", r"\\\1", text)
