"""The sweep calls of W&B's API, to W&B's cloud, to its own server or to `grok sweep serve`."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import yaml

from grok import limited_yaml
from grok.errors import UserError, read_text
from grok.paths import home
from grok.wandb_servers import CLOUD

TIMEOUT = 30.0  # seconds
TOO_MANY_REQUESTS = 429

UPSERT = """mutation UpsertSweep($config: String, $projectName: String, $entityName: String) {
  upsertSweep(input: {config: $config, projectName: $projectName, entityName: $entityName}) {
    sweep { name project { name entity { name } } } } }"""
SWEEP = """query SweepWithRuns($entity: String, $project: String, $sweep: String!) {
  project(name: $project, entityName: $entity) { sweep(sweepName: $sweep) { name config } } }"""
AGENT = """mutation CreateAgent($host: String!, $project: String, $entity: String, $sweep: String!) {
  createAgent(input: {host: $host, projectName: $project, entityName: $entity, sweep: $sweep}) {
    agent { id } } }"""
HEARTBEAT = """mutation Heartbeat($id: ID!, $metrics: JSONString, $runState: JSONString) {
  agentHeartbeat(input: {id: $id, metrics: $metrics, runState: $runState}) {
    agent { id } commands } }"""


def endpoint_file() -> Path:
    """The file with the address and token of this user's running `grok sweep serve`."""
    return home() / "endpoint.json"


def read_endpoint_file() -> dict[str, str] | None:
    """The `url` and `token` in the endpoint's file, None without one; UserError if it is damaged."""
    path = endpoint_file()
    if not path.exists():
        return None
    try:
        content = json.loads(read_text(path))
        return {"url": str(content["url"]), "token": str(content["token"])}
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: delete it, and start the endpoint again") from error


@dataclass(frozen=True)
class SweepName:
    """The name of a sweep at W&B; entity and project are None where the server needs none."""

    entity: str | None
    project: str | None
    sweep: str

    @classmethod
    def parse(cls, text: str) -> "SweepName":
        """The name in a text of the form [[ENTITY/]PROJECT/]SWEEP.

        WANDB_ENTITY and WANDB_PROJECT give what the text lacks. UserError if it has another form.
        """
        parts = text.split("/")
        if not 1 <= len(parts) <= 3 or not all(parts):
            raise UserError(f"sweep {text}: expected [[ENTITY/]PROJECT/]SWEEP")
        entity, project = os.environ.get("WANDB_ENTITY"), os.environ.get("WANDB_PROJECT")
        if len(parts) == 3:
            entity = parts[0]
        if len(parts) >= 2:
            project = parts[-2]
        return cls(entity, project, parts[-1])

    def __str__(self) -> str:
        return "/".join(part for part in (self.entity, self.project, self.sweep) if part)

    def variables(self) -> dict[str, str | None]:
        """The variables that name the sweep in W&B's queries."""
        return {"entity": self.entity, "project": self.project, "sweep": self.sweep}


class ServerAway(UserError):
    """The server does not answer now; it may later."""


class Client:
    """A W&B server. Its methods raise UserError if it refuses the key or the call, ServerAway if it
    does not answer.

    Arguments:
        url: The server's address.
        key: The API key; for `grok sweep serve` its token.
    """

    def __init__(self, url: str, key: str):
        self.url, self.key = url.rstrip("/"), key
        self.session = requests.Session()  # one connection for all calls

    @classmethod
    def find(cls) -> "Client":
        """The server of WANDB_BASE_URL and WANDB_API_KEY, else this user's endpoint, else W&B's cloud.

        UserError if there is no key for it.
        """
        url, key = os.environ.get("WANDB_BASE_URL"), os.environ.get("WANDB_API_KEY")
        endpoint = read_endpoint_file() if not url else None
        if endpoint:
            url, key = endpoint["url"], endpoint["token"]
        url = url or CLOUD
        login = requests.utils.get_netrc_auth(url)
        key = key or (login[1] if login else None)
        if not key:
            raise UserError(f'no key for {url}: start "grok sweep serve", or set WANDB_API_KEY')
        return cls(url, key)

    def environment(self) -> dict[str, str]:
        """The environment variables with which `wandb agent` reaches this server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": self.key}

    def create(self, config: dict[str, Any]) -> SweepName:
        """The name of a new sweep with this config."""
        variables = {
            "config": yaml.safe_dump(config),
            "projectName": os.environ.get("WANDB_PROJECT") or "grok",
            "entityName": os.environ.get("WANDB_ENTITY"),
        }
        match self._call(UPSERT, variables):
            case {
                "upsertSweep": {
                    "sweep": {
                        "name": str(sweep),
                        "project": {"name": str(project), "entity": {"name": str(entity)}},
                    }
                }
            }:
                return SweepName(entity, project, sweep)
        raise self._no_server()

    def config(self, name: SweepName) -> dict[str, Any]:
        """W&B's config of a sweep; UserError if there is no such sweep."""
        match self._call(SWEEP, name.variables()):
            case {"project": {"sweep": {"config": str(config)}}}:
                return limited_yaml.load(config)
            case {"project": None | {"sweep": None}}:
                raise UserError(f"no sweep {name} at {self.url}")
        raise self._no_server()

    def register(self, name: SweepName, host: str) -> str:
        """The id of a new agent of the sweep on this host."""
        match self._call(AGENT, {**name.variables(), "host": host}):
            case {"createAgent": {"agent": {"id": str(agent)}}}:
                return agent
        raise self._no_server()

    def heartbeat(self, agent: str, run: str | None) -> list[dict[str, Any]]:
        """The server's commands for an agent that has this run, or none."""
        states = json.dumps({run: True} if run else {})
        match self._call(HEARTBEAT, {"id": agent, "metrics": "{}", "runState": states}):
            case {"agentHeartbeat": {"commands": str(text)}}:
                commands = _parsed(text)
                if isinstance(commands, list) and all(map(_is_command, commands)):
                    return commands
        raise self._no_server()

    def _call(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            reply = self.session.post(
                f"{self.url}/graphql",
                json={"query": query, "variables": variables},
                auth=("api", self.key),
                timeout=TIMEOUT,
            )
        except requests.RequestException as error:
            raise ServerAway(f"no sweep server answers at {self.url}") from error
        if reply.status_code >= 500 or reply.status_code == TOO_MANY_REQUESTS:
            raise ServerAway(f"{self.url} answers HTTP {reply.status_code}")
        if reply.status_code == 401:
            raise UserError(f"{self.url} refuses the key (WANDB_API_KEY)")
        match _parsed(reply.content):
            case {"errors": [{"message": message}, *_]}:
                raise UserError(f"{self.url}: {message}")
            case {"errors": [_, *_]}:
                pass
            case {"data": dict(data)}:
                return data
        raise self._no_server(f" (HTTP {reply.status_code})")

    def _no_server(self, answer: str = "") -> UserError:
        return UserError(f"{self.url} is no W&B server{answer}")


def _parsed(text: str | bytes) -> Any:
    """The value of a JSON text, None if it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_command(command: Any) -> bool:
    """Whether it is a server's command to an agent, with the run and its values where it has one."""
    match command:
        case {"type": "run", "run_id": str(), "args": dict(values)}:
            return all(isinstance(entry, dict) and "value" in entry for entry in values.values())
        case {"type": "run"}:
            return False
        case {"type": str()}:
            return True
    return False
