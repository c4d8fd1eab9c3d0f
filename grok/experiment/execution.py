"""One run of an experiment: a problem, the events of its training, and the Sacred run that records it.

An experiment is a paper's file and never changes. An execution belongs to one run alone, so many
runs of one experiment can be in progress in one process.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from sacred.config.captured_function import create_captured_function
from sacred.observers.base import RunObserver
from sacred.run import Run

from grok.engine.events import Event, Record, Saved
from grok.engine.problem import Problem
from grok.errors import writing
from grok.experiment import metrics_file, resume
from grok.experiment.environment import environment
from grok.experiment.progress import RunProgress
from grok.experiment.recording import Recorder, WriteCheckpoint, record_run
from grok.experiment.resume import ResumePoint
from grok.experiment.show import place
from grok.experiment.wandb_mirror import Identity, Mirror
from grok.store.connection import Store
from grok.store.observer import DurableObserver

Summarize = Callable[[SimpleNamespace, Problem, Recorder], dict[str, Any]]
Series = Mapping[str, tuple[Sequence[int], Sequence[float]]]
Finish = Callable[[Mapping[str, Any], Mapping[str, Any], Series], dict[str, Any]]


@dataclass(frozen=True)
class Execution:
    """What one run does.

    experiment: its name.
    threshold, delay: the accuracy that counts as reached, and the number of steps between train
        and test accuracy from which a run counts as grokking.
    problem: what is trained.
    events: gives the events of the problem's training, in order.
    summarize: gives further entries of the result from (config, problem, recorder).
    finish: give further entries of the run's info from (config, result, series).
    resume_point: where a run that was cut short goes on, None for a new run.
    shows_progress: whether to show a progress bar; it would disturb runs that train side by side.
    metrics_file: where the metrics are also written as they come, None for no file.
    """

    experiment: str
    threshold: float
    delay: int
    problem: Problem
    events: Callable[[Problem], Iterable[Event]]
    summarize: Summarize
    finish: Sequence[Finish] = ()
    resume_point: ResumePoint | None = None
    shows_progress: bool = False
    metrics_file: Path | None = None

    def attach(
        self,
        run: Run,
        store: Store | None = None,
        observer: RunObserver | None = None,
        wandb: Identity | None = None,
    ) -> None:
        """Make a Sacred run execute this when it is called.

        store, observer: where it is recorded; None for a run that is not recorded.
        wandb: the W&B run that mirrors it, if any.
        """
        run.info["environment"] = environment()
        if self.problem.parent_run is not None:
            run.info["initial_run"] = self.problem.parent_run
        if self.problem.weights_file is not None:
            run.info["initial_weights"] = asdict(self.problem.weights_file)
        if self.problem.reference_run is not None:
            run.info["reference_run"] = self.problem.reference_run
        if observer is not None:
            if self.resume_point is not None and isinstance(observer, DurableObserver):
                observer.resumes = self.resume_point.run
            run.observers.append(observer)
            if wandb is not None and store is not None:
                tags = [self.experiment, *run.meta_info["named_configs"]]
                mirror = Mirror(wandb, store.describe(), tags)
                run.info["wandb"] = mirror.link()
                run.observers.append(mirror)

        recording = observer if isinstance(observer, DurableObserver) else None

        def main() -> dict[str, Any]:
            try:
                result = self._train(run, store, recording)
            finally:
                _record_all_values(run)
            if recording is not None:
                recording.check()
            return result

        # Sacred would give all runs of an experiment the same main function.
        run.main_function = create_captured_function(main)

    def _train(
        self, run: Run, store: Store | None, observer: DurableObserver | None
    ) -> dict[str, Any]:
        seconds = self.resume_point.seconds if self.resume_point else 0.0
        write = _checkpoint_writer(run, store, observer)
        recorder = Recorder(run, self.problem, self.threshold, self.delay, write, seconds)
        config = SimpleNamespace(**run.config)

        def summarize(recorder: Recorder) -> dict[str, Any]:
            return self.summarize(config, self.problem, recorder)

        events = self.events(self.problem)
        if self.resume_point is not None:
            events = self.resume_point.replayed(events)
        if observer is not None:
            events = _while_recorded(events, observer)
        if self.metrics_file is not None:
            events = metrics_file.written(events, self.metrics_file)
        if self.shows_progress:
            step = self.resume_point.step if self.resume_point else 0
            with RunProgress(self.experiment, place(run), self.problem, step) as progress:
                result = record_run(run, recorder, events, summarize, progress.show)
        else:
            result = record_run(run, recorder, events, summarize)
        for finish in self.finish:
            run.info.update(finish(run.config, result, recorder.series))
        return result


def _while_recorded(events: Iterable[Event], observer: DurableObserver) -> Iterator[Event]:
    """The events; UserError as soon as the run can no longer be recorded."""
    for event in events:
        observer.check()
        yield event


def _record_all_values(run: Run) -> None:
    """Give all logged values to the observers, however long it takes; Sacred waits for 2 s only."""
    if run._heartbeat is not None:
        run._stop_heartbeat_event.set()
        run._heartbeat.join()


def _checkpoint_writer(
    run: Run, store: Store | None, observer: DurableObserver | None
) -> WriteCheckpoint:
    """What writes the run's checkpoints; they are deleted once the run is complete."""
    number = run._id
    if number is None or store is None or observer is None:
        return lambda *_: None
    path, uid = store.checkpoint_path(number), observer.run_entry.get("uid")
    run.observers.append(resume.CheckpointRemover(path, observer.check))

    def write(saved: Saved, records: list[Record], seconds: float) -> None:
        with writing(path):
            resume.write(path, number, saved, records, seconds, uid, run.info["program"])

    return write
