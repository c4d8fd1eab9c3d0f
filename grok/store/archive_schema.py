"""The form of stored documents, which commands rely on whoever has written an archive of them.

A model has the fields that some command reads; documents may have others, of plain values. `Run`,
`Metric`, `Sweep`, `SweepPoint` and `File` have all fields that are stored, and the texts below them
are those of docs/reference/formats.md.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from bson import Binary, Int64, ObjectId
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

MAX_DEPTH = 50  # of a document; MongoDB takes 100
# Types of values, and no subclass of them, such as bson's Code.
PLAIN = {type(None), bool, int, Int64, float, str, bytes, Binary, datetime, ObjectId, dict, list}
Count = Annotated[int, Field(ge=0, lt=2**53)]
Name = Annotated[str, Field(max_length=1000)]
# An id is a number or a name: neither a path nor a pattern of paths.
NamedId = Annotated[str, Field(pattern=r"^\w[\w.,:=@+ -]{0,99}$")]
ID_FORM = "a letter, a digit or _, and up to 99 of these, spaces and . , : = @ + -"
LONGEST_BEGINNING = 60  # characters of an id that are from a name
RunId = Count | NamedId
FileReference = Annotated[list[Name | ObjectId], Field(min_length=2, max_length=2)]
Document = dict[str, Any]


class Part(BaseModel):
    """A document, or a part of one."""

    model_config = ConfigDict(
        strict=True, extra="allow", arbitrary_types_allowed=True, use_attribute_docstrings=True
    )


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
    added: datetime | None = None


class Added(Part):
    value: Any = None
    date: datetime


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


class InitialWeights(Part):
    sha256: Name
    names: Name | None = None


class Info(Part):
    environment: Document | None = None
    program: Program | None = None
    claims: list[Finding] | None = None
    metrics: list[MetricEntry] = []
    initial_run: RunId | None = None
    reference_run: RunId | None = None
    initial_weights: InitialWeights | None = None
    wandb: Wandb | None = None


class Host(Part):
    hostname: Name | None = None


class Omniboard(Part):
    tags: list[Name] | None = None
    notes: str | None = None


class Run(Part):
    id: RunId = Field(alias="_id")
    """the run's number, or the name that Sacred's option `--id` gave it"""
    status: Name
    """RUNNING, COMPLETED, INTERRUPTED or FAILED; IMPORTING while an archive is imported"""
    experiment: Experiment
    """`name`, `mainfile`, `sources` (names and ids of stored files), `dependencies`, and
    `repositories` with the commit of the code, and whether it had changes that were not committed
    (`dirty`), other than in `docs`"""
    start_time: datetime | None = None
    """when the run began, in UTC"""
    stop_time: datetime | None = None
    """when it ended, in UTC"""
    heartbeat: datetime | None = None
    """when it was last known to be alive, in UTC; there is a heartbeat every second"""
    config: Document | None = None
    """every configuration key with its value, `seed` included"""
    meta: Meta = Meta()
    """the command and its options, `named_configs`, `config_updates`; `sweep` for a run of a sweep,
    `repeats` for one that `grok repeat` made"""
    command: Any = None
    """Sacred's name of what was executed, `main`"""
    info: Info = Info()
    """`environment`, `program`, `claims`, `metrics`, and where there is one `initial_run`, `wandb` or
    `initial_weights` (`sha256` of the file, and whose `names` its weights have)"""
    result: Any = None
    """phase, steps to thresholds, how the run ended, the last value of each metric"""
    host: Host = Host()
    """the machine, its system, processor and GPUs, and the version of Python"""
    omniboard: Omniboard = Omniboard()
    """`tags` and `notes` that were given to the run, by `grok board` or the program Omniboard"""
    artifacts: list[Artifact] = []
    """names and ids of the stored files; `added`, the date in UTC, of one that was added after the run"""
    added: dict[Name, Added] = {}
    """results of later analysis by name, by `grok store attach`: `value`, and `date` in UTC"""
    resources: list[FileReference] = []
    """names and ids of the files that the program has opened with Sacred's `open_resource`"""
    captured_out: str | None = None
    """the output of the program, for a run that was alone in its process. Of more than 100,000
    characters it has the last ones; the file `captured_out.txt` has all"""
    seq: Any = None
    """the number of the last event that was delivered"""
    uid: Any = None
    """the run's own id, which no other run ever has"""
    lease: Any = None
    """who may write the run: `term`, `holder`, `host`, `machine`, `journals`, `taken` and `renewed`
    (the server's time), `is_dead` once a dead process's journal is delivered, and `metrics` with the
    ids of the metrics' documents"""
    format: Any = None
    """the name of the documents' format, which Sacred writes: `MongoObserver-0.7.0`"""
    fail_trace: Any = None
    """of a run that has failed: the lines of the traceback"""
    refused_events: Any = None
    """events that MongoDB did not take, with the reason, if there are any"""

    @model_validator(mode="after")
    def has_a_time(self) -> "Run":
        if self.status == "RUNNING" and not (self.heartbeat or self.start_time):
            raise ValueError("a run that is RUNNING and has never started")
        return self


class Metric(Part):
    id: ObjectId = Field(alias="_id")
    """chosen by MongoDB's driver"""
    run_id: RunId
    """the `_id` of the run"""
    name: Name
    """the metric's name"""
    part: Count = 0
    """of a metric of more than 50,000 values, which has several documents: its place among them, from
    0. Each of them but the last has 50,000 values"""
    steps: list[int | Annotated[float, Field(allow_inf_nan=False)]]
    """the steps at which it was logged"""
    values: list[int | float]
    """a value for each step"""
    timestamps: list[datetime] = []
    """the time at which each value was logged, in UTC"""
    seq: Any = None
    """the number of the last event that was delivered"""
    term: Any = None
    """the term of the lease of the process that wrote it last"""

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


MapAxis = Annotated[list[int | float], Field(min_length=1)]


class MapLattice(Part):
    keys: Annotated[list[Name], Field(min_length=2, max_length=2)]
    axes: Annotated[list[MapAxis], Field(min_length=2, max_length=2)]
    slices: Annotated[list[Document], Field(min_length=1)]
    seeds: Annotated[list[Count], Field(min_length=1)]


class Sweep(Part):
    id: NamedId = Field(alias="_id")
    """the id that `grok sweep run` prints, such as `nanda_cpu-1f0c2a`"""
    name: Name
    """the name of its file"""
    created: datetime
    """when it began, in UTC"""
    config: SweepConfig
    """the checked content of the file"""
    experiment: Name | None = None
    """the name of the experiment"""
    seconds: Annotated[float, Field(ge=0, lt=1e12)] | None = None
    """how long it took"""
    state: Name | None = None
    """`running`, `interrupted` or `finished`; of a served sweep RUNNING, PAUSED, FINISHED or CANCELED"""
    points: list[Document] = []
    """the configuration updates of each point; those of a served sweep are in `sweep_points`"""
    claims: SweepFindings = SweepFindings(findings=[])
    """what was checked at its end: `findings`, `checked` (when), `commit` (of the code that checked)
    and `runs` (when the first and the last began, and the commits of their code)"""
    claims_before: Any = None
    """the same for earlier versions of the claims"""
    limit: Count | None = None
    """the largest number of points, if there is one"""
    map: MapLattice | None = None
    """of a sweep that maps a phase diagram: the `keys` of its axes, the values of the `axes`, the other
    values of each of its `slices`, and the `seeds` that a cell may be run with"""
    batches: Any = None
    """the groups of runs that train together: `id`, the numbers of their `points`, and `slots`"""
    jobs: list[Name] = []
    """the ids of the Slurm jobs that run its agents"""
    served: Any = None
    """`True` for a sweep that `grok sweep serve` gives to agents"""
    seed: Any = None
    """of a served sweep: the seed of points that name none"""
    lease: Any = None
    """which process may run the sweep, as for a run; not of a served sweep"""


class SweepPoint(Part):
    id: Name = Field(alias="_id")
    """the sweep's id and the point's number, such as `nanda-1f0c2a/3`"""
    sweep: NamedId
    """the `_id` of the sweep"""
    number: Count
    """its place among the points of the sweep, from 0"""
    point: Document
    """the configuration updates"""
    state: Literal["pending", "running", "finished", "stopped", "failed"]
    """pending, running, finished, stopped or failed"""
    run: Name | None = None
    """the id that W&B gives the run of its last attempt, which the run has in `info.wandb.run` or
    `meta.sweep.run`; None while it is pending"""
    attempts: list[Name] = []
    """the same ids of all attempts"""
    agent: Name | None = None
    """the `_id` of its agent in `sweep_agents`"""
    host: Any = None
    """the name of the agent's machine"""
    heartbeat: datetime | None = None
    """when its agent or its run was last heard of, in UTC"""
    seen: bool = False
    """whether the run of its last attempt has begun"""
    stop: bool = False
    """whether the run has been told to stop"""

    @model_validator(mode="after")
    def belongs_to_its_sweep(self) -> "SweepPoint":
        if self.id != f"{self.sweep}/{self.number}":
            raise ValueError(f"point {self.number} of sweep {self.sweep} has another id")
        if self.state == "running" and not (self.run and self.heartbeat):
            raise ValueError("a point that is running and has no run")
        return self


class File(Part):
    id: ObjectId = Field(alias="_id")
    """the id that a run's `artifacts`, `sources` or `resources` name"""
    length: Count
    """bytes"""
    uploadDate: datetime
    """when it was stored, in UTC"""
    filename: Name | None = None
    """its name"""
    md5: Name | None = None
    """of a source file: by which it is found again, so that each content is stored once"""
    metadata: Any = None
    """of an artifact: what the program has given with it, if anything"""


def is_named_id(text: str) -> bool:
    """Whether a run or a sweep can have this id."""
    try:
        TypeAdapter(NamedId).validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


def new_id(name: str) -> str:
    """A new id that begins with a name as far as ids can, such as `nanda_cpu-1f0c2a`."""
    kept = (
        each if each.isalpha() or each.isdecimal() or each in "_.,:=@+ -" else "_" for each in name
    )
    beginning = "".join(kept).lstrip(".,:=@+ -")[:LONGEST_BEGINNING]
    return f"{beginning or 'sweep'}-{uuid.uuid4().hex[:6]}"


def check(document: Mapping[str, Any], model: type[Part]) -> None:
    """ValueError, in one line, unless a document is of a model's form and of plain values."""
    for key in document:
        if key.startswith("$"):
            raise ValueError(f"the key {key!r:.100}")
    check_plain(document)
    try:
        model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{model.__name__.lower()} {place}: {first['msg']}"[:300]) from None


def check_plain(value: Any, depth: int = MAX_DEPTH) -> None:
    """ValueError unless a document consists of plain values, at most `depth` deep."""
    if not depth:
        raise ValueError(f"a document that is more than {MAX_DEPTH} deep")
    items = value.values() if isinstance(value, Mapping) else value
    types = set(map(type, items))
    for each in types - PLAIN:
        raise ValueError(f"a value of type {each.__name__}")
    if types & {dict, list}:
        for item in items:
            if isinstance(item, dict | list):
                check_plain(item, depth - 1)
