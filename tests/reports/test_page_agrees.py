"""The live page and the report over the same runs: both are complete, or say what they leave out."""

from dataclasses import replace

import pytest

from benchmarks import synthetic
from grok.reports.page import report
from tests.helpers import wait_until
from tests.reports.browsers import served

TOKEN = "a-token"
COUNT = 230  # runs
FIRST = "document.querySelector('.tabulator-row [tabulator-field=run]')?.textContent"  # run in the table


@pytest.fixture(scope="module")
def made(store):
    """A store of synthetic runs, all of one sweep of a point."""
    made = replace(store, db_name="page_agrees")
    synthetic.fill(made.database, COUNT, steps=6)
    made.database.runs.update_many({}, {"$set": {"meta.sweep.id": "s-1"}})
    made.database.runs.update_many({"_id": {"$lte": 70}}, {"$set": {"config.decoder_lr": 1}})
    parameters = {"decoder_lr": {"values": [1, 2]}}
    sweep = {"_id": "s-1", "name": "s", "experiment": "liu_toy", "state": "FINISHED"}
    created = {"created": synthetic.datetime(2026, 1, 1), "config": {"parameters": parameters}}
    made.database.sweeps.insert_one({**sweep, **created})
    yield made
    store.client.drop_database("page_agrees")


@pytest.fixture(scope="module")
def live(made):
    yield from served(made, TOKEN)


@pytest.fixture(scope="module")
def written(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "report.html"
    report.write(made, {}, path, [])
    return path.as_uri()


@pytest.fixture(params=["live", "written"])
def opened(request, browser):
    """A function of a place that opens it, in a tab of the live page and in one of the report."""
    url = request.getfixturevalue(request.param)
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    tab, wrong = context.new_page(), []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    if request.param == "live":
        tab.goto(f"{url}?token={TOKEN}")

    def opened(place):
        tab.goto("about:blank")
        tab.goto(f"{url}#{place}")
        return tab

    yield opened
    context.close()
    assert wrong == []


def soon(tab, expression: str) -> None:
    """Wait until an expression of JavaScript is true."""
    wait_until(lambda: tab.evaluate(f"Boolean({expression})"), 30)


def test_a_comparison_of_more_runs_than_it_shows_says_how_many_there_are(opened):
    """Of 230 chosen runs, the first 200 were compared as if they were all."""
    chosen = ",".join(map(str, range(1, COUNT + 1)))
    for wanted in (f"runs={chosen}", "f="):
        tab = opened(f"compare?{wanted}")
        tab.locator("p", has_text=f"the first 200 of {COUNT} runs").wait_for()
        assert tab.locator("h2").all_inner_texts()[0].startswith("Compare 200 runs")
    tab = opened("compare?runs=1,1,9,9999")
    tab.locator("p", has_text="1 of the 3 chosen runs are not here").wait_for()


def test_a_cell_of_more_runs_than_it_shows_says_how_many_there_are(opened):
    """The cell's heading counted all of them, and its table and curves had the first 60."""
    tab = opened("sweep/s-1?x=decoder_lr&y=p&cell=%5B1%2C10%5D")
    heading = tab.locator("h3", has_text="70 runs, of which the first 60 are shown")
    heading.wait_for()
    soon(tab, "document.querySelectorAll('section[aria-live] tbody tr').length === 60")


def test_the_page_of_the_table_is_in_the_link(opened):
    """A reload, or a link that somebody had been sent, began at the first page."""
    tab = opened("runs")
    soon(tab, f"{FIRST} === '{COUNT}'")
    tab.click("button.tabulator-page:has-text('Next')")
    soon(tab, f"{FIRST} === '{COUNT - 50}'")
    assert tab.url.endswith("#runs?p=2")
    tab.reload()
    soon(tab, f"{FIRST} === '{COUNT - 50}'")
    tab.locator(".heading", has_text="run").first.click()  # sorts upward, from the first page on
    soon(tab, f"{FIRST} === '1'")
    assert "p=" not in tab.url
    for wrong, first in (("p=99", 30), ("p=x&n=7", COUNT), ("p=-1", COUNT), ("p=1e99", 30)):
        tab = opened(f"runs?{wrong}")  # 230 runs are five pages of 50
        soon(tab, f"{FIRST} === '{first}'")
    tab.fill("#filter", "run=..40")
    soon(tab, f"{FIRST} === '40'")
    assert "p=" not in tab.url
