"""Store, journal and resume against a model, through random interleavings of failures.

In the model a run has the values that its present holder has logged. Whatever happens, the store has
a beginning of them, in order and each once; and all of them when the journal has been delivered.
"""

import random
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pymongo
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pymongo.errors import AutoReconnect

from grok.errors import UserError
from grok.store import delivery, lease, maintenance
from grok.store.connection import Store
from grok.store.lease import LeaseLost
from tests.store.writers import Writer, held_delivery, make_silent, node, stored

NODES = st.sampled_from([0, 1])
CHOICE = st.integers(0, 1000)


class Interleavings(RuleBasedStateMachine):
    """Two nodes with journals of their own, one server, and the processes that record runs."""

    base: Store

    @initialize()
    def begin(self) -> None:
        self.context = ExitStack()
        self.context.enter_context(held_delivery())
        self.folder = Path(tempfile.mkdtemp(prefix="i"))
        self.nodes = [node(self.base, self.folder / name) for name in ("a", "b")]
        for each in self.nodes:
            each.db_name = "interleavings"
        for collection in ("runs", "metrics"):
            self.nodes[0].database[collection].delete_many({})
        self.living: list[Writer] = []
        self.dead: list[Writer] = []
        self.holder: dict[int, Writer] = {}  # the writer of each run in the model
        self.is_damaged: set[Writer] = set()
        self.next_value = 0.0

    def pick(self, of: list[Any], choice: int) -> Any:
        return of[choice % len(of)]

    @rule(where=NODES)
    def start(self, where: int) -> None:
        writer = Writer(self.nodes[where])
        assert writer.run not in self.holder
        self.begin_to_write(writer)

    def begin_to_write(self, writer: Writer) -> None:
        """The writer, from now on its run's in the model, has delivered a value, and logged another."""
        self.living.append(writer)
        self.holder[writer.run] = writer
        for _ in range(2):
            writer.deliver()
            writer.log(self.next_value)
            self.next_value += 1

    @precondition(lambda self: self.living)
    @rule(choice=CHOICE, count=st.integers(1, 3), name=st.sampled_from(["loss", "accuracy"]))
    def log(self, choice: int, count: int, name: str) -> None:
        values = [self.next_value + i for i in range(count)]
        self.next_value += count
        self.pick(self.living, choice).log(*values, name=name)

    @precondition(lambda self: self.living)
    @rule(choice=CHOICE, count=st.integers(1, 6))
    def deliver(self, choice: int, count: int) -> None:
        writer = self.pick(self.living, choice)
        try:
            writer.deliver(count)
        except LeaseLost:
            assert self.holder.get(writer.run) is not writer

    @precondition(lambda self: any(one.journal.waiting for one in self.living))
    @rule(choice=CHOICE, operation=st.integers(0, 2))
    def lose_the_answer(self, choice: int, operation: int) -> None:
        """An event of which the server does one operation, or two, before the connection is lost."""
        writer = self.pick([one for one in self.living if one.journal.waiting], choice)
        event, to = writer.journal.waiting[0]
        left = operation
        with pytest.MonkeyPatch.context() as patch:
            for method in ("_write_metrics", "_update_run"):
                original = getattr(to, method)

                def losing(*args: Any, _original: Any = original, **kwargs: Any) -> Any:
                    nonlocal left
                    result = _original(*args, **kwargs)
                    left -= 1
                    if left < 0:
                        raise AutoReconnect("lost")
                    return result

                patch.setattr(to, method, losing)
            try:
                delivery.deliver(event, writer.journal, to)
                writer.delivered.append(writer.journal.waiting.pop(0))
            except AutoReconnect:
                pass
            except LeaseLost:
                assert self.holder.get(writer.run) is not writer

    @precondition(lambda self: any(one.delivered for one in [*self.living, *self.dead]))
    @rule(choice=CHOICE, number=CHOICE)
    def deliver_again(self, choice: int, number: int) -> None:
        """A duplicate of an earlier event arrives late."""
        writer = self.pick([one for one in [*self.living, *self.dead] if one.delivered], choice)
        event, to = self.pick(writer.delivered, number)
        try:
            to.apply(event, writer.journal.folder)
        except LeaseLost:
            assert self.holder.get(writer.run) is not writer

    @precondition(lambda self: self.living)
    @rule(choice=CHOICE)
    def kill(self, choice: int) -> None:
        writer = self.pick(self.living, choice)
        writer.die()
        self.living.remove(writer)
        self.dead.append(writer)

    @precondition(lambda self: self.living)
    @rule(choice=CHOICE)
    def complete(self, choice: int) -> None:
        """The run's process records its end and is killed before that is delivered."""
        self.pick(self.living, choice).complete()
        self.kill(choice)

    @precondition(lambda self: self.holder)
    @rule(choice=CHOICE, where=NODES, is_away=st.booleans())
    def resume(self, choice: int, where: int, is_away: bool) -> None:
        """A run is resumed on a node, from which its process may be away, and silent, yet alive."""
        run = self.pick(sorted(self.holder), choice)
        here, former = self.nodes[where], self.holder[run]
        if is_away:
            make_silent(here, run)
        seen = here.database.runs.find_one({"_id": run})
        if lease.is_alive(here, here.database.runs, seen):
            assert former in self.living or not is_away
            return
        assert is_away or former in self.dead
        writer = Writer(here, seen)
        assert writer.run == run
        self.begin_to_write(writer)
        with pytest.raises(UserError, match="taken"):
            Writer(here, seen)  # a second process that has seen the same
        if former in self.living:  # it comes back
            former.log(self.next_value)
            self.next_value += 1
            with pytest.raises(LeaseLost):
                former.deliver()

    @precondition(lambda self: self.holder)
    @rule(choice=CHOICE, where=NODES)
    def delete(self, choice: int, where: int) -> None:
        run = self.pick(sorted(self.holder), choice)
        deleted, alive = maintenance.delete(self.nodes[where], {"_id": run})
        assert deleted + alive == 1
        if deleted:
            del self.holder[run]

    @precondition(lambda self: any(one.journal.folder.exists() for one in self.dead))
    @rule(choice=CHOICE, seed=CHOICE)
    def damage(self, choice: int, seed: int) -> None:
        writer = self.pick([one for one in self.dead if one.journal.folder.exists()], choice)
        path, rng = writer.journal.folder / "events.sqlite", random.Random(seed)
        content = bytearray(path.read_bytes())
        for _ in range(200):
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        self.is_damaged.add(writer)

    @rule(where=NODES)
    def recover(self, where: int) -> None:
        delivery.recover(self.nodes[where])

    @invariant()
    def nothing_is_doubled_or_mixed(self) -> None:
        if not hasattr(self, "holder"):
            return
        store = self.nodes[0]
        assert set(store.database.runs.distinct("_id")) == set(self.holder)
        assert set(store.database.metrics.distinct("run_id")) <= set(self.holder)
        for run, writer in self.holder.items():
            for name, values in stored(store, run).items():
                assert values == writer.logged.get(name, [])[: len(values)], (run, name)

    def teardown(self) -> None:
        if not hasattr(self, "holder"):
            return
        for writer in self.living:
            writer.die()
        for each in self.nodes:
            delivery.recover(each)
            assert [*each.journals.iterdir()] == [] if each.journals.exists() else True
        self.nothing_is_doubled_or_mixed()
        for run, writer in self.holder.items():
            if writer not in self.is_damaged:  # nothing is lost
                logged = {name: values for name, values in writer.logged.items() if values}
                assert stored(self.nodes[0], run) == logged, run
        shutil.rmtree(self.folder)
        self.context.close()


def test_no_interleaving_of_failures_loses_doubles_or_mixes_values(store: Store) -> None:
    """Kills, lost connections, duplicates, two writers, deletions, numbers given away, damage."""
    base = Store(store.kind, store.uri, home=store.home)
    base.__dict__["client"] = pymongo.MongoClient(store.uri)  # does not wait for the server's disk
    machine = type("Machine", (Interleavings,), {"base": base})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=30,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # to make a failing sequence shorter takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
    base.client.drop_database("interleavings")
    base.client.close()
