"""Every command in a fenced block of README.md and docs exists; those marked to be run succeed."""

import ast
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from grok.experiment.experiment import load
from grok.paths import experiment_file
from tests.conftest import PROJECT
from tests.docs.blocks import PAGES, Block, all_blocks, blocks_in, commands, python_blocks
from tests.docs.commands import problem
from tools.docs.papers import VERDICTS, verdicts

QUICK_TIMEOUT, SLOW_TIMEOUT = 120, 3600  # seconds for the blocks of one page


def by_page(*modes: str) -> list[tuple[str, list[Block]]]:
    """The blocks of these modes, by the page's path."""
    pages: dict[str, list[Block]] = {}
    for block in all_blocks():
        if block.mode in modes:
            pages.setdefault(str(block.page.relative_to(PROJECT)), []).append(block)
    return list(pages.items())


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """A GROK_HOME for the blocks of all pages; `python` and `grok` are those of this interpreter.

    `grok replicate` writes its verdicts to docs, which is undone.
    """
    verdicts = VERDICTS.read_bytes()
    home = Path(tempfile.mkdtemp(prefix="grok-"))
    programs = home / "bin"
    programs.mkdir()
    for name, arguments in (("python", ""), ("grok", " -m grok.cli")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n')
        program.chmod(0o755)
    yield {
        **os.environ,
        "GROK_HOME": str(home / "grok"),
        "GROK_CONSOLE": "silent",
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
    }
    VERDICTS.write_bytes(verdicts)
    shutil.rmtree(home, ignore_errors=True)


def run_blocks(blocks: list[Block], environment: dict[str, str], timeout: float) -> None:
    """Run blocks in one shell, from the repository's root; the first command that fails ends it."""
    script = "".join(f"echo '--- {block}'\n{block.code}" for block in blocks)
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=PROJECT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as shell:
        try:
            output, _ = shell.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGTERM)  # the commands too, which would train on
            raise
    assert shell.returncode == 0, output[-3000:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_what_commands_name_exists(page):
    """Programs, subcommands, options, named configs, keys, values, sweep files, filters."""
    found = [
        f"{block}: {reason} in: {' '.join(words)}"
        for block in blocks_in(page, page.read_text())
        for words in commands(block.code)
        if (reason := problem(words))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(("page", "blocks"), by_page("run"))
def test_commands_run(page, blocks, environment):
    run_blocks(blocks, environment, QUICK_TIMEOUT)


@pytest.mark.slow
@pytest.mark.parametrize(("page", "blocks"), by_page("run", "slow"))
def test_slow_commands_run(page, blocks, environment):
    run_blocks(blocks, environment, SLOW_TIMEOUT)


@pytest.mark.parametrize("paper", [*verdicts()])
def test_the_blocks_that_replicate_a_paper_are_skipped_if_a_claim_fails(paper):
    """`grok replicate` then ends with exit status 1, so that the block would not succeed."""
    claims, found = load(experiment_file(paper)).claims, verdicts()[paper]["claims"]
    checked = [claim.id for claim in claims if not (claim.report_only or claim.not_tried)]
    is_passed = all(found[id]["verdict"] in ("passed", "mostly") for id in checked)
    is_command = re.compile(rf"^grok replicate (.* )?{paper}\b", re.MULTILINE)
    blocks = [block for block in all_blocks() if is_command.search(block.code)]
    assert is_passed or [str(b) for b in blocks if b.mode != "skip"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_python_in_blocks_is_python(page):
    """A block may begin within a function, and is then indented."""
    for code in python_blocks(page):
        ast.parse(code)


@pytest.mark.parametrize("page", ["README.md", "docs/guides/query.md"])
def test_blocks_of_queries_run(page, home):
    """In a store with the runs that they select, and none of other tests, which may log other metrics."""
    liu_toy = load(experiment_file("liu_toy"))
    for seed in (0, 1):
        liu_toy.run(config_updates={"p": 10, "seed": seed, "train_steps": 2})
    blocks = python_blocks(PROJECT / page)
    assert blocks
    for code in blocks:
        exec(code, {})


def test_a_block_is_skipped_for_a_reason():
    assert [str(block) for block in all_blocks() if block.mode == "skip" and not block.reason] == []


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("python experiments/nanda.py with cpuu", "cpuu"),
        ("python experiments/nanda.py with cpu weight_decai=1", "weight_decai"),
        ("python experiments/nanda.py with cpu train_fraction=2", "train_fraction"),
        ("python experiments/nanda.py --no-such-option with cpu", "no-such-option"),
        ("python experiments/nanda.py no_command with cpu", "no_command"),
        ("python experiments/no_paper.py with cpu", "no file"),
        ("python analysis/show.py --no-such-option", "no-such-option"),
        ("python analysis/show.py experiment=no_paper", "no_paper"),
        ("python analysis/show.py weight_decai=1", "weight_decai"),
        ("python analysis/no_script.py", "no file"),
        ("grok no-command", "no-command"),
        ("grok store no-command", "no-command"),
        ("grok sweep run sweeps/no_sweep.yaml", "no_sweep"),
        ("grok sweep run sweeps/nanda_cpu.yaml --no-such-option", "no-such-option"),
        ("grok report sweep=no_sweep", "no_sweep"),
        ("grok report claim=99-C1", "99-C1"),
        ("grok report && make no-target", "no-target"),
        ("no_program", "no_program"),
    ],
)
def test_a_wrong_command_is_found(command, message):
    problems = [problem(words) for words in commands(command)]
    assert any(message in text for text in problems if text)


def test_blocks_and_commands_are_read_from_a_page():
    text = """
Text.

```bash
# a comment
grok store status | head -3   # another
GROK_HOME=/tmp/x python a.py with \\
    p=5 > out.txt && echo done
```

1. An item:

    <!-- docs: skip: it needs an account -->
    ```bash
    wandb login
    ```

```python
x = 1
```

<!-- docs: slow -->
```bash
grok papers
```
"""
    first, second, third = blocks_in(PROJECT / "README.md", text)
    assert [first.mode, second.mode, third.mode] == ["run", "skip", "slow"]
    assert second.reason == "it needs an account"
    assert first.line == 4 and str(first) == "README.md:4"
    assert commands(second.code) == [["wandb", "login"]]
    assert commands(first.code) == [
        ["grok", "store", "status"],
        ["head", "-3"],
        ["GROK_HOME=/tmp/x", "python", "a.py", "with", "p=5"],
        ["echo", "done"],
    ]
