"""The rule by which a run with `stop_when_hopeless` is given up: the prediction that it will not grok.

A network that has memorized groks while weight decay lowers the norm of its weights, which has risen
until then (Liu et al. 2023, Omnigrok, section 2; arXiv:2605.18845). So a run is hopeless if, after a
tenth of its steps, it has memorized and its norm is still at its largest: not below the norms after a
twentieth and a fortieth of them. The rule has no fitted constant and reads no label of the test set.
It was chosen on seeds 0 and 1 of experiments/early_prediction.py; docs/papers/early_prediction.md has
its errors on other seeds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

FRACTIONS = (0.025, 0.05, 0.1)  # of a run's steps, after which its norm is compared


@dataclass(frozen=True)
class HopelessRule:
    """The rule for one run.

    steps: the evaluation steps whose norms are compared, in order; the run is judged at the last.
    memorized: the train accuracy from which it has memorized.
    """

    steps: tuple[int, ...]
    memorized: float

    def is_hopeless(self, train_accuracy: float, norms: Sequence[float]) -> bool:
        """Whether a run will not grok within its steps.

        Arguments:
            train_accuracy: at the last of the steps.
            norms: of the weights, at each of the steps.
        """
        return train_accuracy >= self.memorized and norms[-1] >= max(norms)


def rule_of(train_steps: int, log_steps: Sequence[int], memorized: float) -> HopelessRule | None:
    """The rule for a run of so many steps that is evaluated at these; None if they are too few.

    Arguments:
        memorized: as in HopelessRule.
    """
    steps = [
        min((step for step in log_steps if step >= fraction * train_steps), default=train_steps)
        for fraction in FRACTIONS
    ]
    differ = len({*steps, train_steps}) == len(steps) + 1
    return HopelessRule(tuple(steps), memorized) if differ else None
