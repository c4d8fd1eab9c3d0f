"""`grok report`: the whole store as one HTML page that opens from disk, without a network."""

import base64
import gc
import gzip
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from grok.paths import atomic_write
from grok.reports.page.collect import details_of, summary_of
from grok.store.connection import Store

FRONT = Path(__file__).parent / "front"
# A page that is opened from disk has scripts inside it; it can reach no server.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
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
    page = with_parts((FRONT / "page.html").read_text())
    stored = {"summary": packed(summary), "details": packed(details), "plotly": get_plotlyjs()}
    data = "".join(
        f'<script id="{name}" type="application/octet-stream">{text}</script>\n'
        for name, text in stored.items()
    )
    with atomic_write(path) as file:
        file.write(page.replace("</body>", f"{data}</body>").encode())
    return len(summary["runs"]["run"])


def with_parts(page: str) -> str:
    """The live page's HTML with all its files inside it, as modules and styles of its own."""
    modules = {f"grok/{path.name}": data_url(path) for path in sorted(FRONT.glob("*.js"))}
    page = re.sub(
        r'<link rel="stylesheet" href="files/([^"]+)">',
        lambda match: f"<style>{_file(match[1])}</style>",
        page,
    )
    page = re.sub(
        r'<script src="files/([^"]+)" defer></script>',
        lambda match: f"<script>{_file(match[1])}</script>",
        page,
    )
    page = re.sub(
        r'<script type="importmap">.*?</script>',
        lambda _: f'<script type="importmap">{json.dumps({"imports": modules})}</script>',
        page,
    )
    page = page.replace('src="files/main.js"></script>', '>import "grok/main.js";</script>')
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    return page.replace("<title>grok board", f"{policy}\n<title>grok report")


def _file(name: str) -> str:
    (path,) = FRONT.rglob(name)
    return path.read_text()


def data_url(path: Path) -> str:
    """A module as an address that holds its text."""
    return "data:text/javascript;base64," + base64.b64encode(path.read_bytes()).decode()


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
