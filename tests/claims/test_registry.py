"""The registry of claims: nothing changes unseen."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from grok.claims import registry
from grok.claims.model import Claim
from grok.claims.scorecard import experiments
from grok.cli import main as grok
from grok.errors import UserError
from grok.paths import PROJECT
from tests.claims.test_verdicts import EARLY, NOT_RUN


@pytest.fixture
def version(monkeypatch):
    """The versions of claims are their statements."""
    monkeypatch.setattr(registry, "version_of", lambda experiment, claim: claim.statement)


def paper(*claims: Claim) -> list[SimpleNamespace]:
    return [SimpleNamespace(claims=claims)]


def reworded(claim: Claim, statement: str) -> Claim:
    return Claim(claim.id, statement, claim.check, claim.sweep)


def registered_daily(folder: Path, *statements: str) -> Path:
    """A registry of one claim that was reworded on each of the first days of 2026."""
    path = folder / "claims.json"
    for statement in statements:
        registry.register(paper(reworded(EARLY, statement)), "changed", path)
    content = json.loads(path.read_text())
    for day, one in enumerate(content["X-1"], 1):
        one["date"] = f"2026-01-0{day}T00:00:00+00:00"
    path.write_text(json.dumps(content))
    return path


def test_every_claim_of_this_project_is_registered_as_it_is():
    """A claim that is changed must be registered again, with a note of why:
    grok claims register --note "..." """
    assert registry.changes(experiments()) == {}


def test_a_registered_claim_changes_only_with_a_note(version, tmp_path):
    path = tmp_path / "claims.json"
    assert registry.register(paper(EARLY), path=path) == ["X-1"]
    assert registry.register(paper(EARLY), path=path) == []
    before, changed = path.read_text(), paper(reworded(EARLY, "later"))
    with pytest.raises(UserError, match="registered before: X-1; say why in --note"):
        registry.register(changed, path=path)
    assert path.read_text() == before
    assert registry.register(changed, "the paper's words", path) == ["X-1"]
    first, second = registry.read(path)["X-1"]
    assert (first.version, first.note) == ("It is early (figure 1)", "")
    assert (second.version, second.note) == ("later", "the paper's words")
    assert registry.changes(changed, path) == {}


def test_a_new_claim_needs_no_note_and_a_removed_one_does(version, tmp_path):
    path = tmp_path / "claims.json"
    registry.register(paper(EARLY), path=path)
    assert registry.register(paper(EARLY, NOT_RUN), path=path) == ["X-2"]
    with pytest.raises(UserError, match="X-2"):
        registry.register(paper(EARLY), path=path)
    registry.register(paper(EARLY), "not the paper's", path)
    assert registry.read(path)["X-2"][-1].version == registry.REMOVED
    assert registry.changes(paper(EARLY), path) == {}


def test_a_version_is_stated_when_it_was_registered_last(version, tmp_path):
    """Whoever returns to an earlier wording after the runs has stated it after the runs."""
    path = registered_daily(tmp_path, "a", "b", "a")
    registered = registry.read(path)
    assert registry.stated_at(registered, "X-1", "a") == datetime(2026, 1, 3, tzinfo=UTC)
    assert registry.stated_at(registered, "X-1", "b") == datetime(2026, 1, 2, tzinfo=UTC)
    assert registry.stated_at(registered, "X-1", "c") is None
    assert registry.stated_at(registered, "X-9", "a") is None


def test_a_version_that_claims_the_same_was_stated_when_the_first_one_was(version, tmp_path):
    """Where only the rule of the hash has changed, the claim is no younger, and what was found holds."""
    path = registered_daily(tmp_path, "a", "b", "c")
    content = json.loads(path.read_text())
    content["X-1"][2]["same_as"] = "b"
    path.write_text(json.dumps(content))
    registered = registry.read(path)
    assert registry.stated_at(registered, "X-1", "c") == datetime(2026, 1, 2, tzinfo=UTC)
    assert registry.is_same(registered, "X-1", "b", "c")
    for other in ("a", "d", None):
        assert not registry.is_same(registered, "X-1", other, "c")
    registry.register(paper(reworded(EARLY, "d")), "changed", path)
    assert registry.read(path)["X-1"][:3] == registered["X-1"]


def test_the_command_says_that_nothing_is_to_be_registered():
    done = CliRunner().invoke(grok, ["claims", "register"])
    assert (done.exit_code, done.output) == (0, "every claim is registered as it is\n")


# The only entry that was ever taken out: 02-C6 was registered twice within half an hour, unpublished.
TAKEN_OUT = {("02-C6", "7705725ff431")}


def test_no_entry_of_the_registry_was_changed_or_taken_out():
    """The registry is worth what its dates are: an entry that could be edited, or dropped when a claim
    turns out false, would tell nothing. Every entry of every commit is still there, with its version,
    date and statement; a note may be worded anew."""
    name = "experiments/claims.json"
    git = ["git", "-C", str(PROJECT)]
    log = subprocess.run([*git, "log", "--format=%H", "--", name], capture_output=True, text=True)
    if log.returncode or not log.stdout:
        pytest.skip("no git history here")
    present = {
        (id, one.version, one.date, one.statement)
        for id, versions in registry.read().items()
        for one in versions
    }
    for commit in log.stdout.split():
        shown = subprocess.run([*git, "show", f"{commit}:{name}"], capture_output=True, check=True)
        for id, versions in json.loads(shown.stdout).items():
            for one in versions:
                is_kept = (id, one["version"], one["date"], one["statement"]) in present
                assert is_kept or (id, one["version"]) in TAKEN_OUT, f"{id} of {commit[:7]}"
