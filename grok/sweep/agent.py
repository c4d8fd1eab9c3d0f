"""The command `grok sweep agent`: trains up to `batch` points of a W&B sweep as one program.

For the server this process is `batch` agents with one run each, so it works with W&B's own server.
"""

import contextlib
import os
import socket
import sys
import threading
import time
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import torch

from grok.engine.events import Event, Record
from grok.engine.threads import idle_cores, single_thread
from grok.errors import UserError
from grok.experiment import wandb_mirror as mirror
from grok.experiment.advice import warn_of_crowded_cores
from grok.experiment.wandb_mirror import Identity
from grok.interrupts import exit_on_interrupt
from grok.store import connection as stores
from grok.store.connection import Store
from grok.store.lease import LeaseLost
from grok.sweep.batch import Batch
from grok.sweep.client import Client, ServerAway, SweepName
from grok.sweep.file import SweepFile, check, checked
from grok.sweep.plan import PlannedRun, group_by_program, plan_run, slots_of
from grok.sweep.progress import SweepProgress
from grok.sweep.queue import check_assigned
from grok.sweep.workers import AnyProgress, RemoteProgress, Workers, show

HEARTBEAT_INTERVAL = 5.0  # seconds, as in W&B's agent
FIRST_PAUSE = 0.25  # seconds before an idle agent asks again; doubled up to HEARTBEAT_INTERVAL
SERVER_TIMEOUT = 1800.0  # seconds that an idle agent waits for a server that does not answer


def run_agent(sweep: str, batch: int, workers: int | None) -> None:
    """Train points of a sweep until none is left; prints how many runs ended in which way.

    Arguments:
        sweep: The sweep's name at the server, [[ENTITY/]PROJECT/]SWEEP.
        batch: How many points train at once.
        workers: How many processes train them; None for as many as there are idle cores, or one if
            there is a GPU.
    """
    warn_of_crowded_cores()
    store = stores.mongo()
    os.environ["WANDB_MODE"] = mirror.mode()  # asked once: the server may be away when a run starts
    name = SweepName.parse(sweep)
    cores = 1 if torch.cuda.is_available() else max(1, idle_cores() // single_thread())
    count = min(workers or cores, batch)
    message = "interrupted; the running points go back to the sweep"
    with exit_on_interrupt(message), SweepProgress(0, 0) as progress:
        client = Client.find()
        file = check(client.config(name), name.sweep, f"sweep {name}")
        if count == 1:
            BatchAgent(client, name, file, store, batch).run(progress)
        else:
            shares = [len(range(first, batch, count)) for first in range(count)]
            arguments = [
                (name, file.config, replace(store), sum(shares[:i]), shares[i])
                for i in range(count)
            ]
            with Workers(_be_agents, arguments) as started:
                for _, report in started.messages():
                    show(report, progress)
    endings = ", ".join(f"{count} {reason}" for reason, count in progress.outcomes.items())
    print(f"{progress.done} runs ({endings or 'none'}) for sweep {sweep}")


def _be_agents(
    parent: Connection,
    name: SweepName,
    config: dict[str, Any],
    store: Store,
    first: int,
    batch: int,
) -> None:
    """What a worker process does: be `batch` agents, whose slots are counted from `first`."""
    file = checked(config, name.sweep)
    agent = BatchAgent(Client.find(), name, file, store, batch, single_thread())
    agent.run(RemoteProgress(parent, first))


@dataclass
class AgentSlot:
    """One of the agents that this process is for the server.

    Attributes:
        agent: The agent's id at the server.
        run: The W&B run that the agent has now.
        is_stopped: The server wants the run to end.
    """

    agent: str
    run: str | None = None
    is_stopped: bool = False


class BatchAgent:
    """Trains points of one sweep, up to `batch` at a time.

    Arguments:
        client: The sweep's server.
        name: The sweep's name there.
        file: The sweep.
        store: Where the runs are stored.
        batch: How many points train at once.
        threads: Threads of the CPU; None to choose.
    """

    def __init__(
        self,
        client: Client,
        name: SweepName,
        file: SweepFile,
        store: Store,
        batch: int,
        threads: int | None = None,
    ):
        self.client, self.name, self.file, self.threads = client, name, file, threads
        host = host_name()
        self.slots = [AgentSlot(client.register(name, host)) for _ in range(batch)]
        self.batch = Batch(self.file, store, self._meta, self._admit, self._identity)
        self.is_over = False
        self.away_since: float | None = None

    def run(self, progress: AnyProgress) -> None:
        """Ask for points and train them until the server says that none is left."""
        pause = FIRST_PAUSE
        while True:
            points = self._next_points()
            if points:
                self._train(points, progress)
                pause = FIRST_PAUSE
            elif self.is_over:
                return
            else:
                time.sleep(pause)
                pause = min(2 * pause, HEARTBEAT_INTERVAL)

    def _next_points(self) -> dict[int, dict[str, Any]]:
        """New points, by the index of their agent slot.

        Every slot asks: the server learns from it that the slot's last run has ended.
        """
        points: dict[int, dict[str, Any]] = {}
        for index, slot in enumerate(self.slots):
            slot.run, slot.is_stopped = None, False
            for command in self._idle_heartbeat(slot):
                if command["type"] == "run":
                    slot.run = command["run_id"]
                    points[index] = {k: v["value"] for k, v in command["args"].items()}
                self.is_over = self.is_over or command["type"] == "exit"
        return points

    def _idle_heartbeat(self, slot: AgentSlot) -> list[dict[str, Any]]:
        """The server's commands for an idle slot; none while the server is away.

        ServerAway if it is away for more than SERVER_TIMEOUT.
        """
        try:
            commands = self.client.heartbeat(slot.agent, None)
        except ServerAway as error:
            if self.away_since is None:
                print(f"{error}; waiting for it", file=sys.stderr)
                self.away_since = time.monotonic()
            if time.monotonic() - self.away_since > SERVER_TIMEOUT:
                raise
            return []
        self.away_since = None
        return commands

    def _train(self, points: dict[int, dict[str, Any]], progress: AnyProgress) -> None:
        is_done = threading.Event()
        heartbeats = threading.Thread(target=self._send_heartbeats, args=(is_done,), daemon=True)
        heartbeats.start()
        try:
            for group in group_by_program(self._plan(points)):
                progress.expect(sum(run.problem.train_steps for run in group), len(group))
                self._train_group(group, progress)
        finally:
            is_done.set()
            heartbeats.join()

    def _plan(self, points: dict[int, dict[str, Any]]) -> list[PlannedRun]:
        """The runs of the valid points.

        An invalid point is reported to the user; for the server its run fails, as it never starts.
        """
        runs = []
        for number, point in points.items():
            try:
                runs.append(plan_run(self.file, number, point, lambda: self.batch.store))
            except UserError as error:
                print(f"run {self.slots[number].run} cannot be run: {error}", file=sys.stderr)
        return runs

    def _train_group(self, group: list[PlannedRun], progress: AnyProgress) -> None:
        terminate: set[int] = set()

        def on_event(run: PlannedRun, event: Event) -> None:
            event = replace(event, replica=run.number)
            progress.show(event, run.problem.train_steps, run.problem.device)
            if isinstance(event, Record):
                terminate.update(
                    i for i, run in enumerate(group) if self.slots[run.number].is_stopped
                )

        def on_end(run: PlannedRun) -> None:
            self.slots[run.number].run = None

        slots = slots_of(group, None)
        try:
            self.batch.train(group, slots, terminate, on_event, on_end, self.threads)
        except LeaseLost as error:  # this agent was silent; the other runs' points come back
            print(f"{error}; going on with the next points", file=sys.stderr)

    def _send_heartbeats(self, is_done: threading.Event) -> None:
        """Heartbeats of all runs while they train. Errors are ignored: the next one tries again."""
        while not is_done.wait(HEARTBEAT_INTERVAL):
            for slot in self.slots:
                run = slot.run  # read once: without a run this would be a request for another one
                if run is None:
                    continue
                with contextlib.suppress(UserError):
                    for command in self.client.heartbeat(slot.agent, run):
                        if command["type"] in ("stop", "exit"):
                            slot.is_stopped = True

    def _admit(self, run: PlannedRun) -> None:
        wandb_run = self.slots[run.number].run
        assert wandb_run is not None, "a run is trained in the slot that has it"
        check_assigned(self.batch.store.database, self.name.sweep, wandb_run)

    def _meta(self, run: PlannedRun) -> dict[str, Any]:
        slot = self.slots[run.number]
        return {"sweep": {"id": self.name.sweep, "agent": slot.agent, "run": slot.run}}

    def _identity(self, run: PlannedRun) -> Identity:
        wandb_run = self.slots[run.number].run
        assert wandb_run is not None, "a run is trained in the slot that has it"
        return Identity(wandb_run, self.name.project or "grok", self.name.sweep)


def host_name() -> str:
    """This machine's name, with the Slurm task if it runs in one."""
    job, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return socket.gethostname() + (f" slurm {job}_{task}" if job else "")
