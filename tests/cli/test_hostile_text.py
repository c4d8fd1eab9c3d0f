"""Text from runs is text on a terminal: no markup, no escape sequences, no change of direction."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner
from rich.table import Table

from analysis import show
from benchmarks import synthetic
from grok.cli import main
from grok.console import Console
from grok.errors import UserError
from grok.printable import printable

HOSTILE = "[/b][red]\x1b[2J\x1b]0;title\x07\u202e:smile:\x9b1m"
SHOWN = "[/b][red]\\x1b[2J\\x1b]0;title\\x07\\u202e:smile:\\x9b1m"


@pytest.fixture(scope="module")
def foreign(store):
    """The option -m for a store whose runs and sweeps have hostile text in every text."""
    database = replace(store, db_name="hostile_text").database
    synthetic.fill(database, 3, steps=4)
    texts = {
        "status": HOSTILE,
        "experiment.name": HOSTILE,
        "config.preset": HOSTILE,
        f"config.{HOSTILE.replace('.', '')}": HOSTILE,
        "result.phase": HOSTILE,
        "info.environment.torch": HOSTILE,
    }
    database.runs.update_many({"_id": {"$in": [1, 2]}}, {"$set": texts})
    dead = {"status": "RUNNING", "experiment.name": HOSTILE}
    database.runs.update_one({"_id": 3}, {"$set": dead})
    now = datetime.now(UTC)
    config = {"parameters": {}, "method": "grid"}
    sweep = {"_id": "s-1", "name": HOSTILE, "state": HOSTILE, "created": now, "served": True}
    database.sweeps.insert_one({**sweep, "config": config, "experiment": HOSTILE})
    point = {"sweep": "s-1", "number": 0, "state": "running", "heartbeat": now, "run": HOSTILE}
    database.sweep_points.insert_one({**point, "host": HOSTILE, "point": {HOSTILE: HOSTILE}})
    yield ["-m", f"{store.uri}/hostile_text"]
    store.client.drop_database("hostile_text")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (main, ["store", "status"]),
        (main, ["store", "doctor"]),
        (main, ["sweep", "status"]),
        (main, ["sweep", "status", "s-1"]),
        (main, ["repeat", "1"]),
        (show.main, []),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_commands_show_hostile_text_as_text(foreign, command, words):
    result = CliRunner().invoke(command, [*words, *foreign])
    assert result.exit_code in (0, 1, 2) and not isinstance(result.exception, ValueError), result
    for character in "\x1b\x07\u202e\x9b":
        assert character not in result.output
    if "doctor" not in words:
        assert "[/b]" in result.output, result.output


def test_tables_titles_and_lines_are_text(capsys):
    """Every way in which text reaches a console."""
    table = Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    Console(width=200).print(table, HOSTILE)
    assert capsys.readouterr().out.count(SHOWN) == 4


def test_an_error_is_one_line_whatever_it_quotes(capsys):
    UserError(f"no run {HOSTILE}\n\rsecond").show()
    assert capsys.readouterr().err == f"error: no run {SHOWN}\\n\\rsecond\n"


def test_text_that_only_shows_stays_as_it_is():
    """Letters, signs and emoji of all languages; line ends and tabs unless they are to go."""
    for text in ("p=113 ±2", "Größe λ₂ → ∞", "模運算", "a\tb\nc"):
        assert printable(text) == text
    assert printable("a\nb\u2028c\udc80", kept="") == "a\\nb\\u2028c\\udc80"
