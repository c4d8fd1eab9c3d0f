"""The calls of W&B's API that `wandb sweep` and `wandb agent` make: what each takes and answers.

Every value is checked for its type, length and characters before it reaches a query.
"""

import json
import re
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic.alias_generators import to_camel

from grok import limited_yaml
from grok.errors import UserError
from grok.sweep.queue import Document, SweepQueue

ENTITY = "grok"
MOST_RUNS = 1000  # of one agent
OPERATION = re.compile(r"\s*(?:query|mutation)\s+(\w+)")

Name = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z_.-]{1,128}$")]
Text = Annotated[str, StringConstraints(max_length=256)]


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; UserError if it is not JSON in UTF-8, or has a key twice."""
    try:
        decoded = text.decode() if isinstance(text, bytes) else text
        return json.loads(decoded, object_pairs_hook=_without_repeated_keys, parse_constant=_refuse)
    except RecursionError as error:
        raise UserError("the JSON text is nested too deeply") from error
    except (ValueError, TypeError) as error:
        raise UserError("expected a JSON text in UTF-8, with no key twice") from error


def _without_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("a key is there twice")
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


class Call(BaseModel):
    """A call's variables. W&B's clients send more of them than are used here."""

    model_config = ConfigDict(strict=True, frozen=True, alias_generator=to_camel)

    def answer(self, queue: SweepQueue) -> Document:
        """The `data` of the reply; UserError if the call cannot be answered."""
        raise NotImplementedError


class Viewer(Call):
    def answer(self, queue: SweepQueue) -> Document:
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


class UpsertSweep(Call):
    """Create a sweep, or set the state of one (`wandb sweep --stop, --pause, ...`)."""

    id: Name | None = None
    state: Literal["RUNNING", "PAUSED", "FINISHED", "CANCELED"] | None = None
    config: str | None = None
    display_name: Text | None = None
    project_name: Text | None = None

    @model_validator(mode="after")
    def check_purpose(self) -> Self:
        if not (self.id and self.state) and (self.id or not self.config):
            raise ValueError("expected the config of a new sweep, or the id and state of one")
        return self

    def answer(self, queue: SweepQueue) -> Document:
        if self.id and self.state:
            queue.set_state(self.id, self.state)
        sweep_id = self.id or queue.create(limited_yaml.load(self.config or ""), self.display_name)
        project = self.project_name or ENTITY
        entry = {
            "name": sweep_id,
            "project": {
                "id": project,
                "name": project,
                "entity": {"id": ENTITY, "name": ENTITY},
            },
        }
        return {"upsertSweep": {"sweep": entry, "configValidationWarnings": []}}


class SweepWithRuns(Call):
    sweep: Name

    def answer(self, queue: SweepQueue) -> Document:
        sweep = queue.find(self.sweep)
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


class CreateAgent(Call):
    sweep: Name
    host: Text

    def answer(self, queue: SweepQueue) -> Document:
        return {"createAgent": {"agent": {"id": queue.add_agent(self.sweep, self.host)}}}


def _run_states(value: Any) -> Any:
    """The states of an agent's runs, which W&B's agents send as a JSON text."""
    return {} if value in (None, "") else parse_json(value)


class Heartbeat(Call):
    id: Name
    run_state: Annotated[
        dict[Name, bool], Field(max_length=MOST_RUNS), BeforeValidator(_run_states)
    ] = {}

    def answer(self, queue: SweepQueue) -> Document:
        running = [run for run, is_running in self.run_state.items() if is_running]
        commands = json.dumps(queue.heartbeat(self.id, running))
        return {"agentHeartbeat": {"agent": {"id": self.id}, "commands": commands}}


CALLS: dict[str, type[Call]] = {
    "Viewer": Viewer,
    "UpsertSweep": UpsertSweep,
    "SweepWithRuns": SweepWithRuns,
    "GetSweepState": SweepWithRuns,
    "CreateAgent": CreateAgent,
    "Heartbeat": Heartbeat,
}


class _Body(BaseModel):
    """The body of a GraphQL request."""

    model_config = ConfigDict(strict=True)

    query: str
    variables: dict[str, Any] | None = None


def parse_call(body: bytes) -> Call:
    """The call that the body of a request makes.

    Raises:
        UserError: It is not one of CALLS, or its variables are not what the call takes.
    """
    try:
        request = _Body.model_validate(parse_json(body))
        match = OPERATION.match(request.query)
        operation = match.group(1) if match else ""
        if operation not in CALLS:
            raise UserError(f"this endpoint answers only {', '.join(CALLS)}")
        return CALLS[operation].model_validate(request.variables or {})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UserError(f"{place or 'the request'}: {problem['msg']}") from error
