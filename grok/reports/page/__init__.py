"""`grok report`: the whole store as one HTML page that opens from disk, without a network."""

import base64
import gc
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from grok.paths import atomic_write
from grok.reports.page.collect import details_of, summary_of
from grok.store.connection import Store

HERE = Path(__file__).parent
COMPRESSION = 4  # of gzip's 9; at 6, a page is 3 % smaller and takes a third longer to write


def write(store: Store, wanted: dict[str, Any], path: Path, figures: list[Path]) -> int:
    """Write the page of the runs that match a query.

    Arguments:
        figures: folders of the papers' pictures; the first that has a picture of a name is used.

    Returns:
        the number of runs.
    """
    with _no_garbage_collection():
        summary = summary_of(store, wanted, figures)
        summary["spark"], details = details_of(store.database, summary["runs"]["run"])
    page = (HERE / "page.html").read_text()
    parts = {
        "css": (HERE / "page.css").read_text(),
        "plotly": get_plotlyjs(),
        "summary": packed(summary),
        "details": packed(details),
        "js": "".join((HERE / name).read_text() for name in ("selection.js", "page.js")),
    }
    for name, text in parts.items():
        page = page.replace("{{" + name + "}}", text)
    with atomic_write(path) as file:
        file.write(page.encode())
    return len(summary["runs"]["run"])


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Suspend the search for cycles: it would visit a store's documents, which have none, again and
    again, and take a sixth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def packed(data: Any) -> str:
    """JSON, compressed, as text that is safe inside HTML."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(gzip.compress(text.encode(), COMPRESSION)).decode()
