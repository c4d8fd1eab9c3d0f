"""The former interface of papers, until every paper's file is rewritten."""

from typing import Any

from grok.claims.model import Claim, Claims
from grok.experiment.experiment import Experiment


class Paper(Experiment):
    def __init__(self, name: str, threshold: float, delay: int, choices: Any = None):
        super().__init__(name, threshold, delay, depth=2)
        Claims(self)

    def claim(self, id, says, check=None, *, sweep=None, **how):  # type: ignore
        def add(check):  # type: ignore
            self.claims.append(Claim(id, says, check, sweep or f"{self.path}_cpu", **how))
            return check

        return add if check is None else add(check)

    def add_named_configs(self, configs):  # type: ignore
        for name, values in configs.items():
            self.add_named_config(name, dict(values))

    inherit = Experiment.warm_start
