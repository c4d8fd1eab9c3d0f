"""Negative controls: changes of runs on which claims that compare runs must fail.

Each takes the runs of one seed. Every run keeps its configuration, by which the claim selects it,
and gets the result and the metrics of another run.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from grok.claims.model import Run, Runs

SHUFFLE_SEED = 0


def no_effect(runs: Runs) -> Runs:
    """All runs are the first one: no recipe differs from another."""
    return with_outcomes_of(runs, [runs[0]] * len(runs))


def reversed_effect(runs: Runs) -> Runs:
    """The runs are exchanged, the first for the last, and so on."""
    return with_outcomes_of(runs, runs[::-1])


def shuffled(runs: Runs) -> Runs:
    """The runs are exchanged at random."""
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(runs))
    return with_outcomes_of(runs, [runs[i] for i in order])


def with_outcomes_of(runs: Runs, others: Sequence[Run]) -> Runs:
    """The runs with the results and the metrics of others."""
    return Runs(
        replace(run, result=other.result, series=other.series)
        for run, other in zip(runs, others, strict=True)
    )
