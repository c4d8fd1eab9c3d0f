"""The command `grok sweep serve`."""

import contextlib
import json
import logging
import os
import secrets
import socket
import threading
from importlib import import_module

from grok.http_server import listen, url_of
from grok.interrupts import raise_on_signals
from grok.paths import make_private_folder, write_private
from grok.store import connection as stores
from grok.sweep.client import endpoint_file, read_endpoint_file
from grok.sweep.endpoint import MAX_BYTES, app
from grok.sweep.queue import SweepQueue

# Several threads wait for the store at once: MongoDB then writes their changes to disk together.
THREADS = 8


def serve(host: str, port: int, lost_after: float) -> None:
    """Serve sweeps until interrupted; prints the environment variables that agents need.

    Arguments:
        port: 0 chooses a free one.
        lost_after: Seconds without a heartbeat after which an agent counts as dead.
    """
    store = stores.mongo()
    token = endpoint_token()
    application = app(SweepQueue(store, lost_after), token, host)
    server = listen(application, host, port, THREADS, max_request_body_size=MAX_BYTES)
    reachable = socket.gethostname() if host in ("0.0.0.0", "::") else host
    url = url_of(reachable, server.effective_port)
    make_private_folder(endpoint_file().parent)
    write_private(endpoint_file(), json.dumps({"url": url, "token": token}))
    print(f"serving the sweeps of {store.describe()}; in the shells of `wandb sweep` and agents:")
    print(f"export WANDB_BASE_URL={url} WANDB_API_KEY={token}", flush=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # requests may wait for a thread
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
    endpoint = read_endpoint_file()
    return endpoint["token"] if endpoint else secrets.token_hex(20)
