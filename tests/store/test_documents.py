"""Values, names and output that would not fit into one MongoDB document are stored whole."""

import math

import numpy as np
import pytest
import sacred

from grok.analysis import query
from grok.errors import UserError
from grok.experiment.repeat import logged_values
from grok.reports.page.curves import curves_of
from grok.store import connection, documents
from grok.store.observer import DurableObserver

CONFIG = {"train_steps": 20, "p": 5, "seed": 1, "log_points": 20}


def recorded(store, main, size=1) -> int:
    """The id of a run of a small Sacred experiment, whose function is given its run."""
    experiment = sacred.Experiment("small", save_git_info=False)
    experiment.observers.append(DurableObserver(store))
    experiment.add_config(size=size)

    @experiment.main
    def _(_run):
        main(_run)

    return experiment.run(options={"--capture": "sys"})._id


def test_every_reader_joins_the_parts_of_a_metric(liu_toy, store, monkeypatch):
    """The same run in one document per metric, and in parts of 7 values, reads the same."""
    whole = liu_toy.run(config_updates=CONFIG)._id
    monkeypatch.setattr(documents, "VALUES_PER_PART", 7)
    split = liu_toy.run(config_updates=CONFIG)._id

    found = list(store.database.metrics.find({"run_id": split, "name": "test_loss"}))
    assert [(one["part"], len(one["steps"])) for one in found] == [(0, 7), (1, 7), (2, 1)]
    assert logged_values(store, split) == logged_values(store, whole)
    tables = [query.wide(query.metrics(store, [run])).droplevel("run") for run in (whole, split)]
    assert len(tables[0]) == 15 and tables[0].equals(tables[1][tables[0].columns])
    curves = curves_of(store.database, [whole, split])[1]["curves"]
    assert curves[0] == curves[1]
    ids = {"_id": {"$in": [whole, split]}}
    first, second = (one.metrics["test_loss"] for one in query.experiments(store, ids))
    assert first.equals(second)


@pytest.mark.parametrize("count", [0, 1, 6, 7, 8, 14, 15])
def test_parts_are_full_but_the_last_and_lose_nothing(monkeypatch, count):
    """Whatever the sizes of the batches in which the values come."""
    monkeypatch.setattr(documents, "VALUES_PER_PART", 7)
    for batch in (1, 2, 5, 15):
        splitter, parts = documents.Splitter(), {}
        for start in range(0, count, batch):
            values = list(range(start, min(start + batch, count)))
            for document in splitter.split("x", dict.fromkeys(documents.COLUMNS, values)):
                parts.setdefault(document.get("part", 0), []).extend(document["values"])
        assert [value for part in sorted(parts) for value in parts[part]] == list(range(count))
        assert all(len(parts[part]) == 7 for part in sorted(parts)[:-1])


def test_numbers_and_names_that_bson_does_not_have(store):
    values = {"a.b": math.nan, "$c": math.inf, "d\0e": 2**70, "f": -math.inf, "": 2**63 - 1}

    def main(run):
        for name, value in values.items():
            run.log_scalar(name, value, 0)
        run.info["nested"] = {"g.h": 2**70, "$i": [1, -(2**64)], "j\0k": 1}

    number = recorded(store, main)
    table = query.metrics(store, [number])
    stored = dict(zip(table["metric"], table["value"], strict=True))
    assert {name: repr(float(value)) for name, value in values.items()} == {
        name: repr(float(value)) for name, value in stored.items()
    }
    run = connection.find_run(store.database, number)
    assert run["status"] == "COMPLETED"
    assert run["info"]["nested"] == {"g.h": str(2**70), "$i": [1, str(-(2**64))], r"j\0k": 1}


def test_long_output_is_a_file_and_its_end_is_in_the_document(store, monkeypatch):
    monkeypatch.setattr(documents, "OUTPUT_IN_DOCUMENT", 100)
    text = "".join(f"line {i}\n" for i in range(100))
    number = recorded(store, lambda run: print(text, end=""))
    shown = connection.find_run(store.database, number)["captured_out"]
    assert shown.startswith("[the beginning is in the file captured_out.txt]")
    assert shown.splitlines()[-1] == "line 99" and len(shown) < 200
    assert connection.artifact(store.database, number, "captured_out.txt").decode() == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [(2**64, "8-byte ints"), (["x" * 1000] * 2000, "no room"), ({"a\0": 1}, "NULL")],
)
def test_a_configuration_that_cannot_be_stored_is_refused_before_the_run(store, value, reason):
    runs = store.database.runs.count_documents({})
    with pytest.raises(UserError, match=f"^size=.*{reason}"):
        recorded(store, lambda run: pytest.fail("it has started"), size=value)
    assert store.database.runs.count_documents({}) == runs


def test_many_metrics_are_all_stored(store):
    names = [f"m{i}" for i in range(2000)]

    def main(run):
        for name in names:
            run.log_scalar(name, 1.0, 0)

    table = query.metrics(store, [recorded(store, main)])
    assert set(table["metric"]) == set(names) and np.all(table["value"] == 1.0)


def test_a_truth_value_is_logged_as_a_number(store):
    """No archive with the run could be read: the values of a metric are numbers."""
    assert documents.numbers([True, False, 2]) == [1.0, 0.0, 2]
    assert not any(isinstance(value, bool) for value in documents.numbers([True, False]))


def test_a_configuration_that_no_archive_can_have_is_refused():
    """A run with it would be left out of every backup."""
    value: dict = {}
    for _ in range(60):
        value = {"a": value}
    with pytest.raises(UserError, match=r"^options=.*: an archive cannot have a document that is"):
        documents.check_storable({"options": value})
    documents.check_storable({"options": {"a": [1, {"b": (2, None)}]}})
