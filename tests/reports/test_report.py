"""The report: a page of its own, opened in a browser."""

import math
import re
from dataclasses import replace
from urllib.parse import quote

import pytest

from benchmarks import synthetic
from grok.errors import UserError
from grok.reports.page import report, values
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
    by_agent = {"$unset": {"meta.sweep": ""}, "$set": {"info.wandb": {"run": "r", "sweep": "s-1"}}}
    made.database.runs.update_many({"_id": {"$in": [18, 19, 20]}}, by_agent)  # as `wandb agent`
    made.database.runs.update_one({"_id": 19}, {"$set": {"status": "FAILED"}})
    made.database.runs.update_one(
        {"_id": 60}, {"$unset": {"start_time": "", "meta": "", "config": ""}}
    )
    made.database.sweeps.insert_one(
        {
            "_id": "s-1",
            "name": "rates",
            "experiment": "liu_toy",
            "seconds": 3.0,
            "map": {},
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


def details(store, sweep):
    """What is known of a map with one cell that was not run."""
    predicted = [{"slice": 0, "x": 0.5, "y": 77, "phase": "grokking"}]
    axes = {"x": "decoder_lr", "y": "seed", "slices": [{}]}
    return {"map": {**axes, "predicted": predicted, "said": [f"a map of {sweep}"]}, "tasks": []}


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert report.write(made, {}, path, [], details) == 100
    return path


def test_the_page_asks_for_nothing_outside_itself(page):
    text = page.read_text()
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="(?!data:|[$][{])', text)
    assert text.count("</script>") == 7


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


def test_a_duration_is_whole_minutes_and_less_than_60_seconds(page, browser):
    """119.7 s were "1 min 60 s"."""
    tab = browser.new_page()
    tab.goto(page.as_uri())
    code = "async seconds => (await import('grok/dom.js')).duration(seconds)"
    said = [tab.evaluate(code, seconds) for seconds in (9.5, 59.7, 119.7, 125.2, 36000)]
    tab.close()
    assert said == ["9.5 s", "1 min 0 s", "2 min 0 s", "2 min 5 s", "10 h"]


def test_the_page_selects_the_runs_that_the_store_selects(store, browser, tmp_path):
    cases = replace(store, db_name="report_cases")
    fill(cases.database)
    path = tmp_path / "report.html"
    report.write(cases, {}, path, [])
    store.client.drop_database("report_cases")
    tab = browser.new_page()
    tab.goto(f"{path.as_uri()}#runs")
    tab.wait_for_selector(".tabulator-row")
    code = """async filters => {
        const source = await (await import("grok/stored.js")).open();
        return (await source.runs({filters, columns: ["run"], limit: 1000})).rows.map(([run]) => run);
    }"""
    for filters, expected in CASES["cases"]:
        assert sorted(tab.evaluate(code, filters), key=str) == expected, filters
    for filters, message in CASES["errors"]:
        tab.fill("#filter", filters)
        tab.wait_for_function(
            "message => document.querySelector('#count.error')?.textContent.startsWith(message)",
            arg=message,
        )
    tab.close()


def test_in_a_browser_the_table_is_filtered_and_a_run_opened(page, made, browser):
    """The report is the live page with its data inside it: the same table, runs and sweeps."""
    tab = browser.new_page(viewport={"width": 1300, "height": 900})
    wrong, asked = [], []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(f"{page.as_uri()}#runs")
    tab.wait_for_selector(".tabulator-row")
    assert tab.inner_text("#count") == "100 runs"
    tab.fill("#filter", "seed=3 run=..50")
    tab.wait_for_selector("#count:has-text('5 runs')")
    runs = tab.locator(".tabulator-row [tabulator-field=run]").all_inner_texts()
    assert runs == ["44", "34", "24", "14", "4"]
    tab.click(".heading:has-text('run')")  # upward
    tab.wait_for_selector(".tabulator-row:first-child a:has-text('4')")
    tab.click(".tabulator-row:first-child [tabulator-field=run] a")
    tab.wait_for_selector("[data-group=loss] .main-svg")
    assert tab.inner_text("h2").startswith("Run 4: liu_toy")
    rate = made.database.runs.find_one({"_id": 4})["config"]["decoder_lr"]
    commands = tab.locator("pre").all_inner_texts()
    assert f"with cpu decoder_lr={rate} seed=3" in commands[0] and "grok repeat 4" in commands
    assert tab.locator("tr.differs th").all_inner_texts() == ["decoder_lr"]
    for run in (60, 7, 8, 9):  # hardly a run, not finite, still running, nothing logged
        tab.goto(f"{page.as_uri()}#run/{run}")
        tab.wait_for_selector(f"h2:has-text('Run {run}:')")
    tab.goto(f"{page.as_uri()}#sweep/s-1")
    tab.wait_for_selector("[aria-label^=diagram] .main-svg")
    progress = "18 finished, 1 stopped, 1 failed of 20 points"  # those of `wandb agent` as well
    assert progress in tab.inner_text(".progress")
    tab.wait_for_selector("li:has-text('a map of s-1')")
    tab.wait_for_selector(".legend:has-text('predicted, not run')")  # as on the live page
    tab.goto(f"{page.as_uri()}#compare?f=run%3D1..4")
    tab.wait_for_selector("h2:has-text('Compare 4 runs')")
    tab.goto(f"{page.as_uri()}#runs?g=seed")
    tab.wait_for_selector("#table td a")
    tab.goto(f"{page.as_uri()}#papers")
    tab.wait_for_selector("section[data-name=liu_toy]")
    tab.close()
    assert wrong == [] and {url.split("#")[0] for url in asked if not url.startswith("data:")} <= {
        page.as_uri()
    }


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
    for place, shown in (
        ("papers", "h2"),
        ("sweeps", "td a"),
        ("runs", ".tabulator-row"),
        (f"sweep/{quote(SCRIPT, safe='')}", "[aria-label^=diagram] .main-svg"),
        ("run/1", "[data-group=accuracy] .main-svg"),
    ):
        tab.goto("about:blank")
        tab.goto(f"{path.as_uri()}#{place}")
        tab.wait_for_selector(shown)
        if place != "papers":
            assert tab.locator(f"text={SCRIPT[:24]}").count() >= 1, place
    tab.click("details.instruments summary")
    tab.wait_for_selector("details.instruments .main-svg")
    tab.wait_for_timeout(200)  # an image that cannot be loaded takes a moment to fail
    tab.close()
    assert (called, wrong) == ([], [])


def test_a_report_that_cannot_be_written_is_one_line(made, tmp_path):
    """It was a traceback, with the exit code 1."""
    path = tmp_path / "none" / "report.html"
    with pytest.raises(
        UserError, match=r"^cannot write .*report\.html: No such file or directory$"
    ):
        report.write(made, {"_id": 1}, path, [])
