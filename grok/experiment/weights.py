"""Weights of stored runs as files in the format safetensors."""

import json
from pathlib import Path

from safetensors.torch import save

from grok.errors import UserError, writing
from grok.experiment.repeat import experiment_of, named_runs
from grok.experiment.warm_start import ParentRun
from grok.models import lens
from grok.models.transformer import Transformer
from grok.paths import atomic_write
from grok.store.connection import Store, find_run


def export(
    store: Store, number: int | str, path: Path, step: int | None = None, hooked: bool = False
) -> int:
    """Write a run's weights and return their step.

    Arguments:
        step: the least step; None for the final weights. Others need `record_trajectory=True`.
        hooked: under the names of HookedTransformer; the file's metadata then have the arguments
            of HookedTransformerConfig as JSON, under `config`.

    Raises:
        UserError: there is no such run or step, or the run's model is no transformer that
            HookedTransformer can be.
    """
    run = find_run(store.database, number)
    parent = ParentRun(store, number)
    if step is None:
        step, weights = (run.get("result") or {}).get("steps", 0), parent.final_weights()
    else:
        step, weights = parent.weights_at(step)
    metadata = {"run": str(number), "step": str(step)}
    if hooked:
        experiment = experiment_of(run)
        # the weights are loaded below
        config = {**experiment.defaults(), **run["config"], "initial_weights": None}
        module = experiment.problem_of(config, lambda: store, named_runs(run)).module
        if not isinstance(module, Transformer):
            raise UserError(f"run {number} has no transformer; export it without --lens")
        module.load_state_dict(weights, strict=False)
        try:
            arguments = lens.hooked_config(module.config)
        except lens.NotHooked as error:
            raise UserError(f"run {number}: {error}; export it without --lens") from error
        positions = module.positions.detach()
        weights = lens.to_hooked(weights, module.config, positions)
        metadata["config"] = json.dumps(arguments)
    content = save({name: value.cpu().contiguous() for name, value in weights.items()}, metadata)
    with writing(path), atomic_write(path) as file:
        file.write(content)
    return int(step)
