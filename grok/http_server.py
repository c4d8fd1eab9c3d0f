"""What the project's HTTP servers share: how they listen, and which requests they refuse."""

import ipaddress
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import waitress

from grok.errors import UserError

MOST_CONNECTIONS = 1000
MAX_HEADER_BYTES = 2**14
IDLE_TIMEOUT = 60  # seconds after which a silent connection is closed


def listen(
    application: Callable[..., Iterable[bytes]], host: str, port: int, threads: int, **options: Any
) -> Any:
    """A waitress server that listens; its `run` answers requests.

    Arguments:
        application: a WSGI application.
        port: 0 chooses a free one, which is the server's `effective_port`.
        options: further ones of waitress.

    Raises:
        UserError: it cannot listen there.
    """
    try:
        return waitress.create_server(
            application,
            host=host,
            port=port,
            threads=threads,
            connection_limit=MOST_CONNECTIONS,
            channel_timeout=IDLE_TIMEOUT,
            max_request_header_size=MAX_HEADER_BYTES,
            asyncore_use_poll=True,  # select() takes fewer connections
            ident=None,
            **options,
        )
    except (OSError, ValueError) as error:  # waitress has a ValueError for an unknown host
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot listen on {host}:{port}: {reason}") from error


def url_of(host: str, port: int) -> str:
    """The URL of a server, an IPv6 address in brackets."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def own_names(host: str) -> set[str]:
    """The names, in lower case, under which clients may reach a server that listens at `host`."""
    return {name.lower() for name in (host, "localhost", socket.gethostname())}


def is_addressed(header: str, names: set[str]) -> bool:
    """Whether a Host header has an IP address or one of these names, with or without a port.

    A web page that reaches a server of this machine under a name of its own (DNS rebinding) does
    not have one of them.
    """
    try:
        name = urlsplit(f"//{header}").hostname or ""
        if name not in names:
            ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class RateLimit:
    """At most `rate` requests in each second of the clock from one connection."""

    def __init__(self, rate: int):
        self.rate = rate
        self.second = 0
        self.counts: Counter[tuple[str | None, str | None]] = Counter()
        self.lock = threading.Lock()

    def admits(self, connection: tuple[str | None, str | None]) -> bool:
        """Whether this connection may make a request now, which is counted."""
        second = int(time.monotonic())
        with self.lock:
            if second != self.second:
                self.second = second
                self.counts.clear()
            self.counts[connection] += 1
            return self.counts[connection] <= self.rate
