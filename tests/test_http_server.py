"""Where the project's HTTP servers listen."""

import click
import pytest

from grok import http_server
from grok.cli.report import board
from grok.cli.store import serve as serve_store
from grok.cli.sweep import serve as serve_sweeps
from grok.errors import UserError


@pytest.mark.parametrize(
    ("host", "port"), [("no such host", 0), ("nosuchhost.invalid", 0), ("127.0.0.1", -1)]
)
def test_an_address_where_nothing_can_listen_is_one_line(host, port):
    """waitress raises ValueError for them, which was a traceback."""
    with pytest.raises(UserError, match=f"^cannot listen on {host}:{port}: [^\\n]+$"):
        http_server.listen(lambda environ, start: [], host, port, 1)


def test_a_url_has_an_ipv6_address_in_brackets():
    """`grok sweep serve --host ::1` printed and stored http://::1:8410, which no client can read."""
    assert http_server.url_of("::1", 8410) == "http://[::1]:8410"
    assert http_server.url_of("127.0.0.1", 8410) == "http://127.0.0.1:8410"


@pytest.mark.parametrize("command", [board, serve_sweeps, serve_store])
@pytest.mark.parametrize("port", ["99999", "-1"])
def test_a_port_that_there_cannot_be_is_refused(command, port):
    """The servers listened on another port than the one that was asked for: 99999 modulo 65536."""
    with pytest.raises(click.BadParameter, match=f"{port} is not in the range 0<=x<=65535"):
        command.make_context(command.name, ["--port", port])
