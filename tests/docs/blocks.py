"""The fenced blocks of commands and of Python in README.md and docs."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", *sorted((PROJECT / "docs").rglob("*.md"))]
# A block runs in every test run, unless a comment before it says `slow` (only with the slow tests) or
# `skip: REASON` (never). The commands of all blocks are checked without running them.
FENCE = re.compile(
    r"(?:^ *<!-- docs: (?P<mode>slow|skip)(?:: (?P<reason>[^>]*?))? -->\n\s*?)?"
    r"^(?P<indent> *)```bash[^\n]*\n(?P<code>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of commands.

    mode: run, slow or skip.
    reason: why it is skipped.
    """

    page: Path
    line: int
    code: str
    mode: str
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(PROJECT)}:{self.line}"


def blocks_in(page: Path, text: str) -> list[Block]:
    """The blocks in a page's text."""
    found = []
    for match in FENCE.finditer(text):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        line = text.count("\n", 0, match.start("indent")) + 1
        found.append(Block(page, line, code, match["mode"] or "run", match["reason"]))
    return found


def all_blocks() -> list[Block]:
    """The blocks of all pages."""
    return [block for page in PAGES for block in blocks_in(page, page.read_text())]


def python_blocks(page: Path) -> list[str]:
    """The code of a page's blocks of Python."""
    found = re.findall(r"^ *```python\n(.*?)^ *```$", page.read_text(), re.DOTALL | re.MULTILINE)
    return [dedent(code) for code in found]


def commands(code: str) -> list[list[str]]:
    """The words of each command in a block, in order; comments and here-documents are left out."""
    code = re.sub(r"<<-?\s*'?(\w+)'?(.*?)\n.*?^\s*\1$", r"\2", code, flags=re.DOTALL | re.MULTILINE)
    found: list[list[str]] = []
    pending = ""
    for line in code.replace("\\\n", " ").splitlines():
        pending += line
        try:
            found += _commands_of_line(pending)
            pending = ""
        except ValueError:  # the line ends within a quotation
            pending += "\n"
    if pending:
        raise ValueError(f"no closing quotation: {pending}")
    return found


def _commands_of_line(line: str) -> list[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    commands: list[list[str]] = []
    words: list[str] = []
    is_target = False
    for word in lexer:
        if word and set(word) <= set(";|&()"):
            commands.append(words)
            words = []
        elif set(word) <= set("<>&"):  # a redirection, such as 2>&1; its target follows
            is_target = True
            if words and words[-1].isdigit():
                words.pop()
        elif is_target:
            is_target = False
        else:
            words.append(word)
    return [command for command in [*commands, words] if command]
