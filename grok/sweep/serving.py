"""What `grok sweep serve`, `status`, `agent` and `submit` print and do."""

import json
import os
import secrets
import socket
import sys
from pathlib import Path

import waitress
from rich.console import Console
from rich.table import Table

from grok.errors import UserError
from grok.experiment import wandb_mirror as mirror
from grok.interrupts import exit_code, raise_on_signals
from grok.store import connection as stores
from grok.sweep import file as files
from grok.sweep import slurm
from grok.sweep.agent import BatchAgent
from grok.sweep.board import Board
from grok.sweep.client import Client, SweepName, endpoint_file
from grok.sweep.endpoint import app
from grok.sweep.progress import SweepProgress

STATES = ("pending", "running", "finished", "stopped", "failed")


def serve(host: str, port: int, lost_after: float) -> None:
    """Serve sweeps until interrupted; prints what agents have to know."""
    store = stores.mongo()
    token = endpoint_token()
    try:
        server = waitress.create_server(app(Board(store, lost_after), token), host=host, port=port)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    reachable = socket.gethostname() if host in ("0.0.0.0", "::") else host
    url = f"http://{reachable}:{server.effective_port}"
    _write_private(endpoint_file(), json.dumps({"url": url, "token": token}))
    print(f"serving the sweeps of {store.describe()}; in the shells of `wandb sweep` and agents:")
    print(f"export WANDB_BASE_URL={url} WANDB_API_KEY={token}", flush=True)
    raise_on_signals()
    try:
        server.run()
    except KeyboardInterrupt:
        pass
    finally:
        server.close()


def endpoint_token() -> str:
    """GROK_SWEEP_TOKEN, else the one of the last endpoint here, else a new one (40 characters)."""
    if os.environ.get("GROK_SWEEP_TOKEN"):
        return os.environ["GROK_SWEEP_TOKEN"]
    if endpoint_file().exists():
        return json.loads(endpoint_file().read_text())["token"]
    return secrets.token_hex(20)


def agent(sweep: str, batch: int) -> None:
    """Serve a sweep until nothing is left; interrupted, its runs end as INTERRUPTED."""
    store = stores.mongo()
    os.environ["WANDB_MODE"] = mirror.mode()  # asked once: the server may be away when a run starts
    raise_on_signals()
    try:
        worker = BatchAgent(Client.find(), SweepName.parse(sweep), store, batch)
        with SweepProgress(0, 0) as progress:
            worker.run(progress)
    except KeyboardInterrupt as error:
        print("interrupted; the points in work go back to the sweep", file=sys.stderr)
        sys.exit(exit_code(error))
    endings = ", ".join(f"{count} {reason}" for reason, count in progress.outcomes.items())
    print(f"{progress.done} runs ({endings or 'none'}) for sweep {sweep}")


def submit(path: Path | None, sweep: str | None, request: slurm.Request, is_dry_run: bool) -> None:
    """Create the sweep of a file, or join one, and queue its agents."""
    if (path is None) == (sweep is None):
        raise UserError("give either a sweep file or --sweep ID")
    file = files.read(path) if path else None
    if is_dry_run:
        print(slurm.script(request, sweep or f"SWEEP-OF-{path.stem}"), end="")
        return
    client = Client.find()
    if sweep:
        name = SweepName.parse(sweep)
        client.config(name)
    else:
        name = client.create({"name": file.name, **file.config})
    job = slurm.submit(request, str(name), client.environment())
    store = stores.mongo()
    where = {"_id": name.sweep}
    store.database.sweeps.update_one(where, {"$push": {"jobs": job}}, upsert=True)
    print(f"sweep {name}: Slurm job {job}, {request.agents} agents; logs in {slurm.log_folder()}")


def status(sweep: str | None) -> None:
    """Points by state for every served sweep, or one sweep's agents, points in work and jobs."""
    database = stores.mongo().database
    screen = Console()
    if sweep is None:
        table = Table("sweep", "state", *STATES)
        for found in database.sweeps.find({"served": True}).sort("created"):
            table.add_row(found["_id"], found["state"].lower(), *_counts(database, found["_id"]))
        screen.print(table)
        return
    found = database.sweeps.find_one({"_id": SweepName.parse(sweep).sweep})
    if found is None:
        raise UserError(f"no sweep {sweep} in the store")
    name = found["_id"]
    counts = ", ".join(f"{n} {s}" for n, s in zip(_counts(database, name), STATES, strict=True))
    screen.print(f"{name}: {counts}")
    table = Table("agent on", "W&B run", "point", "last heard")
    for point in database.sweep_points.find({"sweep": name, "state": "running"}).sort("number"):
        config = " ".join(f"{key}={value}" for key, value in point["point"].items())
        table.add_row(point["host"], point["run"], config, f"{point['heartbeat']:%H:%M:%S} UTC")
    if table.rows:
        screen.print(table)
    for task, state, place in slurm.tasks(found.get("jobs", [])):
        screen.print(f"Slurm {task}: {state.lower()} {place}")


def _counts(database, sweep: str) -> list[str]:
    count = database.sweep_points.count_documents
    return [str(count({"sweep": sweep, "state": state})) for state in STATES]


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
