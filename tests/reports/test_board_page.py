"""The live page in a browser, over real runs while they train."""

import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
import requests
import yaml

from benchmarks import synthetic
from grok.phases import PHASES
from grok.reports.page import published
from grok.reports.page.server import PAUSE
from grok.sweep import board, slurm
from grok.sweep.lattice import Lattice
from grok.sweep.mapping import survey
from tests.conftest import PROJECT
from tests.endpoint import SWEEP
from tests.helpers import wait_until
from tests.reports.browsers import served
from tests.reports.hostile import SCRIPT, fill_hostile

TOKEN = "a-token"
SLOW = (
    "decoder_width=20",
    "log_points=3000",
    "train_steps=3000000",
    "seed=7",
)  # until it is stopped


@pytest.fixture(scope="module")
def live(store):
    """A page over the store of real runs."""
    yield from served(store, TOKEN)


@pytest.fixture(scope="module")
def made(store):
    """A page over 130 synthetic runs."""
    made = replace(store, db_name="board_page")
    synthetic.fill(made.database, 130, steps=30)
    yield from served(made, TOKEN)
    store.client.drop_database("board_page")


@pytest.fixture
def tab(browser):
    """A tab in which every error, a breach of the page's policy included, fails the test."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    tab = context.new_page()
    wrong = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    tab.wrong = wrong
    yield tab
    context.close()
    assert wrong == []


def soon(tab, expression: str, seconds: float = 60.0) -> None:
    """Wait until an expression of JavaScript is true; the page's policy forbids Playwright's own way."""
    wait_until(lambda: tab.evaluate(f"Boolean({expression})"), seconds)


def shown_runs(tab) -> list[str]:
    """The ids of the runs in the table, from top to bottom."""
    return tab.locator(".tabulator-row [tabulator-field=run]").all_inner_texts()


def test_a_run_appears_its_curve_grows_and_it_ends_without_a_reload(live, store, tab):
    """What the page is for: to see a run happen."""
    tab.goto(f"{live}?token={TOKEN}")
    tab.wait_for_selector("#live.is-live")
    command = [sys.executable, "experiments/liu_toy.py", "with", *SLOW]
    process = subprocess.Popen(
        command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        tab.locator(".tabulator-row .status.running").wait_for(timeout=120_000)
        running = tab.locator(".tabulator-row", has=tab.locator(".status.running"))
        running.locator("[tabulator-field=run] a").first.click()
        tab.locator("progress").wait_for()
        tab.wait_for_selector("[data-group=accuracy] .main-svg")
        last = "document.querySelector('[data-group=accuracy] .plot').data[0].x.at(-1)"
        before = tab.evaluate(last)
        soon(tab, f"{last} > {before}", 60)
        soon(
            tab, r"/steps\/s, about .* left/.test(document.querySelector('.progress').textContent)"
        )
        assert tab.locator("tr.differs th").all_inner_texts()[:2] == ["decoder_width", "log_points"]
    finally:
        process.terminate()
        process.wait(60)
    tab.locator("h2 .status.interrupted").wait_for(timeout=60_000)
    assert tab.locator("progress").count() == 0
    tab.locator("pre", has_text="grok resume").wait_for()


def test_the_table_filters_sorts_groups_and_keeps_its_view_in_the_link(made, tab):
    """Whoever opens the link sees the same rows, in the same order, under the same columns."""
    tab.goto(f"{made}?token={TOKEN}")
    tab.wait_for_selector(".tabulator-row")
    assert tab.inner_text("#count") == "130 runs"
    assert tab.url == f"{made}#runs"  # without the token
    tab.fill("#filter", "seed=3 run=..50")
    soon(tab, "document.querySelector('#count').textContent === '5 runs'")
    assert shown_runs(tab) == ["44", "34", "24", "14", "4"]
    tab.locator(".heading", has_text="run").first.focus()
    tab.keyboard.press("Enter")  # sorts upward
    soon(tab, "document.querySelector('.tabulator-row a').textContent === '4'")
    tab.click("text=columns")
    tab.fill("dialog input[type=search]", "decoder_lr")
    tab.check("dialog label:has-text('decoder_lr') input")
    tab.click("text=show these")
    tab.wait_for_selector(".tabulator-row [tabulator-field=decoder_lr]")
    rows = tab.locator(".tabulator-row").all_inner_texts()
    link, other = tab.url, tab.context.new_page()
    other.goto(link)
    soon(other, "document.querySelectorAll('.tabulator-row').length === 5")
    assert other.locator(".tabulator-row").all_inner_texts() == rows
    other.close()
    tab.fill("#filter", "")
    tab.select_option("#group", "seed")
    tab.locator("#table td a", has_text="3").first.click()
    soon(tab, "document.querySelector('#count').textContent === '13 runs'")
    assert "seed%3D3" in tab.url
    tab.fill("#filter", "nonsense")
    tab.wait_for_selector("#count.error:has-text('expected KEY=VALUE')")
    tab.wrong.clear()  # the browser notes the answer 400


def test_a_run_gets_tags_and_notes_and_every_viewer_sees_them(made, store, tab):
    """Two viewers of one run see the same notes without a reload."""
    tab.goto(f"{made}?token={TOKEN}")
    other = tab.context.new_page()
    for page in (tab, other):
        page.goto(f"{made}#run/9")
        page.wait_for_selector(".notes")
    tab.fill(".notes input", "odd, look")
    tab.fill(".notes textarea", "<b>why?</b>")
    tab.click(".notes button")
    runs = store.client["board_page"].runs
    wait_until(
        lambda: (
            runs.find_one({"_id": 9}).get("omniboard")
            == {"tags": ["odd", "look"], "notes": "<b>why?</b>"}
        )
    )
    soon(other, "document.querySelector('.notes textarea').value === '<b>why?</b>'")
    tab.goto(f"{made}#runs?f=tag%3Dodd")
    soon(tab, "document.querySelector('#count').textContent === '1 run'")


def test_what_is_written_and_opened_on_a_page_of_a_run_stays_while_it_trains(made, store, tab):
    """Every change of the run drew its notes and its output anew: notes that were not saved were lost
    as soon as the focus left them, and the output closed itself."""
    runs = store.client["board_page"].runs
    runs.update_one({"_id": 30}, {"$set": {"captured_out": "one"}})
    tab.goto(f"{made}?token={TOKEN}#run/30")
    tab.fill(".notes textarea", "not saved yet")
    tab.click("summary:has-text('Output')")
    tab.locator("#theme").focus()
    for word in ("two", "three"):
        noted = {"captured_out": word, "heartbeat": datetime.now(UTC)}
        runs.update_one({"_id": 30}, {"$set": noted})
        tab.locator("details[open] pre", has_text=word).wait_for()
    assert tab.input_value(".notes textarea") == "not saved yet"
    tab.click(".notes button")
    wait_until(
        lambda: runs.find_one({"_id": 30}).get("omniboard", {}).get("notes") == "not saved yet"
    )


def test_the_keyboard_keeps_its_place(made, store, tab):
    """A refresh, a chosen column, and a column that was moved took the focus away, so that one had to
    begin at the top of the page; the link that skips the navigation took the view out of the address."""
    tab.goto(f"{made}?token={TOKEN}#runs?f=run%3D40..45&c=tag")
    tab.locator(".tabulator-row a", has_text="42").focus()
    noted = {"omniboard": {"tags": ["fresh"]}, "heartbeat": datetime.now(UTC)}
    store.client["board_page"].runs.update_one({"_id": 44}, {"$set": noted})
    soon(tab, "document.querySelector('.tabulator').textContent.includes('fresh')")
    soon(tab, "document.activeElement.textContent === '42'", 5)
    tab.locator(".skip").focus()
    tab.keyboard.press("Enter")
    assert tab.evaluate("document.activeElement.id") == "view" and "f=run" in tab.url
    assert tab.locator("nav a[aria-current=page]").inner_text() == "Runs"
    tab.locator("button", has_text="columns").press("Enter")
    for name in ("decoder_lr", "encoder_lr"):
        tab.locator(f"dialog input[name={name}]").press("Space")
        assert tab.evaluate("document.activeElement.name") == name
    tab.locator("[aria-label='run later']").focus()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Enter")
    order = tab.locator(".chosen span").all_inner_texts()
    assert order == ["tag", "decoder_lr", "run", "encoder_lr"]
    tab.locator("dialog button", has_text="cancel").press("Enter")


def test_a_refresh_between_press_and_release_of_the_mouse_does_not_lose_the_click(made, store, tab):
    """The link was drawn anew while it was pressed, and a click on two elements is none."""
    tab.goto(f"{made}?token={TOKEN}#runs?g=seed")
    tab.locator("#table td a", has_text="3").hover()
    tab.mouse.down()
    with tab.expect_response("**/api/groups*"):
        store.client["board_page"].runs.update_one(
            {"_id": 21}, {"$set": {"heartbeat": datetime.now(UTC)}}
        )
    tab.wait_for_timeout(500)  # longer than drawing it would take
    tab.mouse.up()
    soon(tab, "document.querySelector('#count').textContent === '13 runs'", 10)


def test_an_instrument_of_many_metrics_has_several_plots(made, store, tab):
    """Of more than twelve metrics the others were not shown anywhere."""
    metrics = store.client["board_page"].metrics
    logged = {"run_id": 31, "steps": [1, 2], "values": [0.0, 1.0]}
    metrics.insert_many([{**logged, "name": f"norms/{i:02}"} for i in range(27)])
    tab.goto(f"{made}?token={TOKEN}#run/31")
    tab.click("details.instruments summary")
    lines = (
        "[...document.querySelectorAll('details.instruments .plot')].map(one => one.data?.length)"
    )
    soon(tab, f"String({lines}) === '12,12,3'")


def test_a_change_while_a_view_is_opened_or_the_server_is_away_is_shown(made, store, tab):
    """No other change may follow: the last run of a sweep would be missing until a reload."""
    runs = store.client["board_page"].runs

    def tag(word: str) -> None:
        noted = {"omniboard": {"tags": [word]}, "heartbeat": datetime.now(UTC)}
        runs.update_one({"_id": 20}, {"$set": noted})

    def answer_late(route) -> None:
        answer = route.fetch()
        tag("while-opened")
        time.sleep(2)  # ten polls: the page has been told
        route.fulfill(response=answer)

    def refuse(route) -> None:
        refused.append(route)
        route.abort()

    refused: list = []
    tab.route("**/api/runs*", answer_late, times=1)
    tab.goto(f"{made}?token={TOKEN}#runs?f=run%3D20&c=tag")
    soon(tab, "document.querySelector('.tabulator')?.textContent.includes('while-opened')")
    tab.route("**/api/runs*", refuse, times=1)
    tag("while-away")
    wait_until(lambda: tab.evaluate("true") and refused)
    soon(tab, "document.querySelector('.tabulator').textContent.includes('while-away')")
    tab.wrong.clear()  # the browser notes the refused request


def test_many_tabs_are_open_and_one_that_is_seen_again_shows_what_has_changed(made, store, tab):
    """A browser opens six connections to a server, and each tab kept one: the seventh never loaded."""
    hide = "Object.defineProperty(document, 'hidden', {get: () => isHidden, configurable: true})"
    turn = "document.dispatchEvent(new Event('visibilitychange'))"
    tabs = [tab, *(tab.context.new_page() for _ in range(7))]
    tab.goto(f"{made}?token={TOKEN}")
    for i, page in enumerate(tabs):
        page.goto(f"{made}#runs?f=run%3D{i + 20}&c=tag")
        page.wait_for_selector(".tabulator-row", timeout=20_000)
        page.evaluate(f"globalThis.isHidden = true; {hide}; {turn}")
    noted = {"omniboard": {"tags": ["while-hidden"]}, "heartbeat": datetime.now(UTC)}
    store.client["board_page"].runs.update_one({"_id": 20}, {"$set": noted})
    tab.wait_for_timeout(500)
    tab.evaluate(f"globalThis.isHidden = false; {turn}")
    soon(tab, "document.querySelector('.tabulator').textContent.includes('while-hidden')")


@pytest.mark.parametrize("cancel", ["filter", "columns"])
def test_the_table_goes_on_with_changes_after_a_refresh_was_cancelled(made, store, tab, cancel):
    """The refresh waited for ever for the answer of a request that another one had replaced."""
    runs, held = store.client["board_page"].runs, []

    def tag(word: str) -> None:
        noted = {"omniboard": {"tags": [word]}, "heartbeat": datetime.now(UTC)}
        runs.update_one({"_id": 130}, {"$set": noted})

    tab.goto(f"{made}?token={TOKEN}#runs?c=tag")
    tab.wait_for_selector(".tabulator-row")
    tab.route("**/api/runs*", lambda route: held.append(route), times=1)  # it is not answered
    tag(f"{cancel}-1")
    wait_until(lambda: tab.evaluate("true") and held)
    if cancel == "filter":
        tab.fill("#filter", "run=130")
    else:
        tab.click("text=columns")
        tab.click("text=show these")
    for word in (f"{cancel}-1", f"{cancel}-2"):
        tag(word)
        soon(tab, f"document.querySelector('.tabulator').textContent.includes('{word}')")


def test_the_command_prints_the_link_and_ends_at_once_while_somebody_watches(store):
    """Ctrl-C must not wait for viewers, nor print what their connections say."""
    command = [sys.executable, "-m", "grok.cli", "board", "--port", "0"]
    process = subprocess.Popen(
        command,
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a suite that runs in a shell's background ignores Ctrl-C, and so would its processes
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    process.stdout.readline()
    link = process.stdout.readline().strip()
    session = requests.Session()
    assert session.get(link).text.startswith("<!doctype html>")
    events = session.get(f"{link.split('?')[0]}api/events", stream=True)
    assert next(events.iter_lines()) == b"retry: 1000"
    process.send_signal(signal.SIGINT)
    assert process.wait(PAUSE - 1) == 0 and process.stderr.read() == ""


def test_the_diagram_of_a_sweep_fills_in_and_a_cell_shows_its_seeds(live, tab, tmp_path):
    """A sweep is watched from its first point to its last, then cells, colours and settings are chosen."""
    parameters = {
        "p": {"value": 5},
        "decoder_width": {"value": 20},
        "train_steps": {"value": 200},
        "log_points": {"value": 20},
        "decoder_lr": {"values": [1e-4, 1e-3, 1e-2]},
        "encoder_lr": {"values": [1e-3, 1e-2]},
        "seed": {"values": [0, 1]},
    }
    file = tmp_path / "board_sweep.yaml"
    file.write_text(yaml.safe_dump({**SWEEP, "parameters": parameters}))
    command = [
        sys.executable,
        "-m",
        "grok.cli",
        "sweep",
        "run",
        str(file),
        "--workers",
        "1",
        "--slots",
        "2",
    ]
    tab.goto(f"{live}?token={TOKEN}#sweeps")
    tab.wait_for_selector("#live.is-live")
    said = tmp_path / "said"
    with open(said, "w") as file:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=file, stderr=file)
    tab.click("td a:has-text('board_sweep')", timeout=120_000)
    tab.wait_for_selector("[aria-label^='diagram'] .main-svg")
    cells = "document.querySelector('[aria-label^=diagram]').data[0].z.flat()"
    assert tab.evaluate(f"{cells}.length") == 6  # known before the runs
    assert process.wait(120) == 0, said.read_text()
    soon(tab, f"{cells}.every(z => z !== null)")
    soon(tab, "/12 finished of 12 points/.test(document.body.textContent)")
    tab.click("text=cells as a table")
    tab.locator("details button", has_text="show").first.click()
    tab.wait_for_selector("[aria-label^='curves of the cell'] .main-svg")
    assert tab.locator("section[aria-live] td a").count() == 2  # the cell's two seeds
    assert "cell=" in tab.url
    tab.select_option("label:has-text('colour') select", "metric.test_loss")
    soon(tab, "document.querySelector('[aria-label^=diagram]').data[0].z.flat().every(z => z % 1)")
    tab.click("text=compare its settings")
    tab.wait_for_selector("h2:has-text('Compare 12 runs of 6 settings')")
    tab.wait_for_selector(
        "p:has-text('differs: decoder_lr, encoder_lr'), p:has-text('differs: encoder_lr, decoder_lr')"
    )
    tab.wait_for_selector("[aria-label=curves] .main-svg")
    filled = "document.querySelector('[aria-label=curves]').data.filter(one => one.fill === 'tonexty').length"
    assert tab.evaluate(filled) == 6  # a band of two seeds for each setting
    assert tab.locator(".parallel polyline").count() == 12


def test_a_sweep_of_seeds_alone_is_one_row(store, tab):
    """With the seed on both axes its runs stood on the diagonal of an empty square."""
    made = replace(store, db_name="board_row")
    points = [{"p": 5, "seed": seed} for seed in range(4)]
    config = {"parameters": {"p": {"value": 5}, "seed": {"values": [0, 1, 2, 3]}}}
    sweep = {"_id": "s-1", "name": "s", "created": datetime(2026, 1, 1), "state": "RUNNING"}
    made.database.sweeps.insert_one({**sweep, "config": config, "points": points})
    for i in range(3):
        run = {"_id": i, "status": "COMPLETED", "config": points[i], "experiment": {"name": "x"}}
        meta = {"meta": {"sweep": {"id": "s-1", "point": i}}}
        made.database.runs.insert_one({**run, **meta, "result": {"phase": PHASES[0]}})
    for url in served(made, TOKEN):
        tab.goto(f"{url}?token={TOKEN}#sweep/s-1")
        tab.wait_for_selector("[aria-label^=diagram] .main-svg")
        shown = "document.querySelector('[aria-label^=diagram]').data[0].z"
        soon(tab, f"JSON.stringify({shown}) === '[[0,0,0,null]]'")
        tab.click("text=cells as a table")
        tab.wait_for_selector("details th:has-text('seed')")
        assert tab.locator("details th").all_inner_texts() == ["seed", "phase", "runs", ""]
    store.client.drop_database("board_row")


@pytest.fixture
def mapped(store, tmp_path, monkeypatch, request):
    """A page over a map of 8 x 8 cells, a circle, with a published grid and two tasks in Slurm.

    A parameter gives it more slices than one; these have one phase each.
    """
    slices = getattr(request, "param", [{}])
    made = replace(store, db_name="board_map")
    axes = [round(10 ** (i / 7 - 3), 8) for i in range(8)], [i / 2 for i in range(8)]
    lattice = Lattice(("decoder_lr", "init_scale"), axes, slices, [0])
    results: dict = {}
    while wanted := survey(lattice, results, 60 * len(slices)).wanted:
        for run in wanted:
            (piece, column, row), _ = run
            is_inside = (column - 4) ** 2 + (row - 4) ** 2 < 6
            results[run] = PHASES[0] if is_inside and piece == 0 else PHASES[3 - piece]
    points = [lattice.point(run) for run in results]
    sweep = {"_id": "m-1", "name": "m", "created": datetime(2026, 1, 1), "state": "FINISHED"}
    ranges = {
        key: {"min": low, "max": high}
        for key, (low, *_, high) in zip(lattice.keys, axes, strict=True)
    }
    ranges |= {key: {"values": [piece[key] for piece in slices]} for key in slices[0]}
    document = {
        "map": lattice.document(),
        "points": points,
        "limit": 60 * len(slices),
        "jobs": ["7"],
    }
    made.database.sweeps.insert_one({**sweep, "config": {"parameters": ranges}, **document})
    for i, (point, phase) in enumerate(zip(points, results.values(), strict=True)):
        run = {"_id": i + 1, "status": "COMPLETED", "config": point, "experiment": {"name": "x"}}
        meta = {"meta": {"sweep": {"id": "m-1", "point": i}}}
        made.database.runs.insert_one(
            {**run, **meta, "result": {"phase": phase, "ended": "budget"}}
        )
    path = tmp_path / "figure.csv"
    path.write_text(
        "init_scale,decoder_lr,steps_to_train,steps_to_test\n1,0.001,9,99\n1,0.002,99,99999\n"
    )
    tasks = [("7_0", "RUNNING", "node1"), ("7_1", "PENDING", "(Priority)")]
    monkeypatch.setattr(slurm, "tasks", lambda jobs: tasks if [*jobs] == ["7"] else [])
    for url in served(made, TOKEN, grids=[published.read(path)], details=board.details):
        yield url, results
    store.client.drop_database("board_map")


def test_a_map_shows_which_cells_are_predicted_the_published_grid_and_its_slurm_tasks(mapped, tab):
    """Who looks at a map must see what was measured and what was not, and may compare it at once."""
    url, results = mapped
    held: list = []
    tab.route("**/api/details*", lambda route: held.append(route), times=1)
    tab.goto(f"{url}?token={TOKEN}#sweep/m-1")
    tab.wait_for_selector("[aria-label='the published grid'] .main-svg")
    tab.wait_for_selector("[aria-label^=diagram] .main-svg")  # what is stored is shown at once
    held[0].continue_()
    tab.wait_for_selector("li:has-text('cells run')")
    shown = "document.querySelector('[aria-label^=diagram]').data"
    count = f"{shown}.map(one => one.z?.flat().filter(z => z !== null).length)"
    assert tab.evaluate(count) == [len(results), 64 - len(results), None]
    corners = tab.evaluate(f"{shown}[2].x.length / 3")  # the circle's edges, in steps of a cell
    assert 12 <= corners <= 24 and tab.evaluate(f"{shown}[1].opacity") < 0.5
    tab.wait_for_selector(f"li:has-text('{len(results)} of 64 cells run')")
    grid = "document.querySelector('[aria-label=\"the published grid\"]')"
    assert tab.evaluate(f"{grid}.data[0].z.flat()") == [0, 2]  # comprehension, memorization
    assert tab.evaluate(f"{grid}.layout.title.text") == "figure"
    assert tab.locator("summary", has_text="Slurm: 1 running, 1 pending").count() == 1
    assert tab.locator("td", has_text="(Priority)").count() == 1
    tab.set_viewport_size({"width": 390, "height": 844})
    soon(tab, "document.documentElement.scrollWidth <= 390")  # the legend wraps
    tab.select_option("label:has-text('colour') select", "result.ended")
    soon(tab, f"{shown}.length === 1 && {grid}.parentElement.hidden")  # they are of phases only


@pytest.mark.parametrize("mapped", [[{"p": 5}, {"p": 7}]], indirect=True)
def test_the_slices_of_a_map_are_shown_one_by_one(mapped, tab):
    """The diagram had the phase of most slices in each cell, and no predicted cell."""
    url, results = mapped
    tab.goto(f"{url}?token={TOKEN}#sweep/m-1")
    shown = "document.querySelector('[aria-label^=diagram]')?.data"
    count = f"String({shown}?.map(one => one.z?.flat().filter(z => z !== null).length))"
    measured = [sum(run[0][0] == piece for run in results) for piece in (0, 1)]
    soon(tab, f"{count} === '{measured[0]},{64 - measured[0]},'")
    choice = tab.locator("label:has-text('p ') select", has_text="all")
    assert choice.input_value() == "5"
    choice.select_option("7")
    soon(tab, f"{count} === '{measured[1]},{64 - measured[1]},'")
    assert set(tab.evaluate(f"{shown}[0].z.flat()")) == {None, 2}  # the second slice's one phase
    link, other = tab.url, tab.context.new_page()
    other.goto(link)
    soon(other, f"{count} === '{measured[1]},{64 - measured[1]},'")
    tab.locator("label:has-text('p ') select", has_text="all").select_option("")
    soon(tab, f"{shown}.length === 1")  # both together: the map predicts each slice by itself


def test_chosen_runs_are_compared(made, tab):
    """The boxes in the table choose them, on more than one page."""
    tab.goto(f"{made}?token={TOKEN}")
    for run in (130, 128):
        tab.check(f"[aria-label='choose run {run}']")
    tab.click("button.tabulator-page:has-text('Next')")
    tab.check("[aria-label='choose run 70']")
    tab.click("a:has-text('compare 3')")
    tab.wait_for_selector("h2:has-text('Compare 3 runs of 3 settings')")
    assert tab.locator("p:has-text('differs: decoder_lr')").count() == 1


def test_runs_are_compared_by_their_own_keys(made, store, tab):
    """A key that none of the latest runs has, as one of an older version, was not compared: runs with
    different values of it were one setting, with the difference shown as a band over seeds."""
    runs = store.client["board_page"].runs
    for run in (1, 2):
        runs.update_one({"_id": run}, {"$set": {"config.old_key": run, "config.decoder_lr": 1e-3}})
    tab.goto(f"{made}?token={TOKEN}#compare?runs=1,2")
    tab.wait_for_selector("h2:has-text('Compare 2 runs of 2 settings')")
    assert tab.locator("p", has_text="differs: old_key").count() == 1


def test_papers_show_their_claims_and_figures(made, tab):
    """The scorecard and the pictures of the documentation, without a run of the paper here."""
    tab.goto(f"{made}?token={TOKEN}#papers")
    paper = tab.locator("section[data-name=liu_toy]")
    paper.wait_for(timeout=60_000)
    paper.locator("summary", has_text="claims").click()
    assert paper.locator("table.claims tbody tr").count() >= 5
    paper.locator("summary", has_text="figures").click()
    image = "document.querySelector('section[data-name=liu_toy] img')"
    soon(tab, f"{image}.complete && {image}.naturalWidth > 100")


def test_scripts_in_every_text_of_a_run_are_shown_and_not_executed(store, browser):
    """Runs and sweeps may come from anywhere, and the page may change runs with its viewer's cookie."""
    hostile = replace(store, db_name="board_hostile")
    fill_hostile(hostile.database)
    address = served(hostile, TOKEN)
    url = next(address)
    context = browser.new_context(
        bypass_csp=True
    )  # the policy would hide what the page lets through
    tab = context.new_page()
    called, wrong = [], []
    tab.expose_function("hacked", lambda: called.append(tab.url))
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.goto(f"{url}?token={TOKEN}")
    where = quote(SCRIPT, safe="")
    for place, ready in (
        ("runs", ".tabulator-row"),
        (f"runs?g={quote('result.ended')}", "#table td"),
        ("run/1", "[data-group=accuracy] .main-svg"),
        ("sweeps", "td a"),
        (f"sweep/{where}", "[aria-label^='diagram'] .main-svg"),
        ("compare?runs=1,2,3", ".parallel polyline"),
    ):
        tab.goto(f"{url}#{place}")
        tab.wait_for_selector(ready)
        assert tab.locator(f"text={SCRIPT[:24]}").count() >= 1, place
        if place == "run/1":
            tab.click("details.instruments summary")
            tab.wait_for_selector("details.instruments .main-svg")
    tab.goto(f"{url}#runs")
    tab.click("text=columns")
    tab.wait_for_selector("dialog label")
    tab.wait_for_timeout(300)  # an image that cannot be loaded takes a moment to fail
    context.close()
    next(address, None)
    store.client.drop_database("board_hostile")
    assert (called, wrong) == ([], [])


@pytest.mark.parametrize(("width", "scheme"), [(1400, "dark"), (390, "light"), (390, "dark")])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(made, browser, width, scheme):
    """On a phone the page scrolls downward only; in dark mode text is light on dark."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    tab = context.new_page()
    tab.goto(f"{made}?token={TOKEN}")
    places = (
        ("runs", ".tabulator-row"),
        (f"runs?g={'long_' * 30}", "#table td"),  # a key of 150 letters, which is an option
        ("run/7", "[data-group=loss] .main-svg"),
    )
    for place, ready in places:
        tab.goto(f"{made}#{place}")
        tab.wait_for_selector(ready)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width, place
        light, paper = tab.evaluate(
            "['color', 'backgroundColor'].map(name => getComputedStyle(document.body)[name].match(/\\d+/g).map(Number)[1])"
        )
        assert (light > 200 and paper < 40) if scheme == "dark" else (light < 60 and paper > 240)
    tab.emulate_media(media="print")  # dark on white paper, also the plots
    printed = "getComputedStyle(document.body).backgroundColor === 'rgb(255, 255, 255)'"
    soon(tab, f"{printed} && document.querySelector('.plot').layout.paper_bgcolor === '#fff'")
    context.close()
