"""Files are replaced as a whole, and only their user can read them; how a project is found."""

import os
from pathlib import Path

import pytest

from grok.paths import (
    PROJECT,
    atomic_write,
    make_private_folder,
    project_of,
    shortened,
    sweep_file,
    write_private,
)


@pytest.fixture(autouse=True)
def permissive_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_files_and_folders_are_this_user_s_alone_whatever_the_umask(tmp_path):
    folder = tmp_path / "a" / "b"
    make_private_folder(folder)
    make_private_folder(folder)
    assert (mode(folder), mode(folder.parent)) == (0o700, 0o700)
    write_private(folder / "private", "text")
    with atomic_write(folder / "public", 0o644) as file:
        file.write(b"text")
    assert (mode(folder / "private"), mode(folder / "public")) == (0o600, 0o644)


def test_links_are_not_followed(tmp_path):
    """Neither one at the path nor ones at the temporary names of earlier versions."""
    victim, path = tmp_path / "victim", tmp_path / "file"
    victim.write_text("safe")
    path.symlink_to(victim)
    for name in (f".file.{os.getpid()}", ".file.", ".file.tmp"):
        (tmp_path / name).symlink_to(victim)
    write_private(path, "new")
    assert victim.read_text() == "safe"
    assert path.read_text() == "new" and not path.is_symlink()


def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_private(path, "old")
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def make_project(folder: Path) -> Path:
    for part in ("experiments", "sweeps", "below"):
        (folder / part).mkdir(parents=True)
    return folder


def test_a_project_is_found_from_a_folder_upwards(tmp_path):
    """The nearest one counts, so that a project may lie in the folder of another one."""
    outer, inner = make_project(tmp_path / "outer"), make_project(tmp_path / "outer" / "inner")
    assert project_of(inner / "experiments") == inner == project_of(inner)
    assert project_of(outer / "below") == outer
    assert project_of(tmp_path) is None


def test_a_folder_that_users_share_is_no_project(tmp_path):
    """Experiments are executed, and anybody could put some into /tmp."""
    shared = make_project(tmp_path / "shared")
    shared.chmod(0o1777)
    assert project_of(shared / "below") is None


def test_a_sweep_file_is_found_by_path_or_by_name(tmp_path, monkeypatch):
    """From any folder below the project; a file of the working directory comes first."""
    monkeypatch.chdir(tmp_path)
    ours = PROJECT / "sweeps" / "liu_figure4b.yaml"
    assert sweep_file(Path("sweeps/liu_figure4b.yaml")) == ours == sweep_file(Path("liu_figure4b"))
    Path("liu_figure4b").touch()
    assert sweep_file(Path("liu_figure4b")) == Path("liu_figure4b")
    assert sweep_file(Path("none.yaml")) == Path("none.yaml")


def test_a_name_that_is_too_long_is_cut_within_its_bytes():
    """Names of folders were cut after 100 characters, which may be 400 bytes: file systems take 255."""
    names = [shortened("\N{GRINNING FACE}" * 100 + end, 200) for end in "xy"]
    assert all(len(name.encode()) <= 200 for name in names) and names[0] != names[1]
    assert shortened("a" * 200, 200) == "a" * 200
