"""Bundles of claims: what they have, and what a check finds in an honest and in a hostile one."""

import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from grok.claims import versions
from grok.cli import main
from grok.errors import UserError
from grok.experiment.environment import package_version
from grok.paths import PROJECT
from grok.reports import bundle, bundle_check
from grok.store import archive
from grok.sweep import file as files
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress

SWEEP = """\
program: experiments/doshi.py
method: grid
command: ['${program}', with, '${args_no_hyphens}']
parameters: {preset: {values: [analytic, analytic_product]}, seed: {values: [0, 1]}}
"""


@pytest.fixture(scope="module", autouse=True)
def small_sweep(tmp_path_factory):
    """A project whose file of the sweep asks for four runs. No claim is registered for these."""
    project = tmp_path_factory.mktemp("bundle")
    path = project / "sweeps" / "doshi_cpu.yaml"
    path.parent.mkdir()
    path.write_text(SWEEP)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "PROJECT", project)
        versions._recipes.cache_clear()
        yield path
    versions._recipes.cache_clear()


@pytest.fixture(scope="module")
def written(store, small_sweep):
    """A bundle of one claim with four runs, as a folder, and the store that it was written from."""
    made = replace(store, db_name="bundled")
    LocalSweep.begin(files.read(small_sweep), made, None, None).run(SweepProgress(4, 4))
    folder = small_sweep.parents[1] / "written"
    assert bundle.write(made.database, ["08c"], folder)[:2] == (1, 4)
    yield folder, made
    store.client.drop_database("bundled")


def test_a_bundle_has_all_runs_of_its_claims_or_is_not_written(written, tmp_path):
    """An export leaves out a run that an import would refuse. A claim must not be checked on the rest
    as if it were all."""
    made = written[1]
    [run, *_] = made.database.runs.distinct("_id")
    made.database.runs.update_one({"_id": run}, {"$set": {"added": {"$where": 1}}})
    try:
        with pytest.raises(UserError, match="some of them cannot be exported"):
            bundle.write(made.database, ["08c"], tmp_path / "partial")
    finally:
        made.database.runs.update_one({"_id": run}, {"$unset": {"added": 1}})
    assert not list(tmp_path.iterdir())


@pytest.fixture
def copy(written, tmp_path):
    """A copy of the bundle that a test may change."""
    return shutil.copytree(written[0], tmp_path / "copy")


def seal(folder) -> None:
    """Write the checksums anew, as somebody who has changed a bundle on purpose would."""
    (folder / bundle.SUMS).unlink()
    sums = bundle.checksums(folder)
    text = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
    (folder / bundle.SUMS).write_text(text)


def wrong(store, path, runs: int = 0) -> list[str]:
    """What the check finds wrong."""
    return [line for agrees, line in bundle_check.verify(store, path, runs, 0) if not agrees]


def test_an_honest_bundle_is_right_as_a_folder_and_as_a_zip_file(written, store, tmp_path):
    """A reviewer must find it complete: its runs give the same verdict and the same values again,
    and `sha256sum` alone can check the files. The check leaves nothing in the store."""
    folder, made = written
    subprocess.run(
        ["sha256sum", "--check", "--strict", "--quiet", bundle.SUMS], cwd=folder, check=True
    )
    readme = (folder / "README.md").read_text()
    assert (
        "passed (stated after) | 2/2" in readme and "grok sweep run sweeps/doshi_cpu.yaml" in readme
    )
    assert (folder / "figures" / "curves_doshi_cpu.png").read_bytes().startswith(b"\x89PNG")
    packed = tmp_path / "b.zip"
    assert bundle.write(made.database, ["08c"], packed)[:2] == (1, 4)
    before = store.client.list_database_names()
    for path, options in ((folder, ["--runs", "4"]), (packed, ["--runs", "1", "--seed", "5"])):
        done = CliRunner().invoke(main, ["bundle", "verify", str(path), *options])
        assert done.exit_code == 0, done.output
        assert "claim 08c: passed on 2 of 2 seeds, as the bundle says" in done.output
        assert done.output.count("equal bit for bit") == int(options[1])
    assert store.client.list_database_names() == before
    with pytest.raises(UserError, match="exists"):
        bundle.write(made.database, ["08c"], packed)
    with pytest.raises(UserError, match="unknown claim or paper 08zz"):
        bundle.write(made.database, ["08zz"], tmp_path / "c.zip")


def git(folder, *words) -> str:
    command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def in_project(folder, *words) -> subprocess.CompletedProcess:
    """`grok` in the folder of a project."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-m", "grok.cli", *map(str, words)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_a_bundle_says_which_project_it_is_of_and_is_verified_there(
    written, small_sweep, store, tmp_path
):
    """Its commit is that of the author's project, of which nobody has a clone by the name grok-lab;
    a password of the remote is nobody's business. In another project there is nothing to compare."""
    project, other = tmp_path / "my_project", tmp_path / "other"
    for folder in (project, other):
        (folder / "experiments").mkdir(parents=True)
        (folder / "sweeps").mkdir()
    shutil.copy(PROJECT / "experiments/doshi.py", project / "experiments")
    shutil.copy(small_sweep, project / "sweeps")
    git(project, "init")
    git(project, "add", ".")
    git(project, "commit", "-m", "first")
    git(project, "remote", "add", "origin", "https://me:secret@example.org/mine.git")
    made = ["-m", f"{store.uri}/bundled"]
    done = in_project(project, "bundle", "write", "08c", "--to", tmp_path / "b", *made)
    assert done.returncode == 0, done.stderr
    contents = json.loads((tmp_path / "b" / "bundle.json").read_text())
    commit, version = git(project, "rev-parse", "--short", "HEAD"), package_version()
    named = [contents[key] for key in ("project", "remote", "commit", "grok_lab")]
    assert named == ["my_project", "https://example.org/mine.git", commit, version]
    readme = (tmp_path / "b" / "README.md").read_text()
    assert f"in the project `my_project` at commit {commit} by grok-lab {version}" in readme
    assert (
        f"1. Install grok-lab {version}.\n2. Get the project `my_project` from {named[1]}" in readme
    )
    assert "Install grok-lab at the commit above" not in readme
    done = in_project(project, "bundle", "verify", tmp_path / "b", "--runs", "1", *made)
    assert done.returncode == 0, done.stdout
    # the store has another run 5, or none
    assert "run 5 in a temporary database: doshi, " in done.stderr
    assert "MongoDB" not in done.stderr
    done = in_project(other, "bundle", "verify", tmp_path / "b", *made)
    where = f"verify it in the folder of project my_project, at commit {commit}"
    expected = f"error: {tmp_path / 'b'}: no experiment doshi here; {where}\n"
    assert (done.returncode, done.stderr) == (2, expected)


def test_at_least_one_run_is_trained_again(copy):
    """Verdicts that are computed from the runs say nothing of whether the runs are true."""
    done = CliRunner().invoke(main, ["bundle", "verify", str(copy), "--runs", "0"])
    assert done.exit_code == 2 and "0 is not in the range x>=1" in done.stderr


def test_a_bundle_of_grok_lab_is_verified_in_its_checkout(written):
    readme = (written[0] / "README.md").read_text()
    assert "Install grok-lab at the commit above and work in its folder.\n" in readme
    contents = json.loads((written[0] / "bundle.json").read_text())
    assert (contents["project"], contents["remote"]) == ("grok-lab", None)


def test_a_bundle_of_an_earlier_version_is_read(copy, store):
    """It does not name its project."""
    contents = json.loads((copy / "bundle.json").read_text())
    earlier = {key: contents[key] for key in contents if key not in ("project", "remote")}
    (copy / "bundle.json").write_text(json.dumps(earlier))
    seal(copy)
    assert wrong(store, copy) == []
    earlier["claims"][0]["paper"] = "../doshi"
    (copy / "bundle.json").write_text(json.dumps(earlier))
    seal(copy)
    with pytest.raises(UserError, match=r"no experiment \.\./doshi here; .* the project it is of"):
        wrong(store, copy)


def test_intervals_that_an_earlier_version_did_not_give_are_not_missed():
    """Its bundles have the number of an effect alone, as if it had no spread. A changed number, and
    a spread that is left out of another number, are still found."""
    now = {"alpha": [7.9, 7.4, 8.5], "steps": [3.0, 2.0, 5.0]}
    for then, agrees in (
        ({"alpha": [7.9] * 3, "steps": [3.0, 2.0, 5.0]}, True),
        ({"alpha": [7.9, 7.4, 8.5], "steps": [3.0, 2.0, 5.0]}, True),
        ({"alpha": [7.8] * 3, "steps": [3.0, 2.0, 5.0]}, False),
        ({"alpha": [7.9, 7.4, 8.6], "steps": [3.0, 2.0, 5.0]}, False),
        ({"alpha": [7.9] * 3, "steps": [3.0] * 3}, False),
    ):
        assert (
            bundle_check._are_close(then, bundle_check._as_before(now, then, ("alpha",))) == agrees
        )


def test_a_changed_byte_a_missing_and_a_foreign_file_are_named(copy, store):
    content = bytearray((copy / "runs.zip").read_bytes())
    content[len(content) // 2] ^= 1
    (copy / "runs.zip").write_bytes(content)
    (copy / "packages.txt").unlink()
    (copy / "note.txt").write_text("not listed")
    assert wrong(store, copy) == [
        "note.txt is not in SHA256SUMS",
        "packages.txt is missing",
        "runs.zip was changed: it has another SHA-256",
    ]
    assert CliRunner().invoke(main, ["bundle", "verify", str(copy)]).exit_code == 1


def test_a_run_whose_values_were_changed_is_found_by_training_it_again(copy, written, store):
    """Whoever forges a curve can write the right checksums with it."""
    forged = replace(store, db_name="forged")
    archive.import_(forged.database, copy / "runs.zip")
    metric = {"name": "test_accuracy", "run_id": 3}
    values = forged.database.metrics.find_one(metric)["values"]
    forged.database.metrics.update_one(metric, {"$set": {"values": [0.123, *values[1:]]}})
    (copy / "runs.zip").unlink()
    archive.export(forged.database, {}, copy / "runs.zip")
    store.client.drop_database("forged")
    seal(copy)
    [line] = wrong(store, copy, runs=4)
    assert line.startswith("run 3: test_accuracy at step 0 is 0.123, trained again ")


def test_a_verdict_that_does_not_follow_from_the_runs_is_found(copy, store):
    for then, now, found in (
        ('"seeds_passed": 2', '"seeds_passed": 1', "seeds_passed 1 in the bundle, 2 from its runs"),
        ('"seeds_passed": 1', '"seeds_passed": 2', None),
        ("0.4", "0.9", "its measured numbers do not follow from the runs"),
        ('"version": "', '"version": "0', "stated in version 0"),
        ('"claim": "08c"', '"claim": "08y"', "doshi has no such claim here"),
    ):
        text = (copy / "bundle.json").read_text()
        assert then in text
        (copy / "bundle.json").write_text(text.replace(then, now, 1))
        seal(copy)
        lines = wrong(store, copy)
        assert (found in lines[0]) if found else lines == []


def test_claims_on_a_sweep_that_agents_ran_are_computed_again(written, store, tmp_path):
    """The points of such a sweep are documents of their own. A run that was left out is missed, so
    that nobody can drop the seeds that contradict a claim."""
    served, path = replace(store, db_name="served"), tmp_path / "b"
    database = served.database
    archive.import_(database, written[0] / "runs.zip")
    sweep = database.sweeps.find_one()
    point = {"sweep": sweep["_id"], "state": "finished"}
    for number, values in enumerate(sweep["points"]):
        own = {"_id": f"{sweep['_id']}/{number}", "number": number, "run": f"r{number}"}
        database.sweep_points.insert_one({**point, **own, "point": values})
        agents = {"info.wandb": {"run": f"r{number}", "sweep": sweep["_id"]}}
        of_point = {"meta.sweep.point": number}
        database.runs.update_one(of_point, {"$set": agents, "$unset": {"meta.sweep": 1}})
    database.sweeps.update_one({}, {"$set": {"served": True}, "$unset": {"points": 1}})
    assert bundle.write(database, ["08c"], path)[:2] == (1, 4)
    assert (path / "figures" / "curves_doshi_cpu.png").exists()
    right = [line for _, line in bundle_check.verify(store, path, 0, 0)]
    assert right[1] == "claim 08c: passed on 2 of 2 seeds, as the bundle says"
    (path / "runs.zip").unlink()
    archive.export(database, {"config.seed": 0}, path / "runs.zip")
    store.client.drop_database("served")
    seal(path)
    assert wrong(store, path) == ["claim 08c: verdict passed in the bundle, failed from its runs"]


def test_nothing_in_a_bundle_is_executed(copy, written, store):
    """A reviewer checks what a stranger sends: code in it, and a run that names it, must stay data."""
    evil = copy / "experiments" / "doshi.py"
    evil.write_text("raise SystemExit('executed')")
    seal(copy)
    assert wrong(store, copy, runs=1) == []
    forged = replace(store, db_name="forged")
    archive.import_(forged.database, copy / "runs.zip")
    for number, program in enumerate([str(evil), "../experiments/doshi.py"], 1):
        change = {"$set": {"experiment.mainfile": program}}
        forged.database.runs.update_one({"_id": number}, change)
    (copy / "runs.zip").unlink()
    archive.export(forged.database, {"_id": {"$in": [1, 2]}}, copy / "runs.zip")
    store.client.drop_database("forged")
    seal(copy)
    lines = wrong(store, copy, runs=4)
    assert [line[:26] for line in lines if line.startswith("run ")] == [
        "run 1 cannot be repeated: ",
        "run 2 cannot be repeated: ",
    ]


@pytest.mark.parametrize(
    "name", ["../evil", "/tmp/evil", "a/../../evil", "a\\b", "a\0b", "a/b/c/d/e", "", "\x1b[2J"]
)
def test_a_zip_file_cannot_write_outside_its_folder(store, tmp_path, name):
    path = tmp_path / "b.zip"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("SHA256SUMS", "")
        packed.writestr(zipfile.ZipInfo("x"), "")
        packed.infolist()[-1].filename = name
        packed.infolist()[-1].orig_filename = name
    before = sorted(tmp_path.parent.rglob("*evil*"))
    done = CliRunner().invoke(main, ["bundle", "verify", str(path)])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.output
    assert "\x1b" not in done.stderr
    assert sorted(tmp_path.parent.rglob("*evil*")) == before


def test_bombs_links_and_wrong_forms_are_one_line(copy, store, tmp_path, monkeypatch):
    def refused(path) -> str:
        with pytest.raises(UserError) as caught:
            list(bundle_check.verify(store, path, 0, 0))
        return str(caught.value)

    path, zeros = tmp_path / "b.zip", io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("SHA256SUMS", bytes(3 << 20))
    path.write_bytes(zeros.getvalue())
    with monkeypatch.context() as patch:
        patch.setattr(bundle_check, "MOST_BYTES", 1 << 20)
        assert "more than 2000 files" in refused(path)
    path.write_bytes(zeros.getvalue()[:-30])
    assert "no bundle, or a damaged one" in refused(path)
    for text in ("[]", "{", '{"format": 2, "commit": "", "claims": []}', "[" * 100_000):
        (copy / "bundle.json").write_text(text)
        seal(copy)
        assert refused(copy).startswith(f"{copy}: ")
    (copy / "link").symlink_to("/etc/passwd")
    assert refused(copy) == f"{copy}: link is neither a file nor a folder"


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_an_error_names_the_bundle_and_not_where_it_was_unpacked(copy, store, tmp_path, kind):
    """Somebody who checks several has to know which one is meant; a zip file is unpacked to a
    temporary folder, which nobody has named."""
    for content, message in (
        (b"\xff", "SHA256SUMS: not a text in UTF-8"),
        (b"a line", "SHA256SUMS has the line 'a line'"),
        (None, "there is no SHA256SUMS"),
        ("sealed", "runs.zip: no archive of runs, or a damaged one (File is not a zip file)"),
    ):
        sums = copy / "SHA256SUMS"
        sums.unlink(missing_ok=True)
        if content == "sealed":
            sums.touch()
            (copy / "runs.zip").write_text("no archive")
            seal(copy)
        elif content is not None:
            sums.write_bytes(content)
        path = copy if kind == "folder" else Path(shutil.make_archive(copy, "zip", copy))
        done = CliRunner().invoke(main, ["bundle", "verify", str(path)])
        assert (done.exit_code, done.stderr) == (2, f"error: {path}: {message}\n")


def test_a_device_a_pipe_and_a_huge_file_are_refused_before_they_are_read(
    store, tmp_path, monkeypatch
):
    """A pipe that nobody writes to is waited for, and /dev/zero has no end."""
    pipe, large = tmp_path / "pipe", tmp_path / "large.zip"
    os.mkfifo(pipe)
    large.write_bytes(bytes(11))
    monkeypatch.setattr(bundle_check, "MOST_BYTES", 10)
    for path in (Path("/dev/null"), pipe, large):
        arguments = ["bundle", "verify", str(path)]
        done = CliRunner().invoke(main, arguments)
        expected = f"error: {path}: expected a folder, or a file of at most 0 GiB\n"
        assert (done.exit_code, done.stderr) == (2, expected)
