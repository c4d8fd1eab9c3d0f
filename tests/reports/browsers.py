"""A live page, for the tests of reports in a browser."""

import threading
from collections.abc import Iterator
from typing import Any

from grok.http_server import listen
from grok.reports.page import server
from grok.reports.page.changes import Changes


def served(store, token: str, **options: Any) -> Iterator[str]:
    """The address of a live page over a store, for a fixture that yields from here.

    Arguments:
        options: of the server's application.
    """
    changes = Changes(store.database, interval=0.2)
    listening = listen(server.app(store, token, changes, **options), "127.0.0.1", 0, 16)
    changes.start()
    threading.Thread(target=listening.run, daemon=True).start()
    yield f"http://127.0.0.1:{listening.effective_port}/"
    changes.stop()
    listening.task_dispatcher.shutdown()
    listening.close()
