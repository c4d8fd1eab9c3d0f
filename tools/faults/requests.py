"""Hostile requests to a real endpoint."""

import contextlib
import http.client
import json
import random
from urllib.parse import urlsplit

from grok.sweep.client import Client, SweepName
from tools.faults.commands import NotRecovered
from tools.faults.hostile import Hostile, Request
from tools.faults.laboratory import Laboratory, Outcome
from tools.faults.sweeps import SWEEP, Endpoint

COLLECTIONS = ("sweeps", "sweep_points", "sweep_agents")
TIMEOUT = 10.0  # seconds


class HostileRequests:
    """Requests that no client should make; each must be refused and change nothing."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.database = laboratory.store.database
        endpoint = Endpoint(laboratory)
        laboratory.stack.callback(endpoint.command.kill_after, 0)
        client = Client(endpoint.url, endpoint.key)
        sweep = client.create(SWEEP).sweep
        agent = client.register(SweepName(None, None, sweep), "here")
        self.address, self.key, self.names = endpoint.url, endpoint.key, (sweep, agent)

    def trial(self, rng: random.Random) -> Outcome:
        """One request."""
        request = Hostile(rng.randrange(2**32), self.key, *self.names).request()
        line = f"{request.method} {request.path:.20} {request.body[:60]!r}"
        before = self._content()
        code, body = self._send(request)
        if not 400 <= code < 500:
            raise NotRecovered(f"{line}: HTTP {code}")
        if request.method != "HEAD":
            self._check_error(line, body)
        after = self._content()
        lost = sum(before[name] != after[name] for name in COLLECTIONS)
        return Outcome(lost, 0, f"{line}: HTTP {code}")

    def _check_error(self, line: str, body: bytes) -> None:
        try:
            (error,) = json.loads(body)["errors"]
        except (ValueError, KeyError, TypeError):
            return  # of the HTTP server, before the endpoint has read it
        if not error["message"] or not error["message"].isprintable():
            raise NotRecovered(f"{line}: {error!r}")

    def _send(self, request: Request) -> tuple[int, bytes]:
        """Status and body of the reply to a request on a connection of its own."""
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=TIMEOUT)
        try:
            connection.putrequest(request.method, request.path, skip_host="Host" in request.headers)
            for name, value in request.headers.items():
                connection.putheader(name, value.encode())
            connection.putheader("Content-Length", str(len(request.body)))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                # of an endpoint that refuses a large body before it has read it; its reply is there
                connection.endheaders(request.body)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise NotRecovered(f"{request.method} {request.path:.20}: {error!r}") from error
        finally:
            connection.close()

    def _content(self) -> dict[str, list[object]]:
        """All that the endpoint has stored."""
        return {name: list(self.database[name].find().sort("_id")) for name in COLLECTIONS}
