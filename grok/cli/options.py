"""Arguments that several commands, and the scripts of `analysis`, share."""

import click

SELECTION_HELP = """RUNS are chosen by filters, all of which must hold: experiment=liu_toy, run=3,5,10..20,
sweep=ID or the name of its file (the latest), status=COMPLETED, tag=cpu (a named config, or a tag of Omniboard's),
claim=07a (has passed; claim=-07a: has not), since=2026-11-20, until=2026-11-21T12:00. Any other key is one
of the config's, dotted if nested, or result.KEY: p=10, lr=1e-3..1e-2, seed=0,1,2, result.phase=grokking."""

runs_argument = click.argument("filters", nargs=-1, metavar="[RUNS]...")
