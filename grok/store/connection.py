"""Where runs are kept: a MongoDB of the user's, the embedded one, or plain files."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import gridfs
import pymongo
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, PyMongoError

from grok.errors import UserError, read_text
from grok.paths import home, shortened
from grok.store import mongod

if TYPE_CHECKING:
    from torch import Tensor

# MongoDB's error codes that say nothing about what was sent: no permission, no login, disk full
OF_SERVER = (13, 18, 14031)
ANSWER_TIMEOUT = 4.0  # seconds; a server named by a URI must answer in this time
LONGEST_NAME = 160  # bytes of a run's id in a file's name, which may have 255
DEFAULT_HOST = "localhost:27017"
DEFAULT_DATABASE = "sacred"
URI_FORM = (
    "mongodb://USER:PASSWORD@HOST:PORT/DATABASE, "
    "with %3A, %2F and %40 for a colon, a slash and an @ in a name or password"
)
INDEXES = (  # collection, keys
    ("metrics", ("run_id", "name")),
    ("runs", ("experiment.name",)),
    ("runs", ("status",)),
    ("runs", ("start_time",)),
    ("runs", ("heartbeat",)),
    ("runs", ("meta.sweep.id",)),
    ("runs", ("info.wandb.sweep",)),
)
# Sacred's forms of the argument of `-m`: HOST:PORT, or [HOST:PORT:]DATABASE[.COLLECTION[:ID]][!PRIORITY].
HOST_PATTERN = r"(?P<host>[0-9A-Za-z][0-9A-Za-z.-]*:[0-9]{1,5})"
NAME_PATTERN = r"[A-Za-z_][0-9A-Za-z#%&'()+\-;=@\[\]^_{}]{0,63}"
MONGO_ARGUMENT = re.compile(
    rf"(?:{HOST_PATTERN}(?::|$))?(?P<db_name>{NAME_PATTERN})?"
    rf"(?:\.(?P<collection>{NAME_PATTERN})(?::(?P<overwrite>[0-9]{{1,12}}))?)?"
    r"(?:!(?P<priority>-?[0-9]+))?"
)
FILE_FIELDS = {"artifacts": 1, "resources": 1, "experiment.sources": 1}


@dataclass
class Store:
    """A place for runs.

    Attributes:
        kind: "uri", "embedded" or "files".
        uri: of the MongoDB; empty for files.
        db_name: name of the database.
        home: folder of what is on this machine: journals, checkpoints, the embedded MongoDB.
        is_temporary: whether the database is deleted again by whoever has made it.
    """

    kind: str
    uri: str
    db_name: str = DEFAULT_DATABASE
    home: Path = field(default_factory=home)
    is_temporary: bool = False

    @cached_property
    def client(self) -> pymongo.MongoClient:
        # The driver cancels all that is under way when the server has not answered its heartbeat for
        # so long. An embedded server is on this machine, and only slow where that has much to do.
        patience = mongod.START_TIMEOUT if self.kind == "embedded" else ANSWER_TIMEOUT
        return pymongo.MongoClient(
            self.uri,
            serverSelectionTimeoutMS=int(1000 * ANSWER_TIMEOUT),
            connectTimeoutMS=int(1000 * patience),
            journal=True,  # acknowledged means on disk: a killed server loses nothing either
        )

    @property
    def database(self) -> Database:
        return self.client[self.db_name]

    @property
    def journals(self) -> Path:
        """The folder of what runs still have to deliver."""
        return self.home / "spool"

    def checkpoint_path(self, run: int | str) -> Path:
        """The file of a run's latest checkpoint, on this machine; an id is never taken for a path."""
        name = shortened(quote(str(run), safe=""), LONGEST_NAME)
        return self.home / "checkpoints" / f"{self.db_name}-{name}.safetensors"

    def describe(self) -> str:
        """One line, without passwords."""
        return "a temporary database" if self.is_temporary else self._server()

    def _server(self) -> str:
        if self.kind == "files":
            return f"files in {self.home / 'files'}"
        if self.kind == "embedded":
            return f"the embedded MongoDB in {self.home / 'mongo'}"
        return f"MongoDB at {redacted(self.uri)}"

    def greet(self) -> None:
        """UserError if the server does not answer within 4 s."""
        began = time.time()
        try:
            with pymongo.timeout(ANSWER_TIMEOUT):
                self.client.admin.command("ping")
        except (PyMongoError, ValueError) as error:
            raise UserError(self.explain(error, began)) from error

    def explain(self, error: Exception, since: float) -> str:
        """One line on why the server has not answered.

        Arguments:
            error: that of the driver.
            since: the time from which the server's own errors count, in seconds since 1970.
        """
        failure = mongod.Server(self.home).failure(since) if self.kind == "embedded" else None
        return failure or f"{self._server()} does not answer: {str(error).split(',')[0]}"

    def revive(self) -> None:
        """Start the embedded server again if it has gone."""
        if self.kind == "embedded":
            with contextlib.suppress(UserError):
                mongod.Server(self.home).ensure()


@contextlib.contextmanager
def one_line_errors(began: float) -> Iterator[None]:
    """UserError if the server of the default store has gone away since a time, where a block fails."""
    try:
        yield
    except PyMongoError as error:
        if not is_away(error):
            raise
        uri = os.environ.get("GROK_MONGO_URI") or served_uri()
        store = Store("uri", uri) if uri else Store("embedded", "")
        raise UserError(store.explain(error, began)) from error


def is_away(error: Exception) -> bool:
    """Whether the error says that the server did not answer (in time), not that it refused.

    A server without space on its disk, or one that does not know the user, is away, too.
    """
    if not isinstance(error, PyMongoError):
        return False
    code = getattr(error, "code", None)
    return error.timeout or isinstance(error, AutoReconnect) or code in OF_SERVER


def served_file() -> Path:
    """The file with the URI of the MongoDB that this user's `grok store serve` serves."""
    return home() / "mongodb.json"


def served_uri() -> str | None:
    """The URI in that file, None without one; UserError if it is damaged."""
    path = served_file()
    if not path.exists():
        return None
    try:
        return str(json.loads(read_text(path))["uri"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is damaged: delete it, and serve the store again") from error


def connect(uri: str | None = None) -> Store:
    """The store for runs: `uri`, else GROK_MONGO_URI, else what `grok store serve` serves, else the
    embedded MongoDB, else files.

    UserError within 5 s if a server that was named does not answer.
    """
    uri = uri or os.environ.get("GROK_MONGO_URI")
    served = None if uri else served_uri()
    if uri:
        store = Store("uri", uri, _database_in(uri))
        store.greet()
    elif served:
        store = Store("uri", served, _database_in(served))
        try:
            store.greet()
        except UserError as error:
            raise UserError(
                f"{error}; serve it again, or delete {served_file()} if nothing serves it"
            ) from error
    elif mongod.binary():
        store = Store("embedded", mongod.Server(home()).ensure())
    else:
        return Store("files", "")
    with contextlib.suppress(PyMongoError):  # a user without the right goes without
        make_indexes(store.database)
    return store


def parse_argument(argument: str) -> tuple[str, dict[str, Any]]:
    """The URI, and the options of Sacred's MongoObserver, that an argument of `-m` stands for.

    Arguments:
        argument: a URI, or one of Sacred's forms, such as "localhost:27017:sacred".

    Returns:
        the URI, which names the database if the argument does, and those of the options "collection",
        "overwrite" and "priority" that the argument has.

    Raises:
        UserError: the argument is of neither form.
    """
    if "://" in argument:
        return argument, {}
    match = MONGO_ARGUMENT.fullmatch(argument)
    if match is None or not (match["host"] or match["db_name"]):
        raise UserError(
            f"-m {redacted(argument)}: expected mongodb://..., or [host:port:]db_name[.collection[:id]]"
        )
    uri = f"mongodb://{match['host'] or DEFAULT_HOST}/{quote(match['db_name'] or '')}"
    options: dict[str, Any] = {
        key: match[key] for key in ("collection", "overwrite") if match[key] is not None
    }
    if match["priority"] is not None:
        options["priority"] = int(match["priority"])
    return uri.rstrip("/"), options


def uri_of_all_runs(argument: str) -> str:
    """The URI that an argument of `-m` stands for, where all runs of a database are read.

    UserError if the argument has another form, or names a collection, an id or a priority.
    """
    uri, options = parse_argument(argument)
    if options:
        raise UserError(
            f"-m {argument}: expected no collection, id or priority; this reads all runs"
        )
    return uri


def mongo() -> Store:
    """The store for runs, where it is a MongoDB; UserError where runs go to files."""
    store = connect()
    require_database(store)
    return store


def require_database(store: Store) -> Database:
    """The store's database; UserError where runs go to files."""
    if store.kind == "files":
        raise UserError("no MongoDB here: runs are kept as " + store.describe())
    return store.database


def find_sweep(database: Database, name: str) -> dict[str, Any] | None:
    """The sweep with this id, or the latest of the file with this name; None if there is none."""
    wanted = {"$or": [{"_id": name}, {"name": name}]}
    return database.sweeps.find_one(wanted, sort=[("created", -1)])


def swept_keys(sweep: Mapping[str, Any]) -> list[str]:
    """The parameters, seed aside, to which a stored sweep can give several values, in their order."""
    config = sweep.get("config")
    parameters = config.get("parameters") if isinstance(config, dict) else None
    several = (key for key, spec in (parameters or {}).items() if _has_several_values(spec))
    return [key for key in several if key != "seed"]


def swept_values(run: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A run's values of these `swept_keys`, of which some are entries of nested options."""
    return {key: _entry(run.get("config"), key.split(".")) for key in keys}


def _entry(config: Any, path: Iterable[str]) -> Any:
    """The entry of nested mappings at a path of names; None if there is none."""
    for name in path:
        config = config.get(name) if isinstance(config, Mapping) else None
    return config


def _has_several_values(parameter: Any) -> bool:
    """Whether a parameter of a sweep has a distribution, or a list of at least two values."""
    if not isinstance(parameter, dict) or "value" in parameter:
        return False
    values = parameter.get("values")
    return not isinstance(values, list) or len(values) > 1


def find_run(database: Database, number: int | str) -> dict[str, Any]:
    """A run's document; UserError if there is none."""
    try:
        run = database.runs.find_one({"_id": number})
    except OverflowError:  # a number of more than 64 bits
        run = None
    if run is None:
        raise UserError(f"no run {number}")
    return run


def next_number(runs: Collection) -> int:
    """The number after the largest in a collection of runs, whose ids may be names too."""
    last = runs.find_one({"_id": {"$type": "number"}}, {"_id": 1}, sort=[("_id", -1)])
    return last["_id"] + 1 if last else 1


def artifact(database: Database, number: int | str, name: str) -> bytes:
    """The content of a file that a run keeps; UserError if there is none."""
    for entry in find_run(database, number).get("artifacts") or ():
        if entry["name"] == name:
            return file_content(database, number, name, entry["file_id"])
    raise UserError(f"run {number} has kept no {name}")


def file_content(database: Database, number: int | str, name: str, file_id: Any) -> bytes:
    """The content of a file that a run names; UserError if the store does not have all of it."""
    try:
        return gridfs.GridFS(database).get(file_id).read()
    except gridfs.errors.GridFSError as error:
        raise UserError(f"run {number}: the content of {name} is not in the store") from error


def final_weights(store: Store, number: int | str) -> "dict[str, Tensor]":
    """The weights that a run ended with, by name; UserError if it kept none."""
    from safetensors import SafetensorError
    from safetensors.torch import load  # commands that need no weights do not import torch

    content = artifact(require_database(store), number, "weights.safetensors")
    try:
        return load(content)
    except SafetensorError as error:
        raise UserError(f"the weights of run {number} cannot be read: {error}") from error


def redacted(uri: str) -> str:
    """The URI without user and password, also if it is malformed: up to its last @."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)?.*@", r"\1***@", uri, flags=re.IGNORECASE | re.DOTALL)


def _database_in(uri: str) -> str:
    full = uri if "://" in uri else f"mongodb://{uri}"
    try:
        return pymongo.uri_parser.parse_uri(full)["database"] or DEFAULT_DATABASE
    except (PyMongoError, ValueError):
        # the driver's own words can have a part of the password
        raise UserError(f"{redacted(uri)} is not a MongoDB URI: expected {URI_FORM}") from None


def make_indexes(database: Database) -> None:
    """Indexes that queries and `grok store status` need."""
    for collection, keys in INDEXES:
        database[collection].create_index([(key, 1) for key in keys])


def missing_indexes(database: Database) -> list[str]:
    """Names of the indexes that are not there."""
    missing = []
    for collection, keys in INDEXES:
        name = "_".join(f"{key}_1" for key in keys)
        if name not in database[collection].index_information():
            missing.append(f"{collection}.{name}")
    return missing


def file_ids(run: dict[str, Any]) -> list[Any]:
    """GridFS ids of what a run keeps: artifacts, resources and its sources."""
    artifacts = [entry["file_id"] for entry in run.get("artifacts", [])]
    pairs = [*run.get("resources", []), *run.get("experiment", {}).get("sources", [])]
    return artifacts + [pair[-1] for pair in pairs]


def files_in_use(database: Database, files: set[Any]) -> set[Any]:
    """Those of the GridFS ids that some run refers to, also a run kept under a prefix (`-m`)."""
    used: set[Any] = set()
    for name in database.list_collection_names():
        if name == "runs" or name.endswith("_runs"):
            for run in database[name].find({}, FILE_FIELDS):
                used.update(files.intersection(file_ids(run)))
    return used
