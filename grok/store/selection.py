"""Which stored runs are meant: words like `experiment=liu_toy p=10 lr=1e-3..1e-2 seed=0,1,2`.

One language for scripts, `grok store` and notebooks; it becomes a MongoDB filter.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from grok.errors import UserError, did_you_mean
from grok.store.connection import find_sweep

OWN = ("run", "experiment", "sweep", "status", "tag", "claim", "since", "until")
PLACES = {
    "run": "_id", "experiment": "experiment.name", "sweep": "meta.sweep.id", "status": "status",
    "tag": ("meta.named_configs", "omniboard.tags"),
}  # fmt: skip
NAMED = {"none": None, "null": None, "never": None, "true": True, "false": False}


def select(database, words: Iterable[str] = (), **wanted: Any) -> dict[str, Any]:
    """The MongoDB filter of runs for words KEY=VALUE, and for keywords.

    A keyword's value is a value, a list of values, or a range (low, high), both included, None being
    open: `select(database, experiment="liu_toy", lr=(1e-3, None), seed=[0, 1])`; a nested key goes in
    with `**{"task.p": 10}`. UserError for a word that is none, or a sweep that is not there.
    """
    terms = [_term(database, key, test) for key, test in map(_parsed, words)]
    terms += [_term(database, key, _test(value)) for key, value in wanted.items()]
    return {"$and": terms} if terms else {}


def chosen(database, words: Iterable[str]) -> tuple[dict[str, Any], int]:
    """The filter, and how many runs it meets; UserError that says which word met none, if none."""
    words = list(words)
    wanted = select(database, words)
    count = database.runs.count_documents(wanted)
    if count:
        return wanted, count
    if not database.runs.find_one({}, {"_id": 1}):
        raise UserError("no run in the store yet")
    for word in words:
        if not database.runs.find_one(select(database, [word]), {"_id": 1}):
            raise UserError(f"no run with {word}{_near(database, word)}")
    raise UserError(f"no run with all of {' '.join(words)}")


def _parsed(word: str) -> tuple[str, Any]:
    """Key and test of a word."""
    key, equals, value = word.partition("=")
    if not (key and equals):
        raise UserError(f"{word}: expected KEY=VALUE, as experiment=liu_toy or p=10")
    if key in ("since", "until"):
        return key, _moment(key, value)
    if key == "claim":
        return key, value
    if value.startswith("["):  # a list is one value: betas=[0.9,0.98]
        inner = value.strip("[]")
        return key, [value_of(one) for one in inner.split(",")] if inner else []
    tests = [_one(part) for part in value.split(",")]
    return key, tests[0] if len(tests) == 1 else {"$or": tests}


def _one(text: str) -> Any:
    low, dots, high = text.partition("..")
    if not dots:
        return value_of(text)
    return _between(value_of(low) if low else None, value_of(high) if high else None)


def _test(value: Any) -> Any:
    """A keyword's value as a test of MongoDB's."""
    if isinstance(value, tuple):
        return _between(*value)
    return {"$or": value} if isinstance(value, list) else value


def _between(low: Any, high: Any) -> dict[str, Any]:
    ends = {"$gte": low, "$lte": high}
    return {key: value for key, value in ends.items() if value is not None}


def _term(database, key: str, test: Any) -> dict[str, Any]:
    """One condition on a run's document."""
    if key in ("since", "until"):
        moment = test if isinstance(test, datetime) else _moment(key, str(test))
        return {"start_time": {"$gte" if key == "since" else "$lt": moment}}
    if key == "claim":
        return _of_claim(database, str(test).removeprefix("-"), not str(test).startswith("-"))
    if key == "sweep":
        return {"meta.sweep.id": {"$in": _sweeps(database, test)}}
    default = key if key.startswith("result.") else f"config.{key.removeprefix('config.')}"
    places = PLACES.get(key, default)
    if isinstance(places, tuple):
        return {"$or": [_at(place, test) for place in places]}
    return _at(places, test)


def _at(place: str, test: Any) -> dict[str, Any]:
    if isinstance(test, dict) and "$or" in test:
        return {"$or": [_at(place, one) for one in test["$or"]]}
    if test is None:
        return {place: {"$type": "null"}}  # a missing key is another matter
    return {place: test}


def _sweeps(database, test: Any) -> list[str]:
    """Ids of sweeps by id, or by the file's name: then the latest of it."""
    names = test.get("$or", [test]) if isinstance(test, dict) else [test]
    if any(isinstance(name, dict) for name in names):
        raise UserError("sweep= takes names or ids, no range")
    found = []
    for name in map(str, names):
        known = find_sweep(database, name)
        if known is None and not database.runs.find_one({"meta.sweep.id": name}, {"_id": 1}):
            ids = database.sweeps.distinct("name") + database.sweeps.distinct("_id")
            raise UserError(f"no sweep {name}{did_you_mean(name, ids)}")
        found.append(known["_id"] if known else name)  # a sweep of W&B's own server is not ours
    return found


def _of_claim(database, claim: str, passed: bool) -> dict[str, Any]:
    """Runs at whose end, or at whose sweep's end for their seed, a claim came out so."""
    finding = {"claim": claim, "passed": passed}
    either: list[dict[str, Any]] = [{"info.claims": {"$elemMatch": finding}}]
    for sweep in database.sweeps.find({"claims.findings": {"$elemMatch": finding}}):
        seeds = [f["seed"] for f in sweep["claims"]["findings"] if finding.items() <= f.items()]
        of_seeds = {} if None in seeds else {"config.seed": {"$in": seeds}}
        either.append({"meta.sweep.id": sweep["_id"], **of_seeds})
    return {"$or": either}


def _moment(key: str, text: str) -> datetime:
    """A date, or date and time, in UTC unless it says another zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UserError(f"{key}={text}: expected a date, as 2026-11-21T12:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def value_of(text: str) -> Any:
    """A number, a truth value, None (`none`, `never`) or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return NAMED.get(text.lower(), text)


def _near(database, word: str) -> str:
    """What may have been meant by a word that meets no run."""
    key, _, value = word.partition("=")
    place = PLACES.get(key)
    if isinstance(place, str):
        return did_you_mean(value, map(str, database.runs.distinct(place)))
    if key in OWN:
        return ""
    part, _, name = key.rpartition(".")
    path = "result" if part == "result" else ".".join(["config", *([part] if part else [])])
    stages = [
        {"$project": {"pair": {"$objectToArray": f"${path}"}}},
        {"$unwind": "$pair"},
        {"$group": {"_id": "$pair.k"}},
    ]
    known = [one["_id"] for one in database.runs.aggregate(stages)] if path == "config" else []
    return "" if name in known else did_you_mean(name, [*known, *OWN])
