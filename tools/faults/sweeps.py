"""Sweeps, their agents and the endpoint, killed at random moments."""

import random
from collections import Counter
from operator import attrgetter

import yaml

from grok.sweep.client import Client, SweepName
from tools.faults.commands import Command, NotRecovered
from tools.faults.laboratory import (
    CONFIG,
    Laboratory,
    Outcome,
    Records,
    compare,
    records,
    wait_until,
)

SEEDS = range(4)
LOST_AFTER = 15.0  # seconds; agents send a heartbeat every 5 seconds, later on a busy machine
SWEEP = {
    "program": "experiments/liu_toy.py",
    "method": "grid",
    "parameters": {
        **{key: {"value": value} for key, value in CONFIG.items()},
        "seed": {"values": list(SEEDS)},
    },
}


class StoredSweeps:
    """Sweeps of one file, and what each of their points has to record."""

    def __init__(self, laboratory: Laboratory, name: str) -> None:
        self.database = laboratory.store.database
        self.file = laboratory.home / f"{name}.yaml"
        self.file.write_text(yaml.safe_dump(SWEEP))
        self.run = ["grok", "sweep", "run", str(self.file)]
        laboratory.execute(*self.run)
        self.expected = self._records(self.latest(), "meta.sweep.id")

    def latest(self) -> str:
        """Id of the latest sweep of `grok sweep run`; empty if there is none."""
        sweep = self.database.sweeps.find_one({"name": self.file.stem}, sort=[("created", -1)])
        return sweep["_id"] if sweep else ""

    def check(self, sweep: str, key: str, line: str) -> Outcome:
        """What the complete runs of a sweep have recorded, compared with the uninterrupted sweep.

        Arguments:
            key: of a run's document, which has the sweep's id.
        """
        found = self._records(sweep, key)
        outcomes = [compare(self.expected[seed], found[seed], line) for seed in SEEDS]
        lost, doubled = (sum(map(attrgetter(name), outcomes)) for name in ("lost", "doubled"))
        return Outcome(lost, doubled, line)

    def _records(self, sweep: str, key: str) -> dict[int, Records]:
        """What the complete runs of a sweep have recorded, by seed."""
        found: dict[int, Records] = {seed: Counter() for seed in SEEDS}
        for run in self.database.runs.find({key: sweep, "status": "COMPLETED"}, {"config.seed": 1}):
            found[run["config"]["seed"]] += records(self.database, run["_id"])
        return found


class Endpoint:
    """A process `grok sweep serve` that is ready.

    Arguments:
        port: 0 for a free one.

    Attributes:
        url, key: with which agents reach it.
    """

    def __init__(self, laboratory: Laboratory, port: int = 0) -> None:
        words = ["--port", str(port), "--lost-after", str(LOST_AFTER)]
        self.command = command = laboratory.start("grok", "sweep", "serve", *words)
        wait_until(lambda: "WANDB_API_KEY=" in command.output or command.has_ended, "no endpoint")
        if command.has_ended:
            raise NotRecovered(f"no endpoint: {command.last_line}")
        self.url, self.key = (word.partition("=")[2] for word in command.output.split()[-2:])
        self.port = int(self.url.rpartition(":")[2])


class KilledSweeps:
    """`grok sweep run`, an agent or the endpoint is killed; each point must have one run."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = laboratory
        self.sweeps = StoredSweeps(laboratory, "killed")

    def trial(self, rng: random.Random) -> Outcome:
        """One kill of one of the three."""
        trials = {"sweep": self._sweep, "agent": self._served, "endpoint": self._served}
        victim = rng.choice([*trials])
        moment = rng.uniform(0, 1.5 * self.laboratory.seconds)
        sweep, key = trials[victim](victim, moment)
        return self.sweeps.check(sweep, key, f"{victim} killed after {moment:.2f} s")

    def _sweep(self, _: str, moment: float) -> tuple[str, str]:
        lab, before = self.laboratory, self.sweeps.latest()
        lab.start(*self.sweeps.run).kill_after(moment)
        is_begun = self.sweeps.latest() != before
        lab.execute(*self.sweeps.run, *["--resume"] * is_begun)
        return self.sweeps.latest(), "meta.sweep.id"

    def _served(self, victim: str, moment: float) -> tuple[str, str]:
        """An agent works on a sweep of the endpoint; one of the two is killed and started again."""
        endpoint = Endpoint(self.laboratory)
        try:
            name = Client(endpoint.url, endpoint.key).create(SWEEP)
            agent = self._agent(name, endpoint)
            if victim == "agent":
                if agent.kill_after(moment):
                    agent = self._agent(name, endpoint)
            elif endpoint.command.kill_after(moment):
                endpoint = Endpoint(self.laboratory, endpoint.port)
                if agent.wait():  # it was still asking for the sweep
                    agent = self._agent(name, endpoint)
            agent.succeed()
        finally:
            endpoint.command.kill_after(0)
        return name.sweep, "info.wandb.sweep"

    def _agent(self, name: SweepName, endpoint: Endpoint) -> Command:
        words = ["grok", "sweep", "agent", str(name), "--batch", "4", "--workers", "1"]
        account = {"WANDB_BASE_URL": endpoint.url, "WANDB_API_KEY": endpoint.key}
        return self.laboratory.start(*words, environment={**account, "WANDB_MODE": "disabled"})
