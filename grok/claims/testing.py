"""For tests of a paper's claims: runs made by hand, and what a claim finds on them."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from grok.claims.model import Finding, Run, Runs, evaluate


def claim_run(
    named_config: str,
    result: Mapping[str, Any] | None = None,
    series: Mapping[str, tuple[list[int], list[float]]] | None = None,
    **config: Any,
) -> Run:
    """A finished run of a named config, made by hand, as claims see it."""
    return Run({"seed": 0, **config}, result or {}, series or {}, frozenset({named_config}))


def finding(paper: ModuleType, claim: str, *runs: Run) -> Finding:
    """The outcome of one claim of a paper on some runs; it must have been evaluated."""
    (chosen,) = (each for each in paper.claim if each.id == claim)
    outcome = evaluate(chosen, Runs(runs))
    assert outcome.why is None, outcome.why
    return outcome
