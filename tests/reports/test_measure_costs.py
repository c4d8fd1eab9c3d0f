"""`grok measures`: every measure is listed, and what it costs in an experiment."""

from click.testing import CliRunner

from grok.cli import main, report
from grok.engine.instruments import MEASURES
from grok.reports import measure_costs
from tests.conftest import PROJECT


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


def test_an_experiment_s_own_instruments_are_found(monkeypatch):
    """They were unknown: `grok measures neurons` asked whether `norms` was meant."""
    folder = PROJECT / "grok" / "new_project" / "experiments"
    monkeypatch.setattr(report, "experiment_names", lambda: ["parity"])
    for module in (report, measure_costs):
        monkeypatch.setattr(module, "experiment_file", lambda name: folder / f"{name}.py")
    shown = CliRunner().invoke(main, ["measures", "neurons"])
    assert shown.exit_code == 0
    assert "neurons: how many hidden neurons have weights that matter" in shown.output
    assert "groups: own (parity), observers, full" in shown.output
    assert "measure_options.neurons.every=VALUE" in shown.output
    table = measure_costs.measures_table(
        measure_costs.own_measures("neurons", {"neurons": ["parity"]})
    )
    assert (cells(table, 0)[-1], cells(table, 1)[-1]) == ("neurons", "own (parity)")
    wrong = CliRunner().invoke(main, ["measures", "neuron"])
    assert wrong.exit_code == 2 and "did you mean neurons?" in str(wrong.output) + str(
        wrong.exception
    )
