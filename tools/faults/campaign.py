"""The kinds of faults of the campaign, and how often each is tried."""

import random
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tools.faults.commands import NotRecovered
from tools.faults.damage import Damaged
from tools.faults.disks import FullDisks
from tools.faults.double_starts import DoubleStarts
from tools.faults.laboratory import Kind, Laboratory, Skipped
from tools.faults.requests import HostileRequests
from tools.faults.runs import KilledRuns
from tools.faults.servers import KilledServers, StoppedServers
from tools.faults.sweeps import KilledSweeps


@dataclass(frozen=True)
class Plan:
    """A kind of fault, and how often it is tried."""

    kind: type[Kind]
    trials: int


KINDS = {
    "runs": Plan(KilledRuns, 100),
    "servers": Plan(KilledServers, 40),
    "sweeps": Plan(KilledSweeps, 40),
    "stops": Plan(StoppedServers, 20),
    "disks": Plan(FullDisks, 20),
    "double-starts": Plan(DoubleStarts, 20),
    "damage": Plan(Damaged, 200),
    "requests": Plan(HostileRequests, 200),
}


@dataclass
class Row:
    """What has come of one kind: the number of trials, and of those that ended in which way.

    A trial that did not come to its end has lost something, too.
    """

    name: str
    trials: int = 0
    survived: int = 0
    lost: int = 0
    doubled: int = 0
    seconds: float = 0.0
    skipped: str = ""


def try_kind(
    laboratory: Laboratory, name: str, trials: int, seed: int, report: Callable[[str], object]
) -> Row:
    """Try one kind of fault.

    Arguments:
        seed: of the random moments; each trial has its own, so it can be repeated alone.
        report: is called with a line about each trial.
    """
    row, began = Row(name), time.monotonic()
    with laboratory.stack:
        try:
            kind = KINDS[name].kind(laboratory)
        except Skipped as reason:
            row.skipped = str(reason)
            report(f"{name}: skipped: {reason}")
            return row
        except Exception as error:
            row.trials, row.lost = 1, 1
            report(f"{name}: LOST: it could not be prepared: {_line(error)}")
            return row
        for number in range(trials):
            row.trials += 1
            try:
                outcome = kind.trial(random.Random(f"{seed} {name} {number}"))
            except Exception as error:  # whatever it is, the other trials are made
                row.lost += 1
                report(f"{name} {number}: LOST: {_line(error)}")
                continue
            row.survived += outcome.survived
            row.lost += outcome.lost > 0
            row.doubled += outcome.doubled > 0
            ending = (
                "survived"
                if outcome.survived
                else f"LOST {outcome.lost}, DOUBLED {outcome.doubled}"
            )
            report(f"{name} {number}: {outcome.line}: {ending}")
    row.seconds = time.monotonic() - began
    return row


def _line(error: Exception) -> str:
    """What an error says, in one line; an unexpected one with its kind and place."""
    if isinstance(error, NotRecovered):
        return " ".join(str(error).split())
    place = traceback.extract_tb(error.__traceback__)[-1]
    return " ".join(f"{error!r} in {place.filename}:{place.lineno}".split())


def table(rows: list[Row]) -> str:
    """The rows as a table in plain text."""
    lines = [f"{'kind':<15}{'trials':>8}{'survived':>10}{'lost':>6}{'doubled':>9}{'seconds':>9}"]
    for row in rows:
        counts = (
            f"{row.trials:>8}{row.survived:>10}{row.lost:>6}{row.doubled:>9}{row.seconds:>9.0f}"
        )
        lines.append(f"{row.name:<15}" + (f"  skipped: {row.skipped}" if row.skipped else counts))
    return "\n".join(lines)
