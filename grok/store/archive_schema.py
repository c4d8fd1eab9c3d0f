"""The form of an archive's documents, which commands rely on whoever has written the file.

A model has the fields that some command reads. Documents may have others, of plain values.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from bson import Binary, Int64, ObjectId
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

MAX_DEPTH = 50  # of a document; MongoDB takes 100
# Types of values, and no subclass of them, such as bson's Code.
PLAIN = {type(None), bool, int, Int64, float, str, bytes, Binary, datetime, ObjectId, dict, list}
Count = Annotated[int, Field(ge=0, lt=2**53)]
Name = Annotated[str, Field(max_length=1000)]
# An id is a number or a name: neither a path nor a pattern of paths.
NamedId = Annotated[str, Field(pattern=r"^\w[\w.,:=@+ -]{0,99}$")]
RunId = Count | NamedId
FileReference = Annotated[list[Name | ObjectId], Field(min_length=2, max_length=2)]
Document = dict[str, Any]


class Part(BaseModel):
    """A document, or a part of one."""

    model_config = ConfigDict(strict=True, extra="allow", arbitrary_types_allowed=True)


class Repository(Part):
    commit: Name
    dirty: bool = False


class Experiment(Part):
    name: Name
    mainfile: Name | None = None
    sources: list[FileReference] = []
    repositories: list[Repository] = []


class Artifact(Part):
    name: Name
    file_id: ObjectId


class SweepReference(Part):
    id: NamedId


class Meta(Part):
    named_configs: list[Name] | None = None
    config_updates: Document | None = None
    sweep: SweepReference | None = None
    repeats: RunId | None = None


class Program(Part):
    slot: Count = 0
    slots: Annotated[int, Field(ge=1, le=10_000)] = 1
    compiled: bool | None = None
    threads: Annotated[int, Field(ge=1, le=10_000)] | None = None


class Finding(Part):
    claim: Name
    passed: bool | None = None


class MetricEntry(Part):
    id: Name | ObjectId


class Wandb(Part):
    run: Name | None = None
    sweep: NamedId | None = None


class Info(Part):
    environment: Document | None = None
    program: Program | None = None
    claims: list[Finding] | None = None
    metrics: list[MetricEntry] = []
    initial_run: RunId | None = None
    wandb: Wandb | None = None


class Host(Part):
    hostname: Name | None = None


class Omniboard(Part):
    tags: list[Name] | None = None


class Run(Part):
    id: RunId = Field(alias="_id")
    status: Name
    experiment: Experiment
    start_time: datetime | None = None
    stop_time: datetime | None = None
    heartbeat: datetime | None = None
    config: Document | None = None
    meta: Meta = Meta()
    info: Info = Info()
    host: Host = Host()
    omniboard: Omniboard = Omniboard()
    artifacts: list[Artifact] = []
    resources: list[FileReference] = []
    captured_out: str | None = None

    @model_validator(mode="after")
    def has_a_time(self) -> "Run":
        if self.status == "RUNNING" and not (self.heartbeat or self.start_time):
            raise ValueError("a run that is RUNNING and has never started")
        return self


class Metric(Part):
    id: ObjectId = Field(alias="_id")
    run_id: RunId
    name: Name
    part: Count = 0  # of a long metric, which has several documents
    steps: list[int | Annotated[float, Field(allow_inf_nan=False)]]
    values: list[int | float]
    timestamps: list[datetime] = []

    @model_validator(mode="after")
    def has_a_value_at_each_step(self) -> "Metric":
        if len(self.steps) != len(self.values):
            raise ValueError(f"{len(self.steps)} steps and {len(self.values)} values")
        return self


class SweepFinding(Part):
    claim: Name
    passed: bool
    measured: dict[str, float]
    why: str | None = None
    seed: Count | None = None


class SweepFindings(Part):
    findings: list[SweepFinding]


class SweepConfig(Part):
    parameters: dict[str, Document] = {}


class Sweep(Part):
    id: NamedId = Field(alias="_id")
    name: Name
    created: datetime
    config: SweepConfig
    experiment: Name | None = None
    seconds: Annotated[float, Field(ge=0, lt=1e12)] | None = None
    state: Name | None = None
    points: list[Document] = []
    claims: SweepFindings = SweepFindings(findings=[])


class File(Part):
    id: ObjectId = Field(alias="_id")
    length: Count
    uploadDate: datetime
    filename: Name | None = None


def check(document: Mapping[str, Any], model: type[Part]) -> None:
    """ValueError, in one line, unless a document is of a model's form and of plain values."""
    for key in document:
        if key.startswith("$"):
            raise ValueError(f"the key {key!r:.100}")
    _check_plain(document, MAX_DEPTH)
    try:
        model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{model.__name__.lower()} {place}: {first['msg']}"[:300]) from None


def _check_plain(value: Any, depth: int) -> None:
    """ValueError unless a value consists of plain ones, at most `depth` deep."""
    if not depth:
        raise ValueError(f"a document that is more than {MAX_DEPTH} deep")
    items = value.values() if isinstance(value, Mapping) else value
    types = set(map(type, items))
    for each in types - PLAIN:
        raise ValueError(f"a value of type {each.__name__}")
    if types & {dict, list}:
        for item in items:
            if isinstance(item, dict | list):
                _check_plain(item, depth - 1)
