"""Which requests `grok sweep serve` answers and which it refuses, in this process."""

import json
import traceback
from base64 import b64encode
from collections import Counter

import pytest

from grok import http_server
from grok.sweep.client import AGENT, HEARTBEAT, SWEEP, UPSERT
from grok.sweep.endpoint import MAX_RATE, app
from grok.sweep.queue import SweepQueue
from grok.wandb_servers import HEALTH_PATH
from tools.faults.hostile import Hostile, Request

TOKEN = "0123456789" * 4
REQUESTS = 200
COLLECTIONS = ("sweeps", "sweep_points", "sweep_agents")
POINTS = [{"number": number, "state": "pending", "point": {"seed": number}} for number in range(2)]


class Server:
    """An endpoint in this process, with one sweep of two points and one agent."""

    def __init__(self, store):
        self.database = store.database
        self.queue = SweepQueue(store)
        self.client = app(self.queue, TOKEN).test_client()
        config = {"program": "experiments/liu_toy.py", "method": "grid"}
        sweep = {"_id": "made_up", "served": True, "state": "RUNNING", "config": config}
        self.database.sweeps.insert_one(sweep)
        for point in POINTS:
            rest = {"_id": f"made_up/{point['number']}", "sweep": "made_up", "run": None}
            self.database.sweep_points.insert_one({**point, **rest, "attempts": [], "seen": False})
        self.agent = self.queue.add_agent("made_up", "here")
        self.port = 0

    def send(self, request: Request):
        """The reply to a request on a connection of its own."""
        self.port += 1
        return self.client.open(
            request.path,
            method=request.method,
            headers=request.headers,
            data=request.body,
            environ_overrides={"REMOTE_PORT": str(self.port)},
        )

    def content(self) -> dict[str, list]:
        return {name: list(self.database[name].find().sort("_id")) for name in COLLECTIONS}


@pytest.fixture
def server(store):
    server = Server(store)
    yield server
    server.database.sweeps.delete_many({"_id": "made_up"})
    server.database.sweep_points.delete_many({"sweep": "made_up"})
    server.database.sweep_agents.delete_many({"sweep": "made_up"})


def request(method: str = "POST", path: str = "/graphql", body: object = None, **headers: str):
    key = b64encode(f"api:{TOKEN}".encode()).decode()
    headers = {"Authorization": f"Basic {key}", "Content-Type": "application/json", **headers}
    return Request(method, path, headers, json.dumps(body).encode())


def call(query: str, **variables: object) -> Request:
    return request(body={"query": query, "variables": variables})


def test_hostile_requests_are_refused_and_change_nothing(server, monkeypatch):
    """Also that there is no traceback: an exception that Flask does not expect is raised here."""
    server.client.application.config["PROPAGATE_EXCEPTIONS"] = True
    before = server.content()
    hostile = Hostile(seed=23, token=TOKEN, sweep="made_up", agent=server.agent)
    codes: Counter[int] = Counter()
    for number in range(REQUESTS):
        sent = hostile.request()
        try:
            reply = server.send(sent)
        except Exception:
            pytest.fail(f"request {number}, {sent!r:.300}: {traceback.format_exc()}")
        codes[reply.status_code] += 1
        assert 400 <= reply.status_code < 500, f"request {number}: {sent!r:.300}"
        if sent.method != "HEAD":
            (error,) = reply.json["errors"]
            assert error["message"] and error["message"].isprintable(), error
    assert server.content() == before
    assert set(codes) == {400, 401, 403, 404, 405, 413, 415}


def test_only_two_paths_exist_and_both_need_the_token(server):
    assert server.send(request("GET", HEALTH_PATH)).text == "grok sweep endpoint\n"
    assert server.send(call("query Viewer { viewer { id } }")).json["data"]["viewer"]["id"]
    for path, method in ((HEALTH_PATH, "GET"), ("/graphql", "POST")):
        for key in ("", "Basic", "Basic " + b64encode("api:ärger".encode()).decode()):
            assert server.send(request(method, path, Authorization=key)).status_code == 401
        assert server.send(request("OPTIONS", path)).status_code == 405
        assert "Access-Control-Allow-Origin" not in server.send(request(method, path)).headers
    assert server.send(request("GET", "/graphql")).status_code == 405
    for path in ("/", "/static/x", "/graphql/", "/sdk/otel/v1/metrics"):
        assert server.send(request("POST", path)).status_code == 404
    for written in ("//graphql", "/%67raphql", "http://localhost/graphql"):  # waitress decodes them
        sent = {"REQUEST_URI": written, "REMOTE_PORT": "1"}
        asked = call("query Viewer { viewer { id } }")
        reply = server.client.post(
            "/graphql", headers=asked.headers, data=asked.body, environ_overrides=sent
        )
        assert reply.status_code == 404


@pytest.mark.parametrize("host", ["127.0.0.1:8410", "[::1]:8410", "localhost", "10.0.0.7"])
def test_addresses_and_our_own_names_are_answered(server, host):
    assert server.send(request("GET", HEALTH_PATH, Host=host)).status_code == 200


@pytest.mark.parametrize("header", [{"Host": "example.com"}, {"Origin": "http://127.0.0.1:8410"}])
def test_web_pages_are_refused(server, header):
    """A page can send a request here only with its Origin, or under its own name (DNS rebinding)."""
    assert server.send(request("GET", HEALTH_PATH, **header)).status_code == 403


def test_a_connection_may_send_so_many_requests_a_second(server, monkeypatch):
    monkeypatch.setattr(http_server.time, "monotonic", lambda: 5.5)
    health = request("GET", HEALTH_PATH)
    same = {"REMOTE_PORT": "7"}
    codes = [
        server.client.get(HEALTH_PATH, headers=health.headers, environ_overrides=same).status_code
        for _ in range(MAX_RATE + 1)
    ]
    assert codes == [200] * MAX_RATE + [429]
    assert server.send(health).status_code == 200  # another connection
    monkeypatch.setattr(http_server.time, "monotonic", lambda: 6.0)
    last = server.client.get(HEALTH_PATH, headers=health.headers, environ_overrides=same)
    assert last.status_code == 200


def test_an_agent_takes_the_points_in_order_by_its_calls(server):
    """W&B's agents send variables that are not used here, and their runs as a text in JSON."""
    reply = server.send(call(AGENT, sweep="made_up", host="here", entityName=None)).json
    agent = reply["data"]["createAgent"]["agent"]["id"]
    reply = server.send(call(HEARTBEAT, id=agent, metrics="{}", runState="")).json
    (command,) = json.loads(reply["data"]["agentHeartbeat"]["commands"])
    assert command["args"] == {"seed": {"value": 0}}
    states = json.dumps({command["run_id"]: True, "other": False})
    reply = server.send(call(HEARTBEAT, id=agent, runState=states)).json
    assert json.loads(reply["data"]["agentHeartbeat"]["commands"]) == []
    (point,) = server.database.sweep_points.find({"agent": agent})
    assert point["run"] == command["run_id"] and point["seen"]


def test_a_sweep_is_paused_and_an_unknown_one_is_named(server):
    assert server.send(call(UPSERT, id="made_up", state="PAUSED")).status_code == 200
    assert server.queue.sweep("made_up")["state"] == "PAUSED"
    reply = server.send(call(UPSERT, id="nothing", state="PAUSED"))
    assert reply.status_code == 400
    assert reply.json["errors"] == [{"message": "no sweep nothing here"}]
    assert server.send(call(SWEEP, sweep="nothing")).json["data"] == {"project": {"sweep": None}}
