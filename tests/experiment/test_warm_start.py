"""A run that starts where another ended, and knows which."""

import io
from types import SimpleNamespace

import numpy as np
import pytest

from grok.errors import UserError
from grok.experiment.experiment import load
from grok.experiment.repeat import repeat, resume
from grok.store import archive, maintenance
from grok.store.connection import artifact
from grok.store.documents import RUN_KEYS
from tests.conftest import PROJECT

TINY = {"train_steps": 30, "p": 5, "embedding_width": 6, "width": 4, "log_points": 10, "seed": 3}


@pytest.fixture
def paper(store):
    paper = load(PROJECT / "experiments" / "circuit_efficiency.py")
    return paper


def logged(store, run, name: str) -> dict[int, float]:
    found = store.database.metrics.find_one({"run_id": run._id, "name": name})
    return dict(zip(found["steps"], found["values"], strict=True))


def test_it_starts_with_the_weights_and_its_lineage_is_a_query(store, paper):
    first = paper.run(config_updates=TINY)
    second = paper.run(config_updates={**TINY, "initial_run": first._id, "train_count": 6})
    start, end = logged(store, second, "weight_norm")[0], logged(store, first, "weight_norm")[30]
    assert start == end
    assert store.database.runs.find_one({"info.initial_run": first._id})["_id"] == second._id
    assert repeat(store, second._id).first is None


def test_a_run_that_has_a_name_is_found_by_it(store, paper):
    """`grok repeat` of a run that started from it took the name for a named config."""
    config = SimpleNamespace(initial_run="a_named_config", seed=3)
    assert paper._parent_run(config, store, "first").number == "first"


def test_a_run_that_was_imported_alone_never_follows_its_ids(store, paper, tmp_path):
    """In another store its `initial_run=1` is whatever run has that number there. Here the number
    is free after the import, and then that of a run that would fit."""
    runs, path = store.database.runs, tmp_path / "runs.zip"
    for key in RUN_KEYS:
        named = paper.run(config_updates=TINY)
        updates = {key: named._id}
        if key == "reference_run":  # refused unless it is read
            updates["measures"] = "reference"
        run = paper.run(config_updates={**TINY, **updates, "train_count": 6})
        assert run.info[key] == named._id
        archive.export(store.database, {"_id": run._id}, path)
        assert maintenance.delete(store, {"_id": run._id}) == (1, 0)
        archive.import_(store.database, path)
        with pytest.raises(
            UserError, match=rf"imported without the run that its {key}={named._id}"
        ):
            repeat(store, run._id)
        runs.update_one({"_id": run._id}, {"$set": {"status": "INTERRUPTED"}})
        with pytest.raises(
            UserError, match=rf"imported without the run that its {key}={named._id}"
        ):
            resume(store, run._id)


def test_a_run_that_was_imported_with_its_parent_follows_it_under_its_new_id(
    store, paper, tmp_path
):
    """Repeated and resumed, it is equal bit for bit; its configuration stays as it was."""
    runs, path = store.database.runs, tmp_path / "runs.zip"
    parent = paper.run(config_updates=TINY)
    updates = {"initial_run": parent._id, "reference_run": parent._id, "train_count": 6}
    updates["measures"] = "reference"  # which reads the reference
    run = paper.run(config_updates={**TINY, **updates})
    values = logged(store, run, "weight_norm")
    archive.export(store.database, {"_id": {"$in": [parent._id, run._id]}}, path)
    runs.update_many({"_id": {"$in": [parent._id, run._id]}}, {"$set": {"config.seed": 99}})
    renamed = archive.import_(store.database, path).renamed
    new = renamed[run._id]
    assert repeat(store, new).first is None
    runs.update_one({"_id": new}, {"$set": {"status": "INTERRUPTED"}})
    resumed, _ = resume(store, new)
    assert logged(store, resumed, "weight_norm") == values
    found = runs.find_one({"_id": new})
    assert [found["info"][key] for key in RUN_KEYS] == [renamed[parent._id]] * 2
    assert [found["config"][key] for key in RUN_KEYS] == [parent._id] * 2


def test_a_named_config_means_its_latest_run_of_this_seed(store, paper):
    paper.add_named_config("tiny", TINY)
    wanted = {**TINY, "initial_run": "tiny"}
    with pytest.raises(
        UserError, match=r"run this first: python experiments/circuit_efficiency\.py"
    ):
        paper.run(config_updates={**wanted, "seed": 4})
    runs = [paper.run(named_configs=["tiny"], config_updates={"seed": 3}) for _ in range(2)]
    paper.run(named_configs=["tiny"], config_updates={"seed": 5})
    found = paper.run(config_updates=wanted)
    assert found.info["initial_run"] == runs[1]._id


def test_weights_of_another_shape_are_refused_in_one_line(paper):
    first = paper.run(config_updates=TINY)
    with pytest.raises(UserError, match=r"initial_run.*names and shapes"):
        paper.run(config_updates={**TINY, "width": 5, "initial_run": first._id})
    with pytest.raises(UserError, match="no run 999999"):
        paper.run(config_updates={**TINY, "initial_run": 999_999})


def test_a_ticket_is_the_mask_of_a_kept_step_on_the_same_initial_weights(store):
    paper = load(PROJECT / "experiments" / "minegishi.py")
    tiny = {"p": 7, "embedding_width": 6, "width": 5, "train_steps": 40, "eval_steps": 5, "seed": 1}
    kept = {"record_trajectory": True, "trajectory_every": 2}
    dense = paper.run(config_updates={**tiny, **kept})
    arrays = trajectory(store, dense)
    assert arrays["steps"].tolist() == [0, 10, 20, 30, 40]
    wanted = {**tiny, "mask": "ticket", "initial_run": dense._id, "mask_step": 25, "train_steps": 1}
    ticket = paper.run(config_updates={**wanted, "record_trajectory": True})
    assert ticket.info["initial_run"] == dense._id
    found = trajectory(store, ticket)
    names = [name for name in found if name.startswith("weights/")]
    at = list(arrays["steps"]).index(30)
    sizes = np.concatenate([np.abs(arrays[name][at]).ravel() for name in names])
    least = np.sort(sizes)[-round(0.4 * len(sizes))]
    for name in names:
        start, large = arrays[name][0], np.abs(arrays[name][at]) >= least
        assert (found[name][0] == np.where(large, start, 0)).all()
        assert (found[name][-1][~large] == 0).all()


def test_a_ticket_needs_a_run_that_kept_weights_and_generalized(store):
    paper = load(PROJECT / "experiments" / "minegishi.py")
    tiny = {"p": 7, "embedding_width": 6, "width": 5, "train_steps": 20, "seed": 1}
    dense = paper.run(config_updates=tiny)
    ticket = {**tiny, "mask": "ticket", "initial_run": dense._id}
    with pytest.raises(UserError, match="no steps_to_test"):
        paper.run(config_updates=ticket)
    with pytest.raises(UserError, match=r"has kept no trajectory\.npz"):
        paper.run(config_updates={**ticket, "mask_step": 10})
    with pytest.raises(UserError, match=f"seed=2: expected 1, as of run {dense._id}"):
        paper.run(config_updates={**ticket, "mask_step": 0, "seed": 2})
    with pytest.raises(UserError, match=r"initial_run=None: expected an id or named config"):
        paper.run(config_updates={**tiny, "mask": "search"})


def trajectory(store, run) -> dict:
    content = artifact(store.database, run._id, "trajectory.npz")
    with np.load(io.BytesIO(content), allow_pickle=False) as kept:
        return dict(kept)
