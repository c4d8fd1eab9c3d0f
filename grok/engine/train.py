"""The one training path: many problems of equal shape, trained as one program."""

import contextlib
import math
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch

from grok.engine import denormals, determinism, eager, interventions, memory
from grok.engine.checkpoint import CheckpointError, below
from grok.engine.events import (
    DIVERGED,
    HOPELESS,
    WEIGHTS,
    Event,
    Intervened,
    Outcome,
    Record,
    Saved,
    Start,
    Timing,
)
from grok.engine.fused import CompilerError, FusedStep, Unsupported
from grok.engine.measurement import MeasurementState, gigabytes_needed
from grok.engine.problem import Problem
from grok.engine.program import Program
from grok.engine.threads import (
    LARGE_STEP,
    available_cores,
    choose_threads,
    forward_multiplications,
)
from grok.objectives.classification import TEMPERATURE

determinism.enforce()  # before anything is drawn or recorded
PROGRAM, HISTORY = "program/", "watch/"  # prefixes of a saved state's tensors
EARLY_NORMS = (
    "early_norms"  # name of the tensor of the norms that the rule of hopeless runs compares
)
INTERVENTIONS = "interventions"  # name of the tensor of those that have happened: `_Happened` each
# Below this many steps one after the other, tracing and compiling cost more than they save.
COMPILE_FROM_STEPS = 3000
FUSE_FROM_STEPS = 1000  # likewise of the fused step, which takes two seconds once
# Where more cores than these are idle for each replica, it is not fused if its forward pass has more
# multiplications: several threads that share its products are faster than one that fuses them.
FUSED_CORES, FUSED_MULTIPLICATIONS = 2, 5e7
MOST_SLOTS = 16  # on a CPU; more are hardly faster and exceed the cache (benchmarks/)
MOST_SLOTS_CUDA = 4096
TIMING_SECONDS = 10.0  # of training, after which its speed is told if no record comes before
STOP_STREAK = 2  # consecutive logged steps at which a stopping rule must be met


def train(
    problems: Sequence[Problem],
    slots: int | None = None,
    compiled: bool | None = None,
    terminate: Collection[int] = (),
    resume: Mapping[int, Saved] | None = None,
    threads: int | None = None,
    fused: bool | None = None,
    steps: float | None = None,
) -> Iterator[Event]:
    """The events of training problems of equal signature together, as they happen.

    A replica yields Start, then a Record at each of its log steps, then an Outcome; the next waiting
    problem takes its slot. It also yields Intervened after each of its interventions, and, where a
    problem asks for checkpoints, a Saved every so many steps.

    Arguments:
        problems: replica i is problems[i].
        slots: how many train at once; None chooses from the cache's or the GPU's memory.
        compiled: whether to compile the step, where it is not fused; None decides by the number of
            steps.
        terminate: replicas that the caller wants to end, read after every record; it may grow
            meanwhile.
        resume: saved states to continue from, by replica.
        threads: of the CPU; None decides by the size of the step and the machine's load.
        fused: whether to use a fused step where there is one; None decides by the number of steps,
            unless `compiled` is given.
        steps: how many steps, one after the other, programs of this signature make in all; None for
            those of these problems.

    Raises:
        ValueError: the problems cannot share a program, or a saved state is of another problem.
    """
    problems = list(problems)
    if not problems:
        return
    check_signatures(problems)
    denormals.set_for(problems)
    slots = min(slots or choose_slots(problems[0]), len(problems))
    program = runnable_program(problems, slots, compiled, fused, threads, steps)
    memory.keep_freed()  # not before: recording a large evaluation would leave 2 GB behind
    yield from _Training(problems, program, terminate, resume or {}).run()


def check_signatures(problems: Sequence[Problem]) -> None:
    """ValueError unless all problems can share one program."""
    first = problems[0].signature()
    for index, problem in enumerate(problems):
        if problem.signature() != first:
            raise ValueError(f"problem {index} differs from problem 0 in shape, loss or optimizer")


def runnable_program(
    problems: Sequence[Problem],
    slots: int,
    compiled: bool | None = None,
    fused: bool | None = None,
    threads: int | None = None,
    steps: float | None = None,
) -> Program:
    """The program of `make_program`, or one that trains a replica after the other where that fails.

    A module that cannot be mapped over replicas is recorded for one; what cannot be recorded is
    executed call by call. One line says so. An error of the problem's own code is raised as it is.
    """
    program = make_program(problems, slots, compiled, fused, threads, steps)
    if program.fused is not None:
        return program
    note = f"note: the model ({type(problems[0].module).__name__}) trains one run after the other"
    try:
        program.check()
        return program
    except Exception as error:
        why = eager.reason(error)
    if slots > 1:
        program = make_program(problems, 1, compiled, False, threads, steps)
        with contextlib.suppress(Exception):
            program.check()
            print(f"{note}: {why}", file=sys.stderr)
            return program
    alone = Program(problems[0], 1, set(program.shared), compiled=False, is_eager=True)
    alone.threads = program.threads
    alone.check()
    print(f"{note}, uncompiled: {why}", file=sys.stderr)
    return alone


def make_program(
    problems: Sequence[Problem],
    slots: int,
    compiled: bool | None = None,
    fused: bool | None = None,
    threads: int | None = None,
    steps: float | None = None,
) -> Program:
    """A program for these problems, without any in its slots, and torch's threads set for it.

    Arguments:
        compiled, fused, threads, steps: see `train`.
    """
    first = problems[0]
    shared = {
        name
        for name, value in first.data.items()
        if name != TEMPERATURE and all(problem.data[name] is value for problem in problems)
    }
    if steps is None:
        steps = sum(problem.train_steps for problem in problems) / slots
    cores = threads or available_cores()
    most = math.inf
    if fused is None:
        fused = compiled is None and first.fused and steps >= FUSE_FROM_STEPS
        if cores > FUSED_CORES * slots:
            most = FUSED_MULTIPLICATIONS
    fused_step = _fused_step(problems, most) if fused else None
    if fused_step is not None:
        compiled = False
    elif compiled is None:
        compiled = steps >= COMPILE_FROM_STEPS
    program = Program(first, slots, shared, compiled, fused=fused_step)
    if fused_step is None:
        if denormals.are_needed(problems):
            threads = 1  # this one, which keeps them
        program.threads = threads or choose_threads(first, slots)
        torch.set_num_threads(program.threads)
    else:
        # each replica is trained by one thread, and evaluated by several only if that is much work
        program.threads = threads or min(cores, slots)
        torch.set_num_threads(min(program.threads, choose_threads(first, 1)))
    return program


def _fused_step(problems: Sequence[Problem], most_multiplications: float) -> FusedStep | None:
    """The fused step of problems of one signature; None where there is none, or it is too large."""
    try:
        fused = FusedStep(problems[0], most_multiplications)
        for problem in problems:
            fused.check_data(problem)
    except Unsupported:
        return None
    except CompilerError as error:
        print(f"warning: training without a fused step, slower: {error}", file=sys.stderr)
        return None
    return fused


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


class _Happened(NamedTuple):
    """The number of an intervention, its step, and the norm of the weights then."""

    number: float
    step: float
    norm: float


@dataclass
class _Slot:
    """The replica that a slot of the program holds.

    pending_log_steps: log steps still to come, last first.
    stop_streak: consecutive logged steps at which the early-stopping rule has been met.
    metrics: of this step, if it has just been evaluated.
    happened: the interventions so far, in their order.
    early_norms: those of the weights at the steps that the rule of hopeless runs compares.
    """

    replica: int
    problem: Problem
    pending_log_steps: list[int]
    stop_streak: int = 0
    measurement: MeasurementState | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    happened: list[_Happened] = field(default_factory=list)
    early_norms: list[float] = field(default_factory=list)

    def awaited(self) -> list[int]:
        """The numbers of the interventions still to come."""
        done = {one.number for one in self.happened}
        return [n for n in range(len(self.problem.interventions)) if n not in done]


class _Training:
    """The loop of `train`: fills slots, steps, evaluates, ends replicas."""

    def __init__(
        self,
        problems: list[Problem],
        program: Program,
        terminate: Collection[int],
        resume: Mapping[int, Saved],
    ):
        self.problems = problems
        self.terminate = terminate
        self.resume = resume
        self.program = program
        self.waiting = list(range(len(problems)))[::-1]
        self.slots: list[_Slot | None] = [
            None
        ] * program.slots  # by slot of the program; None: free
        self.is_timed = False  # whether the first steps have been timed, or were soon over
        self.first_timed: tuple[float, int] | None = None  # time and step
        self.evaluation_seconds = 0.0  # of the last evaluation, without its compilation

    def run(self) -> Iterator[Event]:
        for index in range(self.program.slots):
            yield from self._refill(index)
        while any(self.slots):
            yield from self._evaluate()
            yield from self._intervene()
            yield from self._save()
            self._compact()
            steps = self._steps_to_next_event()
            live = [index for index, _ in self._live()]
            reading = [
                (index, slot.measurement)
                for index, slot in self._live()
                if slot.measurement is not None and slot.measurement.reads_steps()
            ]
            while steps > 0:
                steps -= self.program.advance(1 if reading else steps, live)
                for index, measurement in reading:
                    measurement.after_step(self.program, index)
                if steps > 0 and not self.is_timed:
                    yield from self._time()
            self.is_timed = self.is_timed or self.first_timed is not None

    def _time(self) -> Iterator[Timing]:
        """How fast the live replicas are, once they have trained for TIMING_SECONDS.

        The first call only starts the clock: the first step may have been compiled.
        """
        now, steps = time.perf_counter(), self.program.steps
        if self.first_timed is None:
            self.first_timed = now, max(steps)
            return
        began, first = self.first_timed
        if now - began >= TIMING_SECONDS and max(steps) > first:
            self.is_timed = True
            step_seconds = (now - began) / (max(steps) - first)
            for index, slot in self._live():
                yield Timing(slot.replica, steps[index], step_seconds, self.evaluation_seconds)

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
            for number in slot.awaited():
                at = interventions.step_of(slot.problem.interventions[number].when)
                if at is not None and at > step:
                    counts.append(at - step)
        return min(counts, default=0)

    def _intervene(self) -> Iterator[Intervened]:
        """Make the interventions whose condition holds, each once."""
        for index, slot in self._live():
            step = self.program.steps[index]
            if slot.pending_log_steps[-1] == step:
                continue  # a new replica: its evaluation comes first
            due = [
                number
                for number in slot.awaited()
                if interventions.holds(slot.problem.interventions[number].when, step, slot.metrics)
            ]
            slot.metrics = {}
            for number in due:
                change = slot.problem.interventions[number]
                happened = _Happened(number, step, self.program.norm(index))
                slot.happened.append(happened)
                self.program.change(index, slot.problem, change, happened.norm)
                if change.reset:
                    self.program.reset(index, slot.problem, change.parameters)
                    if slot.measurement is not None:
                        slot.measurement.begin_interval(self.program, index)
                yield Intervened(slot.replica, step, number)

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
                if slot.happened:
                    tensors[INTERVENTIONS] = torch.tensor(slot.happened, dtype=torch.float64)
                if slot.early_norms:
                    tensors[EARLY_NORMS] = torch.tensor(slot.early_norms, dtype=torch.float64)
                yield Saved(slot.replica, step, slot.stop_streak, tensors)

    def _refill(self, index: int) -> Iterator[Start | Intervened]:
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
            slot.early_norms = _early_norms(saved, problem)
            self.program.restore(index, saved.step, below(saved.tensors, PROGRAM))
            slot.happened = _happened(saved.tensors, problem)
            for one in slot.happened:
                change = problem.interventions[int(one.number)]
                self.program.change(index, problem, change, one.norm)
        if problem.measures is not None:
            slot.measurement = MeasurementState(problem, problem.measures, self.program, index)
            if saved is not None:
                slot.measurement.history.restore(below(saved.tensors, HISTORY))
        self.slots[index] = slot
        yield Start(
            replica,
            index,
            self.program.slots,
            self._is_compiled(),
            self.program.threads,
            self.program.fused is not None,
            gigabytes_needed(problem),
        )
        for one in slot.happened:
            yield Intervened(replica, int(one.step), int(one.number))

    def _is_compiled(self) -> bool:
        return self.program.compiled or self.program.fused is not None

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
        began, prepared = time.perf_counter(), self.program.preparing_seconds
        memory.keep_freed(not self.program.evaluates_portions)
        evaluated = self.program.evaluate([index for index, _ in due])
        memory.keep_freed()
        prepared = self.program.preparing_seconds - prepared
        self.evaluation_seconds = time.perf_counter() - began - prepared
        for (index, slot), tensors in zip(due, evaluated, strict=True):
            slot.pending_log_steps.pop()
            step = self.program.steps[index]
            values = {name: value.numpy() for name, value in tensors.items()}
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
            slot.metrics = metrics
            yield Record(slot.replica, step, metrics, arrays, burst_metrics)
            if not reason and slot.replica in self.terminate:  # the caller has seen the record
                reason = "terminated"
            if reason:
                weights = self.program.weights(index)
                yield Outcome(slot.replica, step, reason, weights, self._is_compiled())
                yield from self._refill(index)

    def _reason_to_end(self, slot: _Slot, step: int, metrics: dict[str, float]) -> str | None:
        """Why a replica ends at this step, or None; keeps what its rules read of earlier steps."""
        if not math.isfinite(metrics["train_loss"]):
            return DIVERGED
        if step >= slot.problem.train_steps:
            return "budget"
        reached = slot.problem.stop is not None and slot.problem.stop.reached(metrics)
        slot.stop_streak = slot.stop_streak + 1 if reached else 0
        if slot.stop_streak >= STOP_STREAK:
            return "stopped"
        return HOPELESS if _is_hopeless(slot, step, metrics) else None

    def _compact(self) -> None:
        """When no problem waits and half of the slots are free, use a smaller program.

        A fused step does not train free slots.
        """
        if self.program.fused is not None:
            return
        live = self._live()
        if not live or len(live) > self.program.slots // 2:
            return
        remaining = max(slot.pending_log_steps[0] - self.program.steps[i] for i, slot in live)
        if self.program.compiled and remaining < COMPILE_FROM_STEPS:
            return
        old = self.program
        self.program = Program(self.problems[0], len(live), set(old.shared), old.compiled)
        self.program.threads = old.threads
        for new_index, (index, _) in enumerate(live):
            old.move(index, self.program, new_index)
        self.slots = [slot for _, slot in live]


def _is_hopeless(slot: _Slot, step: int, metrics: Mapping[str, float]) -> bool:
    """Whether a replica is given up at this evaluation step; keeps the norm, if the rule reads it."""
    rule = slot.problem.hopeless
    if rule is None or step not in rule.steps:
        return False
    slot.early_norms.append(metrics["weight_norm"])
    if step != rule.steps[-1]:
        return False
    return rule.is_hopeless(metrics["train_accuracy"], slot.early_norms)


def _early_norms(saved: Saved, problem: Problem) -> list[float]:
    """The norms in a saved state; CheckpointError if they are not those of its step."""
    steps = problem.hopeless.steps if problem.hopeless is not None else ()
    norms = saved.tensors.get(EARLY_NORMS, torch.zeros(0))
    if norms.shape != (sum(step <= saved.step for step in steps),):
        raise CheckpointError("the norms in the state are not those of its step")
    return [float(norm) for norm in norms]


def _happened(tensors: Mapping[str, torch.Tensor], problem: Problem) -> list[_Happened]:
    """The interventions that have happened by a saved state; CheckpointError if they cannot be read."""
    rows = tensors.get(INTERVENTIONS, torch.zeros(0, len(_Happened._fields)))
    count = len(problem.interventions)
    if rows.ndim != 2 or rows.shape[1] != len(_Happened._fields):
        raise CheckpointError("the interventions in the state cannot be read")
    happened = [_Happened(*row) for row in rows.tolist()]
    if any(one.number not in range(count) for one in happened):
        raise CheckpointError("the state has interventions that are not of this problem")
    return happened
