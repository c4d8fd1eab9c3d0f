"""The one training path: many problems of equal shape, trained as one program."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from grok.engine import determinism, memory
from grok.engine.checkpoint import below
from grok.engine.events import WEIGHTS, Event, Outcome, Record, Saved, Start
from grok.engine.instruments import BY_NAME
from grok.engine.measurement import Measure, MeasurementState
from grok.engine.problem import Problem
from grok.engine.program import Program
from grok.engine.threads import LARGE_STEP, choose_threads, forward_multiplications

determinism.enforce()  # before anything is drawn or recorded
PROGRAM, HISTORY = "program/", "watch/"  # prefixes of a saved state's tensors
# Below this many steps one after the other, tracing and compiling cost more than they save.
COMPILE_FROM_STEPS = 3000
MOST_SLOTS = 16  # on a CPU; more are hardly faster and exceed the cache (benchmarks/)
MOST_SLOTS_CUDA = 4096
STOP_STREAK = 2  # consecutive logged steps at which a stopping rule must be met


def train(
    problems: Sequence[Problem],
    slots: int | None = None,
    compiled: bool | None = None,
    terminate: Collection[int] = (),
    resume: Mapping[int, Saved] | None = None,
    measures: Mapping[str, Measure] = BY_NAME,
    threads: int | None = None,
) -> Iterator[Event]:
    """The events of training problems of equal signature together, as they happen.

    A replica yields Start, then a Record at each of its log steps, then an Outcome; the next waiting
    problem takes its slot. Where a problem asks for checkpoints, it also yields a Saved every so
    many steps.

    Arguments:
        problems: replica i is problems[i].
        slots: how many train at once; None chooses from the cache's or the GPU's memory.
        compiled: whether to compile the step; None decides by the number of steps.
        terminate: replicas that the caller wants to end, read after every record; it may grow
            meanwhile.
        resume: saved states to continue from, by replica.
        measures: the measures that the problems name.
        threads: of the CPU; None decides by the size of the step and the machine's load.

    Raises:
        ValueError: the problems cannot share a program, or a saved state is of another problem.
    """
    problems = list(problems)
    if not problems:
        return
    check_signatures(problems)
    torch.set_flush_denormal(True)  # saturated losses give denormal gradients: 8x slower steps
    memory.keep_freed()
    slots = min(slots or choose_slots(problems[0]), len(problems))
    torch.set_num_threads(threads or choose_threads(problems[0], slots))
    if compiled is None:
        compiled = decide_compiled(problems, slots)
    yield from _Training(problems, slots, compiled, terminate, resume or {}, measures).run()


def check_signatures(problems: Sequence[Problem]) -> None:
    """ValueError unless all problems can share one program."""
    first = problems[0].signature()
    for index, problem in enumerate(problems):
        if problem.signature() != first:
            raise ValueError(f"problem {index} differs from problem 0 in shape, loss or optimizer")


def decide_compiled(problems: Sequence[Problem], slots: int) -> bool:
    """Whether each slot trains so many steps that compiling saves time."""
    steps = sum(problem.train_steps for problem in problems) / slots
    return steps >= COMPILE_FROM_STEPS


def choose_slots(problem: Problem) -> int:
    """How many replicas train at once, at least 1.

    On a GPU: as many as fit half of its free memory. On a CPU: as many as fit the last-level cache,
    and no more than make a step large, since beyond that a step takes longer for each replica.
    """
    parameters = problem.module.parameters()
    replica_bytes = 4 * sum(p.numel() * p.element_size() for p in parameters)
    if problem.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(problem.device)
        return max(1, min(MOST_SLOTS_CUDA, free // 2 // (8 * replica_bytes)))
    enough = math.ceil(LARGE_STEP / forward_multiplications(problem))
    return max(1, min(MOST_SLOTS, enough, int(last_level_cache() // replica_bytes)))


def last_level_cache() -> int:
    """Bytes of the largest CPU cache, 32 MiB where the system does not say."""
    paths = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    sizes = [int(path.read_text().strip().rstrip("K")) * 1024 for path in paths]
    return max(sizes, default=32 * 2**20)


@dataclass
class _Slot:
    """The replica that a slot of the program holds.

    pending_log_steps: log steps still to come, last first.
    stop_streak: consecutive logged steps at which the early-stopping rule has been met.
    """

    replica: int
    problem: Problem
    pending_log_steps: list[int]
    stop_streak: int = 0
    measurement: MeasurementState | None = None


class _Training:
    """The loop of `train`: fills slots, steps, evaluates, ends replicas."""

    def __init__(
        self,
        problems: list[Problem],
        slots: int,
        compiled: bool,
        terminate: Collection[int],
        resume: Mapping[int, Saved],
        measures: Mapping[str, Measure],
    ):
        first = problems[0]
        shared = {
            name
            for name, value in first.data.items()
            if all(problem.data[name] is value for problem in problems)
        }
        self.problems = problems
        self.terminate = terminate
        self.resume = resume
        self.measures = measures
        self.program = Program(first, slots, shared, compiled)
        self.waiting = list(range(len(problems)))[::-1]
        self.slots: list[_Slot | None] = [None] * slots  # by slot of the program; None: free

    def run(self) -> Iterator[Event]:
        for index in range(self.program.slots):
            yield from self._refill(index)
        while any(self.slots):
            yield from self._evaluate()
            yield from self._save()
            self._compact()
            for _ in range(self._steps_to_next_event()):
                self.program.step()
                for index, slot in self._live():
                    if slot.measurement is not None:
                        slot.measurement.after_step(self.program, index)

    def _live(self) -> list[tuple[int, _Slot]]:
        """The slots that hold a replica, with their indices."""
        return [(index, slot) for index, slot in enumerate(self.slots) if slot is not None]

    def _steps_to_next_event(self) -> int:
        """Steps until the next log step or checkpoint of any replica; 0 when none is left."""
        counts = []
        for index, slot in self._live():
            step, every = self.program.steps[index], slot.problem.checkpoint_every
            counts.append(slot.pending_log_steps[-1] - step)
            if every:
                counts.append(every - step % every)
        return min(counts, default=0)

    def _save(self) -> Iterator[Saved]:
        """The states of the replicas whose checkpoint is due."""
        for index, slot in self._live():
            step, every = self.program.steps[index], slot.problem.checkpoint_every
            if every and step % every == 0 and step not in (0, self._resumed_at(slot.replica)):
                saved = self.program.saved(index)
                tensors = {PROGRAM + name: tensor for name, tensor in saved.items()}
                if slot.measurement is not None:
                    history = slot.measurement.history.saved()
                    tensors |= {HISTORY + name: tensor for name, tensor in history.items()}
                yield Saved(slot.replica, step, slot.stop_streak, tensors)

    def _refill(self, index: int) -> Iterator[Start]:
        """Put the next waiting replica into a slot that has become free."""
        self.slots[index] = None
        if not self.waiting:
            return
        replica = self.waiting.pop()
        problem, saved = self.problems[replica], self.resume.get(replica)
        log_steps = {*problem.log_steps, problem.train_steps}
        pending = [step for step in log_steps if step > self._resumed_at(replica)]
        slot = _Slot(replica, problem, sorted(pending, reverse=True))
        self.program.load(index, problem)
        if saved is not None:
            slot.stop_streak = saved.stop_streak
            self.program.restore(index, saved.step, below(saved.tensors, PROGRAM))
        if problem.measures is not None:
            measures = [self.measures[name] for name in problem.measures.names]
            slot.measurement = MeasurementState(
                problem, problem.measures, measures, self.program, index
            )
            if saved is not None:
                slot.measurement.history.restore(below(saved.tensors, HISTORY))
        self.slots[index] = slot
        threads = torch.get_num_threads()
        yield Start(replica, index, self.program.slots, self.program.compiled, threads)

    def _resumed_at(self, replica: int) -> int:
        """The step of the saved state that a replica continues from; -1 for none."""
        return self.resume[replica].step if replica in self.resume else -1

    def _evaluate(self) -> Iterator[Event]:
        """The records of the replicas whose log step is due, and the outcomes of those that end."""
        due = [
            (index, slot)
            for index, slot in self._live()
            if slot.pending_log_steps[-1] == self.program.steps[index]
        ]
        if not due:
            return
        evaluated = {name: value.cpu().numpy() for name, value in self.program.evaluate().items()}
        for index, slot in due:
            slot.pending_log_steps.pop()
            step = self.program.steps[index]
            values = {name: value[index] for name, value in evaluated.items()}
            metrics = {name: float(value) for name, value in values.items() if value.ndim == 0}
            reason = self._reason_to_end(slot, step, metrics)
            arrays = {}
            if reason or slot.problem.has_arrays(step):
                arrays = {name: value.copy() for name, value in values.items() if value.ndim > 0}
                if slot.problem.keep_weights:
                    weights = self.program.weights(index)
                    arrays |= {WEIGHTS + name: w.cpu().numpy() for name, w in weights.items()}
            burst_metrics: tuple[tuple[int, dict[str, float]], ...] = ()
            if slot.measurement is not None:
                metrics |= slot.measurement.evaluate(self.program, index, metrics)
                burst_metrics = slot.measurement.pop_burst_metrics()
            yield Record(slot.replica, step, metrics, arrays, burst_metrics)
            if not reason and slot.replica in self.terminate:  # the caller has seen the record
                reason = "terminated"
            if reason:
                weights = self.program.weights(index)
                yield Outcome(slot.replica, step, reason, weights, self.program.compiled)
                yield from self._refill(index)

    def _reason_to_end(self, slot: _Slot, step: int, metrics: dict[str, float]) -> str | None:
        """Why a replica ends at this step, or None; counts the streak of its stopping rule."""
        if not math.isfinite(metrics["train_loss"]):
            return "diverged"
        if step >= slot.problem.train_steps:
            return "budget"
        reached = slot.problem.stop is not None and slot.problem.stop.reached(metrics)
        slot.stop_streak = slot.stop_streak + 1 if reached else 0
        return "stopped" if slot.stop_streak >= STOP_STREAK else None

    def _compact(self) -> None:
        """When no problem waits and half of the slots are free, use a smaller program."""
        live = self._live()
        if not live or len(live) > self.program.slots // 2:
            return
        remaining = max(slot.pending_log_steps[0] - self.program.steps[i] for i, slot in live)
        if self.program.compiled and remaining < COMPILE_FROM_STEPS:
            return
        old = self.program
        self.program = Program(self.problems[0], len(live), set(old.shared), old.compiled)
        for new_index, (index, _) in enumerate(live):
            old.move(index, self.program, new_index)
        self.slots = [slot for _, slot in live]
