"""`grok sweep serve` and its clients as processes, for the tests of sweeps."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from grok.store import connection as stores
from tests.conftest import PROJECT

BIN = Path(sys.executable).parent
COMMAND = ["${env}", "${interpreter}", "${program}", "with", "${args_no_hyphens}"]
SWEEP = {
    "program": "experiments/liu_toy.py",
    "method": "grid",
    "metric": {"name": "test_accuracy", "goal": "maximize"},
    "command": COMMAND,
    "parameters": {
        "p": {"value": 5},
        "decoder_width": {"value": 20},  # the steps are not what is tested
        "train_steps": {"value": 100},
        "log_points": {"value": 20},
        "seed": {"values": list(range(12))},
    },
}


class Endpoint:
    """A process `grok sweep serve` with its own GROK_HOME, and the environment of its clients."""

    def __init__(self, home: Path, lost_after: float = 120.0):
        self.home, self.lost_after = home, lost_after
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("WANDB", "SLURM_JOB"))},
            "GROK_HOME": str(home),
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "WANDB_DIR": str(home),
            "WANDB_PROJECT": "grok",
        }
        self.process: subprocess.Popen | None = None
        self.port = "0"

    def start(self) -> "Endpoint":
        """Start the process, at the same port if it has run before."""
        words = ["--port", self.port, "--lost-after", str(self.lost_after)]
        self.process = self.popen("grok", "sweep", "serve", *words, stdout=subprocess.PIPE)
        self.process.stdout.readline()
        export = self.process.stdout.readline().split()
        self.environment |= dict(word.split("=", 1) for word in export[1:])
        self.port = self.url.rpartition(":")[2]
        return self

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(20)

    @property
    def url(self) -> str:
        return self.environment["WANDB_BASE_URL"]

    def popen(self, *words: str, **options) -> subprocess.Popen:
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
        return subprocess.Popen(words, cwd=PROJECT, env=self.environment, text=True, **options)

    def call(self, *words: str) -> subprocess.CompletedProcess:
        """Run a client to its end."""
        return subprocess.run(
            words, cwd=PROJECT, env=self.environment, capture_output=True, text=True, timeout=300
        )

    def submit(self, *options: str, script: str) -> None:
        """Queue a script in Slurm."""
        command = ["sbatch", f"--chdir={PROJECT}", f"--output={self.home}/%j.log", *options]
        subprocess.run(command, input=script, env=self.environment, text=True, check=True)

    def sweep(self, **changes) -> str:
        """The name of a new sweep, made by `wandb sweep` from SWEEP with these changes."""
        path = self.home / "sweep.yaml"
        path.write_text(yaml.safe_dump({**SWEEP, **changes}))
        done = self.call("wandb", "sweep", str(path))
        assert done.returncode == 0, done.stderr
        return done.stderr.split("wandb agent ")[1].split()[0]

    def points(self, sweep: str) -> list[dict]:
        name = sweep.rpartition("/")[2]
        return list(stores.connect().database.sweep_points.find({"sweep": name}).sort("number"))

    def states(self, sweep: str) -> list[str]:
        return [point["state"] for point in self.points(sweep)]

    def set_heartbeats(self, sweep: str, ago: float) -> None:
        """Set the heartbeats of the sweep's running points and runs to so many seconds ago."""
        database, name = stores.connect().database, sweep.rpartition("/")[2]
        then = {"$set": {"heartbeat": datetime.now(UTC) - timedelta(seconds=ago)}}
        database.sweep_points.update_many({"sweep": name, "state": "running"}, then)
        database.runs.update_many({"info.wandb.sweep": name, "status": "RUNNING"}, then)


def runs_of(sweep: str) -> list[dict]:
    """The stored runs of a sweep."""
    wanted = {"info.wandb.sweep": sweep.rpartition("/")[2]}
    return list(stores.connect().database.runs.find(wanted))
