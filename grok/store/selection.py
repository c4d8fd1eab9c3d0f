"""Filters of stored runs, as in `experiment=liu_toy p=10 lr=1e-3..1e-2 seed=0,1,2`.

This is the one language for scripts, `grok store` and notebooks; a filter becomes a MongoDB query.
The report's page reads the same language (`grok/reports/page/front/selection.js`), and both are
tested with tests/store/selection_cases.json.

    filters  = filter { " " filter }          all of them hold
    filter   = KEY "=" test { "," test }      one of the tests holds
    test     = value | [low] ".." [high]      a range includes its ends
    value    = a Python literal, none, null, never, true, false, inf, nan, or a text

A value in brackets, as in betas=[0.9,0.98], is one list. A text in quotes is one value whatever it
contains, and so is a path, a text with a slash, even if it has two dots. The keys run, experiment, sweep, status,
tag, claim, since and until are about a run; result.KEY is of its result, and any other KEY is of its
config, dotted if it is nested. A RUNNING run that has had no heartbeat for a minute has the status
DEAD here.
"""

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from pymongo.database import Database

from grok.errors import UserError, did_you_mean
from grok.store.connection import find_sweep
from grok.store.documents import LARGEST_INTEGER, check_key
from grok.store.status import of_status
from grok.values import parse_value

RUN_KEYS = ("run", "experiment", "sweep", "status", "tag", "claim", "since", "until")
FIELDS = {
    "run": ("_id",),
    "experiment": ("experiment.name",),
    "sweep": ("meta.sweep.id",),
    "status": ("status",),
    "tag": ("meta.named_configs", "omniboard.tags"),
}
NAMED_VALUES = {
    **dict.fromkeys(("none", "null", "never"), None),
    "true": True,
    "false": False,
    "inf": math.inf,
    "-inf": -math.inf,
    "nan": math.nan,
}
QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
TOKEN = re.compile(rf"{QUOTED.pattern}|\[[^\[\]]*\]|.", re.DOTALL)
Query = dict[str, Any]


def select(database: Database, filters: Iterable[str] = (), **wanted: Any) -> Query:
    """The MongoDB query for the runs that meet all filters and all keywords.

    Arguments:
        database: the database of the runs; sweeps and claims are looked up in it.
        filters: texts KEY=VALUE in the language above.
        wanted: conditions by key. A value is one value, a list of alternatives, or a range
            (low, high) that includes its ends, None being open: `select(database,
            experiment="liu_toy", lr=(1e-3, None), seed=[0, 1])`. A nested key is given as
            `**{"task.p": 10}`.

    Raises:
        UserError: a text is no filter, or names a sweep that does not exist.
    """
    terms = [_filter_query(database, text) for text in filters]
    terms += [_key_query(database, key, _alternatives(value)) for key, value in wanted.items()]
    return {"$and": terms} if terms else {}


def of_sweeps(*ids: str) -> Query:
    """The MongoDB query for the runs of sweeps, by their ids.

    Runs that W&B's agents started have the id in another field than those of `grok sweep run`.
    """
    one_of_them = {"$in": [*ids]}
    return {"$or": [{"meta.sweep.id": one_of_them}, {"info.wandb.sweep": one_of_them}]}


def select_nonempty(database: Database, filters: Iterable[str]) -> tuple[Query, int]:
    """The MongoDB query for the filters, and how many runs meet it.

    Raises:
        UserError: no run meets the filters; it names the first that no run meets.
    """
    filters = list(filters)
    query = select(database, filters)
    count = database.runs.count_documents(query)
    if count:
        return query, count
    if not database.runs.find_one({}, {"_id": 1}):
        raise UserError("no run in the store yet")
    for text in filters:
        if not database.runs.find_one(select(database, [text]), {"_id": 1}):
            raise UserError(f"no run with {text}{_near_filter(database, text)}")
    raise UserError(f"no run with all of {' '.join(filters)}")


def _filter_query(database: Database, text: str) -> Query:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise UserError(f"{text}: expected KEY=VALUE, as experiment=liu_toy or p=10")
    if "\0" in text:
        raise UserError(f"{text!r}: no key or value has a null character")
    if key in ("since", "until", "claim"):
        return _key_query(database, key, [value])
    return _key_query(database, key, [_condition(part) for part in _split(value)])


def _split(text: str) -> list[str]:
    """The parts between commas outside of quotes and brackets."""
    parts = [""]
    for token in TOKEN.findall(text):
        if token == ",":
            parts.append("")
        else:
            parts[-1] += token
    return parts


def _condition(text: str) -> Any:
    """A value, a list of values, or a range as MongoDB's operators."""
    if text.startswith("[") and text.endswith("]"):
        items = text[1:-1]
        return [_value(item) for item in _split(items)] if items else []
    low, dots, high = text.partition("..")
    if not dots or "/" in text or QUOTED.fullmatch(text):
        return _value(text)
    return _range(_value(low) if low else None, _value(high) if high else None)


def _value(text: str) -> Any:
    """A value that a query can hold; other literals, as sets and tuples, stay text."""
    value = parse_value(text, NAMED_VALUES)
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise UserError(f"{text:.40}: no run has a number of more than 64 bits")
    return value if value is None or isinstance(value, bool | int | float | str) else text


def _alternatives(value: Any) -> list[Any]:
    """A keyword's value as a list of conditions."""
    if isinstance(value, tuple):
        return [_range(*value)]
    return value if isinstance(value, list) else [value]


def _range(low: Any, high: Any) -> Query:
    ends = {"$gte": low, "$lte": high}
    return {operator: end for operator, end in ends.items() if end is not None}


def _key_query(database: Database, key: str, conditions: list[Any]) -> Query:
    """The query for runs that meet one of the conditions on a key."""
    if key in ("since", "until"):
        (moment,) = conditions
        if not isinstance(moment, datetime):
            moment = _moment(key, str(moment))
        return {"start_time": {"$gte" if key == "since" else "$lt": moment}}
    if key == "claim":
        (claim,) = map(str, conditions)
        return _claim_query(database, claim.removeprefix("-"), not claim.startswith("-"))
    if key == "sweep":
        return of_sweeps(*_sweep_ids(database, conditions))
    if key == "status" and any(isinstance(one, dict) for one in conditions):
        raise UserError("status= takes names, no range")
    check_key(key)
    default = key if key.startswith("result.") else f"config.{key.removeprefix('config.')}"
    # a null matches null only: a missing key is another matter
    conditions = [{"$type": "null"} if one is None else one for one in conditions]
    if key == "status":
        terms = [of_status(one) for one in conditions]
    else:
        terms = [{field: one} for field in FIELDS.get(key, (default,)) for one in conditions]
    return terms[0] if len(terms) == 1 else {"$or": terms}


def _sweep_ids(database: Database, conditions: list[Any]) -> list[str]:
    """Ids of sweeps given by id, or by their file's name, which means the latest of it."""
    if any(isinstance(one, dict) for one in conditions):
        raise UserError("sweep= takes names or ids, no range")
    ids = []
    for name in map(str, conditions):
        sweep = find_sweep(database, name)
        # a sweep of W&B's own server is known by its runs only
        if sweep is None and not database.runs.count_documents(of_sweeps(name)):
            known = database.sweeps.distinct("name") + database.sweeps.distinct("_id")
            raise UserError(f"no sweep {name}{did_you_mean(name, known)}")
        ids.append(sweep["_id"] if sweep else name)
    return ids


def _claim_query(database: Database, claim: str, passed: bool) -> Query:
    """The query for runs at whose end, or at whose sweep's end for their seed, a claim passed."""
    finding = {"claim": claim, "passed": passed}
    # Earlier versions stored findings that a run did not decide alone, too, with the reason.
    decided_alone = {**finding, "why": None}
    terms: list[Query] = [{"info.claims": {"$elemMatch": decided_alone}}]
    for sweep in database.sweeps.find({"claims.findings": {"$elemMatch": finding}}):
        seeds = [f["seed"] for f in sweep["claims"]["findings"] if finding.items() <= f.items()]
        of_seeds = {} if None in seeds else {"config.seed": {"$in": seeds}}
        terms.append({**of_sweeps(sweep["_id"]), **of_seeds})
    return {"$or": terms}


def _moment(key: str, text: str) -> datetime:
    """A date, or a date and time, in UTC unless it names another time zone."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{key}={text}: expected a date, as 2026-11-21T12:00") from error


def _near_filter(database: Database, text: str) -> str:
    """`; did you mean X?` for a filter that no run meets."""
    key, _, value = text.partition("=")
    fields = FIELDS.get(key, ())
    if len(fields) == 1:
        return did_you_mean(value, map(str, database.runs.distinct(fields[0])))
    key = key.removeprefix("config.")
    if key in RUN_KEYS or "." in key:
        return ""
    keys_of_configs: list[Query] = [
        {"$project": {"pair": {"$objectToArray": "$config"}}},
        {"$unwind": "$pair"},
        {"$group": {"_id": "$pair.k"}},
    ]
    known = [group["_id"] for group in database.runs.aggregate(keys_of_configs)]
    return "" if key in known else did_you_mean(key, [*known, *RUN_KEYS])
