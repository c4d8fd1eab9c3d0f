"""The campaign of faults (`make faults`) with a few trials of each kind."""

from collections import Counter

import pytest

from tools.faults.campaign import KINDS, try_kind
from tools.faults.laboratory import Laboratory, Outcome, compare

SEED = 0
TRIALS = {"damage": 9, "requests": 10}  # of kinds that are cheap
OTHERS = 2


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory):
    """A store of its own, with the run that all others have to equal."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("GROK_HOME", "GROK_MONGO_URI", "OMP_NUM_THREADS"):
            patch.setenv(name, "")  # which the laboratory sets, and the test session gets back
        laboratory = Laboratory(tmp_path_factory.mktemp("f"))
        laboratory.measure()
        yield laboratory
        laboratory.close()


def test_nothing_is_lost_and_nothing_is_doubled(laboratory: Laboratory) -> None:
    """What was disturbed records exactly what an uninterrupted run does, each value once.

    One test for all kinds: the laboratory takes a fifth of the time, and each process that runs tests
    would have its own.
    """
    lines: list[str] = []
    trials = {name: TRIALS.get(name, OTHERS) for name in KINDS}
    rows = [try_kind(laboratory, name, trials[name], SEED, lines.append) for name in KINDS]
    skipped = [row.name for row in rows if row.skipped]
    assert skipped in ([], ["disks"])  # where nothing can be mounted
    endings = ("survived", *(row.skipped for row in rows if row.skipped))
    assert [line for line in lines if not line.endswith(endings)] == []
    tried = {row.name: trials[row.name] for row in rows if not row.skipped}
    assert {row.name: row.survived for row in rows if not row.skipped} == tried


def test_what_is_lost_and_what_is_doubled_is_counted() -> None:
    """A missing value is lost, a second one is doubled, and another value is both."""
    expected = Counter({("value", "loss", 0, 1.0): 1, ("value", "loss", 1, 0.5): 1})
    for change, lost, doubled in (
        ({}, 0, 0),
        ({("value", "loss", 0, 1.0): 0}, 1, 0),
        ({("value", "loss", 0, 1.0): 2}, 0, 1),
        ({("value", "loss", 0, 1.0): 0, ("value", "loss", 0, 1.5): 1}, 1, 1),
    ):
        found = Counter({**expected, **change})
        assert compare(expected, found, "") == Outcome(lost, doubled, "")
