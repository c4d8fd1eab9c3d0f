"""Warnings of settings that can be trained, and are hardly ever meant."""

import sys
from functools import cache

from grok.engine.instruments import too_late
from grok.engine.problem import Problem
from grok.engine.spec import Optimizer

LARGE_COUPLED_DECAY = 0.5  # weight decay of Adam, from which it overrides the loss's gradient


def warn_of_coupled_decay(optimizer: Optimizer) -> None:
    """Warn if Adam's weight decay, which is added to the gradient, will drive the weights to zero."""
    decay = max(group.weight_decay for group in optimizer.groups)
    if optimizer.kind == "adam" and decay >= LARGE_COUPLED_DECAY and not optimizer.fixed_norm:
        _warn_once(
            f"weight decay {decay:g} with optimizer=adam is added to the gradient, outweighs that of "
            "the loss and drives the weights to zero; with optimizer=adamw it is decoupled"
        )


def warn_of_large_batch(problem: Problem) -> None:
    """Warn if a mini-batch, drawn with replacement, has more rows than the train set."""
    if problem.batch_size is None:
        return
    rows = len(problem.data[problem.minibatch_keys[0]])
    if problem.batch_size > rows:
        _warn_once(
            f"batch_size={problem.batch_size} draws from {rows} train rows with replacement: every "
            "step repeats rows; batch_size=None trains on each row once a step"
        )


def warn_of_late_measures(problem: Problem) -> None:
    """Warn of the instruments for which a run is too short."""
    late = too_late(problem) if problem.measures is not None else []
    if late:
        _warn_once(
            f"{problem.train_steps:,} steps are too few for {', '.join(late)}; "
            "measure_options.INSTRUMENT changes that, see `grok measures INSTRUMENT`"
        )


def warn_of_crowded_cores() -> None:
    """Warn if more sweep agents run on the cores that this process may use than there are cores."""
    import psutil

    cores = set(psutil.Process().cpu_affinity())
    agents = 0
    for process in psutil.process_iter(["cmdline", "cpu_affinity"]):
        words = process.info["cmdline"] or []
        is_agent = any(_is_agent(words[i : i + 3]) for i in range(len(words)))
        agents += is_agent and bool(cores.intersection(process.info["cpu_affinity"] or ()))
    if agents > len(cores):
        _warn_once(
            f"{agents} sweep agents share {len(cores)} cores and slow each other down; one "
            f"`grok sweep agent` trains many points at once"
        )


def _is_agent(words: list[str]) -> bool:
    """Whether these words of a command line begin `wandb agent` or `grok sweep agent`."""
    program = words[0].rpartition("/")[2]
    return (program == "wandb" and words[1:2] == ["agent"]) or (
        program in ("grok", "grok.cli") and words[1:3] == ["sweep", "agent"]
    )


@cache
def _warn_once(message: str) -> None:
    """Print a warning on stderr, once per process."""
    print(f"warning: {message}", file=sys.stderr)
