"""Time of `grok board` over 50,000 synthetic runs: the first view, filters, and ten viewers.

A browser opens the page as a user does. Then ten viewers ask for pages of the table at once, without a
browser, while a writer appends to metrics and changes results. The database is dropped at the end.
"""

import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from urllib.parse import urlsplit

import click
import psutil
import requests
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table

from benchmarks import synthetic
from benchmarks.endpoint import DATABASE, serve
from grok.store import connection as stores
from grok.store.connection import Store

TURNS = 5
FILTERS = ("seed=3", "decoder_lr=0.001..0.01", "phase=grokking seed=3", "run=..500")
VIEWERS = 10
SECONDS = 15.0  # of the ten viewers
ASKED_EVERY = 1.0  # seconds, by each of them
WRITES = 80  # records a second


@click.command(help=__doc__)
@click.option("--runs", "count", type=click.IntRange(min=1000), default=50_000, show_default=True)
@click.option("--steps", default=50, show_default=True, help="logged by each of four metrics")
@click.option("--chromium", default="/usr/bin/chromium", show_default=True)
def main(count: int, steps: int, chromium: str) -> None:
    load = os.getloadavg()[0]
    store = replace(stores.mongo(), db_name=DATABASE)
    store.client.drop_database(DATABASE)
    synthetic.fill(store.database, count, steps)
    table = Table("what", "seconds, median", "most", title=f"{count:,} runs")
    try:
        with serving(store) as (process, link):
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium)
                for what, seconds in in_browser(browser, link, count).items():
                    table.add_row(what, *described(seconds))
                browser.close()
            table.add_row("a page for each of ten viewers", *described(viewed(store, link, count)))
            memory = process.memory_info().rss / 1e6
        Console().print(table)
        print(f"memory of the server: {memory:.0f} MB; load before: {load:.1f}")
    finally:
        store.client.drop_database(DATABASE)


@contextmanager
def serving(store: Store) -> Iterator[tuple[psutil.Process, str]]:
    """A process of `grok board` over the store's database, and its link."""
    process = serve(store, "board")
    try:
        assert process.stdout is not None
        link = next(line.strip() for line in process.stdout if line.startswith("http"))
        yield psutil.Process(process.pid), link
    finally:
        process.terminate()
        process.wait()


def in_browser(browser: Browser, link: str, count: int) -> dict[str, list[float]]:
    """Seconds until the page shows what was asked for, by what it was.

    Arguments:
        count: of the runs.
    """
    found: dict[str, list[float]] = {"first view": []}
    tabs: list[Page] = []
    for _ in range(TURNS):  # each in a browser that has seen nothing of the page
        for tab in tabs:
            tab.context.close()
        tabs = [browser.new_context(viewport={"width": 1400, "height": 900}).new_page()]
        found["first view"].append(timed(partial(open_page, tabs[0], link)))
    (page,) = tabs
    everything = page.inner_text("#count")
    assert everything.split()[0].replace(",", "") == str(count), everything
    for text in FILTERS:
        found[f"filter {text}"] = []
        for _ in range(TURNS):
            found[f"filter {text}"].append(timed(partial(fill, page, text)))
            fill(page, "")
    return found


def open_page(page: Page, link: str) -> None:
    """Open the page, and wait until its table has rows."""
    page.goto(link)
    page.wait_for_selector(".tabulator-row")


def fill(page: Page, text: str) -> None:
    """Type a filter, and wait until the number of runs that the page shows is another."""
    before = page.inner_text("#count")
    page.fill("#filter", text)
    while page.inner_text("#count") == before:
        time.sleep(0.005)


def timed(action: Callable[[], object]) -> float:
    """How many seconds an action takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def viewed(store: Store, link: str, count: int) -> list[float]:
    """Seconds of each answer to ten viewers who ask for pages of the table while runs are written."""
    ended = threading.Event()
    writer = threading.Thread(target=write, args=(store, count, ended))
    writer.start()
    with ThreadPoolExecutor(VIEWERS) as pool:
        answers = [pool.submit(view, link, number, count) for number in range(VIEWERS)]
        seconds = [one for answer in answers for one in answer.result()]
    ended.set()
    writer.join()
    return seconds


def view(link: str, number: int, count: int) -> list[float]:
    """Seconds of each answer to one viewer, who scrolls to places of the table at random."""
    rng = random.Random(number)
    session, seconds = requests.Session(), []
    session.get(link, timeout=60).raise_for_status()
    address = "{0.scheme}://{0.netloc}/api/runs".format(urlsplit(link))
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        asked: dict[str, str | int] = {
            "offset": rng.randrange(count),
            "limit": 100,
            "filters": f"seed={number}",
        }
        began = time.perf_counter()
        session.get(address, params=asked, timeout=60).raise_for_status()
        seconds.append(time.perf_counter() - began)
        time.sleep(max(0.0, ASKED_EVERY - seconds[-1]))
    return seconds


def write(store: Store, count: int, ended: threading.Event) -> None:
    """Append to metrics and change results, as a sweep does, until it is told to end."""
    rng = random.Random(0)
    while not ended.wait(1 / WRITES):
        run, now = rng.randint(1, count), datetime.now(UTC)
        value = {"steps": 200_000, "values": rng.random(), "timestamps": now}
        store.database.metrics.update_one({"run_id": run, "name": "train_loss"}, {"$push": value})
        heartbeat = {"heartbeat": now, "result.train_loss": rng.random()}
        store.database.runs.update_one({"_id": run}, {"$set": heartbeat})


def described(seconds: list[float]) -> tuple[str, str]:
    """The median and the largest of some times."""
    return f"{statistics.median(seconds):.2f}", f"{max(seconds):.2f}"


if __name__ == "__main__":
    main()
