"""`grok measures`: every measure is listed, and what it costs in an experiment."""

from grok.engine.instruments import MEASURES
from grok.reports import measure_costs


def cells(table, column: int) -> list[str]:
    return list(table.columns[column].cells)


def test_every_measure_is_listed_with_what_it_is():
    table = measure_costs.measures_table()
    assert cells(table, 0) == [measure.name for measure in MEASURES]
    assert all(cells(table, 3))


def test_a_profile_times_the_measures_that_the_experiment_can_take():
    table = measure_costs.profile("liu_toy", ())
    names = cells(table, 0)
    assert names and set(names) <= {measure.name for measure in MEASURES}
    assert all(int(count) > 0 for count in cells(table, 1))
    assert all(float(milliseconds) >= 0 for milliseconds in cells(table, 2))
    assert " without measures" in table.caption
