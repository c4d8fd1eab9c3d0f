"""`grok board`: the page over the store, live, for the browsers of those who have its link."""

import base64
import contextlib
import hashlib
import json
import logging
import re
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, abort, redirect, request
from plotly.offline import get_plotlyjs
from pymongo.errors import PyMongoError
from werkzeug import Response as BaseResponse
from werkzeug.exceptions import HTTPException

from grok.errors import UserError
from grok.http_server import RateLimit, is_addressed, listen, own_names, url_of
from grok.interrupts import raise_on_signals
from grok.paths import PROJECT
from grok.reports.page import arrays, published, views
from grok.reports.page.changes import Cache, Changes
from grok.store.connection import Store

FRONT = Path(__file__).parent / "front"
MAX_BYTES = 2**16  # of a request's body: tags and notes
MAX_RATE = 100  # requests a second of one connection
MOST_VIEWERS = 32  # live connections; each keeps a thread
THREADS = MOST_VIEWERS + 8
PAUSE = 15.0  # seconds after which a stream without news says that it is alive
MOST_IDS = 200  # runs whose curves one answer has
MOST_TAGS, LONGEST_TAG, LONGEST_NOTES = 50, 200, 20_000
FIGURES = [Path("figures"), PROJECT / "docs" / "images"]  # folders of the papers' pictures
TYPES = {".css": "text/css", ".js": "text/javascript"}
FILES = {path.name: path for path in FRONT.rglob("*") if path.suffix in TYPES}
PAGE = (FRONT / "page.html").read_text()
(IMPORT_MAP,) = re.findall(r'<script type="importmap">(.*?)</script>', PAGE, re.DOTALL)
IMPORT_MAP_HASH = base64.b64encode(hashlib.sha256(IMPORT_MAP.encode()).digest()).decode()
# Styles are set by the table and by plotly.js while they draw; scripts are files of this server only.
POLICY = (
    f"default-src 'none'; script-src 'self' 'sha256-{IMPORT_MAP_HASH}'; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
REFUSED = "this page needs the link, with its token, that `grok board` has printed"


def nothing_more(store: Store, sweep: str) -> dict[str, Any]:
    """No details of a sweep."""
    return {"map": None, "tasks": []}


def serve(
    store: Store,
    host: str,
    port: int,
    references: list[Path],
    details: Callable[[Store, str], Any] = nothing_more,
) -> None:
    """Serve the page until interrupted; prints its link.

    Arguments:
        port: 0 chooses a free one.
        references: CSV files of published grids.
        details: see `app`.
    """
    grids = [published.read(path) for path in references]
    token = secrets.token_urlsafe(24)
    changes = Changes(store.database)
    server = listen(
        app(store, token, changes, host, grids, details),
        host,
        port,
        THREADS,
        max_request_body_size=MAX_BYTES,
    )
    changes.start()
    print(f"{store.describe()}; open in a browser:")
    print(f"{url_of(host, server.effective_port)}/?token={token}", flush=True)
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # requests may wait for a thread
    raise_on_signals()
    thread = threading.Thread(target=server.run, name="server", daemon=True)
    thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        thread.join()
    changes.stop()  # before the threads that wait for changes are asked to end
    server.task_dispatcher.shutdown()


def app(
    store: Store,
    token: str,
    changes: Changes,
    host: str = "localhost",
    grids: Sequence[published.Grid] = (),
    details: Callable[[Store, str], Any] = nothing_more,
) -> Flask:
    """The WSGI application of the page.

    Every request needs the token: in the link that opens the page, then in a cookie that scripts
    cannot read and that no other site's requests carry. Requests of other web pages are refused.

    Arguments:
        changes: of the store; its polling has to be started.
        host: the name or address that the server listens at.
        grids: published ones, which are shown beside diagrams over their keys.
        details: a function of the store and a sweep's id, that returns its `map` and Slurm's `tasks`.
    """
    server = Flask("grok", static_folder=None)
    server.config.update(MAX_CONTENT_LENGTH=MAX_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
    names = own_names(host)
    limit = RateLimit(MAX_RATE)
    cache = Cache(changes)
    answers: dict[str, Callable[[Store], Any]] = {
        **VIEWS,
        "runs": partial(_runs, last=views.LastValues()),
    }
    viewers = threading.BoundedSemaphore(MOST_VIEWERS)
    # Cookies are shared by all ports of a host, so each server has a name of its own.
    cookie = "grok_board_" + hashlib.sha256(token.encode()).hexdigest()[:12]
    plotly = get_plotlyjs().encode()

    def is_token(given: str) -> bool:
        return secrets.compare_digest(given.encode(), token.encode())

    @server.before_request
    def admit() -> BaseResponse | None:
        address = request.headers.get("Host", "")
        if not is_addressed(address, names):
            abort(403, "requests to another name of this machine are refused")
        origin = request.headers.get("Origin")
        if origin is not None and not _is_of(origin, address):
            abort(403, "requests of other web pages are refused")
        if not limit.admits((request.remote_addr, request.environ.get("REMOTE_PORT"))):
            abort(429, f"more than {MAX_RATE} requests a second on one connection")
        if request.path == "/" and is_token(request.args.get("token", "")):
            answer = redirect("/")  # the token shall not stay in the address
            answer.set_cookie(cookie, token, httponly=True, samesite="Strict")
            return answer
        if not is_token(request.cookies.get(cookie, "")):
            abort(401, REFUSED)
        return None

    @server.after_request
    def protect(answer: Response) -> Response:
        answer.headers.update(HEADERS)
        answer.headers.setdefault("Cache-Control", "no-store")
        return answer

    @server.get("/")
    def page() -> Response:
        return Response(PAGE, mimetype="text/html")

    @server.get("/files/<name>")
    def file(name: str) -> BaseResponse:
        if name == "plotly.min.js":
            content, kind = plotly, "text/javascript"
        elif name in FILES:
            content, kind = FILES[name].read_bytes(), TYPES[FILES[name].suffix]
        else:
            abort(404)
        answer = Response(content, mimetype=kind)
        answer.add_etag()
        answer.headers["Cache-Control"] = "no-cache"
        return answer.make_conditional(request)

    @server.get("/figures/<name>")
    def figure(name: str) -> BaseResponse:
        paths = (path for folder in FIGURES for path in folder.glob("*.png") if path.name == name)
        path = next(paths, None)
        if path is None:
            abort(404)
        answer = Response(path.read_bytes(), mimetype="image/png")
        answer.add_etag()
        answer.headers["Cache-Control"] = "no-cache"
        return answer.make_conditional(request)

    @server.get("/api/events")
    def events() -> Response:
        if not viewers.acquire(blocking=False):
            abort(503, f"more than {MOST_VIEWERS} viewers")
        answer = Response(_stream(changes), mimetype="text/event-stream")
        answer.call_on_close(viewers.release)
        return answer

    @server.get("/api/published")
    def published_cells() -> Response:
        x, y = request.args.get("x", ""), request.args.get("y", "")
        content = json.dumps(published.cells(grids, x, y), allow_nan=False)
        return Response(content, mimetype="application/json")

    @server.get("/api/details")
    def details_of_sweep() -> Response:
        def compute() -> bytes:
            found = details(store, request.args.get("sweep", ""))
            return json.dumps(views.json_value(found), allow_nan=False).encode()

        return Response(cache.get(request.full_path, compute), mimetype="application/json")

    @server.get("/api/<view>")
    def view(view: str) -> Response:
        if view not in answers:
            abort(404)

        def compute() -> bytes:
            return json.dumps(answers[view](store), allow_nan=False).encode()

        return Response(cache.get(request.full_path, compute), mimetype="application/json")

    @server.post("/api/notes")
    def notes() -> Response:
        if request.mimetype != "application/json" or "Origin" not in request.headers:
            abort(415, "expected the content type application/json, from this page")
        run, tags, text = _notes(request.get_json())
        views.set_notes(store.database, run, tags, text)
        changes.announce([run])
        return Response("{}", mimetype="application/json")

    @server.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[Response, int]:
        return _error(error.description or "", error.code or 500)

    @server.errorhandler(UserError)
    def user_error(error: UserError) -> tuple[Response, int]:
        return _error(str(error), 400)

    @server.errorhandler(PyMongoError)
    def store_error(error: PyMongoError) -> tuple[Response, int]:
        store.revive()
        return _error(f"the store does not answer: {error}", 503)

    return server


def _is_of(origin: str, address: str) -> bool:
    """Whether an Origin header names a Host header's server."""
    try:
        return urlsplit(origin).netloc == address
    except ValueError:
        return False


def _error(message: str, code: int) -> tuple[Response, int]:
    content = json.dumps({"error": " ".join(message.split())})
    return Response(content, mimetype="application/json"), code


def _stream(changes: Changes) -> Iterator[bytes]:
    """Server-sent events: a message for each change, and a comment now and then."""
    version = changes.version
    yield b"retry: 1000\n\n"
    while not changes.is_stopped:
        message = changes.wait(version, PAUSE)
        if message is None:
            yield b": still here\n\n"
        else:
            version = message["version"]
            yield f"data: {json.dumps(message, default=str)}\n\n".encode()


def _number(name: str, default: int) -> int:
    text = request.args.get(name, str(default))
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{name}={text}: expected a number")
    return int(text[:12])


def _run_id(text: str) -> int | str:
    """A run's id: a number, or the name that Sacred's `--id` gave it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else text


def _given_ids() -> list[int | str]:
    return [_run_id(text) for text in request.args.getlist("run")[:MOST_IDS]]


def _runs(store: Store, last: views.LastValues) -> Any:
    return views.runs(
        store.database,
        request.args.get("filters", ""),
        request.args.getlist("column"),
        request.args.get("sort", "run"),
        request.args.get("down", "1") == "1",
        _number("offset", 0),
        max(1, _number("limit", 100)),
        _given_ids(),
        request.args.getlist("sweep")[:MOST_IDS],
        last,
    )


def _keys(store: Store) -> Any:
    sweeps = request.args.getlist("sweep")[:MOST_IDS]
    return views.keys(store.database, request.args.get("filters"), _given_ids(), sweeps)


def _groups(store: Store) -> Any:
    filters, by = request.args.get("filters", ""), request.args.get("by", "experiment")
    return views.groups(store.database, filters, by, request.args.getlist("column"))


def _curves(store: Store) -> Any:
    ids = _given_ids()
    points = max(2, min(_number("points", views.POINTS), 10 * views.POINTS))
    return views.curves(store.database, ids, request.args.getlist("metric"), points)


def _defaults(store: Store) -> Any:
    from grok.reports.page import (
        experiments,
    )  # which imports torch: the first views do not wait for it

    return experiments.defaults(request.args.get("experiment", ""))


def _arrays(store: Store) -> Any:
    return arrays.listing(store.database, _run_id(request.args.get("run", "")))


def _matrix(store: Store) -> Any:
    run, file, name = (request.args.get(key, "") for key in ("run", "file", "name"))
    return arrays.matrix(store.database, _run_id(run), file, name, _number("place", 0))


def _papers(store: Store) -> Any:
    from grok.reports.page import experiments

    return experiments.papers(store.database, FIGURES)


VIEWS: dict[str, Callable[[Store], Any]] = {
    "about": lambda store: {"store": store.describe()},
    "keys": _keys,
    "groups": _groups,
    "run": lambda store: views.run(store.database, _run_id(request.args.get("run", ""))),
    "curves": _curves,
    "sweeps": lambda store: views.sweeps(store.database),
    "sweep": lambda store: views.sweep(store.database, request.args.get("sweep", "")),
    "defaults": _defaults,
    "papers": _papers,
    "arrays": _arrays,
    "matrix": _matrix,
}


def _notes(body: Any) -> tuple[int | str, list[str], str]:
    """The run, tags and notes that a request gives; UserError if they are of another form."""
    if not isinstance(body, dict) or set(body) != {"run", "tags", "notes"}:
        raise UserError("expected run, tags and notes")
    run, tags, notes = body["run"], body["tags"], body["notes"]
    if isinstance(run, bool) or not isinstance(run, int | str) or not isinstance(notes, str):
        raise UserError("run is a number or a name, notes are text")
    if isinstance(run, int) and abs(run) >= 2**53:
        raise UserError(f"there is no run {run}")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UserError("tags is a list of texts")
    if len(tags) > MOST_TAGS or any(not 0 < len(tag) <= LONGEST_TAG for tag in tags):
        raise UserError(f"at most {MOST_TAGS} tags of 1 to {LONGEST_TAG} characters")
    if len(notes) > LONGEST_NOTES:
        raise UserError(f"notes of at most {LONGEST_NOTES} characters")
    try:
        "".join([notes, *tags, str(run)]).encode()
    except UnicodeEncodeError:
        raise UserError("run, tags and notes must be text in Unicode") from None
    return run, tags, notes
