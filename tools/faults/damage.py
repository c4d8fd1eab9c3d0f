"""Journals, checkpoints and archives with damaged bytes."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gridfs

from grok.errors import UserError
from grok.store import archive, delivery
from grok.store.connection import file_ids, find_run
from grok.store.journal import EVENTS
from tools.faults.commands import Command, NotRecovered
from tools.faults.laboratory import RUN, Laboratory, Outcome, compare, records, wait_until

SCRATCH_DATABASE = "faults_archives"
Damage = Callable[[bytearray, random.Random], bytes | bytearray]


def _flipped(content: bytearray, rng: random.Random) -> bytearray:
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return content


def _holed(content: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(content))
    end = min(len(content), start + rng.randrange(1, 4096))
    content[start:end] = bytes(end - start)
    return content


def _ending_in_zeros(content: bytearray, rng: random.Random) -> bytearray:
    start = rng.randrange(len(content))
    content[start:] = bytes(len(content) - start)
    return content


DAMAGES: dict[str, Damage] = {
    "a flipped bit": _flipped,
    "a hole": _holed,
    "an end of zeros": _ending_in_zeros,
    "a missing end": lambda content, rng: content[: rng.randrange(len(content))],
    "other bytes": lambda content, rng: rng.randbytes(len(content)),
}


def damage(path: Path, rng: random.Random) -> str:
    """Change the content of a file; what has been done to it."""
    content, name = path.read_bytes(), rng.choice([*DAMAGES])
    changed = content
    while changed == content:
        changed = bytes(DAMAGES[name](bytearray(content), rng))
    path.write_bytes(changed)
    return f"{path.name} has {name}"


class Snapshot:
    """A run as its process has left it: its documents, its journal and its checkpoint."""

    def __init__(self, laboratory: Laboratory, number: int, name: str) -> None:
        self.store, self.number = laboratory.store, number
        self.copy = laboratory.home / name
        database = self.store.database
        self.run = find_run(database, number)
        self.metrics = list(database.metrics.find({"run_id": number}))
        self.folders = [self.store.journals, self.store.checkpoint_path(number).parent]
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
            shutil.copytree(folder, self.copy / folder.name)

    def restore(self) -> None:
        """Bring all of it back as it was."""
        database = self.store.database
        now = find_run(database, self.number)
        for file in set(file_ids(now)) - set(file_ids(self.run)):
            gridfs.GridFS(database).delete(file)
        metrics = [entry["id"] for entry in now["lease"].get("metrics", [])]
        database.metrics.delete_many({"_id": {"$in": metrics}})
        database.metrics.delete_many({"run_id": self.number})
        if self.metrics:
            database.metrics.insert_many(self.metrics)
        database.runs.replace_one({"_id": self.number}, self.run)
        for folder in self.folders:
            shutil.rmtree(folder)
            shutil.copytree(self.copy / folder.name, folder)


class Damaged:
    """A journal, a checkpoint or an archive has damaged bytes."""

    def __init__(self, laboratory: Laboratory) -> None:
        self.laboratory = lab = laboratory
        self.archive = lab.home / "whole.zip"
        self.scratch = lab.store.client[SCRATCH_DATABASE]
        whole = lab.last_run()
        archive.export(lab.store.database, {"_id": whole}, self.archive)
        undelivered, self.journal = _undelivered_run(lab)
        self.undelivered = Snapshot(lab, undelivered, "undelivered")
        self.undelivered.restore()
        delivery.recover(lab.store)
        self.killed = Snapshot(lab, _killed_run(lab), "killed")

    def trial(self, rng: random.Random) -> Outcome:
        """One damaged file."""
        return rng.choice([self._journal, self._checkpoint, self._archive])(rng)

    def _journal(self, rng: random.Random) -> Outcome:
        """It is delivered up to the damage; then the run is resumed from its start."""
        lab, number = self.laboratory, self.undelivered.number
        self.undelivered.restore()
        files = sorted(each for each in self.journal.iterdir() if each.stat().st_size)
        line = f"journal: {damage(rng.choice(files), rng)}"
        delivery.recover(lab.store)
        found = compare(lab.expected, records(lab.store.database, number), line)
        if found.doubled:
            return found
        lab.resume(number)
        return lab.check(number, line)

    def _checkpoint(self, rng: random.Random) -> Outcome:
        """It is refused in one line; without it the run is resumed from its start."""
        lab, number = self.laboratory, self.killed.number
        self.killed.restore()
        path = lab.store.checkpoint_path(number)
        line = f"checkpoint: {damage(path, rng)}"
        before = find_run(lab.store.database, number)
        refused = lab.start("grok", "resume", str(number))
        if refused.wait() != 2 or refused.output.count("\n") != 1:
            raise NotRecovered(f"{line}: {refused.last_line}")
        if find_run(lab.store.database, number) != before:
            raise NotRecovered(f"{line}: it was refused, and the run has changed")
        path.unlink()
        lab.resume(number)
        return lab.check(number, line)

    def _archive(self, rng: random.Random) -> Outcome:
        """It is imported whole or not at all; then the sound one is imported."""
        self.laboratory.store.client.drop_database(SCRATCH_DATABASE)
        path = self.laboratory.home / "damaged.zip"
        shutil.copy(self.archive, path)
        line = f"archive: {damage(path, rng)}"
        for file in (path, self.archive):
            try:
                archive.import_(self.scratch, file)
            except UserError as error:
                if file == self.archive:
                    raise NotRecovered(f"{line}: {error}") from error
                if any(
                    self.scratch[name].find_one() for name in self.scratch.list_collection_names()
                ):
                    raise NotRecovered(f"{line}: refused, and something is imported") from error
        (run,) = self.scratch.runs.find()
        return compare(self.laboratory.expected, records(self.scratch, run["_id"]), line)


def _undelivered_run(lab: Laboratory) -> tuple[int, Path]:
    """A run that has ended while the server did not answer, and the folder of its journal, which has
    all of it. There may be a journal of an earlier kind beside it.

    The server is stopped when the run has a journal. Before that, the run waits for the server.
    """
    while True:
        mongod, earlier = lab.mongod(), _journals(lab)
        run = lab.start(*RUN)
        wait_until(partial(_has_journal_or_ended, lab, run, earlier), "no journal")
        os.kill(mongod, signal.SIGSTOP)
        try:
            run.succeed()
        finally:
            os.kill(mongod, signal.SIGCONT)
        if left := _journals(lab) - earlier:  # it had not ended before that
            (events,) = left
            return lab.last_run(), events.parent


def _journals(lab: Laboratory) -> set[Path]:
    """The journals with events; one without is of a run that is not stored yet."""
    return {*lab.store.journals.glob(f"*/{EVENTS}")}


def _has_journal_or_ended(lab: Laboratory, run: Command, earlier: set[Path]) -> bool:
    return bool(_journals(lab) - earlier) or run.has_ended


def _killed_run(lab: Laboratory) -> int:
    """A run that was killed when it had a checkpoint, all of its journal delivered."""
    while True:
        run = lab.start(*RUN)
        while not (run.has_ended or lab.store.checkpoint_path(lab.last_run()).exists()):
            time.sleep(0.005)
        if run.kill_after(0):
            delivery.recover(lab.store)
            if lab.store.checkpoint_path(lab.last_run()).exists():
                return lab.last_run()
