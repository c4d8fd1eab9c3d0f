"""`grok sweep agent`: up to `batch` points of a W&B sweep at a time, trained as one program.

To the server this process is `batch` agents, each with one run at a time, so it needs nothing that
W&B's own server does not offer.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass
from typing import Any

from grok.engine.events import Event, Record
from grok.errors import UserError
from grok.experiment.wandb_mirror import Identity
from grok.store.connection import Store
from grok.sweep.batch import Batch
from grok.sweep.client import Client, ServerAway, SweepName
from grok.sweep.file import SweepFile, check
from grok.sweep.plan import Planned, grouped, planned, slots_of
from grok.sweep.progress import SweepProgress

POLL = 5.0  # seconds between heartbeats, as W&B's agent
FIRST_PAUSE = 0.25  # seconds before an idle agent asks again; doubled up to POLL
PATIENCE = 1800.0  # seconds that an idle agent waits for a server that is away


@dataclass
class Seat:
    """One of this process's agents: its id at the server and the W&B run that it has now."""

    agent: str
    run: str | None = None
    stop: bool = False


class BatchAgent:
    """Serves a sweep until the server says that nothing is left."""

    def __init__(self, client: Client, name: SweepName, store: Store, batch: int):
        self.client, self.name = client, name
        self.file: SweepFile = check(client.config(name), name.sweep, f"sweep {name}")
        host = host_name()
        self.seats = [Seat(client.register(name, host)) for _ in range(batch)]
        self.batch = Batch(self.file, store, self._meta, self._identity)
        self.over = False
        self.away_since: float | None = None

    def run(self, progress: SweepProgress) -> None:
        """Take points, train them, until the server sends this process away."""
        pause = FIRST_PAUSE
        while True:
            points = self._take()
            if points:
                self._train(points, progress)
                pause = FIRST_PAUSE
            elif self.over:
                return
            else:
                time.sleep(pause)
                pause = min(2 * pause, POLL)

    def _take(self) -> dict[int, dict[str, Any]]:
        """New points, by a number that is also the place of their seat."""
        points: dict[int, dict[str, Any]] = {}
        for place, seat in enumerate(self.seats):
            seat.run, seat.stop = None, False
            for command in self._ask(seat):
                if command["type"] == "run":
                    seat.run = command["run_id"]
                    points[place] = {k: v["value"] for k, v in command["args"].items()}
                self.over = self.over or command["type"] == "exit"
            if seat.run is None:
                break
        return points

    def _ask(self, seat: Seat) -> list[dict[str, Any]]:
        """The server's commands for an idle seat; none while the server is away, for PATIENCE."""
        try:
            commands = self.client.beat(seat.agent, None)
        except ServerAway as error:
            if self.away_since is None:
                print(f"{error}; waiting for it", file=sys.stderr)
                self.away_since = time.monotonic()
            if time.monotonic() - self.away_since > PATIENCE:
                raise
            return []
        self.away_since = None
        return commands

    def _train(self, points: dict[int, dict], progress: SweepProgress) -> None:
        done = threading.Event()
        beating = threading.Thread(target=self._beat, args=(done,), daemon=True)
        beating.start()
        try:
            for group in grouped(self._sound(points)):
                progress.expect(sum(one.problem.train_steps for one in group), len(group))
                self._train_group(group, progress)
        finally:
            done.set()
            beating.join()

    def _sound(self, points: dict[int, dict]) -> list[Planned]:
        """The points that make a problem; the user is told of the others, the server sees them fail."""
        sound = []
        for number, point in points.items():
            try:
                sound.append(planned(self.file, number, point, lambda: self.batch.store))
            except UserError as error:
                print(f"run {self.seats[number].run} cannot be run: {error}", file=sys.stderr)
        return sound

    def _train_group(self, group: list[Planned], progress: SweepProgress) -> None:
        terminate: set[int] = set()

        def watch(one: Planned, event: Event) -> None:
            progress.show(event, one.problem)
            if isinstance(event, Record):
                terminate.update(i for i, p in enumerate(group) if self.seats[p.number].stop)

        def ended(one: Planned) -> None:
            self.seats[one.number].run = None

        self.batch.train(group, slots_of(group, len(self.seats)), terminate, watch, ended)

    def _beat(self, done: threading.Event) -> None:
        """Heartbeats while training; a server that is away is tried again, as W&B's agent does."""
        while not done.wait(POLL):
            for seat in self.seats:
                if seat.run is None:
                    continue
                with contextlib.suppress(UserError):
                    for command in self.client.beat(seat.agent, seat.run):
                        if command["type"] in ("stop", "exit"):
                            seat.stop = True

    def _meta(self, one: Planned) -> dict[str, Any]:
        return {"sweep": {"id": self.name.sweep, "agent": self.seats[one.number].agent}}

    def _identity(self, one: Planned) -> Identity:
        project = self.name.project or "grok"
        return Identity(self.seats[one.number].run, project, self.name.sweep)


def host_name() -> str:
    """This machine, and the Slurm task if it is one, as `grok sweep status` shows it."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return socket.gethostname() + (f" slurm {job}_{task}" if job else "")
