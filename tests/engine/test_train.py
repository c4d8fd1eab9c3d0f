"""The replica engine: a replica of a batch is the solo run, whatever its neighbours do."""

import os
import signal
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from grok.engine import program
from grok.engine.determinism import drawing
from grok.engine.events import Outcome, Record, Start, Timing
from grok.engine.optimizers import hyperparameters, learning_rate
from grok.engine.problem import Problem, batch_order, log_steps
from grok.engine.spec import Group, Optimizer, Stop
from grok.engine.train import train
from grok.interrupts import Terminated, raise_on_signals
from tests.engine.toy import STEPS, loss, losses, metrics, outcome, problem


@pytest.fixture(scope="module", params=["adamw", "adam", "sgd"])
def solo_runs(request):
    """A kind of optimizer, and the events of seven runs with it, each alone."""
    return request.param, [list(train([problem(seed, request.param)])) for seed in range(7)]


@pytest.mark.parametrize("slots", [1, 3, 7])
def test_replica_of_a_batch_equals_the_solo_run(solo_runs, slots):
    kind, runs = solo_runs
    batch = list(train([problem(seed, kind) for seed in range(7)], slots=slots))
    for seed, solo in enumerate(runs):
        assert losses(batch, seed) == pytest.approx(losses(solo), abs=1e-8)
        for name, weight in outcome(solo).weights.items():
            assert torch.allclose(outcome(batch, seed).weights[name], weight, rtol=0, atol=1e-8)


def test_muon_and_lion_train_the_same_alone_in_a_batch_and_compiled():
    """Muon of the hidden matrix, whose products are mapped over the replicas."""
    for kind in ("muon", "lion"):
        problems = [problem(seed, kind, train_steps=60, log_steps=[0, 60]) for seed in range(3)]
        for one in problems:
            first, rest = one.optimizer.groups
            groups = (replace(first, muon=True), rest)
            one.optimizer = replace(one.optimizer, groups=groups)
        batches = [list(train(problems, compiled=compiled)) for compiled in (False, True)]
        for seed, one in enumerate(problems):
            solo = outcome(train([one], compiled=False)).weights
            for batch in batches:
                for name, weight in outcome(batch, seed).weights.items():
                    torch.testing.assert_close(weight, solo[name], rtol=0, atol=1e-8)


def test_a_diverging_neighbour_ends_and_changes_no_other_replica():
    wild = problem(9, "sgd", lr=1e3)
    batch = list(train([problem(0, "sgd"), wild, problem(1, "sgd"), problem(2, "sgd")], slots=2))
    assert outcome(batch, 1).reason == "diverged"
    assert outcome(batch, 1).step < STEPS
    for replica, seed in ((0, 0), (2, 1), (3, 2)):
        assert losses(batch, replica) == pytest.approx(losses(list(train([problem(seed, "sgd")]))))
        assert outcome(batch, replica).reason == "budget"


def test_a_long_way_to_the_first_record_is_timed(monkeypatch):
    """Once for each replica, after steps and before their record; the run itself is unchanged."""
    plain = list(train([problem(0), problem(1)]))
    monkeypatch.setattr("grok.engine.train.TIMING_SECONDS", 0.0)
    late = [replace(problem(seed), log_steps=[0, STEPS]) for seed in (0, 1)]
    events = list(train(late))
    timings = [e for e in events if isinstance(e, Timing)]
    assert [e.replica for e in timings] == [0, 1]
    assert all(0 < e.step < STEPS and e.step_seconds > 0 for e in timings)
    assert all(e.evaluation_seconds > 0 for e in timings)
    kinds = [type(e) for e in events if e.replica == 0]
    assert kinds == [Start, Record, Timing, Record, Outcome]
    assert losses(events)[STEPS] == losses(plain)[STEPS]


def test_freed_memory_is_kept_after_the_program_is_recorded(monkeypatch):
    """Recording the evaluation of the published ordering study kept 3.1 GB, of which 1 GB was in use."""
    calls = []
    check = program.Program.check
    monkeypatch.setattr(program.Program, "check", lambda p: calls.append("check") or check(p))
    monkeypatch.setattr("grok.engine.memory.keep_freed", lambda: calls.append("keep_freed"))
    monkeypatch.setattr("grok.engine.train._Training.run", lambda training: iter(()))
    list(train([problem(0, train_steps=2, log_steps=[0, 2])]))
    assert calls == ["check", "keep_freed"]


class PortionedMetrics:
    """The toy's metrics, evaluated in portions of so many rows; None for all at once."""

    def __init__(self, rows_at_once: int | None):
        self.rows_at_once = rows_at_once

    def __call__(self, model, data):
        return metrics(model, data)


@pytest.mark.parametrize(("rows", "compiled"), [(None, ["evaluate", "step"]), (4, ["step"])])
def test_an_evaluation_in_portions_is_not_compiled(monkeypatch, rows, compiled):
    """Of the published ordering study, that took 150 s and 4.5 GB in place of 1.1, to save a quarter
    of an evaluation's 19 s."""
    calls, current = [], []
    trace = program.Program._trace

    def traced(self, name, *arguments):
        current.append(name)
        return trace(self, name, *arguments)

    def compile_(graph, arguments, options):
        calls.append(current[-1])
        return graph

    monkeypatch.setattr(program.Program, "_trace", traced)
    monkeypatch.setattr(program, "_compile", compile_)
    toy = replace(problem(0, train_steps=2, log_steps=[0, 2]), metrics=PortionedMetrics(rows))
    list(train([toy], compiled=True, fused=False))
    assert calls == compiled


@pytest.mark.parametrize("rows", [None, 4])
def test_large_portions_of_an_evaluation_are_returned(monkeypatch, rows):
    """Kept ones are scattered: in the published ordering study they took 5 GB, of which 1 GB was used."""
    calls, evaluate = [], program.Program.evaluate
    monkeypatch.setattr("grok.engine.memory.keep_freed", lambda kept=True: calls.append(kept))
    monkeypatch.setattr(
        program.Program, "evaluate", lambda *a: calls.append("evaluate") or evaluate(*a)
    )
    toy = replace(problem(0, train_steps=2, log_steps=[0, 2]), metrics=PortionedMetrics(rows))
    list(train([toy]))
    each = [rows is None, "evaluate", True]
    assert calls == [True, *each, *each]


def test_the_time_of_an_evaluation_is_without_its_compilation(monkeypatch):
    """The time left was that of as many compilations as there were evaluations to come."""
    true = program.Program._trace

    def slowly(*arguments):
        time.sleep(0.5)
        return true(*arguments)

    monkeypatch.setattr("grok.engine.train.TIMING_SECONDS", 0.0)
    monkeypatch.setattr(program.Program, "_trace", slowly)
    events = train([problem(0, log_steps=[0, STEPS])], compiled=False)
    (timing,) = [event for event in events if isinstance(event, Timing)]
    assert 0 < timing.evaluation_seconds < 0.4


@pytest.mark.parametrize("compiled", [False, True])
def test_the_same_batch_twice_is_equal_bit_for_bit(compiled, traces):
    runs = []
    for _ in range(2):
        traces.clear()
        batch = [problem(seed) for seed in range(3)]
        runs.append(list(train(batch, slots=2, compiled=compiled)))
    for replica in range(3):
        assert losses(runs[0], replica) == losses(runs[1], replica)
        for name, weight in outcome(runs[0], replica).weights.items():
            assert torch.equal(weight, outcome(runs[1], replica).weights[name])


def test_compiled_equals_uncompiled():
    one, other = (list(train([problem(3)], compiled=compiled)) for compiled in (False, True))
    assert losses(one) == pytest.approx(losses(other), rel=1e-9)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_optimizers_equal_torch(kind):
    ours = problem(4, kind)
    ours.optimizer = replace(ours.optimizer, warmup_steps=0)
    groups = ours.optimizer.groups
    settings = [{"params": ours.module[0].parameters()}, {"params": ours.module[2].parameters()}]
    for entry, group in zip(settings, groups, strict=True):
        entry |= {"lr": group.lr, "weight_decay": group.weight_decay}
        entry |= {"momentum": group.momentum} if kind == "sgd" else {"betas": group.betas}
    result = outcome(list(train([ours]))).weights  # before torch changes the module in place
    theirs = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}[kind](
        settings
    )
    for _ in range(STEPS):
        theirs.zero_grad()
        loss(ours.module, ours.data).backward()
        theirs.step()
    for name, weight in ours.module.named_parameters():
        assert torch.allclose(result[name], weight, rtol=1e-9, atol=1e-11)


def test_decay_to_the_initial_weights_holds_them_there():
    tied = problem(5, lr=1e-2)
    tied.optimizer = Optimizer("adamw", (Group(lr=1e-2, weight_decay=50.0),), decay_to="init")
    free = problem(5, lr=1e-2)
    start = {name: value.detach().clone() for name, value in tied.module.named_parameters()}

    def moved(run):
        return sum((run.weights[name] - start[name]).norm() for name in start)

    assert moved(outcome(list(train([tied])))) < 0.3 * moved(outcome(list(train([free]))))


def test_warm_up_and_cosine():
    schedule = Optimizer("sgd", (Group(lr=1.0),), warmup_steps=10, anneal_steps=100, lr_floor=0.1)
    t = np.array([1, 6, 51, 101, 500])
    rates = learning_rate(hyperparameters(schedule), t)
    middle = 0.1 + 0.9 / 2
    first = 0.1 + 0.9 * (1 + torch.cos(torch.tensor(torch.pi * 0.05)).item()) / 2
    assert rates.tolist() == pytest.approx([0.0, 0.5 * first, middle, 0.1, 0.1], abs=1e-6)


def test_stop_rule_needs_two_logged_steps_and_frees_the_slot():
    stop = Stop((("train_loss", -1.0),))  # met at once
    quick = [problem(seed, stop=stop) for seed in range(3)]
    events = list(train(quick, slots=1))
    assert [outcome(events, r).step for r in range(3)] == [1, 1, 1]
    assert [outcome(events, r).reason for r in range(3)] == ["stopped"] * 3
    starts = [(e.replica, e.slot) for e in events if isinstance(e, Start)]
    assert starts == [(0, 0), (1, 0), (2, 0)]


def test_the_caller_can_end_a_replica():
    ended: set[int] = set()
    seen = []
    for event in train([problem(0), problem(1)], terminate=ended):
        seen.append(event)
        if isinstance(event, Record) and event.step >= 50:
            ended.add(1)
    assert outcome(seen, 1).reason == "terminated"
    assert outcome(seen, 1).step < STEPS
    assert losses(seen, 0) == pytest.approx(losses(list(train([problem(0)]))))


def test_every_epoch_of_mini_batches_visits_each_example_once():
    seen = []
    small = problem(6, batch_size=4, minibatch_keys=("inputs", "targets"))
    from grok.engine.program import Program

    program = Program(small, 1, set(), compiled=False)
    program.load(0, small)
    for _ in range(6):
        program.step()
        seen += program.state["minibatch"][0].tolist()
    assert sorted(seen[:12]) == sorted(seen[12:]) == list(range(12))
    assert seen[:12] != seen[12:]
    assert seen[:12] == batch_order(6, 0, 12).tolist()


def test_mini_batch_replica_equals_the_solo_run():
    def make(seed):
        return problem(seed, batch_size=4, minibatch_keys=("inputs", "targets"))

    batch = list(train([make(seed) for seed in range(3)], slots=2))
    for seed in range(3):
        assert losses(batch, seed) == pytest.approx(losses(list(train([make(seed)]))), abs=1e-8)


def test_data_that_all_problems_share_is_held_once():
    from grok.engine.program import Program

    first, second = problem(0), problem(1)
    second.data["inputs"] = first.data["inputs"]
    together = list(train([first, second]))
    assert losses(together, 1) == pytest.approx(losses(list(train([second]))), abs=1e-8)
    program = Program(first, 2, {"inputs"}, compiled=False)
    assert "inputs" not in program.state["data"]


def test_problems_of_different_shape_are_refused():
    other = problem(1)
    other.data["inputs"] = other.data["inputs"][:6]
    with pytest.raises(ValueError, match="problem 1 differs"):
        next(train([problem(0), other]))


@pytest.mark.parametrize(("steps", "points"), [(1, 1), (7, 100), (5000, 200), (100_000, 250)])
def test_log_steps_are_sorted_different_and_end_at_the_budget(steps, points):
    found = log_steps(steps, points)
    assert found == sorted(set(found))
    assert found[0] == 0 and found[-1] == steps
    assert len(found) <= points + 1
    if points >= 200:
        late = [b / a for a, b in pairwise(found) if a > 1000]
        assert max(late) < 1.05


def test_two_threads_give_the_same_bits_twice():
    """A table's gradient adds up rows that several threads hold."""
    with drawing(0, torch.float32):
        table = nn.Embedding(11, 16)
        data = {"inputs": torch.randint(11, (4000,)), "targets": torch.randn(4000, 16)}
    one = Problem(table, data, loss, metrics, Optimizer(), 60, [60])
    threads = torch.get_num_threads()
    try:
        ends = [outcome(list(train([one], compiled=True, threads=2))) for _ in range(3)]
    finally:
        torch.set_num_threads(threads)
    ends = [end.weights["weight"] for end in ends]
    assert all((end == ends[0]).all() for end in ends)


def test_a_signal_while_the_step_is_compiled_is_not_swallowed(monkeypatch, new_traces):
    """It is raised once the compiler has returned, and not taken for a fault of the compiler."""

    def interrupted(graph, *_):
        os.kill(os.getpid(), signal.SIGTERM)
        return graph

    before = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(program, "_compile", interrupted)
    try:
        raise_on_signals()
        with pytest.raises(Terminated):
            list(train([problem(0)], compiled=True))
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def test_a_compiler_that_fails_ends_no_run(monkeypatch, capsys, new_traces):
    """The run goes on uncompiled, says so once, and records it.

    Inductor has changed the graph by the time that it calls the C++ compiler.
    """

    def failing(graph, *_):
        graph.graph.output_node().args = ([],)
        graph.recompile()
        raise RuntimeError("no C++ compiler was found")

    monkeypatch.setattr(program, "_compile", failing)
    ended = outcome(list(train([problem(0)], compiled=True)))
    uncompiled = outcome(list(train([problem(0)], compiled=False)))
    assert not ended.compiled
    assert all(torch.equal(ended.weights[k], uncompiled.weights[k]) for k in ended.weights)
    assert "training uncompiled, slower: no C++ compiler was found" in capsys.readouterr().err


def test_what_one_cpp_file_cannot_hold_is_compiled_in_several(monkeypatch, capsys, new_traces):
    """Inductor's C++ wrapper writes some numbers, such as -inf, as no C++ compiler reads them."""
    compile_graph = program._compile

    def failing(graph, arguments, options):
        if options.get("cpp_wrapper"):
            raise RuntimeError("'inf' was not declared")
        return compile_graph(graph, arguments, options)

    monkeypatch.setattr(program, "_compile", failing)
    assert outcome(list(train([problem(0)], compiled=True))).compiled
    assert not capsys.readouterr().err


def test_an_incomplete_file_of_a_killed_compiler_is_compiled_again(
    monkeypatch, tmp_path, capsys, new_traces
):
    """Otherwise every later run of this shape would be trained uncompiled."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    library = tmp_path / "kernel.so"
    library.touch()

    def load(graph, *_):
        if library.exists():
            raise RuntimeError from ImportError("file too short", path=str(library))
        return graph

    monkeypatch.setattr(program, "_compile", load)
    assert outcome(list(train([problem(0)], compiled=True))).compiled
    assert not capsys.readouterr().err


def test_a_file_that_cannot_be_loaded_once_it_is_complete_is_not_compiled_forever(
    monkeypatch, tmp_path, new_traces
):
    """It is deleted once; then the kernels are compiled in several files, and that is the last try."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    attempts = []

    def load(*_):
        attempts.append(True)
        raise ImportError("undefined symbol", path=str(tmp_path / "kernel.so"))

    monkeypatch.setattr(program, "_compile", load)
    assert not outcome(list(train([problem(0)], compiled=True))).compiled
    assert len(attempts) == 3
