"""The events of one replica, recorded in a Sacred run: metrics, trajectories, weights, result."""

import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sacred.run import Run
from safetensors.torch import save_file

from grok.engine.checkpoint import below
from grok.engine.events import (
    HOPELESS,
    WEIGHTS,
    Event,
    Intervened,
    Outcome,
    Record,
    Saved,
    Start,
    stacked,
)
from grok.engine.problem import Problem
from grok.errors import UserError, writing
from grok.phases import UNDECIDED, first_step_held, phase

# Runs that end together summarize one after the other: a dozen summaries at once would hold
# Python's lock for so long that the store's calls time out.
SUMMARY_LOCK = threading.Lock()


WriteCheckpoint = Callable[[Saved, list[Record], float], None]


class Recorder:
    """Records the events of one run; `result` can be read at any time.

    Arguments:
        run: the Sacred run.
        problem: what is trained.
        threshold, delay: the accuracy that counts as reached, and the number of steps between
            train and test accuracy from which a run counts as grokking (Liu et al. 2022, table 1).
        write_checkpoint: is given a saved state, the records before it and the seconds so far.
        seconds: how long the run had taken before it was resumed.
    """

    def __init__(
        self,
        run: Run,
        problem: Problem,
        threshold: float,
        delay: int,
        write_checkpoint: WriteCheckpoint = lambda *_: None,
        seconds: float = 0.0,
    ):
        self.run = run
        self.problem = problem
        self.threshold = threshold
        self.delay = delay
        self.series: dict[str, tuple[list[int], list[float]]] = {}
        self.records: list[Record] = []
        self.outcome: Outcome | None = None
        # of each intervention, when it happened
        self.intervention_steps: list[int | None] = [None] * len(problem.interventions)
        self.started = time.perf_counter() - seconds
        self.write_checkpoint = write_checkpoint

    def record(self, event: Event) -> None:
        """Record one event of this run's replica."""
        if isinstance(event, Start):
            self.run.info["program"] = {
                "slot": event.slot,
                "slots": event.slots,
                "compiled": event.compiled,
                "threads": event.threads,
                "fused": event.fused,
            }
        elif isinstance(event, Record):
            self._log(event)
        elif isinstance(event, Intervened):
            self.intervention_steps[event.number] = event.step
        elif isinstance(event, Saved):
            self.write_checkpoint(event, self.records, self.seconds())
        elif isinstance(event, Outcome):
            self.outcome = event
            self.run.info["program"]["compiled"] = event.compiled

    def _log(self, record: Record) -> None:
        for step, metrics in (*record.burst_metrics, (record.step, record.metrics)):
            for name, value in metrics.items():
                self.run.log_scalar(name, value, step)
                steps, values = self.series.setdefault(name, ([], []))
                steps.append(step)
                values.append(value)
        self.records.append(record)

    def add(self, name: str, steps: Sequence[int], values: Sequence[float]) -> None:
        """Log a metric that is known only at the end."""
        for step, value in zip(steps, values, strict=True):
            self.run.log_scalar(name, value, step)
        self.series[name] = list(steps), list(values)

    def seconds(self) -> float:
        """How long the run has taken."""
        return time.perf_counter() - self.started

    def first_step_held(self, metric: str, threshold: float) -> int | None:
        """First logged step at which the metric reaches the threshold and holds it at the next."""
        return first_step_held(*self.series[metric], threshold) if metric in self.series else None

    def final(self, metric: str) -> float | None:
        """Last logged value of a metric."""
        return self.series[metric][1][-1] if metric in self.series else None

    def trajectory(self, name: str) -> np.ndarray:
        """A logged array over time, (logged steps, ...)."""
        return np.stack([record.arrays[name] for record in self.records if record.arrays])

    def kept_weights(self) -> list[dict[str, np.ndarray]]:
        """The weights at the logged steps that have arrays, by name; empty without record_trajectory."""
        return [below(r.arrays, WEIGHTS) for r in self.records if r.arrays]

    def kept_steps(self) -> list[int]:
        """The logged steps that have arrays, those of `trajectory` and `kept_weights`."""
        return [record.step for record in self.records if record.arrays]

    def result(self) -> dict[str, Any]:
        """Phase, steps to thresholds, final metrics, how it ended."""
        if not self.series:
            return {}
        train = self.first_step_held("train_accuracy", self.threshold)
        test = self.first_step_held("test_accuracy", self.threshold)
        ended = self.outcome.reason if self.outcome else "interrupted"
        # of such a run "memorization" would be the prediction by which it was ended
        is_given_up = ended == HOPELESS and test is None
        interventions = {}
        if self.intervention_steps:
            interventions["intervention_steps"] = list(self.intervention_steps)
        return {
            "phase": UNDECIDED if is_given_up else phase(train, test, self.delay),
            "steps_to_train": train,
            "steps_to_test": test,
            "delay_ratio": test / train if train and test else None,
            "threshold": self.threshold,
            "steps": self.series["train_loss"][0][-1],
            "ended": ended,
            "compiled": self.run.info["program"]["compiled"],
            "seconds": round(self.seconds(), 3),
            **interventions,
            # the measures' many numbers, MEASURE/METRIC, are in the series
            **{name: values[-1] for name, (_, values) in self.series.items() if "/" not in name},
        }

    def save_artifacts(self) -> None:
        """Trajectories and kept data as `trajectory.npz`, final weights as `weights.safetensors`.

        UserError if there is no space for them.
        """
        with tempfile.TemporaryDirectory() as folder, writing(Path(folder)):
            kept = {
                f"data_{k}": self.problem.data[k].cpu().numpy() for k in self.problem.saved_data
            }
            arrays = stacked(self.records)
            if kept or arrays:
                path = Path(folder) / "trajectory.npz"
                content: dict[str, Any] = {"steps": np.array(self.kept_steps()), **kept, **arrays}
                np.savez_compressed(path, **content)
                self._add(path)
            if self.outcome is not None:
                path = Path(folder) / "weights.safetensors"
                save_file({k: v.cpu().contiguous() for k, v in self.outcome.weights.items()}, path)
                self._add(path)

    def _add(self, path: Path) -> None:
        self.run.add_artifact(path, path.name, content_type="application/octet-stream")


def record_run(
    run: Run,
    recorder: Recorder,
    events: Iterable[Event],
    summarize: Callable[[Recorder], dict[str, Any]],
    show: Callable[[Event], None] = lambda event: None,
) -> dict[str, Any]:
    """Record a run to its end, and return its result.

    Arguments:
        events: of the run's replica. What was recorded is kept when they raise an exception.
        summarize: gives further entries of the result.
        show: is called with each event, once it is recorded.
    """
    try:
        for event in events:
            recorder.record(event)
            show(event)
    except BaseException:
        try:
            _finish(run, recorder, summarize)
        except UserError as error:  # it must not replace an interrupt, by which the run is known
            print(f"error: {error}", file=sys.stderr)
        except Exception:
            traceback.print_exc()
        raise
    return _finish(run, recorder, summarize)


def _finish(
    run: Run, recorder: Recorder, summarize: Callable[[Recorder], dict[str, Any]]
) -> dict[str, Any]:
    """Keep the files of a run and its result, and return that; without the summary if that raises."""
    recorder.save_artifacts()
    try:
        with SUMMARY_LOCK:
            summary = summarize(recorder) if recorder.series else {}
    except Exception:
        run.result = recorder.result()
        raise
    result = {**recorder.result(), **summary}
    run.result = result  # last: who has a result has all of the run
    return result
