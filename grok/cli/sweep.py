"""`grok sweep` and `grok map`: many runs from one W&B sweep file."""

import re
from pathlib import Path

import click

from grok.cli.options import NamedPath, mongo_option, port_option
from grok.errors import UserError, read_text
from grok.paths import sweep_file

batch_option = click.option(
    "--batch", type=click.IntRange(1), default=16, show_default=True, help="points at once"
)
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="processes that train; else one for each idle core"
)


@click.group()
def sweep() -> None:
    """Many runs from one W&B sweep file."""


@sweep.command()
@mongo_option
@click.argument("file", type=NamedPath())
@click.option("--limit", type=click.IntRange(1), help="at most this many points")
@click.option("--seeds", type=click.IntRange(1), help="every point with this many seeds")
@click.option("--slots", type=click.IntRange(1), help="replicas that train at once")
@workers_option
@click.option("--resume", is_flag=True, help="resume the latest sweep of this file")
@click.option("--id", "sweep_id", help="the sweep to resume, if not the latest")
@click.option("--dry-run", is_flag=True, help="print points, batches and time; run nothing")
def run(
    file: Path,
    limit: int | None,
    seeds: int | None,
    slots: int | None,
    workers: int | None,
    resume: bool,
    sweep_id: str | None,
    dry_run: bool,
) -> None:
    """Run a sweep on this machine, without a server."""
    file = sweep_file(file)
    read_text(file)  # an error here, before the seconds of imports
    resume = resume or bool(sweep_id)
    if resume and (limit or seeds):
        raise UserError("--limit and --seeds are for a new sweep")

    from grok.sweep import commands

    act = commands.describe if dry_run else commands.run
    act(file, limit, seeds, slots, workers, resume, sweep_id)


@sweep.command()
@mongo_option
@click.option("--host", default="127.0.0.1", show_default=True, help="address to listen on")
@port_option(8410)
@click.option(
    "--lost-after",
    default=120.0,
    show_default=True,
    help="seconds without a heartbeat after which an agent is lost",
)
def serve(host: str, port: int, lost_after: float) -> None:
    """Answer `wandb sweep` and `wandb agent` where there is no internet."""
    from grok.sweep import serving

    serving.serve(host, port, lost_after)


@sweep.command()
@mongo_option
@click.argument("sweep")
@batch_option
@workers_option
def agent(sweep: str, batch: int, workers: int | None) -> None:
    """Work on a W&B sweep, many points as one program."""
    from grok.sweep.client import Client, SweepName

    Client.find().config(SweepName.parse(sweep))  # a wrong name, before the seconds of imports

    from grok.sweep.agent import run_agent

    run_agent(sweep, batch, workers)


@sweep.command()
@mongo_option
@click.argument("file", type=NamedPath(), required=False)
@click.option("--sweep", help="join this sweep instead of creating one")
@click.option("--partition", help="Slurm partition")
@click.option("--agents", type=click.IntRange(1), default=1, show_default=True)
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="for each agent")
@click.option("--time", help="time limit, as Slurm writes it")
@batch_option
@click.option(
    "--workers", type=click.IntRange(1), help="processes of each agent, which share its GPU"
)
@click.option("--sbatch", "extra", multiple=True, help="a further sbatch option, as --mem=8G")
@click.option("--dry-run", is_flag=True, help="print the script; submit nothing")
def submit(
    file: Path | None,
    sweep: str | None,
    partition: str | None,
    agents: int,
    gpus: int,
    time: str | None,
    batch: int,
    workers: int | None,
    extra: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Queue an array of agents in Slurm."""
    if file is not None:
        file = sweep_file(file)
        read_text(file)

    from grok.sweep import submission
    from grok.sweep.slurm import Request

    request = Request(partition, agents, gpus, time, batch, workers, extra)
    submission.submit(file, sweep, request, dry_run)


@sweep.command()
@mongo_option
@click.argument("sweep", required=False)
def status(sweep: str | None) -> None:
    """Points done, running and failed, by whom, and Slurm's jobs."""
    from grok.sweep import status

    if sweep is None:
        status.show_sweeps()
    else:
        status.show_sweep(sweep)


RESOLUTION = (64, 64)


def _resolution(
    context: click.Context, _: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """The numbers of values of the x and the y axis."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if match is None:
        raise UserError(f"--resolution {text}: expected two whole numbers, as in 64x64")
    return int(match[1]), int(match[2])


@click.command("map")
@mongo_option
@click.argument("file", type=NamedPath())
@click.option(
    "--resolution",
    callback=_resolution,
    metavar="COLUMNSxROWS",
    help="cells of the diagram; else 64x64",
)
@click.option(
    "--budget",
    type=click.IntRange(1),
    help="at most this many runs; else the file's run_cap, or as many as there are cells",
)
@click.option("--seeds", type=click.IntRange(1), help="seeds of a cell where they differ; else one")
@click.option("--slots", type=click.IntRange(1), help="replicas that train at once")
@workers_option
@click.option("--resume", is_flag=True, help="continue the latest map of this file")
@click.option("--id", "sweep_id", help="the map to continue, if not the latest")
@click.option("--serve", is_flag=True, help="leave the runs to agents of grok sweep serve")
def map_diagram(
    file: Path,
    resolution: tuple[int, int] | None,
    budget: int | None,
    seeds: int | None,
    slots: int | None,
    workers: int | None,
    resume: bool,
    sweep_id: str | None,
    serve: bool,
) -> None:
    """Map a phase diagram over two ranges, by the runs at its boundary."""
    file = sweep_file(file)
    read_text(file)  # an error here, before the seconds of imports
    resume = resume or bool(sweep_id)
    if resume and (resolution or seeds or serve):
        raise UserError("--resolution, --seeds and --serve are for a new map")

    from grok.sweep import map as maps

    if serve:
        maps.serve(file, resolution or RESOLUTION, seeds, budget)
    else:
        maps.run(file, resolution or RESOLUTION, seeds, budget, slots, workers, resume, sweep_id)
