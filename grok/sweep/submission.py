"""The command `grok sweep submit`."""

from datetime import UTC, datetime
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
        script = slurm.script(request, f"SWEEP-OF-{path.stem}")  # an error, before there is a sweep
        if is_dry_run:
            print(script, end="")
            return
        client = Client.find()
        name = client.create({"name": file.name, **file.config})
    elif path is None and sweep is not None:
        name = SweepName.parse(sweep)
        if is_dry_run:
            print(slurm.script(request, sweep), end="")
            return
        client = Client.find()
        config = client.config(name)  # UserError if there is no such sweep
        file = files.check(config, files.name_of(config), f"sweep {name}")
    else:
        raise UserError("give either a sweep file or --sweep ID")
    store, environment = stores.mongo(), client.environment()
    if store.kind == "uri":  # an agent never starts a store of its own because this one is away
        environment["GROK_MONGO_URI"] = store.uri
    job = slurm.submit(request, str(name), environment)
    entries = {  # a sweep of W&B's own server is not in the store yet
        "name": file.name,
        "config": file.config,
        "experiment": file.experiment.path,
        "created": datetime.now(UTC),
    }
    update = {"$push": {"jobs": job}, "$setOnInsert": entries}
    store.database.sweeps.update_one({"_id": name.sweep}, update, upsert=True)
    print(f"sweep {name}: Slurm job {job}, {request.agents} agents; logs in {slurm.log_folder()}")
