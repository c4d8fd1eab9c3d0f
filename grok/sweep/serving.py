"""The command `grok sweep serve`."""

import contextlib
import json
import os
import secrets
import socket
import threading
from importlib import import_module
from pathlib import Path

import waitress

from grok.errors import UserError
from grok.interrupts import raise_on_signals
from grok.store import connection as stores
from grok.sweep.client import endpoint_file
from grok.sweep.endpoint import app
from grok.sweep.queue import SweepQueue


def serve(host: str, port: int, lost_after: float) -> None:
    """Serve sweeps until interrupted; prints the environment variables that agents need.

    Arguments:
        port: 0 chooses a free one.
        lost_after: Seconds without a heartbeat after which an agent counts as dead.
    """
    store = stores.mongo()
    token = endpoint_token()
    application = app(SweepQueue(store, lost_after), token)
    try:
        server = waitress.create_server(application, host=host, port=port)
    except OSError as error:
        raise UserError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    reachable = socket.gethostname() if host in ("0.0.0.0", "::") else host
    url = f"http://{reachable}:{server.effective_port}"
    _write_private(endpoint_file(), json.dumps({"url": url, "token": token}))
    print(f"serving the sweeps of {store.describe()}; in the shells of `wandb sweep` and agents:")
    print(f"export WANDB_BASE_URL={url} WANDB_API_KEY={token}", flush=True)
    raise_on_signals()
    # What the first sweep needs takes seconds to import; its client should not wait for that.
    threading.Thread(target=import_module, args=("grok.sweep.plan",), daemon=True).start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            server.run()
    finally:
        server.close()


def endpoint_token() -> str:
    """GROK_SWEEP_TOKEN, else the token of the last endpoint here, else a new one (40 characters)."""
    if os.environ.get("GROK_SWEEP_TOKEN"):
        return os.environ["GROK_SWEEP_TOKEN"]
    if endpoint_file().exists():
        return json.loads(endpoint_file().read_text())["token"]
    return secrets.token_hex(20)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only this user may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w") as file:
        file.write(text)
