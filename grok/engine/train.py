"""The one training path: many problems of equal shape, trained as one program."""

import math
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from grok.engine import determinism, memory
from grok.engine.checkpoint import below
from grok.engine.events import WEIGHTS, Event, Outcome, Record, Saved, Start
from grok.engine.instruments import BY_NAME
from grok.engine.measurement import Measure, MeasurementState
from grok.engine.problem import Problem
from grok.engine.program import Program, can_compile

determinism.enforce()  # before anything is drawn or recorded
PROGRAM, WATCH = "program/", "watch/"  # a saved state: weights and optimizer, measures' memory
# Below this many updates one after the other, tracing and compiling cost more than they save.
COMPILE_FROM_STEPS = 3000
MOST_SLOTS = 16  # on a CPU; more bring little and leave the cache (benchmarks/)
MOST_SLOTS_CUDA = 4096


def train(
    problems: Sequence[Problem],
    slots: int | None = None,
    compiled: bool | None = None,
    terminate: Collection[int] = (),
    resume: Mapping[int, Saved] | None = None,
    measures: Mapping[str, Measure] = BY_NAME,
) -> Iterator[Event]:
    """Train problems of equal signature together; yield what happens, as it happens.

    A replica yields Start, then a Record at each of its log steps, then an Outcome; when it
    retires, the next waiting problem takes its slot. Where a problem asks for checkpoints, it yields a
    Saved every so many updates, and `resume` (by replica) makes it go on from one. `slots`: how many train at once (chosen from
    cache or GPU memory if None). `compiled`: None decides by the number of updates. `terminate`:
    replicas that the caller wants ended, looked at after every record; it may grow meanwhile.
    Raises ValueError if the problems cannot share a program, or a saved state is of another one.
    """
    problems = list(problems)
    if not problems:
        return
    check_signatures(problems)
    torch.set_flush_denormal(True)  # saturated losses give denormal gradients: 8x slower steps
    memory.keep_freed()
    slots = min(slots or choose_slots(problems[0]), len(problems))
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
    """Whether compiling pays: enough updates in a row, and a working compiler (else say so once)."""
    updates = sum(problem.train_steps for problem in problems) / slots
    if updates < COMPILE_FROM_STEPS:
        return False
    if can_compile():
        return True
    print("torch.compile does not work here: training uncompiled, slower", file=sys.stderr)
    return False


def choose_slots(problem: Problem) -> int:
    """How many replicas fit the last-level cache (CPU) or half of the free memory (GPU); at least 1."""
    parameters = list(problem.module.parameters())
    replica_bytes = 4 * sum(p.numel() * p.element_size() for p in parameters)
    device = parameters[0].device
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return max(1, min(MOST_SLOTS_CUDA, free // 2 // (8 * replica_bytes)))
    return max(1, min(MOST_SLOTS, int(last_level_cache() // replica_bytes)))


def last_level_cache() -> int:
    """Bytes of the largest CPU cache, 32 MiB where the system does not say."""
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    found = [int(path.read_text().strip().rstrip("K")) * 1024 for path in sizes]
    return max(found, default=32 * 2**20)


class _Training:
    """The loop of `train`: which replica sits where, when to look, who retires."""

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
        self.compiled = compiled
        self.terminate = terminate
        self.resume = resume
        self.measures = measures
        self.program = Program(first, slots, shared, compiled)
        self.waiting = list(range(len(problems)))[::-1]
        self.replicas: list[int | None] = [None] * slots
        self.agenda: list[list[int]] = [[]] * slots  # log steps still to come, last first
        self.watches: list[MeasurementState | None] = [None] * slots
        self.streak = [0] * slots  # logged steps running at which the stop rule was met

    def run(self) -> Iterator[Event]:
        for slot in range(self.program.slots):
            yield from self._refill(slot)
        while any(replica is not None for replica in self.replicas):
            yield from self._look()
            yield from self._save()
            self._shrink()
            for _ in range(self._gap()):
                self.program.step()
                self._watch()

    def _gap(self) -> int:
        """Updates until the next log step or checkpoint of any replica; 0 when none is left."""
        live = [slot for slot, replica in enumerate(self.replicas) if replica is not None]
        gaps = [self.agenda[slot][-1] - self.program.steps[slot] for slot in live]
        for slot in live:
            every = self.problems[self.replicas[slot]].checkpoint_every
            if every:
                gaps.append(every - self.program.steps[slot] % every)
        return min(gaps, default=0)

    def _watch(self) -> None:
        """Let the measures see the update."""
        for slot, watch in enumerate(self.watches):
            if watch is not None:
                watch.after_update(self.program, slot)

    def _save(self) -> Iterator[Saved]:
        """The states of the replicas whose checkpoint is due."""
        for slot, replica in enumerate(self.replicas):
            step = self.program.steps[slot]
            every = None if replica is None else self.problems[replica].checkpoint_every
            if every and step % every == 0 and step not in (0, self._begun(replica)):
                parts, watch = {PROGRAM: self.program.saved(slot)}, self.watches[slot]
                if watch is not None:
                    parts[WATCH] = watch.saved()
                tensors = {p + name: t for p, part in parts.items() for name, t in part.items()}
                yield Saved(replica, step, self.streak[slot], tensors)

    def _refill(self, slot: int) -> Iterator[Start]:
        self.replicas[slot] = self.watches[slot] = None
        if self.waiting:
            replica = self.waiting.pop()
            problem = self.problems[replica]
            self.program.load(slot, problem)
            self.replicas[slot] = replica
            agenda = {*problem.log_steps, problem.train_steps}
            left = (step for step in agenda if step > self._begun(replica))
            self.agenda[slot] = sorted(left, reverse=True)
            saved = self.resume.get(replica)
            self.streak[slot] = 0 if saved is None else saved.stop_streak
            if saved is not None:
                self.program.restore(slot, saved.step, below(saved.tensors, PROGRAM))
            if problem.measures is not None:
                taken = [self.measures[name] for name in problem.measures.names]
                self.watches[slot] = MeasurementState(problem, taken, self.program, slot)
                if saved is not None:
                    self.watches[slot].restore(below(saved.tensors, WATCH))
            yield Start(replica, slot, self.program.slots, self.compiled)

    def _begun(self, replica: int) -> int:
        """The step of the saved state that a replica goes on from; -1 for none."""
        return self.resume[replica].step if replica in self.resume else -1

    def _look(self) -> Iterator[Event]:
        """Measure if a log step is due, and yield the records of the replicas whose it is."""
        due = [
            slot
            for slot, replica in enumerate(self.replicas)
            if replica is not None and self.agenda[slot][-1] == self.program.steps[slot]
        ]
        if not due:
            return
        measured = {name: value.cpu().numpy() for name, value in self.program.measure().items()}
        for slot in due:
            self.agenda[slot].pop()
            replica, step = self.replicas[slot], self.program.steps[slot]
            mine = {name: value[slot] for name, value in measured.items()}
            metrics = {name: float(value) for name, value in mine.items() if value.ndim == 0}
            reason = self._verdict(slot, metrics)
            kept = reason or self.problems[replica].has_arrays(step)
            arrays = self._arrays(slot, mine) if kept else {}
            watch, burst_metrics = self.watches[slot], ()
            if watch is not None:
                metrics |= watch.look(self.program, slot, metrics)
                burst_metrics = watch.taken_points()
            yield Record(replica, step, metrics, arrays, burst_metrics)
            if not reason and replica in self.terminate:  # since it was seen
                reason = "terminated"
            if reason:
                yield Outcome(replica, step, reason, self.program.weights(slot))
                yield from self._refill(slot)

    def _arrays(self, slot: int, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The measured arrays of a slot, and its weights if they are to be kept."""
        arrays = {name: value.copy() for name, value in measured.items() if value.ndim > 0}
        if self.problems[self.replicas[slot]].keep_weights:
            weights = self.program.weights(slot)
            arrays |= {WEIGHTS + name: w.cpu().numpy() for name, w in weights.items()}
        return arrays

    def _verdict(self, slot: int, metrics: dict[str, float]) -> str | None:
        """Why the replica retires now, or None."""
        problem = self.problems[self.replicas[slot]]
        if not math.isfinite(metrics["train_loss"]):
            return "diverged"
        if self.program.steps[slot] >= problem.train_steps:
            return "budget"
        reached = problem.stop is not None and problem.stop.reached(metrics)
        self.streak[slot] = self.streak[slot] + 1 if reached else 0
        return "stopped" if self.streak[slot] >= 2 else None

    def _shrink(self) -> None:
        """When no problem waits and half of the slots idle, move the rest into a smaller program."""
        live = [slot for slot, replica in enumerate(self.replicas) if replica is not None]
        if not live or len(live) > self.program.slots // 2:
            return
        remaining = max(self.agenda[slot][0] - self.program.steps[slot] for slot in live)
        if self.compiled and remaining < COMPILE_FROM_STEPS:
            return
        old = self.program
        self.program = Program(self.problems[0], len(live), set(old.shared), old.compiled)
        for new_slot, slot in enumerate(live):
            old.move(slot, self.program, new_slot)
        for name in ("replicas", "agenda", "streak", "watches"):
            setattr(self, name, [getattr(self, name)[slot] for slot in live])
