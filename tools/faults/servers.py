"""The embedded server, killed or stopped while a run records."""

import os
import random
import signal
import time

import psutil

from tools.faults.commands import NotRecovered
from tools.faults.laboratory import RUN, Laboratory, Outcome, wait_until

LONGEST_STOP = 8.0  # seconds


class KilledServers:
    """mongod, or the keeper that would start it again, is killed while a run records."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory

    def trial(self, rng: random.Random) -> Outcome:
        """One kill, at a random moment of the run."""
        lab = self.laboratory
        mongod = lab.mongod()
        keeper = psutil.Process(mongod).ppid()
        victims = rng.choice([[mongod], [keeper], [mongod, keeper]])
        before, moment = lab.last_run(), rng.uniform(0, lab.seconds)
        run = lab.start(*RUN)
        time.sleep(moment)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        run.wait()
        # without its keeper, mongod answers until it has shut down
        wait_until(lambda: mongod not in lab.mongods(), "the server does not end")
        lab.mongod()
        lab.recover_or_not(rng)
        names = {mongod: "mongod", keeper: "keeper"}
        killed = " and ".join(names[victim] for victim in victims)
        return lab.check(lab.finish(before), f"{killed} killed after {moment:.2f} s")


class StoppedServers:
    """mongod is stopped while a run records, and continues."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory

    def trial(self, rng: random.Random) -> Outcome:
        """One stop of up to LONGEST_STOP seconds, which begins at a random moment of the run."""
        lab = self.laboratory
        mongod, before = lab.mongod(), lab.last_run()
        moment, pause = rng.uniform(0, lab.seconds), rng.uniform(0, LONGEST_STOP)
        run = lab.start(*RUN)
        time.sleep(moment)
        os.kill(mongod, signal.SIGSTOP)
        time.sleep(pause)
        os.kill(mongod, signal.SIGCONT)
        run.wait()
        if lab.mongods() != [mongod]:
            raise NotRecovered(f"mongod {lab.mongods()} in place of {mongod}")
        lab.recover_or_not(rng)
        number = lab.finish(before)
        return lab.check(number, f"mongod stopped after {moment:.2f} s for {pause:.1f} s")
