"""Load on `grok sweep serve`: 200 agents take 2,000 points that need no work.

The agents speak the protocol of W&B's agents over kept connections, and store each run as completed
before they ask for the next. `make bench` prints the table. The database is dropped at the end.
"""

import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from base64 import b64encode
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import click
import yaml
from pymongo import AsyncMongoClient
from pymongo.asynchronous.collection import AsyncCollection
from rich.console import Console
from rich.table import Table

from grok.paths import PROJECT
from grok.store import connection as stores
from grok.store.connection import Store
from grok.sweep.client import AGENT, HEARTBEAT, UPSERT

DATABASE = "grok_benchmark"
PAUSES = {"once a second": 1.0, "as soon as they are answered": 0.0}
Runs = AsyncCollection[dict[str, Any]]
AWAY = 0.1  # seconds until an agent asks again that has got no point


@dataclass
class Load:
    """What the agents have seen.

    Attributes:
        seconds: How long each request took.
        points: The seeds of the points in the order in which they were handed out.
    """

    seconds: list[float] = field(default_factory=list)
    points: list[int] = field(default_factory=list)


class Connection:
    """A kept HTTP connection to the endpoint."""

    def __init__(self, url: str, token: str, load: Load):
        self.address = urlsplit(url)
        self.key = b64encode(f"api:{token}".encode()).decode()
        self.load = load

    async def open(self) -> None:
        """Connect; to be called once."""
        host, port = self.address.hostname, self.address.port
        self.reader, self.writer = await asyncio.open_connection(host, port)

    async def call(self, query: str, **variables: Any) -> dict[str, Any]:
        """The data of the reply to a call."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        head = (
            f"POST /graphql HTTP/1.1\r\nHost: {self.address.netloc}\r\n"
            f"Authorization: Basic {self.key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        started = time.perf_counter()
        self.writer.write(head.encode() + body)
        answer = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = answer.split("content-length:")[1].split("\r\n")[0]
        reply = json.loads(await self.reader.readexactly(int(size)))
        self.load.seconds.append(time.perf_counter() - started)
        if " 200 " not in answer.split("\r\n")[0]:
            raise RuntimeError(reply)
        return reply["data"]


async def be_agent(connection: Connection, sweep: str, runs: Runs, pause: float) -> None:
    """Take points until the endpoint says that none is left."""
    await asyncio.sleep(random.uniform(0, pause))
    await connection.open()
    reply = await connection.call(AGENT, sweep=sweep, host="benchmark")
    agent = reply["createAgent"]["agent"]["id"]
    while True:
        asked = time.perf_counter()
        reply = await connection.call(HEARTBEAT, id=agent, metrics="{}", runState="{}")
        commands = json.loads(reply["agentHeartbeat"]["commands"])
        for command in commands:
            if command["type"] == "exit":
                connection.writer.close()
                return
            connection.load.points.append(command["args"]["seed"]["value"])
            wandb = {"run": command["run_id"], "sweep": sweep}
            now = datetime.now(UTC)
            await runs.insert_one(
                {
                    "_id": command["run_id"],
                    "status": "COMPLETED",
                    "heartbeat": now,
                    "info": {"wandb": wandb},
                }
            )
        rest = pause if commands else max(pause, AWAY)
        await asyncio.sleep(max(0.0, rest - (time.perf_counter() - asked)))


async def measure(
    store: Store, url: str, token: str, agents: int, points: int, pause: float
) -> tuple[Load, float]:
    """What the agents have seen, and the seconds from the first request to the last."""
    sweep = {
        "program": "experiments/liu_toy.py",
        "method": "grid",
        "parameters": {"seed": {"values": list(range(points))}},
    }
    owner = Connection(url, token, Load())
    await owner.open()
    reply = await owner.call(UPSERT, config=yaml.safe_dump(sweep))
    owner.writer.close()
    name, load = reply["upsertSweep"]["sweep"]["name"], Load()
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(store.uri)
    async with client:
        runs = client[store.db_name].runs
        started = time.perf_counter()
        await asyncio.gather(
            *(be_agent(Connection(url, token, load), name, runs, pause) for _ in range(agents))
        )
    return load, time.perf_counter() - started


def serve(store: Store, *command: str) -> subprocess.Popen[str]:
    """A process of a command of `grok` that serves the store's database at a free port."""
    database = f"{store.uri}/{store.db_name}"
    return subprocess.Popen(
        [sys.executable, "-m", "grok.cli", *command, "--port", "0", "-m", database],
        cwd=PROJECT,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )


@click.command(help=__doc__)
@click.option("--agents", default=200, show_default=True)
@click.option("--points", default=2000, show_default=True)
def main(agents: int, points: int) -> None:
    store = replace(stores.mongo(), db_name=DATABASE)
    store.client.drop_database(DATABASE)
    table = Table(
        "agents ask",
        "requests",
        "requests/s",
        "median",
        "95 %",
        "points handed out",
        "more than once",
        title=f"{agents} agents, {points} points",
    )
    endpoint = serve(store, "sweep", "serve")
    try:
        assert endpoint.stdout is not None
        endpoint.stdout.readline()
        url, token = (word.split("=", 1)[1] for word in endpoint.stdout.readline().split()[1:])
        for how, pause in PAUSES.items():
            load, seconds = asyncio.run(measure(store, url, token, agents, points, pause))
            quantiles = statistics.quantiles(load.seconds, n=20)
            table.add_row(
                how,
                f"{len(load.seconds):,}",
                f"{len(load.seconds) / seconds:.0f}",
                f"{1000 * statistics.median(load.seconds):.0f} ms",
                f"{1000 * quantiles[-1]:.0f} ms",
                f"{len(set(load.points)):,}",
                f"{len(load.points) - len(set(load.points))}",
            )
        Console().print(table)
    finally:
        endpoint.terminate()
        endpoint.wait()
        store.client.drop_database(DATABASE)


if __name__ == "__main__":
    main()
