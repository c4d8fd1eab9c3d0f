"""The command line's help: complete, and shown without the packages that take seconds to import."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version

import click
import pytest
from click.testing import CliRunner

from grok.cli import main
from tests.conftest import PROJECT

HEAVY = {"torch", "sacred", "pandas", "pymongo", "numpy", "rich"}
CODE = f"""
import json, sys
from grok.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 0, words
    imported = {HEAVY!r} & set(sys.modules)
    assert not imported, (words, imported)
"""


def commands(
    command: click.Command, *words: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and those below it, each with the words that call it."""
    yield words, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, *words, name)


COMMANDS = list(commands(main))


def test_help_and_version_import_nothing_heavy():
    calls = [[*words, "--help"] for words, _ in COMMANDS] + [["--version"], ["-h"]]
    arguments = [sys.executable, "-c", CODE, json.dumps(calls)]
    done = subprocess.run(arguments, cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Usage:") == len(calls) - 1
    assert f"grok, version {version('grok-lab')}" in done.stdout


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=lambda value: str(value)[:30])
def test_every_command_says_what_it_does(words, command):
    assert command.help
    assert CliRunner().invoke(main, [*words, "-h"]).exit_code == 0


NAMES = """
store start, store stop, store serve, store uri, store status, store recover, store export, store import,
store delete, store doctor, store repair, store backup, sweep run, sweep serve, sweep agent, sweep submit, sweep status,
store attach, papers, claims register, replicate, new, init, run, analyze, map, board, report, measures, repeat, resume, export history, export metrics,
export run, export sweep, export replication, export weights, bundle write, bundle verify
"""


def test_the_commands_have_these_names():
    leaves = {
        " ".join(words) for words, command in COMMANDS if not isinstance(command, click.Group)
    }
    assert leaves == {name.strip() for name in NAMES.split(",")}


@pytest.mark.parametrize(
    "words",
    [
        ["export", "run", "1", "", "--files"],
        ["export", "sweep", "abc", ""],
        ["export", "history", "1", "-o", ""],
        ["store", "export", ""],
        ["init", ""],
        ["sweep", "run", ""],
    ],
)
def test_an_empty_path_is_refused(words, tmp_path, monkeypatch):
    """An empty variable of a shell's script would be the working directory, and be filled with files."""
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith(" '': expected the name of a file or folder\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", " ", "liu toy"])
def test_a_name_that_is_no_word_is_quoted(name):
    """In "unknown experiment ; there are:" nobody sees which value was empty."""
    result = CliRunner().invoke(main, ["run", name])
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: unknown experiment {name!r}; ")
    assert CliRunner().invoke(main, ["run", "x"]).stderr.startswith("error: unknown experiment x; ")


@pytest.mark.parametrize(
    "words",
    [
        ["store", "attach", "1", b"x=\xff"],
        ["store", "attach", "1", b"b\xff.txt"],
        ["store", "export", b"b\xff.zip", "run=1"],
        ["export", "run", "1", b"b\xff"],
        ["run", b"\xff"],
        [b"\xff"],
    ],
)
def test_an_argument_that_is_not_utf_8_is_one_line(words):
    """Python has such bytes as half characters, which neither the store nor a terminal takes."""
    command = [sys.executable, "-m", "grok.cli", *words]
    environment = {**os.environ, "PYTHONUTF8": "1"}
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    [wrong] = [word for word in words if isinstance(word, bytes)]
    shown = wrong.decode(errors="backslashreplace")
    expected = f"error: argument {shown}: expected a text in UTF-8\n"
    assert (done.returncode, done.stderr) == (2, expected)


@pytest.mark.parametrize(
    "words", [["init"], ["sweep", "run"], ["map"], ["sweep", "submit"], ["board", "--reference"]]
)
def test_a_name_that_no_file_can_have_is_one_line(words):
    """To ask whether there is such a file is an error of its own, which was a traceback."""
    result = CliRunner().invoke(main, [*words, "a" * 300])
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert result.stderr.startswith("error: ") and "File name too long" in result.stderr
