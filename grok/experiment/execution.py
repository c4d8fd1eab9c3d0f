"""One run of an experiment: a problem, the events of its training, and the Sacred run that records it.

An experiment is a paper's file and never changes. An execution belongs to one run alone, so many
runs of one experiment can be in progress in one process.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from sacred.config.captured_function import create_captured_function
from sacred.observers.base import RunObserver
from sacred.run import Run

from grok.engine.events import Event
from grok.engine.problem import Problem
from grok.experiment import resume
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
        if observer is not None:
            if self.resume_point is not None and isinstance(observer, DurableObserver):
                observer.resumes = self.resume_point.run
            run.observers.append(observer)
            if wandb is not None and store is not None:
                tags = [self.experiment, *run.meta_info["named_configs"]]
                mirror = Mirror(wandb, store.describe(), tags)
                run.info["wandb"] = mirror.link()
                run.observers.append(mirror)

        def main() -> dict[str, Any]:
            return self._train(run, store)

        # Sacred would give all runs of an experiment the same main function.
        run.main_function = create_captured_function(main)

    def _train(self, run: Run, store: Store | None) -> dict[str, Any]:
        seconds = self.resume_point.seconds if self.resume_point else 0.0
        recorder = Recorder(
            run, self.problem, self.threshold, self.delay, _checkpoint_writer(run, store), seconds
        )
        config = SimpleNamespace(**run.config)

        def summarize(recorder: Recorder) -> dict[str, Any]:
            return self.summarize(config, self.problem, recorder)

        events = self.events(self.problem)
        if self.resume_point is not None:
            events = self.resume_point.replayed(events)
        if self.shows_progress:
            step = self.resume_point.step if self.resume_point else 0
            with RunProgress(self.experiment, place(run), self.problem, step) as progress:
                result = record_run(run, recorder, events, summarize, progress.show)
        else:
            result = record_run(run, recorder, events, summarize)
        for finish in self.finish:
            run.info.update(finish(run.config, result, recorder.series))
        return result


def _checkpoint_writer(run: Run, store: Store | None) -> WriteCheckpoint:
    """What writes the run's checkpoints; they are deleted once the run is complete."""
    number = run._id
    if number is None or store is None:
        return lambda *_: None
    path = store.checkpoint_path(number)
    run.observers.append(resume.CheckpointRemover(path))
    return lambda saved, records, seconds: resume.write(path, number, saved, records, seconds)
