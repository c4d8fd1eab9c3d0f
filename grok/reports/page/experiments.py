"""What the page shows of the experiments themselves, which are loaded for it."""

from typing import Any

from grok.experiment.experiment import load
from grok.paths import experiment_file, experiment_names
from grok.reports.page.values import flat
from grok.reports.page.views import json_value


def defaults(name: str) -> dict[str, Any] | None:
    """The default configuration of an experiment, by dotted keys; None if this project has none."""
    if name not in experiment_names():
        return None
    return json_value(flat(load(experiment_file(name)).defaults()))
