"""The cases of the filter language, which hold in Python and in the report's page."""

from pathlib import Path

import pytest
from bson import json_util
from pymongo.database import Database

from grok.errors import UserError
from grok.store import selection

CASES = json_util.loads((Path(__file__).with_suffix(".json")).read_text())


def fill(database: Database) -> None:
    """Insert the runs and sweeps of the cases."""
    database.runs.insert_many(CASES["runs"])
    database.sweeps.insert_many(CASES["sweeps"])


def ids(database, *filters, **wanted) -> list:
    """The ids of the runs that filters select, sorted."""
    query = selection.select(database, filters, **wanted)
    return sorted((run["_id"] for run in database.runs.find(query, {"_id": 1})), key=str)


class FilterCases:
    """The tests of the cases, for modules whose fixture `database` holds these runs and sweeps."""

    @pytest.mark.parametrize(("filters", "expected"), CASES["cases"])
    def test_filters(self, database, filters, expected):
        """The cases also hold in the report's page."""
        assert ids(database, *filters.split()) == expected

    @pytest.mark.parametrize(("filters", "message"), CASES["errors"])
    def test_what_is_no_filter_is_an_error(self, database, filters, message):
        """A wrong filter must not select everything, or nothing, in silence."""
        with pytest.raises(UserError) as caught:
            selection.select(database, filters.split())
        assert str(caught.value).startswith(message)
