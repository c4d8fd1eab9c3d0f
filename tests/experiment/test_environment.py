"""What a run records of the code and the machine."""

import subprocess
from pathlib import Path

import pytest
import torch
from sacred.dependencies import get_commit_if_possible

from grok.experiment.environment import environment, is_changed, state_of


def git(folder, *words):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def test_verdicts_that_a_replication_writes_do_not_make_later_runs_those_of_changed_code(tmp_path):
    """`grok replicate` writes docs/verdicts.json after each paper: the runs of the next one would be
    marked as runs of code that nobody can get again."""
    git(tmp_path, "init")
    for name in ("paper.py", "docs/verdicts.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1")
    assert not is_changed(tmp_path)  # nothing is committed yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    assert not is_changed(tmp_path)
    (tmp_path / "docs" / "verdicts.json").write_text("2")
    (tmp_path / "untracked.py").write_text("")
    assert not is_changed(tmp_path)
    (tmp_path / "paper.py").write_text("2")
    assert is_changed(tmp_path)
    git(tmp_path, "add", ".")
    assert is_changed(tmp_path)


def test_code_that_was_never_committed_is_no_state_of_the_commit(tmp_path):
    """The experiment of a run, or a module that it imports, may be a file that git does not know yet:
    the run's commit has no trace of it. Other files, and those that git ignores, do not matter."""
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("ignored/\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    for name in ("notes.py", "experiments/notes.md", "experiments/ignored/paper.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("1")
    assert not is_changed(tmp_path)
    for name in ("experiments/paper.py", "grok/claims/checks.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).write_text("1")
        assert is_changed(tmp_path)
        (tmp_path / name).unlink()
    assert not is_changed(tmp_path)


def test_a_run_records_where_its_code_is_from_and_its_commit(tmp_path):
    """Sacred's description of a repository, from which a run is repeated: git is asked directly, since
    GitPython, with which Sacred asks, takes longer to import than git to answer."""
    git(tmp_path, "init")
    with pytest.raises(subprocess.CalledProcessError):
        state_of(tmp_path)  # nothing is committed yet
    (tmp_path / "paper.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    url, commit, is_dirty = state_of(tmp_path)
    assert (url, is_dirty) == (f"git:/{tmp_path}", False)
    assert (url, commit, is_dirty) == get_commit_if_possible(str(tmp_path / "paper.py"), True)
    git(tmp_path, "remote", "add", "origin", "https://example.org/a.git")
    assert state_of(tmp_path) == ("https://example.org/a.git", commit, False)
    # Runs are published in archives and bundles.
    git(tmp_path, "remote", "set-url", "origin", "https://me:secret@example.org/a.git")
    assert state_of(tmp_path) == ("https://example.org/a.git", commit, False)
    git(tmp_path, "remote", "set-url", "origin", "ssh://git@example.org/a.git")
    assert state_of(tmp_path)[0] == "ssh://git@example.org/a.git"


def test_a_run_records_the_settings_that_can_change_its_numbers(monkeypatch):
    """Two machines with the same packages may differ in these alone, and so in the last bits."""
    flags = {
        flag
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith(("flags", "Features"))
        for flag in line.split(":")[1].split()
    }
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    found = environment.__wrapped__()
    assert (found["cublas_workspace"], found["omp_threads"]) == (":16:8", "7")
    assert found["cudnn_deterministic"] and found["cudnn_benchmark"]
    assert {*found["cpu_flags"].split()} == flags
    if not torch.cuda.is_available():
        assert (found["gpu_count"], found["gpu_capability"]) == (0, None)
    others = ("cudnn_enabled", "cudnn_allow_tf32", "cublas_allow_tf32", "interop_threads")
    assert {*others} <= found.keys()
