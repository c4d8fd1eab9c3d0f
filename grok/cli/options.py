"""Arguments and decorators that several commands, and the scripts of `analysis`, share."""

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec

import click

from grok.errors import UserError

if TYPE_CHECKING:
    from grok.store.connection import Store

P = ParamSpec("P")

SELECTION_HELP = """RUNS are chosen by filters, all of which must hold: experiment=liu_toy, run=3,5,10..20,
sweep=ID or the name of its file (the latest), status=COMPLETED, tag=cpu (a named config, or a tag of Omniboard's),
claim=07a (has passed; claim=-07a: has not), since=2026-11-20, until=2026-11-21T12:00. Any other key is one
of the config's, dotted if nested, or result.KEY: p=10, lr=1e-3..1e-2, seed=0,1,2, result.phase=grokking."""

runs_argument = click.argument("filters", nargs=-1, metavar="[RUNS]...")


class NamedPath(click.Path):
    """The path of a file or folder that has a name: an empty one would be the working directory.

    Arguments:
        options: as of `click.Path`.
    """

    def __init__(self, **options: bool):
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; UserError if it is empty."""
        if value == "":
            name = param.get_error_hint(ctx).replace("'", "") if param else "path"
            raise UserError(f"{name} '': expected the name of a file or folder")
        return super().convert(value, param, ctx)


def run_id(text: str) -> int | str:
    """A run's id: a number, or the name that Sacred's `--id` gave it.

    No run has a number of more than 18 digits: MongoDB's have at most 64 bits.
    """
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else text


def _mongo_uri(context: click.Context, _: click.Parameter, argument: str | None) -> str | None:
    """The URI of the MongoDB that `-m` names."""
    if argument is None:
        return None
    from grok.store.connection import uri_of_all_runs

    return uri_of_all_runs(argument)


def port_option(default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option --port of a command that serves; 0 chooses a free one."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        help="0 chooses a free one",
    )


def mongo_option(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the option -m, whose MongoDB is the default store while the command runs.

    Processes that the command starts use it too.
    """

    @click.option(
        "-m",
        "--mongo_db",
        "mongo_uri",
        metavar="STORE",
        callback=_mongo_uri,
        help="The MongoDB of the runs: mongodb://..., or [HOST:PORT:]DATABASE; else GROK_MONGO_URI.",
    )
    @functools.wraps(command)
    def with_default_store(*args: Any, mongo_uri: str | None, **kwargs: Any) -> None:
        began = time.time()
        before = os.environ.get("GROK_MONGO_URI")
        if mongo_uri is not None:
            os.environ["GROK_MONGO_URI"] = mongo_uri
        try:
            command(*args, **kwargs)
        except UserError:  # as of a wrong name, which is said before pymongo is imported
            raise
        except Exception:
            from grok.store.connection import one_line_errors

            with one_line_errors(began):
                raise
        finally:
            if before is None:
                os.environ.pop("GROK_MONGO_URI", None)
            else:
                os.environ["GROK_MONGO_URI"] = before

    return with_default_store


def with_store(command: Callable[Concatenate["Store", P], None]) -> Callable[P, None]:
    """The command with the option -m, called with the connected store as its first argument."""

    @mongo_option
    @functools.wraps(command)
    def connected(*args: P.args, **kwargs: P.kwargs) -> None:
        from grok.store.connection import mongo

        command(mongo(), *args, **kwargs)

    return connected
