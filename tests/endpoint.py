"""`grok sweep serve` and its clients, as real processes, for the tests of sweeps."""

import os
import subprocess
import sys
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
        "train_steps": {"value": 100},
        "log_points": {"value": 20},
        "seed": {"values": list(range(12))},
    },
}


class Endpoint:
    """`grok sweep serve` in a GROK_HOME of its own, and the environment its clients need."""

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
        words = ["--port", self.port, "--lost-after", str(self.lost_after)]
        self.process = self.popen("grok", "sweep", "serve", *words, stdout=subprocess.PIPE)
        self.process.stdout.readline()
        export = self.process.stdout.readline().split()
        self.environment |= dict(word.split("=", 1) for word in export[1:])
        self.port = self.url.rpartition(":")[2]
        return self

    @property
    def url(self) -> str:
        return self.environment["WANDB_BASE_URL"]

    def popen(self, *words: str, **options) -> subprocess.Popen:
        options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
        return subprocess.Popen(words, cwd=PROJECT, env=self.environment, text=True, **options)

    def call(self, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            words, cwd=PROJECT, env=self.environment, capture_output=True, text=True, timeout=300
        )

    def sweep(self, **changes) -> str:
        """A new sweep, made by `wandb sweep`; its id."""
        path = self.home / "sweep.yaml"
        path.write_text(yaml.safe_dump({**SWEEP, **changes}))
        said = self.call("wandb", "sweep", str(path))
        assert said.returncode == 0, said.stderr
        return said.stderr.split("wandb agent ")[1].split()[0]

    def points(self, sweep: str) -> list[dict]:
        name = sweep.rpartition("/")[2]
        return list(stores.connect().database.sweep_points.find({"sweep": name}).sort("number"))

    def states(self, sweep: str) -> list[str]:
        return [point["state"] for point in self.points(sweep)]


def runs_of(sweep: str) -> list[dict]:
    wanted = {"info.wandb.sweep": sweep.rpartition("/")[2]}
    return list(stores.connect().database.runs.find(wanted))
