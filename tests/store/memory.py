"""A database in memory that answers the queries of `grok.store.selection` as MongoDB does.

It knows the operators that these queries use and no other, and refuses the rest. The cases in
selection_cases.json hold in MongoDB (test_selection.py) and here (test_selection_queries.py).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Document = dict[str, Any]


class Database:
    """The collections that filters look into."""

    def __init__(self, runs: Iterable[Document] = (), sweeps: Iterable[Document] = ()) -> None:
        self.runs = Collection(runs)
        self.sweeps = Collection(sweeps)


class Collection:
    """Documents, and pymongo's methods that read them."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents = list(documents)

    def find(self, query: Document | None, projection: object = None) -> list[Document]:
        return [one for one in self.documents if matches(one, query or {})]

    def find_one(
        self,
        query: Document | None,
        projection: object = None,
        sort: Iterable[tuple[str, int]] = (),
    ) -> Document | None:
        found = self.find(query)
        for key, direction in sort:
            found.sort(key=lambda one: one[key], reverse=direction < 0)
        return found[0] if found else None

    def count_documents(self, query: Document) -> int:
        if not isinstance(query, Mapping):
            raise TypeError("a query is a mapping")
        return len(self.find(query))

    def distinct(self, key: str) -> list[Any]:
        values = [value for one in self.documents for value in values_at(one, key)]
        return [value for i, value in enumerate(values) if value not in values[:i]]

    def aggregate(self, pipeline: list[Document]) -> list[Document]:
        """Of `$project` by `$objectToArray`, `$unwind` and `$group` by one key."""
        rows: list[Document] = self.documents
        for stage in pipeline:
            ((operator, argument),) = stage.items()
            rows = STAGES[operator](rows, argument)
        return rows


def _project(rows: list[Document], argument: Document) -> list[Document]:
    ((name, expression),) = argument.items()
    path = _path(expression["$objectToArray"])
    return [
        {name: [{"k": k, "v": v} for k, v in value.items()]}
        for row in rows
        for value in values_at(row, path)
    ]


def _unwind(rows: list[Document], argument: str) -> list[Document]:
    name = _path(argument)
    return [{**row, name: item} for row in rows for item in row.get(name, [])]


def _group(rows: list[Document], argument: Document) -> list[Document]:
    if set(argument) != {"_id"}:
        raise NotImplementedError("MongoDB wants the key _id")
    path = _path(argument["_id"])
    return [{"_id": value} for value in {value for row in rows for value in values_at(row, path)}]


STAGES: dict[str, Callable[[list[Document], Any], list[Document]]] = {
    "$project": _project,
    "$unwind": _unwind,
    "$group": _group,
}


def _path(expression: str) -> str:
    if not expression.startswith("$"):
        raise NotImplementedError(f"{expression}: a path starts with $")
    return expression[1:]


def matches(document: Document, query: Document) -> bool:
    """Whether a document meets a query."""
    for key, condition in query.items():
        if key == "$and":
            met = all(matches(document, one) for one in condition)
        elif key == "$or":
            met = any(matches(document, one) for one in condition)
        elif key == "$expr":
            met = bool(computed(document, condition))
        elif key.startswith("$"):
            raise NotImplementedError(key)
        else:
            values = list(values_at(document, key))
            is_missing = condition is None and not values  # a plain null matches that too
            met = is_missing or any(_meets(value, condition) for value in values)
        if not met:
            return False
    return True


def computed(document: Document, expression: Any) -> Any:
    """The value of an expression; of the fields, those at the top and dotted ones of one value."""
    if expression == "$$NOW":
        return datetime.now(UTC)
    if isinstance(expression, str) and expression.startswith("$"):
        return next(values_at(document, _path(expression)), None)
    if not isinstance(expression, dict):
        return expression
    ((operator, argument),) = expression.items()
    if operator == "$not":
        return not computed(document, argument)
    if operator == "$convert":  # to a date, what is one
        value = computed(document, argument["input"])
        return _in_utc(value) if isinstance(value, datetime) else None
    first, second = (computed(document, one) for one in argument)
    if operator == "$ifNull":
        return second if first is None else first
    if operator == "$subtract":
        return None if first is None or second is None else 1000 * (first - second).total_seconds()
    if operator == "$gt":  # null is less than any number
        return first is not None and first > second
    raise NotImplementedError(operator)


def values_at(document: Document, path: str) -> Iterator[Any]:
    """The value at a dotted path, and each item if it is a list; nothing if the path is missing."""
    value: Any = document
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            return
        value = value[part]
    yield value
    if isinstance(value, list):
        yield from value


def _meets(value: Any, condition: Any) -> bool:
    if isinstance(condition, dict) and any(key.startswith("$") for key in condition):
        return all(OPERATORS[operator](value, one) for operator, one in condition.items())
    return _equal(value, condition)


def _kind(value: Any) -> str:
    """Values of different kinds are never equal, and no range contains both."""
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, int | float) else type(value).__name__


def _equal(a: Any, b: Any) -> bool:
    if _kind(a) != _kind(b):
        return False
    if _kind(a) == "number" and math.isnan(a):
        return math.isnan(b)
    return a == b


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(value: Any, end: Any) -> bool:
        return _kind(value) == _kind(end) and compare(_in_utc(value), _in_utc(end))

    return test


def _in_utc(value: Any) -> Any:
    """A time without a time zone is in UTC, as MongoDB stores it."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=UTC)
    return value


def _is_of_type(value: Any, name: str) -> bool:
    if name != "null":
        raise NotImplementedError(name)
    return value is None


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$in": lambda value, options: any(_equal(value, option) for option in options),
    "$gte": _ordered(lambda a, b: a >= b),
    "$lte": _ordered(lambda a, b: a <= b),
    "$lt": _ordered(lambda a, b: a < b),
    "$type": _is_of_type,
    "$elemMatch": lambda value, query: isinstance(value, dict) and matches(value, query),
}
