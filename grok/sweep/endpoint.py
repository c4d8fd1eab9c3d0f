"""The calls of W&B's API that `wandb sweep` and `wandb agent` make, answered from the store.

There is no user interface, no projects and no storage of W&B runs: W&B's own server has them.
"""

import json
import re
import secrets
from collections.abc import Callable

import yaml
from flask import Flask, Response, abort, jsonify, request
from werkzeug.exceptions import HTTPException

from grok import limited_yaml
from grok.errors import UserError
from grok.sweep.queue import Document, SweepQueue
from grok.wandb_servers import ENDPOINT_NAME

MAX_BYTES = 2**20  # of a request; a sweep file has a few kB
ENTITY = "grok"
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


def app(queue: SweepQueue, token: str) -> Flask:
    """The WSGI application that serves a queue; the calls of /graphql need the token."""
    server = Flask("grok")
    server.config["MAX_CONTENT_LENGTH"] = MAX_BYTES
    calls: dict[str, Callable[[SweepQueue, Document], Document]] = {
        "Viewer": _viewer,
        "UpsertSweep": _upsert_sweep,
        "SweepWithRuns": _sweep_with_runs,
        "GetSweepState": _sweep_with_runs,
        "CreateAgent": _create_agent,
        "Heartbeat": _heartbeat,
    }

    @server.before_request
    def authorize() -> None:
        if request.path == "/graphql":
            given = request.authorization
            if given is None or not secrets.compare_digest(given.password or "", token):
                abort(401, "wrong or missing token (WANDB_API_KEY)")

    @server.get("/")
    def root() -> str:
        return f"{ENDPOINT_NAME}\n"

    @server.post("/graphql")
    def graphql() -> Response:
        body = request.get_json()
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            abort(400, "expected a JSON object with a query")
        match = OPERATION.search(body["query"])
        operation = match.group(1) if match else ""
        if operation not in calls:
            abort(400, f"this endpoint does not answer {operation or 'this query'}")
        variables = body.get("variables") or {}
        return jsonify({"data": calls[operation](queue, variables)})

    @server.post("/<path:_>")
    def telemetry(_: str) -> Response:
        """Accepts the telemetry that W&B's clients send without a key, and ignores it."""
        return jsonify({})

    @server.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[Response, int]:
        return jsonify({"errors": [{"message": error.description}]}), error.code or 500

    @server.errorhandler(UserError)
    def user_error(error: UserError) -> tuple[Response, int]:
        return jsonify({"errors": [{"message": str(error)}]}), 400

    return server


def _viewer(queue: SweepQueue, variables: Document) -> Document:
    return {
        "viewer": {
            "id": ENTITY,
            "entity": ENTITY,
            "username": ENTITY,
            "admin": False,
            "flags": "{}",
            "teams": {"edges": []},
        }
    }


def _project(name: str | None) -> Document:
    name = name or ENTITY
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


def _upsert_sweep(queue: SweepQueue, variables: Document) -> Document:
    """Create a sweep, or set the state of one (`wandb sweep --stop, --pause, ...`)."""
    if variables.get("config"):
        config = limited_yaml.load(variables["config"])
        sweep_id = queue.create(config, variables.get("displayName"))
    else:
        sweep_id = variables["id"]
        queue.set_state(sweep_id, variables["state"])
    entry = {"name": sweep_id, "project": _project(variables.get("projectName"))}
    return {"upsertSweep": {"sweep": entry, "configValidationWarnings": []}}


def _sweep_with_runs(queue: SweepQueue, variables: Document) -> Document:
    sweep = queue.find(variables["sweep"])
    if sweep is None:
        return {"project": {"sweep": None}}
    created = sweep["created"].isoformat()
    entry: Document = dict.fromkeys(
        ("description", "earlyStopJobRunning", "bestLoss", "controller", "scheduler")
    )
    entry |= {
        "id": sweep["_id"],
        "name": sweep["_id"],
        "method": sweep["config"]["method"],
        "state": sweep["state"],
        "config": yaml.safe_dump(sweep["config"]),
        "createdAt": created,
        "heartbeatAt": created,
        "updatedAt": created,
        "runs": {"edges": []},
    }
    return {"project": {"sweep": entry}}


def _create_agent(queue: SweepQueue, variables: Document) -> Document:
    agent = queue.add_agent(variables["sweep"], str(variables.get("host")))
    return {"createAgent": {"agent": {"id": agent}}}


def _heartbeat(queue: SweepQueue, variables: Document) -> Document:
    states = json.loads(variables.get("runState") or "{}")
    running = [run for run, is_running in states.items() if is_running]
    commands = queue.heartbeat(variables["id"], running)
    if commands is None:
        abort(404, f"no agent {variables['id']}")
    return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}
