"""The few calls of W&B's API that `wandb sweep` and `wandb agent` make, answered from the store.

No user interface, no projects, no runs kept for W&B: those who want them run W&B's own server.
"""

import json
import re
import secrets
from collections.abc import Callable
from typing import Any

import yaml
from flask import Flask, Response, abort, jsonify, request
from werkzeug.exceptions import HTTPException

from grok.errors import UserError
from grok.experiment.wandb_mirror import ENDPOINT_NAME
from grok.sweep.board import Board

MOST_BYTES = 2**20  # of a request; a sweep file has a few kB
ENTITY = "grok"
OPERATION = re.compile(r"\b(?:query|mutation)\s+(\w+)")


def app(board: Board, token: str) -> Flask:
    """The WSGI application for one board; the calls of /graphql need the token."""
    server = Flask("grok")
    server.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    calls: dict[str, Callable[[Board, dict], Any]] = {
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
    def greet() -> str:
        return f"{ENDPOINT_NAME}\n"

    @server.post("/graphql")
    def graphql() -> Response:
        body = request.get_json()
        if not isinstance(body, dict) or not isinstance(body.get("query"), str):
            abort(400, "expected a JSON object with a query")
        found = OPERATION.search(body["query"])
        operation = found.group(1) if found else ""
        if operation not in calls:
            abort(400, f"{operation or 'this query'} is not among what this endpoint answers")
        variables = body.get("variables") or {}
        return jsonify({"data": calls[operation](board, variables)})

    @server.post("/<path:_>")
    def telemetry(_: str) -> Response:
        """W&B's clients send some, without a key; it is neither read nor kept."""
        return jsonify({})

    @server.errorhandler(HTTPException)
    def refuse(error: HTTPException) -> tuple[Response, int]:
        return jsonify({"errors": [{"message": error.description}]}), error.code

    @server.errorhandler(UserError)
    def explain(error: UserError) -> tuple[Response, int]:
        return jsonify({"errors": [{"message": str(error)}]}), 400

    return server


def _viewer(board: Board, variables: dict) -> dict:
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


def _project(name: str | None) -> dict:
    name = name or ENTITY
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


def _upsert_sweep(board: Board, variables: dict) -> dict:
    """A new sweep, or another state for an old one (`wandb sweep --stop, --pause, ...`)."""
    if variables.get("config"):
        try:
            config = yaml.safe_load(variables["config"])
        except yaml.YAMLError as error:
            raise UserError(f"broken YAML: {getattr(error, 'problem', error)}") from error
        sweep = board.create(config, variables.get("displayName"))
    else:
        sweep = variables["id"]
        board.set_state(sweep, variables["state"])
    entry = {"name": sweep, "project": _project(variables.get("projectName"))}
    return {"upsertSweep": {"sweep": entry, "configValidationWarnings": []}}


def _sweep_with_runs(board: Board, variables: dict) -> dict:
    found = board.sweep(variables["sweep"])
    if found is None:
        return {"project": {"sweep": None}}
    made = found["created"].isoformat()
    entry = dict.fromkeys(
        ("description", "earlyStopJobRunning", "bestLoss", "controller", "scheduler")
    )
    entry |= {
        "id": found["_id"],
        "name": found["_id"],
        "method": found["config"]["method"],
        "state": found["state"],
        "config": yaml.safe_dump(found["config"]),
        "createdAt": made,
        "heartbeatAt": made,
        "updatedAt": made,
        "runs": {"edges": []},
    }
    return {"project": {"sweep": entry}}


def _create_agent(board: Board, variables: dict) -> dict:
    agent = board.join(variables["sweep"], str(variables.get("host")))
    return {"createAgent": {"agent": {"id": agent}}}


def _heartbeat(board: Board, variables: dict) -> dict:
    states = json.loads(variables.get("runState") or "{}")
    commands = board.beat(variables["id"], [run for run, runs in states.items() if runs])
    if commands is None:
        abort(404, f"no agent {variables['id']}")
    return {"agentHeartbeat": {"agent": {"id": variables["id"]}, "commands": json.dumps(commands)}}
