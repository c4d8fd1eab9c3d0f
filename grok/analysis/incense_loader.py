"""incense's objects for runs with metrics that are stored in several documents."""

from typing import Any

import pandas as pd
from incense import ExperimentLoader
from incense.experiment import Experiment

from grok.store.documents import find_metrics


class WholeExperiment(Experiment):
    """incense's run, with every metric whole; incense itself would show one document of each."""

    def _load_metrics(self) -> dict[str, pd.Series]:
        return {
            metric["name"]: pd.Series(
                metric["values"], pd.Index(metric["steps"], name="step"), name=metric["name"]
            )
            for metric in find_metrics(self._database.metrics, {"run_id": self.id})
        }


class WholeLoader(ExperimentLoader):
    """incense's loader, which makes runs of this class."""

    def _make_experiment(self, experiment: dict[str, Any]) -> WholeExperiment:
        return WholeExperiment.from_db_object(
            self._database, self._grid_filesystem, experiment, loader=self, unpickle=False
        )
