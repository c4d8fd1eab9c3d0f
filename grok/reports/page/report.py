"""`grok report`: the whole store as one HTML page that opens from disk, without a network."""

import base64
import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from plotly.offline import get_plotlyjs

from grok.errors import UserError, writing
from grok.paths import atomic_write
from grok.reports.page.curves import reading
from grok.reports.page.packing import packed, without_garbage_collection
from grok.reports.page.views import json_value
from grok.store.connection import Store

FRONT = Path(__file__).parent / "front"
# A page that is opened from disk has scripts inside it; it can reach no server.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)


def write(
    store: Store,
    wanted: dict[str, Any],
    path: Path,
    figures: list[Path],
    details: Callable[[Store, str], dict[str, Any]] | None = None,
) -> int:
    """Write the page of the runs that match a query.

    Arguments:
        figures: folders of the papers' pictures; the first that has a picture of a name is used.
        details: a function of the store and a sweep's id, that returns the `map` which it makes.

    Returns:
        the number of runs.

    Raises:
        UserError: runs were deleted meanwhile, or the page cannot be written.
    """
    runs = [run["_id"] for run in store.database.runs.find(wanted, ["_id"]).sort("_id", -1)]
    with reading(store, runs) as curves, without_garbage_collection():
        from grok.reports.page.collect import summary_of  # imports torch while curves are read

        summary = summary_of(store, {"_id": {"$in": runs}}, figures)
        summary["spark"], drawn, last = curves.result()
    if summary["runs"]["run"] != runs:  # its rows would not be those of the curves
        raise UserError("runs were deleted while the report read them; write it again")
    for sweep in summary["sweeps"]:
        if details and sweep["has_details"]:
            with contextlib.suppress(UserError):  # an imported map may be of other points
                known = {"map": details(store, sweep["id"])["map"], "tasks": []}
                sweep["details"] = json_value(known)
    page = with_parts((FRONT / "page.html").read_text())
    stored = {"summary": packed(summary), "details": drawn, "last": last, "plotly": get_plotlyjs()}
    data = "".join(
        f'<script id="{name}" type="application/octet-stream">{text}</script>\n'
        for name, text in stored.items()
    )
    with writing(path), atomic_write(path) as file:
        file.write(page.replace("</body>", f"{data}</body>").encode())
    return len(runs)


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
