"""Runs made by hand, for tests of claims."""

from collections.abc import Sequence
from typing import Any

from grok.claims.model import Run

Curve = tuple[Sequence[int], Sequence[float]]


def run(
    seed: int = 0,
    result: dict[str, Any] | None = None,
    named_configs: Sequence[str] = ("cpu",),
    **series: list[float],
) -> Run:
    """A run whose metrics were logged at steps 0, 10, 20, ..."""
    logged = {name: (list(range(0, 10 * len(v), 10)), v) for name, v in series.items()}
    return Run({"seed": seed}, result or {}, logged, frozenset(named_configs))
