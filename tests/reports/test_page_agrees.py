"""The live page and the report over the same runs: both are complete, or say what they leave out."""

from dataclasses import replace
from urllib.parse import quote

import pytest

from benchmarks import synthetic
from grok.reports.page import report
from tests.helpers import wait_until
from tests.reports.browsers import served

TOKEN = "a-token"
COUNT = 230  # runs
LONG = "a_long_name_" * 25
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
    make_odd(made.database)
    yield made
    store.client.drop_database("page_agrees")


def make_odd(database) -> None:
    """Change some runs: what they have logged, where they ran, how they ended."""
    for run, value in ((5, float("inf")), (6, float("nan")), (7, -1)):
        metric = {"run_id": run, "name": "test_loss"}
        database.metrics.update_one(metric, {"$push": {"steps": 200_000, "values": value}})
    database.runs.update_many({"_id": {"$in": [5, 6, 7, 8]}}, {"$set": {"status": "INTERRUPTED"}})
    database.metrics.delete_many({"run_id": 8})
    database.metrics.insert_one({"run_id": 9, "name": "norms/W", "steps": [1], "values": [3]})
    database.metrics.insert_one({"run_id": 10, "name": "empty", "steps": [], "values": []})
    for run, fields in (
        (9, {"host.hostname": "<b>node</b>", "omniboard": {"tags": ["odd"], "notes": "a note"}}),
        (10, {"host": None, "result": None}),
        (11, {"status": "RUNNING"}),
        (12, {"result.rank": float("-inf")}),
        (13, {"result.rank": float("nan")}),
        (14, {"result.rank": 1}),
        (15, {"status": "FAILED", "fail_trace": ["Traceback\n", "ValueError: <b>odd</b>\n"]}),
    ):
        database.runs.update_one({"_id": run}, {"$set": fields})
    database.metrics.delete_many({"run_id": {"$in": [200, 201]}})
    for run in (200, 201):
        logged = {"steps": [1, 2], "values": [0.1, 0.2]}
        database.metrics.insert_one({"run_id": run, "name": "norm_a", **logged})
        database.runs.update_one({"_id": run}, {"$set": {"status": "INTERRUPTED"}})
    fields = {"meta.sweep.id": "s-2", "config.norm": None, "experiment.name": LONG}
    database.runs.update_one({"_id": 220}, {"$set": fields})
    sweep = {"_id": "s-2", "name": LONG, "experiment": LONG, "state": "FINISHED"}
    parameters = {"norm": {"values": [None, 1]}}
    created = {"created": synthetic.datetime(2026, 1, 2), "config": {"parameters": parameters}}
    database.sweeps.insert_one({**sweep, **created, "points": [{"norm": None, "seed": 9}]})


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


ALL = """async name => {
    const source = await (await import(`grok/${name}.js`)).open();
    const keys = await source.keys({filters: "run=1..200"}), columns = Object.values(keys).flat();
    const order = async (sort, down) => (await source.runs({columns: ["run"], sort, down, limit: 1000})).rows.flat();
    const sorts = columns.filter(column => column !== "curve" && column !== "tag");
    return {columns, rows: (await source.runs({columns, limit: 1000})).rows,
        orders: await Promise.all(sorts.flatMap(sort => [true, false].map(async down => [sort, down, await order(sort, down)])))};
}"""


def test_the_report_has_the_columns_and_orders_of_the_live_page(live, written, browser):
    """It had no last values of metrics and no host, and infinite results were sorted as texts."""
    context = browser.new_context()
    tab, found = context.new_page(), []
    for name, url in (("live", f"{live}?token={TOKEN}"), ("stored", f"{written}#runs")):
        tab.goto(url)
        tab.wait_for_selector(".tabulator-row")
        found.append(tab.evaluate(ALL, name))
    context.close()
    of_live, of_report = found
    columns = of_live["columns"]
    assert {"host", "metric.test_loss", "metric.norms/W"} < {*columns}
    started = columns.index("started")
    for row in of_live["rows"]:
        row[started] = row[started][:16].replace("T", " ")  # to the minute in a report
    assert of_report["columns"] == columns
    for ours, theirs in zip(of_report["rows"], of_live["rows"], strict=True):
        assert ours == theirs
    for ours, theirs in zip(of_report["orders"], of_live["orders"], strict=True):
        assert ours == theirs


def test_the_host_is_on_the_page_of_a_run(opened):
    """The report left it out."""
    opened("run/9").locator("p", has_text="on <b>node</b>").wait_for()


def test_the_traceback_of_a_failed_run_is_on_its_page(opened):
    """Without it, a report told that runs had failed and not why."""
    opened("run/15").locator("pre", has_text="ValueError: <b>odd</b>").wait_for()


def test_the_metric_that_is_drawn_is_the_one_that_is_chosen(opened, made):
    """Where runs had no test accuracy, the list showed another metric and nothing was drawn."""
    tab = opened("compare?runs=200,201")
    soon(tab, "document.querySelector('[aria-label=curves]')?.data?.length > 0")
    rate = made.database.runs.find_one({"_id": 200})["config"]["decoder_lr"]
    tab = opened(f"sweep/s-1?x=decoder_lr&y=p&cell=%5B{rate}%2C10%5D")
    soon(tab, "document.querySelector('[aria-label^=\\'curves of\\']')?.data?.length > 0")


def test_filters_that_select_no_run_are_named(opened):
    """Of a filter with a mistake, the page said "0 runs"."""
    count = "document.querySelector('#count')?.textContent"
    for filters, why in (("seed=3 p=99", "p=99"), ("seed=3 run=5", "all of seed=3 run=5")):
        tab = opened(f"runs?f={quote(filters)}")
        soon(tab, f"{count} === '0 runs: no run with {why}'")
    opened("compare?f=p%3D99").locator("p", has_text="no run with p=99").wait_for()


def test_long_names_are_no_wider_than_a_phone(opened):
    """The page of a run of an experiment with a long name scrolled to the side."""
    for place in ("run/220", "sweep/s-2", "sweeps", "compare?runs=219,220"):
        tab = opened(place)
        tab.set_viewport_size({"width": 390, "height": 844})
        soon(tab, "document.querySelector('main').textContent.includes('a_long_name')")
        soon(tab, "document.documentElement.scrollWidth <= 390")


def test_none_is_a_value_of_a_diagram(opened):
    """The axis had no label at it, and the table of cells no text."""
    tab = opened("sweep/s-2?x=norm&y=seed")
    ticks = "document.querySelector('[aria-label^=diagram]')?.layout?.xaxis.ticktext"
    soon(tab, f"{ticks}?.[0] === 'none'")
    tab.click("text=cells as a table")
    tab.locator("details td", has_text="none").first.wait_for()


def test_names_in_a_link_may_have_commas_and_percent_signs(opened):
    """A column or a run with such a name made another link, or an error in the place of the table."""
    tab = opened("runs?c=100%25")
    soon(tab, f"{FIRST} === '{COUNT}'")
    code = """async names => {
        const {joined, parted} = await import("grok/dom.js");
        return parted(joined(names));
    }"""
    assert tab.evaluate(code, ["a,b", "100%", "7"]) == ["a,b", "100%", "7"]
