"""Arguments and decorators that several commands, and the scripts of `analysis`, share."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

if TYPE_CHECKING:
    from grok.store.connection import Store

P = ParamSpec("P")

SELECTION_HELP = """RUNS are chosen by filters, all of which must hold: experiment=liu_toy, run=3,5,10..20,
sweep=ID or the name of its file (the latest), status=COMPLETED, tag=cpu (a named config, or a tag of Omniboard's),
claim=07a (has passed; claim=-07a: has not), since=2026-11-20, until=2026-11-21T12:00. Any other key is one
of the config's, dotted if nested, or result.KEY: p=10, lr=1e-3..1e-2, seed=0,1,2, result.phase=grokking."""

runs_argument = click.argument("filters", nargs=-1, metavar="[RUNS]...")


def with_store(command: Callable[Concatenate["Store", P], None]) -> Callable[P, None]:
    """The command, called with the connected store as its first argument."""

    @functools.wraps(command)
    def connected(*args: P.args, **kwargs: P.kwargs) -> None:
        from grok.store.connection import mongo

        command(mongo(), *args, **kwargs)

    return connected
