"""What fits into MongoDB's documents: a metric in parts of bounded size, numbers, names, output.

MongoDB refuses a document of more than 16 MB. The values of a metric are therefore split into parts,
documents of the same run and name; `find_metrics` joins them. Metrics of up to `VALUES_PER_PART`
values, nearly all, are one document as Sacred writes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import bson
from bson.errors import BSONError
from pymongo.collection import Collection

from grok.errors import UserError
from grok.store.archive_schema import check_plain

VALUES_PER_PART = 50_000  # about 2 MB
OUTPUT_IN_DOCUMENT = 100_000  # characters of a run's captured output that its document holds
COLUMNS = ("steps", "values", "timestamps")
LARGEST_VALUE = 1 << 20  # bytes of one configuration value
LARGEST_INTEGER = 2**63 - 1
MOST_LEVELS = 100  # of a document of MongoDB
RUN_KEYS = ("initial_run", "reference_run")  # keys of a configuration that name other runs
Document = dict[str, Any]


def check_key(key: str) -> None:
    """UserError if a dotted key has more parts than a document has levels, which no query can have."""
    if key.count(".") >= MOST_LEVELS:
        raise UserError(f"{key:.40}...: a key has at most {MOST_LEVELS} parts")


class Splitter:
    """Splits the values of one run's metrics into parts as they are logged."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}  # values so far, by metric

    def split(self, name: str, columns: Mapping[str, Sequence[Any]]) -> Iterator[Document]:
        """The new values of a metric, by part.

        Arguments:
            name: of the metric.
            columns: "steps", "values" and "timestamps", of equal lengths.

        Yields:
            documents of the three columns, with the number of their `part`, from 0. The field is
            missing in the first part until it is full.
        """
        start, end = 0, len(columns["steps"])
        while start < end:
            count = self.counts.get(name, 0)
            part, position = divmod(count, VALUES_PER_PART)
            stop = min(end, start + VALUES_PER_PART - position)
            self.counts[name] = count + stop - start
            document: Document = {key: columns[key][start:stop] for key in COLUMNS}
            if part or self.counts[name] == VALUES_PER_PART:
                document["part"] = part
            yield document
            start = stop


def find_metrics(
    metrics: Collection, matching: Document, fields: Sequence[str] = ("steps", "values")
) -> Iterator[Document]:
    """The metrics that match a query, each of them whole.

    Arguments:
        fields: the columns that are needed, beside `run_id` and `name`.
    """
    parts: dict[Any, list[Document]] = {}
    for document in metrics.find(matching, ["run_id", "name", "part", *fields]):
        if "part" in document:
            parts.setdefault((document["run_id"], document["name"]), []).append(document)
        else:
            yield document
    for documents in parts.values():
        documents.sort(key=lambda document: document["part"])
        whole = documents[0]
        for key in set(fields).intersection(COLUMNS):
            whole[key] = [value for document in documents for value in document[key]]
        yield whole


def numbers(values: list[Any]) -> list[Any]:
    """Logged values; True, False and integers of more than 8 bytes become floating-point numbers."""
    return [
        float(value) if isinstance(value, bool) or _is_too_large(value) else value
        for value in values
    ]


def storable(value: Any) -> Any:
    """A value, nested or not, as MongoDB can store it.

    Integers of more than 8 bytes become texts, and a null character in a key becomes `\\0`.
    """
    if isinstance(value, Mapping):
        return {
            key.replace("\0", r"\0") if isinstance(key, str) else key: storable(each)
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    return str(value) if _is_too_large(value) else value


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and not -LARGEST_INTEGER - 1 <= value <= LARGEST_INTEGER


def check_storable(config: Mapping[str, Any]) -> None:
    """UserError that names a key whose value MongoDB cannot store, or an archive cannot have."""
    for key, value in config.items():
        try:
            content = bson.encode({key: value})
        except (BSONError, OverflowError) as error:
            raise UserError(f"{key}={value!r:.60}: MongoDB cannot store this: {error}") from error
        if len(content) > LARGEST_VALUE:
            raise UserError(
                f"{key}={value!r:.60}: {len(content)} bytes; a run's document has no room for it"
            )
        try:
            check_plain({"meta": {"config_updates": bson.decode(content)}})
        except ValueError as error:
            raise UserError(f"{key}={value!r:.60}: an archive cannot have {error}") from error


def sweeps_of(run: Mapping[str, Any]) -> list[str]:
    """The ids of the sweeps that a run names: its own, and that of W&B's agents."""
    meta, info = run.get("meta") or {}, run.get("info") or {}
    names = (meta.get("sweep") or {}).get("id"), (info.get("wandb") or {}).get("sweep")
    return [name for name in names if name is not None]


def named_run(run: Mapping[str, Any], key: str) -> Any:
    """The id of the run of its own store that a key of a run's configuration names; None if it is
    not known.

    A configuration keeps the ids of the store in which the run was made. In another store they are
    those of other runs: there only `info` has the id, which an import has translated.

    Arguments:
        key: one of RUN_KEYS.
    """
    known = (run.get("info") or {}).get(key)
    if known is None and "uid" in run:  # made in this store
        known = (run.get("config") or {}).get(key)
    return None if isinstance(known, str) else known


def commits_of(run: Mapping[str, Any]) -> list[str]:
    """The commits of a run's code, abbreviated; with "+" if files differed from the commit."""
    repositories = (run.get("experiment") or {}).get("repositories") or ()
    return sorted(
        {
            repository["commit"][:12] + ("+" if repository.get("dirty") else "")
            for repository in repositories
        }
    )


def end_of_output(text: str) -> str:
    """The captured output as a run's document holds it: whole, or its end."""
    if len(text) <= OUTPUT_IN_DOCUMENT:
        return text
    return f"[the beginning is in the file captured_out.txt]\n{text[-OUTPUT_IN_DOCUMENT:]}"
