"""The command `grok sweep submit`."""

from pathlib import Path

from grok.errors import UserError
from grok.store import connection as stores
from grok.sweep import file as files
from grok.sweep import slurm
from grok.sweep.client import Client, SweepName


def submit(path: Path | None, sweep: str | None, request: slurm.Request, is_dry_run: bool) -> None:
    """Queue agents in Slurm, for a new sweep from a file or for a sweep that exists.

    Arguments:
        path: The file of a new sweep, or None.
        sweep: The name of an existing sweep, or None.
        request: The agents and their resources.
        is_dry_run: Print the sbatch script and submit nothing.
    """
    if path is not None and sweep is None:
        file = files.read(path)
        if is_dry_run:
            print(slurm.script(request, f"SWEEP-OF-{path.stem}"), end="")
            return
        client = Client.find()
        name = client.create({"name": file.name, **file.config})
    elif path is None and sweep is not None:
        name = SweepName.parse(sweep)
        if is_dry_run:
            print(slurm.script(request, sweep), end="")
            return
        client = Client.find()
        client.config(name)  # UserError if there is no such sweep
    else:
        raise UserError("give either a sweep file or --sweep ID")
    store, environment = stores.mongo(), client.environment()
    if store.kind == "uri":  # an agent never starts a store of its own because this one is away
        environment["GROK_MONGO_URI"] = store.uri
    job = slurm.submit(request, str(name), environment)
    sweeps = store.database.sweeps
    sweeps.update_one({"_id": name.sweep}, {"$push": {"jobs": job}}, upsert=True)
    print(f"sweep {name}: Slurm job {job}, {request.agents} agents; logs in {slurm.log_folder()}")
