"""The HTTP rules of `grok sweep serve`: which requests are answered, and which are refused.

There is no user interface, no projects and no storage of W&B runs: W&B's own server has them.
"""

import secrets

from flask import Flask, Response, abort, jsonify, request
from pymongo.errors import PyMongoError
from werkzeug.exceptions import HTTPException

from grok.errors import UserError
from grok.http_server import RateLimit, is_addressed, own_names
from grok.sweep.calls import parse_call
from grok.sweep.queue import SweepQueue
from grok.wandb_servers import ENDPOINT_NAME, HEALTH_PATH

MAX_BYTES = 2**20  # of a request's body; a sweep file has a few kB
MAX_RATE = 100  # requests a second of one connection; an agent sends one every few seconds


def app(queue: SweepQueue, token: str, host: str = "localhost") -> Flask:
    """The WSGI application that serves a queue at /graphql and says that it is there at HEALTH_PATH.

    Both need the token. A request of a web page is refused, whatever it asks for: by its Origin,
    and where the page reaches this server under a name of its own (DNS rebinding) by its Host.

    Arguments:
        host: The name or address that the server listens at.
    """
    server = Flask("grok", static_folder=None)
    server.config.update(MAX_CONTENT_LENGTH=MAX_BYTES, PROVIDE_AUTOMATIC_OPTIONS=False)
    names = own_names(host)
    limit = RateLimit(MAX_RATE)

    @server.before_request
    def admit() -> None:
        if "Origin" in request.headers or not is_addressed(request.headers.get("Host", ""), names):
            abort(403, "requests of web pages, or to another name of this machine, are refused")
        if not limit.admits((request.remote_addr, request.environ.get("REMOTE_PORT"))):
            abort(429, f"more than {MAX_RATE} requests a second on one connection")
        # waitress reads //graphql as /graphql; only the two paths as they are written are served
        if request.environ.get("REQUEST_URI", request.path).partition("?")[0] != request.path:
            abort(404)
        if request.routing_exception is not None:
            return  # 404 or 405
        given = request.authorization
        password = (given.password if given else None) or ""
        if not secrets.compare_digest(password.encode(), token.encode()):
            abort(401, "wrong or missing token (WANDB_API_KEY)")

    @server.get(HEALTH_PATH)
    def health() -> str:
        return f"{ENDPOINT_NAME}\n"

    @server.post("/graphql")
    def graphql() -> Response:
        if request.mimetype != "application/json":
            abort(415, "expected the content type application/json")
        return jsonify({"data": parse_call(request.get_data()).answer(queue)})

    @server.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[Response, int]:
        return _error(error.description or "", error.code or 500)

    @server.errorhandler(UserError)
    def user_error(error: UserError) -> tuple[Response, int]:
        return _error(str(error), 400)

    @server.errorhandler(PyMongoError)
    def store_error(error: PyMongoError) -> tuple[Response, int]:
        return _error(f"the store does not answer: {error}", 503)

    return server


def _error(message: str, code: int) -> tuple[Response, int]:
    return jsonify({"errors": [{"message": " ".join(message.split())}]}), code
