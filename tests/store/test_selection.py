"""Which runs the words of a selection mean."""

from dataclasses import replace

import pytest

from benchmarks import synthetic
from grok.errors import UserError
from grok.store import selection


@pytest.fixture(scope="module")
def database(store):
    made = replace(store, db_name="selection").database
    synthetic.fill(made, 40, steps=8)
    made.runs.update_many({"_id": {"$lte": 4}}, {"$set": {"meta.sweep": {"id": "s-1"}}})
    made.runs.update_one({"_id": 7}, {"$set": {"omniboard": {"tags": ["odd"]}}})
    made.runs.update_one({"_id": 8}, {"$set": {"result.steps_to_test": None, "status": "FAILED"}})
    made.runs.update_one({"_id": 10}, {"$set": {"result": None}})
    passed = [{"claim": "c1", "passed": True}, {"claim": "c2", "passed": False}]
    made.runs.update_one({"_id": 9}, {"$set": {"info.claims": passed}})
    findings = [{"claim": "c3", "passed": seed == 2, "seed": seed} for seed in range(4)]
    made.sweeps.insert_one(
        {"_id": "s-1", "name": "s", "created": 1, "claims": {"findings": findings}}
    )
    made.sweeps.insert_one({"_id": "s-0", "name": "s", "created": 0})
    yield made
    store.client.drop_database("selection")


def ids(database, *words, **wanted) -> list[int]:
    found = database.runs.find(selection.select(database, words, **wanted), {"_id": 1})
    return sorted(run["_id"] for run in found)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run=3,5,38.."], [3, 5, 38, 39, 40]),
        (["seed=3"], [4, 14, 24, 34]),
        (["seed=3", "run=..20"], [4, 14]),
        (["config.seed=3,4", "run=10..20"], [14, 15]),
        (["sweep=s"], [1, 2, 3, 4]),
        (["sweep=s-1", "seed=0"], [1]),
        (["tag=odd"], [7]),
        (["tag=cpu", "run=1,2"], [1, 2]),
        (["status=FAILED"], [8]),
        (["result.steps_to_test=never"], [8]),
        (["result.steps_to_test=never,none"], [8]),  # not the run that has no result
        (["claim=c1"], [9]),
        (["claim=-c2"], [9]),
        (["claim=c3"], [3]),
        (["since=2026-01-01T00:35"], [36, 37, 38, 39, 40]),
        (["until=2026-01-01T00:02"], [1, 2]),
        (["experiment=liu_toy", "run=1"], [1]),
    ],
)  # fmt: skip
def test_words(database, words, expected):
    assert ids(database, *words) == expected


def test_ranges_hold_on_both_ends_and_keywords_say_the_same(database):
    rates = {run["_id"]: run["config"]["decoder_lr"] for run in database.runs.find()}
    low, high = sorted(rates.values())[5], sorted(rates.values())[20]
    expected = sorted(run for run, rate in rates.items() if low <= rate <= high)
    assert ids(database, f"decoder_lr={low}..{high}") == expected
    assert ids(database, decoder_lr=(low, high)) == expected
    assert ids(database, decoder_lr=(high, None), seed=[1, 2]) == sorted(
        run for run, rate in rates.items() if rate >= high and run % 10 in (2, 3)
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["p"], "p: expected KEY=VALUE"),
        (["since=yesterday"], "since=yesterday: expected a date"),
        (["sweep=a..b"], "sweep= takes names or ids, no range"),
        (["sweep=s_1"], "no sweep s_1; did you mean s-1?"),
        (["experiment=liu_toi"], "no run with experiment=liu_toi; did you mean liu_toy?"),
        (["decoder_lrr=1"], "no run with decoder_lrr=1; did you mean decoder_lr?"),
        (["run=1", "seed=5"], "no run with all of run=1 seed=5"),
    ],
)
def test_what_meets_nothing_is_one_line_with_a_near_match(database, words, says):
    with pytest.raises(UserError) as caught:
        selection.chosen(database, words)
    assert str(caught.value).startswith(says)


def test_an_empty_store_says_so(store):
    with pytest.raises(UserError, match="no run in the store yet"):
        selection.chosen(replace(store, db_name="nothing_here").database, ["p=1"])
