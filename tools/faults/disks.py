"""Runs whose journal and checkpoints are on a disk that becomes full."""

import random
import shutil
import subprocess
from pathlib import Path

from tools.faults.commands import NotRecovered
from tools.faults.laboratory import RUN, Laboratory, Outcome, Skipped

SIZE = 4 << 20  # bytes of the disk
MOST_FREE = 400_000  # bytes that are left to a run; it needs about so many


class FullDisks:
    """A run finds little space on a tmpfs; it must stop with one line, and end when there is more."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.disk = laboratory.home / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(self.disk)]
        try:
            subprocess.run(mount, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or str(error)
            raise Skipped(f"no tmpfs can be mounted here ({reason.strip()})") from error
        laboratory.stack.callback(subprocess.run, ["umount", "-l", str(self.disk)], check=True)
        # the run's own GROK_HOME is on the disk; it records in the server of the laboratory
        self.environment = {
            "GROK_HOME": str(self.disk),
            "GROK_MONGO_URI": laboratory.store.uri,
            "TMPDIR": str(self.disk),
        }
        laboratory.execute(*RUN, environment=self.environment)  # what is compiled lies there, too

    def trial(self, rng: random.Random) -> Outcome:
        """One run, with a random number of bytes that are free."""
        lab, before = self.laboratory, self.laboratory.last_run()
        free = rng.randrange(MOST_FREE)
        filler = self.disk / "filler"
        _fill(filler, free)
        run = lab.start(*RUN, environment=self.environment)
        code = run.wait()
        filler.unlink()
        line = f"{free // 1000} kB were free: exit code {code}"
        if code not in (0, 2):
            raise NotRecovered(f"{line}: {run.last_line}")
        lab.recover_or_not(rng, self.environment)
        outcome = lab.check(lab.finish(before, self.environment), line)
        shutil.rmtree(self.disk / "checkpoints", ignore_errors=True)
        return outcome


def _fill(path: Path, free: int) -> None:
    """Write a file that leaves so many bytes of its disk free."""
    size = shutil.disk_usage(path.parent).free - free
    path.write_bytes(bytes(max(size, 0)))
