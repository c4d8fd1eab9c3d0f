"""Sacred's command line as its documentation has it: config files, commands, options, -m."""

import json
import os
import pdb
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner
from sacred.observers.mongo import parse_mongo_db_arg

from grok.cli import main as grok
from grok.errors import UserError
from grok.experiment import config_files, experiment, show
from grok.experiment.experiment import load
from grok.store.connection import connect, parse_argument
from tests.analysis.scripts import call_script
from tests.conftest import PROJECT

SHORT = ["with", "train_steps=2", "seed=1"]


def command(liu_toy, *words):
    """The run of a command line of the Liu toy, in this process."""
    return liu_toy.run_commandline(["liu_toy.py", *words])


def refused(liu_toy, capsys, *words):
    """The line on stderr with which a command line ends; the exit code is 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        command(liu_toy, *words)
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1
    return printed.err


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


# -- config files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", '{"train_steps": 20, "decoder_lr": 0.001, "optimizer": "AdamW"}'),
        ("c.yaml", "train_steps: 20\ndecoder_lr: 1e-3\noptimizer: AdamW\n"),
        ("c.yml", "train_steps: 20\ndecoder_lr: 1.0E-3\noptimizer: AdamW\n"),
    ],
)
def test_a_config_file_is_read(liu_toy, tmp_path, name, content):
    run = command(liu_toy, "print_config", "with", write(tmp_path / name, content))
    assert (run.config["train_steps"], run.config["decoder_lr"]) == (20, 1e-3)
    assert run.config["optimizer"] == "adamw"


def test_a_text_that_begins_like_a_number_is_a_text(tmp_path):
    """YAML's resolvers look at the beginning of a text only, unless their pattern has an end."""
    path = write(tmp_path / "c.yaml", "a: 1e-3\nb: 1e-3abc\nc: '1e-3'\n")
    assert config_files.load(path) == {"a": 1e-3, "b": "1e-3abc", "c": "1e-3"}


def test_files_named_configs_and_updates_mix_in_their_order(liu_toy, tmp_path):
    """Of files and named configs the later one holds, and an update holds over all."""
    steps = liu_toy.full_config({}, ["cpu"])["train_steps"]
    first = write(tmp_path / "first.json", {"train_steps": 3, "p": 7, "decoder_width": 9})
    second = write(tmp_path / "second.yaml", {"p": 8, "decoder_width": 10})
    run = command(liu_toy, "print_config", "with", first, "cpu", second, "decoder_width=11")
    assert run.config["train_steps"] == steps
    assert (run.config["p"], run.config["decoder_width"]) == (8, 11)
    assert run.meta_info["named_configs"] == ["cpu"]
    assert run.meta_info["config_updates"] == {"p": 8, "decoder_width": 11}


@pytest.mark.parametrize("name", ["saved.json", "saved.yaml"])
@pytest.mark.parametrize("words", [["cpu", "p=7"], ["preset=cpu", "p=7", "seed=3"]])
def test_a_saved_configuration_gives_the_same_run(liu_toy, tmp_path, capsys, name, words):
    path = str(tmp_path / name)
    saved = command(liu_toy, "save_config", "with", *words, f"config_filename={path}")
    assert capsys.readouterr() == (f"{path}\n", "")
    again = command(liu_toy, "print_config", "with", path)
    expected = {k: v for k, v in saved.config.items() if k != "config_filename"}
    assert again.config == expected and "config_filename" not in again.config
    assert again.config["p"] == 7


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.json", {"trainsteps": 3}, "unknown config key of liu_toy trainsteps; did you mean"),
        ("c.json", {"p": 1}, "p=1: expected a whole number of at least 2"),
        ("c.json", {"preset": "papr"}, "unknown named config of liu_toy papr; did you mean paper"),
        ("c.json", "[1, 2]", "expected configuration keys with values"),
        ("c.json", '{"p": ', "Expecting value"),
        ("c.json", '{"p": {"py/object": "os.system"}}', "expected a whole number"),
        ("c.yaml", "1: 2", "expected configuration keys with values"),
        ("c.yaml", "", "expected configuration keys with values"),
        ("c.yaml", "p: [", "broken YAML in line 2"),
        ("c.yaml", "p: !!python/object/apply:os.getpid []", "tags are not read"),
        ("c.yaml", "p: !!python/name:os.system", "tags are not read"),
        ("c.pickle", "", "expected a name that ends with .json, .yaml, .yml"),
        ("c.toml", "p = 1", "expected a name that ends with .json, .yaml, .yml"),
    ],
)
def test_a_bad_config_file_is_one_line(liu_toy, tmp_path, name, content, message, capsys):
    assert message in refused(
        liu_toy, capsys, "print_config", "with", write(tmp_path / name, content)
    )


def test_a_config_file_that_is_not_there_is_one_line(liu_toy, capsys):
    assert "config file missing.json: No such file or directory" in refused(
        liu_toy, capsys, "print_config", "with", "missing.json"
    )


@pytest.mark.parametrize("name", ["config.pickle", "missing/config.json"])
def test_a_configuration_that_cannot_be_saved_is_one_line(liu_toy, tmp_path, name, capsys):
    line = refused(liu_toy, capsys, "save_config", "with", f"config_filename={tmp_path / name}")
    assert "config.pickle: expected a name that ends" in line or "error: cannot write" in line


# -- commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cpu"], "liu_toy.py with cpu"),
        (["cpu", "p=7"], "liu_toy.py with cpu p=7"),
        (["p=7"], "liu_toy.py with p=7"),
        (["my.json"], "liu_toy.py with my.json"),
        (["print_config", "cpu"], "liu_toy.py print_config with cpu"),
        (["-m", "x:1:db", "cpu"], "liu_toy.py -m x:1:db with cpu"),
        (["print_confg"], "unknown command print_confg; did you mean print_config?"),
        (["cpuu"], "unknown command cpuu; did you mean cpu?"),
        (["--nothing"], "--nothing is not understood; --help lists commands and options"),
        (["-m"], "-m requires argument"),
    ],
)
def test_a_forgotten_with_or_a_wrong_word_is_one_line(liu_toy, words, message, capsys):
    assert message in refused(liu_toy, capsys, *words)


def test_a_forgotten_with_ends_the_process_with_2():
    words = [sys.executable, "experiments/liu_toy.py", "cpu"]
    ended = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=180)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        'error: cpu: write "with" before the configuration: python experiments/liu_toy.py with cpu\n'
    )


# -- options -------------------------------------------------------------------------------------


def document(store, run):
    return store.database.runs.find_one({"_id": run._id})


OPTIONS = {  # words of the command line -> what holds for the run and its document
    ("-b", "0.5"): lambda run, stored: run.beat_interval == 0.5,
    ("-C", "no"): lambda run, stored: run.capture_mode == "no",
    ("-C", "fd"): lambda run, stored: run.capture_mode == "fd",
    ("-c", "a remark"): lambda run, stored: stored["meta"]["comment"] == "a remark",
    ("-d",): lambda run, stored: run.debug,
    ("-D",): lambda run, stored: run.pdb,
    ("-f",): lambda run, stored: run.force,
    ("-i", "my_run"): lambda run, stored: stored["_id"] == "my_run",
    ("-l", "ERROR"): lambda run, stored: run.root_logger.level == 40,
    ("-n", "another"): lambda run, stored: stored["experiment"]["name"] == "another",
    ("-p",): lambda run, stored: stored["status"] == "COMPLETED",
    ("-P", "3"): lambda run, stored: stored["meta"]["priority"] == 3,
    ("-q",): lambda run, stored: stored["status"] == "QUEUED" and run.result is None,
    ("-u",): lambda run, stored: run._id is None and stored is None,
}


@pytest.mark.parametrize("words", OPTIONS, ids="".join)
def test_an_option_of_sacred_works(liu_toy, store, capsys, words):
    run = command(liu_toy, *SHORT, *words)
    assert OPTIONS[words](run, document(store, run))
    printed = capsys.readouterr()
    assert ("Configuration" in printed.out) == (words == ("-p",))


def test_option_h_prints_the_help(liu_toy, capsys):
    with pytest.raises(SystemExit) as ended:
        command(liu_toy, "-h")
    usage = capsys.readouterr().out
    assert not ended.value.code and "Usage:" in usage and "--enforce_clean" in usage


def test_option_F_keeps_files_besides_the_store(liu_toy, store, tmp_path):
    run = command(liu_toy, *SHORT, "-F", str(tmp_path / "files"))
    assert document(store, run)["status"] == "COMPLETED"
    kept = json.loads((tmp_path / "files" / str(run._id) / "run.json").read_text())
    assert kept["status"] == "COMPLETED"


@pytest.mark.parametrize("dirty", [False, True])
def test_option_e_refuses_changes_that_are_not_committed(liu_toy, monkeypatch, dirty, capsys):
    repository = {"url": "here", "commit": "1", "dirty": dirty}
    information = {**liu_toy.get_experiment_info(), "repositories": [repository]}
    monkeypatch.setattr(liu_toy, "get_experiment_info", lambda: information)
    if dirty:
        assert "EnforceClean: Uncommited changes" in refused(liu_toy, capsys, *SHORT, "-e")
    else:
        assert command(liu_toy, *SHORT, "-e").result["steps"] == 2


def test_a_repository_that_git_refuses_to_read_ends_no_run(liu_toy, store, monkeypatch, capsys):
    """As that of another user, one without a commit, or any without git: no commit is recorded."""

    def refuse(*_, **__):
        raise subprocess.CalledProcessError(128, "git")

    monkeypatch.setattr(experiment, "state_of", refuse)
    monkeypatch.setattr(liu_toy, "_has_sources", False)
    run = command(liu_toy, *SHORT)
    assert document(store, run)["experiment"]["repositories"] == []
    assert capsys.readouterr().err.count("warning: no commit is recorded") == 1


def test_option_D_opens_the_debugger_where_training_failed(liu_toy, monkeypatch, capsys):
    opened = []
    monkeypatch.setattr(pdb, "post_mortem", lambda *_: opened.append(True))
    monkeypatch.setattr(liu_toy, "summarize_function", lambda *_: 1 / 0)
    command(liu_toy, *SHORT, "-D")
    assert opened and "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-s", "sqlite:///x.db"], "--sql needs the package sqlalchemy, which is not installed"),
        (["-S", "s3://bucket/folder"], "--s3 needs the package boto3, which is not installed"),
        (["-t", "folder"], "--tiny_db needs the package tinydb, which is not installed"),
        (["-b", "often"], "--beat-interval often: expected a number"),
        (["-P", "high"], "--priority high: expected a number"),
        (["-C", "all"], "--capture all: expected one of no, sys, fd"),
        (["-l", "LOUD"], "--loglevel LOUD: expected 0 to 50, or a name such as DEBUG"),
        (["-F", "/dev/null/x"], "cannot write /dev/null/x: Not a directory"),
        (["-i", "a/b"], "--id a/b: expected a letter, a digit or _, and up to 99 of these, "),
        (["-i", "../x"], "--id ../x: expected a letter"),
        (["--id=-x"], "--id -x: expected a letter"),
        (["-i", "x" * 101], f"--id {'x' * 101}: expected a letter"),
        (["-m", "a b"], "-m a b: expected mongodb://..., or [host:port:]db_name"),
    ],
)
def test_an_option_that_cannot_work_says_why_in_one_line(liu_toy, words, message, capsys):
    """An id is checked as an import does: a run of another one completed, and then no archive that it
    was in could be read."""
    assert message in refused(liu_toy, capsys, *SHORT, *words)


# -- the store that -m names ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "argument",
    ["db", "h.x:1", "h:1:db", "h:1:my-db", "h:1:db.coll", "h:1:db.coll:5", "db.coll!3", "db!-2"],
)
def test_sacreds_forms_of_m_are_read_as_sacred_reads_them(argument):
    expected = parse_mongo_db_arg(argument)
    url = expected.pop("url", "localhost:27017")
    name = expected.pop("db_name", "")
    assert parse_argument(argument) == (f"mongodb://{url}/{name}".rstrip("/"), expected)


@pytest.mark.parametrize(
    "argument", ["", "h:", ":1:x", "a b", "h:1:d.b.c", "h:1:db:5", "h:1!3", ".coll", "h:1.coll"]
)
def test_other_forms_of_m_are_refused(argument):
    with pytest.raises(UserError, match="expected mongodb://"):
        parse_argument(argument)


@pytest.mark.parametrize("words", [["with", "\udcff=1"], ["with", "variant=\udcff"], ["\udcff"]])
def test_an_argument_that_is_not_utf_8_is_one_clear_line(liu_toy, capsys, words):
    """Bytes that are no UTF-8 reach Python as surrogates; storing or printing them was a traceback."""
    line = refused(liu_toy, capsys, *words)
    assert line == f"error: {words[-1]}: expected an argument in UTF-8\n".replace(
        "\udcff", "\\udcff"
    )


@pytest.fixture
def other(store):
    """A second database of the session's server, as a URI."""
    uri = f"{store.uri.rstrip('/')}/other"
    yield uri
    store.client.drop_database("other")


@pytest.mark.parametrize("key", ["initial_run", "reference_run"])
def test_a_run_that_is_named_is_looked_up_in_the_store_of_m(liu_toy, other, capsys, key):
    in_default_store = command(liu_toy, *SHORT)
    line = refused(liu_toy, capsys, *SHORT, f"{key}={in_default_store._id}", "-m", other)
    assert line == f"error: no run {in_default_store._id}\n"
    parent = command(liu_toy, *SHORT, "-m", other)
    measures = ["measures=reference"] if key == "reference_run" else []
    run = command(liu_toy, *SHORT, f"{key}={parent._id}", *measures, "-m", other)
    assert run.config[key] == parent._id
    assert connect(other).database.runs.count_documents({"status": "COMPLETED"}) == 2


def test_grok_and_the_scripts_read_the_store_of_m(liu_toy, other, tmp_path):
    run = command(liu_toy, *SHORT, "-m", other)
    words = ["export", "history", str(run._id), "-o", str(tmp_path / "h.json"), "-m", other]
    assert CliRunner().invoke(grok, words).exit_code == 0
    assert "1 COMPLETED" in CliRunner().invoke(grok, ["store", "status", "-m", other]).output
    shown = call_script("show", f"run={run._id}", "-m", other, cwd=tmp_path)
    assert shown.exit_code == 0 and "liu_toy" in shown.output
    refused = CliRunner().invoke(grok, ["store", "status", "-m", "h:1:db.coll"])
    assert refused.exit_code == 2 and "expected no collection" in refused.output


def test_m_is_forgotten_after_the_command_even_if_the_command_is_refused(other, monkeypatch):
    """A later command of the same process, in a notebook or a test, reads its own store."""
    monkeypatch.setenv("GROK_MONGO_URI", "mongodb://mine/runs")
    refused = CliRunner().invoke(grok, ["store", "import", "missing.zip", "-m", other])
    assert refused.exit_code == 2 and "missing.zip" in refused.output
    assert os.environ["GROK_MONGO_URI"] == "mongodb://mine/runs"
    monkeypatch.delenv("GROK_MONGO_URI")
    assert CliRunner().invoke(grok, ["store", "status", "-m", other]).exit_code == 0
    assert "GROK_MONGO_URI" not in os.environ


def test_the_end_of_a_run_prints_the_command_that_finds_it(liu_toy, other, monkeypatch, capsys):
    monkeypatch.chdir(PROJECT)
    run = command(liu_toy, *SHORT, "-m", other)
    show.show_result(run)
    line = capsys.readouterr().out.splitlines()[-1]
    assert line == f"to find it again: python analysis/show.py run={run._id} -m {other}"
    run = command(liu_toy, *SHORT)
    assert show.command_to_find(run) == f"python analysis/show.py run={run._id}"


def test_every_config_file_of_an_experiment_can_be_written_and_read(tmp_path):
    """Whatever the types of its values are: lists, None, numbers as 1e-08, texts as 1e-3."""
    for program in ("power", "capacity", "minegishi"):
        paper = load(PROJECT / "experiments" / f"{program}.py")
        for name in ("c.yaml", "c.json"):
            path = str(tmp_path / name)
            words = ["x.py", "save_config", "with", "seed=1", f"config_filename={path}"]
            saved = paper.run_commandline(words).config
            read = paper.full_config({}, [path])
            assert {**read, "config_filename": path} == json.loads(json.dumps(saved))
    assert yaml.safe_load((tmp_path / "c.yaml").read_text())["seed"] == 1
