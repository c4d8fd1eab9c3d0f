"""The cases of the filter language, which hold in Python and in the report's page."""

from pathlib import Path

from bson import json_util
from pymongo.database import Database

CASES = json_util.loads((Path(__file__).with_suffix(".json")).read_text())


def fill(database: Database) -> None:
    """Insert the runs and sweeps of the cases."""
    database.runs.insert_many(CASES["runs"])
    database.sweeps.insert_many(CASES["sweeps"])
