"""Runs that are killed at random moments, from the start of the process to its end."""

import random

from tools.faults.laboratory import Laboratory, Outcome

MOST_KILLS = 3  # of a run: its process, and those that resume it


class KilledRuns:
    """A run is killed, and often what resumes it is killed too; then it is resumed to its end."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory

    def trial(self, rng: random.Random) -> Outcome:
        """One run that is killed once or more."""
        lab = self.laboratory
        before, moment = lab.kill_run(rng)
        moments = [moment]
        for _ in range(rng.randrange(MOST_KILLS)):
            lab.recover_or_not(rng)
            found = lab.runs_after(before)
            if not found or lab.status(found[0]) == "COMPLETED":
                break
            moment = rng.uniform(0, lab.seconds)
            if lab.start("grok", "resume", str(found[0])).kill_after(moment):
                moments.append(moment)
        number = lab.finish(before)
        return lab.check(number, f"killed after {', '.join(f'{each:.2f} s' for each in moments)}")
