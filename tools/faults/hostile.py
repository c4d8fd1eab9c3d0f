"""Requests that no client of `grok sweep serve` should make, each of which must be refused."""

import json
import random
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

from grok.sweep.client import AGENT, HEARTBEAT, SWEEP, UPSERT
from grok.sweep.endpoint import MAX_BYTES

DEPTH = 100_000
NO_TEXTS: list[Any] = [
    {"$where": "sleep(1000) || true"},
    {"$ne": None},
    {"$gt": ""},
    {},
    [],
    ["x"],
    0,
    1.5,
    True,
    10**400,
    "\ud800",
    "x" * 10_000,
]
NO_NAMES: list[Any] = [*NO_TEXTS, None, "", "a b", "../../etc/passwd", "$where", "a\0b", "ä", "*"]
STATES: list[Any] = [
    "[]",
    "1",
    '"x"',
    "{",
    '{"x": 1}',
    '{"x": {"$ne": null}}',
    '{"$where": true}',
    '{"x": true, "x": false}',
    "[" * DEPTH,
    '{"x":' * DEPTH,
    "NaN",
    "9" * 10_000,
    {"$gt": ""},
    ["x"],
    1,
    json.dumps({f"run{number}": True for number in range(2000)}),
]
GRID = {
    "program": "experiments/liu_toy.py",
    "method": "grid",
    "parameters": {"seed": {"values": [0, 1]}},
}
LAUGHS = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 11))
WRONG_PARTS: list[dict[str, Any]] = [
    {"program": "/etc/passwd"},
    {"program": "../outside.py"},
    {"program": "setup.py"},
    {"program": ["experiments/liu_toy.py"]},
    {"method": {"$ne": 1}},
    {"parameters": []},
    {"parameters": {"seed": 5}},
    {"parameters": {"seed": {"values": []}}},
    {"parameters": {"seed": {"values": [2**80]}}},
    {"parameters": {"nothing": {"value": 1}}},
    {"parameters": {"$where": {"value": 1}}},
    {"parameters": {"seed\0": {"value": 1}}},
    {"parameters": {1: {"value": 1}}},
    {"parameters": {"seed": {"min": 0, "max": 10**7}}},
    {"run_cap": "many"},
    {"run_cap": -1},
    {"run_cap": 2**80},
    {"command": 5},
    {"command": ["${program}", {"$ne": 1}]},
    {"metric": 5},
    {"early_terminate": {"type": "nothing"}},
    {"name": {"$ne": 1}},
    {"name": 2**80},
]
CONFIGS: list[Any] = [
    f"l0: &l0 [x]\n{LAUGHS}",
    "[" * DEPTH,
    "&a [*a]",
    "!!python/object/apply:os.system [touch /tmp/hostile]",
    "\0",
    "a: 2001-99-99",
    "- 1",
    "just a text",
    "1: 2",
    "program: x\nmethod: grid",
    *(yaml.safe_dump({**GRID, **part}) for part in WRONG_PARTS),
    yaml.safe_dump(GRID).replace("grid", '"\\ud800"'),
    yaml.safe_dump(GRID) + 'name: "\\ud800"\n',
    yaml.safe_dump(GRID) + "x: 2001-01-01\n",
]
BODIES: list[bytes] = [
    b"",
    b"null",
    b"[]",
    b"5",
    b'"text"',
    b"{",
    b"\xff\xfe",
    b'{"query": "\xff"}',
    b"[" * DEPTH,
    b'{"query":' * DEPTH,
    b'{"query": "query Viewer { x }", "query": "query Viewer { x }"}',
    b'{"query": "query Viewer { x }", "variables": NaN}',
    b'{"query": "query Viewer { x }", "variables": []}',
    b'{"query": "query Viewer { x }", "variables": {"a": 1, "a": 2}}',
    b'{"query": ' + b"9" * 10_000 + b"}",
    b'{"query": 1e999}',
    b'{"query": {"$ne": 1}}',
    b'{"query": ""}',
    b'{"query": "query Runs { x }"}',
    b'{"query": "subscription Viewer { x }"}',
    b'{"variables": {}}',
    b"x" * (MAX_BYTES + 1),
]
PATHS = [
    ("GET", "/graphql"),
    ("PUT", "/graphql"),
    ("DELETE", "/graphql"),
    ("OPTIONS", "/graphql"),
    ("TRACE", "/graphql"),
    ("POST", "/healthz"),
    ("OPTIONS", "/healthz"),
    ("GET", "/"),
    ("POST", "/"),
    ("OPTIONS", "/"),
    ("POST", "/graphql/"),
    ("POST", "//graphql"),
    ("GET", "/static/../../etc/passwd"),
    ("GET", "/%2e%2e/%2e%2e/etc/passwd"),
    ("POST", "/files/grok/x"),
    ("GET", "/" + "x" * 5000),
]
HEADERS = [
    {"Authorization": ""},
    {"Authorization": "Basic"},
    {"Authorization": "Basic !!!!"},
    {"Authorization": "Basic " + b64encode(b"\xff\xfe:\xff").decode()},
    {"Authorization": "Basic " + b64encode("api:ärger".encode()).decode()},
    {"Authorization": "Basic " + b64encode(b"api:" + b"wrong" * 8).decode()},
    {"Authorization": "Basic " + b64encode(b"api:").decode()},
    {"Authorization": "Bearer x"},
    {"Authorization": 'Digest username="api"'},
    {"Content-Type": "text/plain"},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Type": ""},
    {"Origin": "https://example.com"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:8410"},
    {"Host": "example.com"},
    {"Host": "127.0.0.1.example.com:8410"},
    {"Host": "[::1"},
    {"Host": ""},
    {"Host": "localhost@example.com"},
]


@dataclass(frozen=True)
class Request:
    """An HTTP request."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Hostile:
    """Makes hostile requests, the same ones for equal seeds.

    Arguments:
        token: The endpoint's token, with which most requests get past the first check.
        sweep: A sweep that exists.
        agent: An agent of it.
    """

    def __init__(self, seed: int, token: str, sweep: str, agent: str):
        self.random = random.Random(seed)
        self.token, self.sweep, self.agent = token, sweep, agent

    def request(self) -> Request:
        """The next request."""
        kinds: list[Callable[[], Request]] = [
            *(self._wrong_variable,) * 3,
            self._wrong_config,
            self._wrong_run_state,
            self._wrong_body,
            self._wrong_path,
            self._wrong_header,
        ]
        return self.random.choice(kinds)()

    def _valid(self) -> Request:
        variables = {"id": self.agent, "runState": "{}"}
        return self._post(json.dumps({"query": HEARTBEAT, "variables": variables}).encode())

    def _post(self, body: bytes) -> Request:
        key = b64encode(f"api:{self.token}".encode()).decode()
        headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json"}
        return Request("POST", "/graphql", headers, body)

    def _call(self, query: str, variables: Any) -> Request:
        return self._post(json.dumps({"query": query, "variables": variables}).encode())

    def _wrong_variable(self) -> Request:
        """A call with one variable of a wrong type, too long, or missing."""
        calls: list[tuple[str, dict[str, Any], str, list[Any]]] = [
            (SWEEP, {}, "sweep", NO_NAMES),
            (AGENT, {"host": "here"}, "sweep", NO_NAMES),
            (AGENT, {"sweep": self.sweep}, "host", NO_TEXTS),
            (HEARTBEAT, {"runState": "{}"}, "id", NO_NAMES),
            (UPSERT, {"state": "PAUSED"}, "id", NO_NAMES),
            (UPSERT, {"id": self.sweep}, "state", [*NO_NAMES, "DELETED"]),
            (UPSERT, {"id": self.sweep, "state": "PAUSED"}, "projectName", NO_TEXTS),
            (UPSERT, {"config": yaml.safe_dump(GRID)}, "displayName", NO_TEXTS),
        ]
        query, variables, name, values = self.random.choice(calls)
        if name not in ("projectName", "displayName") and self.random.random() < 0.2:
            return self._call(query, self.random.choice([{}, None, variables]))
        return self._call(query, {**variables, name: self.random.choice(values)})

    def _wrong_config(self) -> Request:
        return self._call(UPSERT, {"config": self.random.choice([*CONFIGS, *NO_TEXTS])})

    def _wrong_run_state(self) -> Request:
        variables = {"id": self.agent, "runState": self.random.choice(STATES)}
        return self._call(HEARTBEAT, variables)

    def _wrong_body(self) -> Request:
        body = self.random.choice(BODIES)
        if self.random.random() < 0.3:
            whole = self._valid().body
            body = whole[: self.random.randrange(len(whole))]
        return self._post(body)

    def _wrong_path(self) -> Request:
        method, path = self.random.choice(PATHS)
        return replace(self._valid(), method=method, path=path)

    def _wrong_header(self) -> Request:
        valid = self._valid()
        return replace(valid, headers={**valid.headers, **self.random.choice(HEADERS)})
