"""The report: a page of its own, opened in a browser."""

import math
import re
from dataclasses import replace

import pytest

from benchmarks import synthetic
from grok.reports import page as report
from grok.reports.page import values
from tests.reports.hostile import SCRIPT, fill_hostile
from tests.store.selection_cases import CASES, fill


@pytest.fixture(scope="module")
def made(store):
    made = replace(store, db_name="report")
    synthetic.fill(made.database, 100, steps=30)
    made.database.runs.update_many({"_id": {"$lte": 20}}, {"$set": {"meta.sweep": {"id": "s-1"}}})
    made.database.metrics.update_one(
        {"run_id": 7, "name": "test_loss"},
        {"$set": {"values.3": float("nan"), "values.4": float("inf")}},
    )
    made.database.runs.update_one({"_id": 8}, {"$set": {"status": "RUNNING", "result": None}})
    made.database.metrics.delete_many({"run_id": 9})
    made.database.runs.update_one(
        {"_id": 60}, {"$unset": {"start_time": "", "meta": "", "config": ""}}
    )
    made.database.sweeps.insert_one(
        {
            "_id": "s-1",
            "name": "rates",
            "experiment": "liu_toy",
            "seconds": 3.0,
            "created": synthetic.datetime(2026, 1, 1),
            "config": {
                "parameters": {
                    "decoder_lr": {"values": [1, 2]},
                    "seed": {"values": [1, 2]},
                    "p": {"value": 10},
                }
            },
        }
    )
    yield made
    store.client.drop_database("report")


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert report.write(made, {}, path, []) == 100
    return path


def test_the_page_asks_for_nothing_outside_itself(page):
    text = page.read_text()
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:|[$][{])', text)
    assert text.count("</script>") == 4


def test_a_run_s_command_repeats_it():
    run = {
        "experiment": {
            "mainfile": "experiments/power.py",
            "repositories": [{"commit": "a" * 40, "dirty": False}],
        },
        "meta": {"named_configs": ["cpu"], "config_updates": {"operation": "a**2 + b", "p": 31}},
        "config": {"seed": 5},
    }
    assert values.command_of(run) == (
        "git checkout aaaaaaaaaaaa\n"
        "python experiments/power.py with cpu operation='a**2 + b' p=31 seed=5"
    )


def test_long_curves_are_thinned_but_keep_their_ends():
    kept = values.thinned(1000, 50)(list(range(1000)))
    assert kept[0] == 0 and kept[-1] == 999 and len(kept) == 50
    assert values.thinned(7, 50)(list(range(7))) == tuple(range(7))


def test_curves_are_text_with_nothing_where_there_is_no_finite_number():
    """The page draws a gap there; a number has the four digits that a plot can show."""
    assert values.numbers_text([0.123456, 1e-9, 123456.0]) == "0.1235,1e-09,1.235e+05"
    logged = [0.5, math.nan, math.inf, None, "<b>", 3]
    assert values.numbers_text(logged) == "0.5,,,,,3"


def test_a_sparkline_keeps_the_ends_and_the_range_of_accuracies():
    """24 characters from A (0) to / (1), however long the curve."""
    for count in (1, 5, 24, 1000):
        assert values.sparkline([0.0] * (count - 1) + [1.0])[-1] == "/"
        assert len(values.sparkline([0.5] * count)) == 24
    assert values.sparkline([math.nan, 2.0, -1.0])[::23] == "AA"
    assert values.sparkline([]) == ""


def test_the_page_selects_the_runs_that_the_store_selects(store, browser, tmp_path):
    cases = replace(store, db_name="report_cases")
    fill(cases.database)
    path = tmp_path / "report.html"
    report.write(cases, {}, path, [])
    store.client.drop_database("report_cases")
    tab = browser.new_page()
    tab.goto(f"{path.as_uri()}#runs")
    tab.wait_for_selector("#filter")
    code = "query => selectRows(query).map(row => data.runs.run[row])"
    for filters, expected in CASES["cases"]:
        assert sorted(tab.evaluate(code, filters), key=str) == expected, filters
    for filters, message in CASES["errors"]:
        tab.fill("#filter", filters)
        assert tab.inner_text("#count").startswith(message)
    tab.fill("#filter", "GROKK liu_")  # text of the row, in any case
    assert [row.get_attribute("data-run") for row in tab.query_selector_all(".row.body")] == ["1"]
    tab.close()


def test_in_a_browser_the_table_is_filtered_and_a_run_opened(page, made, browser):
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    wrong, asked = [], []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{page.as_uri()}#runs")
    tab.wait_for_selector("#filter")
    assert tab.inner_text("#count") == "100 of 100 runs"
    tab.fill("#filter", "seed=3 run=..50")
    assert tab.inner_text("#count") == "5 of 100 runs"
    runs = [row.get_attribute("data-run") for row in tab.query_selector_all(".row.body")]
    assert runs == ["44", "34", "24", "14", "4"]
    tab.click(".head span[data-key=run]")  # upward
    tab.click(".row.body")
    tab.wait_for_selector("#losses .main-svg")
    assert tab.inner_text("h2").startswith("Run 4: liu_toy")
    rate = made.database.runs.find_one({"_id": 4})["config"]["decoder_lr"]
    assert f"with cpu decoder_lr={rate} seed=3\ngrok repeat 4" in tab.inner_text("pre")
    for run in (60, 7, 8, 9):  # hardly a run, not finite, still running, nothing logged
        tab.goto(f"{page.as_uri()}#run={run}")
        tab.wait_for_selector(f"h2:has-text('Run {run}:')")
    tab.wait_for_selector("#accuracies :text('not logged')")
    tab.goto(f"{page.as_uri()}#sweep=s-1")
    tab.wait_for_selector("#phases .main-svg")
    assert "20 runs" in tab.inner_text("h2")
    tab.close()
    assert wrong == [] and {url.split("#")[0] for url in asked} <= {page.as_uri()}


def test_scripts_in_every_text_of_the_store_are_shown_and_not_executed(store, browser, tmp_path):
    """Runs and sweeps may come from anywhere, and a report is opened by other people."""
    hostile = replace(store, db_name="report_hostile")
    fill_hostile(hostile.database)
    path = tmp_path / "report.html"
    assert report.write(hostile, {}, path, []) == 3
    store.client.drop_database("report_hostile")
    tab = browser.new_page()
    called, wrong = [], []
    tab.expose_function("hacked", lambda: called.append(tab.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    for page, shown in (
        ("papers", "h2"),
        ("sweeps", "td a"),
        ("runs", ".row.body"),
        ("run=1", "pre"),
    ):
        tab.goto("about:blank")
        tab.goto(f"{path.as_uri()}#{page}")
        tab.wait_for_selector(shown)
        if page == "runs":
            assert SCRIPT in tab.inner_text(".row.body >> nth=0")
        if page == "run=1":
            tab.wait_for_selector("#accuracies .main-svg")
            tab.click("#others summary")
            tab.wait_for_selector("#other0 .main-svg")
            assert SCRIPT in tab.inner_text("h2")
    tab.goto("about:blank")
    tab.goto(f"{path.as_uri()}#sweeps")
    tab.click("td a")
    tab.wait_for_selector("#phases .main-svg")
    tab.wait_for_timeout(200)  # an image that cannot be loaded takes a moment to fail
    tab.close()
    assert (called, wrong) == ([], [])
