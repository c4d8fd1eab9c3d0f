"""Where runs are kept: a MongoDB of the user's, the embedded one, or plain files."""

import contextlib
import os
import re
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import gridfs
import pymongo
from pymongo.errors import PyMongoError
from sacred.observers import FileStorageObserver
from sacred.observers.base import RunObserver
from sacred.observers.mongo import parse_mongo_db_arg
from safetensors.torch import load
from torch import Tensor

from grok.errors import UserError
from grok.paths import home
from grok.store import mongod
from grok.store.journal import DurableObserver

ANSWER_TIMEOUT = 4.0  # seconds; a server named by a URI must answer in this time
DATABASE = "sacred"
INDEXES = (
    ("metrics", ("run_id", "name")),
    *(
        ("runs", (key,))
        for key in ("experiment.name", "status", "start_time", "heartbeat", "meta.sweep.id")
    ),
)
FILE_FIELDS = {"artifacts": 1, "resources": 1, "experiment.sources": 1}


@dataclass
class Store:
    """A place for runs. kind: "uri", "embedded" or "files"; uri is empty for files."""

    kind: str
    uri: str
    db_name: str = DATABASE
    home: Path = field(default_factory=home)

    @cached_property
    def client(self) -> pymongo.MongoClient:
        milliseconds = int(1000 * ANSWER_TIMEOUT)
        return pymongo.MongoClient(
            self.uri,
            serverSelectionTimeoutMS=milliseconds,
            connectTimeoutMS=milliseconds,
            journal=True,  # acknowledged means on disk: a killed server loses nothing either
        )

    @property
    def database(self):
        return self.client[self.db_name]

    @property
    def spools(self) -> Path:
        return self.home / "spool"

    def checkpoint_path(self, run: int | str) -> Path:
        """The file of a run's latest checkpoint, on this machine."""
        return self.home / "checkpoints" / f"{self.db_name}-{run}.safetensors"

    def describe(self) -> str:
        """One line, without passwords."""
        if self.kind == "files":
            return f"files in {self.home / 'files'}"
        if self.kind == "embedded":
            return f"the embedded MongoDB in {self.home / 'mongo'}"
        return f"MongoDB at {redacted(self.uri)}"

    def observer(self, **options) -> RunObserver:
        """A fresh observer for one run; `options` as Sacred's MongoObserver takes them."""
        if self.kind == "files":
            print(f"no MongoDB: this run goes to {self.describe()}", file=sys.stderr)
            return FileStorageObserver(self.home / "files")
        return DurableObserver(self, **options)

    def greet(self) -> None:
        """UserError if the server does not answer within 4 s."""
        try:
            with pymongo.timeout(ANSWER_TIMEOUT):
                self.client.admin.command("ping")
        except (PyMongoError, ValueError) as error:
            reason = str(error).split(",")[0]
            raise UserError(f"{self.describe()} does not answer: {reason}") from error

    def revive(self) -> None:
        """Start the embedded server again if it has gone."""
        if self.kind == "embedded":
            with contextlib.suppress(UserError):
                mongod.Server(self.home).ensure()


def connect(uri: str | None = None, db_name: str | None = None) -> Store:
    """The store for runs: `uri`, else GROK_MONGO_URI, else the embedded MongoDB, else files.

    UserError within 5 s if a server that was named does not answer.
    """
    uri = uri or os.environ.get("GROK_MONGO_URI")
    if uri:
        store = Store("uri", uri, db_name or _database_of(uri))
        store.greet()
    elif mongod.binary():
        store = Store("embedded", mongod.Server(home()).ensure())
    else:
        return Store("files", "")
    with contextlib.suppress(PyMongoError):  # a user without the right goes without
        make_indexes(store.database)
    return store


def mongo() -> Store:
    """The store for runs, where it is a MongoDB; UserError where runs go to files."""
    store = connect()
    require_database(store)
    return store


def require_database(store: Store):
    """The store's database; UserError where runs go to files."""
    if store.kind == "files":
        raise UserError("no MongoDB here: runs are kept as " + store.describe())
    return store.database


def find_sweep(database, name: str) -> dict[str, Any] | None:
    """The sweep with this id, or the latest of the file with this name; None if there is none."""
    wanted = {"$or": [{"_id": name}, {"name": name}]}
    return database.sweeps.find_one(wanted, sort=[("created", -1)])


def find_run(database, number: int) -> dict[str, Any]:
    """A run's document; UserError if there is none."""
    run = database.runs.find_one({"_id": number})
    if run is None:
        raise UserError(f"no run {number}")
    return run


def artifact(database, number: int, name: str) -> bytes:
    """The content of a file that a run keeps; UserError if there is none."""
    for entry in find_run(database, number)["artifacts"]:
        if entry["name"] == name:
            return gridfs.GridFS(database).get(entry["file_id"]).read()
    raise UserError(f"run {number} has kept no {name}")


def final_weights(store: Store, number: int) -> dict[str, Tensor]:
    """The weights that a run ended with, by name; UserError if it kept none."""
    return load(artifact(require_database(store), number, "weights.safetensors"))


def store_and_observer(argument: str | None = None) -> tuple[Store, RunObserver]:
    """The store for one run, and the observer that records it there.

    Arguments:
        argument: that of Sacred's `-m`, in Sacred's form or as a URI; None for the default store.

    Raises:
        UserError: the argument is of neither form, or the server does not answer.
    """
    if argument is None or "://" in argument:
        store = connect(argument)
        return store, store.observer()
    try:
        options = parse_mongo_db_arg(argument)
    except (AttributeError, ValueError) as error:
        raise UserError(
            f"-m {argument}: expected mongodb://..., or [host:port:]db_name[.collection[:id]]"
        ) from error
    if "collection" in options:
        options["prefix"] = options.pop("collection").removesuffix("runs").rstrip("_")
    store = connect(options.pop("url", "localhost:27017"), options.pop("db_name", None))
    return store, store.observer(**options)


def redacted(uri: str) -> str:
    """The URI without user and password."""
    return re.sub(r"//[^@/]*@", "//***@", uri)


def _database_of(uri: str) -> str:
    full = uri if "://" in uri else f"mongodb://{uri}"
    try:
        return pymongo.uri_parser.parse_uri(full)["database"] or DATABASE
    except (PyMongoError, ValueError) as error:
        raise UserError(f"{redacted(uri)} is not a MongoDB URI: {error}") from error


def make_indexes(database) -> None:
    """Indexes that queries and `grok store status` need."""
    for collection, keys in INDEXES:
        database[collection].create_index([(key, 1) for key in keys])


def missing_indexes(database) -> list[str]:
    """Those of them that are not there, by name."""
    missing = []
    for collection, keys in INDEXES:
        name = "_".join(f"{key}_1" for key in keys)
        if name not in database[collection].index_information():
            missing.append(f"{collection}.{name}")
    return missing


def file_ids(run: dict[str, Any]) -> list:
    """GridFS ids of what a run keeps: artifacts, resources and its sources."""
    own = [entry["file_id"] for entry in run.get("artifacts", [])]
    pairs = [*run.get("resources", []), *run.get("experiment", {}).get("sources", [])]
    return own + [pair[-1] for pair in pairs]


def files_in_use(database, files: set) -> set:
    """Those of the GridFS ids that some run refers to, also one kept under a prefix (`-m`)."""
    used = set()
    for name in database.list_collection_names():
        if name == "runs" or name.endswith("_runs"):
            for run in database[name].find({}, FILE_FIELDS):
                used.update(files.intersection(file_ids(run)))
    return used
