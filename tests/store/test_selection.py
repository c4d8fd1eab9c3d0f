"""Which runs filters select."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from grok.errors import UserError
from grok.store import selection
from tests.store.selection_cases import FilterCases, fill, ids


@pytest.fixture(scope="module")
def database(store):
    database = replace(store, db_name="selection").database
    fill(database)
    yield database
    store.client.drop_database("selection")


class TestFiltersInMongoDB(FilterCases):
    """The shared cases, in MongoDB."""


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ("lr=1e-3..1e-2", {"lr": (1e-3, 1e-2)}),
        ("lr=0.01..", {"lr": (0.01, None)}),
        ("lr=0.01.. seed=1,2", {"lr": (0.01, None), "seed": [1, 2]}),
        ("norm=none", {"norm": None}),
        ("model.width=128", {"model.width": 128}),
        ("sweep=rates", {"sweep": "rates"}),
        ("tag=odd,small", {"tag": ["odd", "small"]}),
        ("claim=-c3", {"claim": "-c3"}),
        ("since=2026-01-02", {"since": datetime(2026, 1, 2, tzinfo=UTC)}),
        ("until=2026-01-02", {"until": "2026-01-02"}),
    ],
)
def test_keywords_select_what_filters_select(database, filters, wanted):
    selected = ids(database, **wanted)
    assert selected and selected == ids(database, *filters.split())


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ("p", "p: expected KEY=VALUE"),
        ("=1", "=1: expected KEY=VALUE"),
        ("p\0=1", "'p\\x00=1': no key or value"),
        ("p=99999999999999999999", "99999999999999999999: no run has"),
        ("p=-9223372036854775809..1", "-9223372036854775809: no run has"),
        ("since=0001-01-01T00:00+14:00", "since=0001-01-01T00:00+14:00: expected a date"),
        ("sweep=s_1", "no sweep s_1; did you mean s-1?"),
        ("experiment=liu_toi", "no run with experiment=liu_toi; did you mean liu_toy?"),
        ("operatoin=x_plus_y", "no run with operatoin=x_plus_y; did you mean operation?"),
        ("config.operatoin=1", "no run with config.operatoin=1; did you mean operation?"),
        ("run=1 seed=3", "no run with all of run=1 seed=3"),
    ],
)
def test_what_selects_no_run_is_an_error_with_a_near_match(database, filters, message):
    with pytest.raises(UserError) as caught:
        selection.select_nonempty(database, filters.split())
    assert str(caught.value).startswith(message)


def test_the_number_of_selected_runs(database):
    assert selection.select_nonempty(database, ["experiment=liu_toy"])[1] == 3


def test_an_empty_store_says_so(store):
    with pytest.raises(UserError, match="no run in the store yet"):
        selection.select_nonempty(replace(store, db_name="nothing_here").database, ["p=1"])
