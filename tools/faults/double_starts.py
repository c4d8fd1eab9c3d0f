"""Commands that are started twice at the same moment."""

import os
import random
import signal

import psutil

from tools.faults.commands import NotRecovered
from tools.faults.laboratory import RUN, Laboratory, Outcome, Records, compare, records
from tools.faults.sweeps import StoredSweeps


class DoubleStarts:
    """Two runs, two servers, and one run or sweep that two processes resume."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.sweeps = StoredSweeps(laboratory, "double")

    def trial(self, rng: random.Random) -> Outcome:
        """One of the four."""
        trials = {
            "two runs": self._runs,
            "two servers": self._servers,
            "a run resumed twice": self._resumed_run,
            "a sweep resumed twice": self._resumed_sweep,
        }
        name = rng.choice([*trials])
        return trials[name](rng, name)

    def _runs(self, _: random.Random, line: str) -> Outcome:
        return self._start_both(self.laboratory.last_run(), line)

    def _start_both(self, before: int, line: str) -> Outcome:
        lab = self.laboratory
        for run in [lab.start(*RUN), lab.start(*RUN)]:
            run.succeed()
        found = Records()
        for number in lab.runs_after(before):
            found += records(lab.store.database, number)
        return compare(lab.expected + lab.expected, found, line)

    def _servers(self, _: random.Random, line: str) -> Outcome:
        """The server and its keeper are killed, and two runs start it again."""
        lab = self.laboratory
        mongod, before = lab.mongod(), lab.last_run()
        keeper = psutil.Process(mongod).ppid()
        for process in (keeper, mongod):
            os.kill(process, signal.SIGKILL)
        outcome = self._start_both(before, line)
        if len(lab.mongods()) != 1:
            raise NotRecovered(f"{len(lab.mongods())} servers have been started")
        return outcome

    def _resumed_run(self, rng: random.Random, line: str) -> Outcome:
        lab = self.laboratory
        number = lab.killed_run(rng)
        both = [lab.start("grok", "resume", str(number)) for _ in range(2)]
        codes = [each.wait() for each in both]
        lab.resume(number)
        return lab.check(number, f"{line}: exit codes {codes}")

    def _resumed_sweep(self, rng: random.Random, line: str) -> Outcome:
        lab, before = self.laboratory, self.sweeps.latest()
        lab.start(*self.sweeps.run).kill_once(
            lambda: self.sweeps.latest() != before, rng.uniform(0, lab.seconds)
        )
        resume = [*self.sweeps.run, "--resume"]
        both = [lab.start(*resume) for _ in range(2)]
        codes = [each.wait() for each in both]
        lab.execute(*resume)
        return self.sweeps.check(
            self.sweeps.latest(), "meta.sweep.id", f"{line}: exit codes {codes}"
        )
