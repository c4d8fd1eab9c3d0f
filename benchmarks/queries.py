"""Time and memory of queries over 10,000 synthetic runs, compared with incense's queries.

`make bench` prints the table. The runs are in a database of their own, which is dropped at the end.
"""

import resource
import time
from collections.abc import Callable
from dataclasses import replace

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks import synthetic
from grok.analysis import query

INCENSE_EVERY = 20  # incense reads one run in so many, and its time is multiplied


@click.command(help=__doc__)
@click.option("--runs", "count", default=10_000, show_default=True)
@click.option("--steps", default=200, show_default=True, help="logged by each of four metrics")
def main(count: int, steps: int) -> None:
    store = replace(query.connect(), db_name="grok_benchmark")
    store.client.drop_database(store.db_name)
    synthetic.fill(store.database, count, steps)
    table = Table(
        "what",
        "seconds",
        "rows",
        "MB of the result",
        title=f"{count} runs x 4 metrics x {steps} steps",
    )
    try:
        runs, row = timed("config and result table", lambda: query.runs(store))
        table.add_row(*row)
        _, row = timed(
            "the same, one seed and a range of learning rates",
            lambda: query.runs(store, query.select(store, seed=3, decoder_lr=(1e-3, 1e-2))),
        )
        table.add_row(*row)
        long, row = timed("all metrics, long", lambda: query.metrics(store, runs["run"]))
        table.add_row(*row)
        _, row = timed("wide, from long", lambda: query.wide(long))
        table.add_row(*row)
        few = list(range(1, count + 1, INCENSE_EVERY))
        began = time.perf_counter()
        chosen = query.loader(store).find_by_ids(few)
        chosen.project(on=["config.seed", "config.decoder_lr", "result"])
        configs = time.perf_counter() - began
        for run in chosen:
            _ = dict(run.metrics)
        whole = time.perf_counter() - began
        factor = count / len(few)
        table.add_row(
            "incense: three columns of the table",
            f"{configs * factor:.1f} (x {factor:.0f})",
            "",
            "",
        )
        table.add_row("incense: and all metrics", f"{whole * factor:.1f} (x {factor:.0f})", "", "")
        Console().print(table)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak memory of this process: {peak:.0f} MB")
    finally:
        store.client.drop_database(store.db_name)


def timed(what: str, query: Callable[[], pd.DataFrame]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The result of a query, and the table's row about it."""
    began = time.perf_counter()
    frame = query()
    seconds = time.perf_counter() - began
    size = frame.memory_usage().sum() / 1e6
    return frame, (what, f"{seconds:.2f}", f"{len(frame):,}", f"{size:.0f}")


if __name__ == "__main__":
    main()
