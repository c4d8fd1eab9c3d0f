"""Agents in a Slurm that is started here, with its own munge key, ports and folders.

Its two nodes are two slurmd on this machine, each with one GPU, which is an empty file.
"""

import os
import re
import shlex
import shutil
import socket
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from click.testing import CliRunner
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from grok.cli import main
from grok.errors import UserError
from grok.store import connection as stores
from grok.sweep import slurm as slurm_module
from grok.sweep.client import Client
from tests.conftest import PROJECT
from tests.endpoint import SWEEP, Endpoint, runs_of
from tests.helpers import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """\
ClusterName=grok
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=60
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
NodeName=node1 NodeHostname={name} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 Gres=gpu:1
NodeName=node2 NodeHostname={name} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 Gres=gpu:1
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 
PartitionName=urgent Nodes=ALL PriorityTier=2
"""
GRES = """\
NodeName=node[1-2] Name=gpu File={folder}/nvidia0
"""


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A Slurm of two nodes with a GPU each; commands find it through SLURM_CONF.

    Jobs of the partition `urgent` preempt those of `main`, which are queued again.
    """
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    reason = f"no Slurm here: {', '.join(missing)} missing" if missing else ""
    if not reason and os.geteuid() != 0:
        reason = "only root can start slurmd"
    if reason and not os.environ.get("GROK_NEED_SLURM"):
        pytest.skip(reason)
    assert not reason, reason
    folder = tmp_path_factory.mktemp("s")
    for name in ("state", "node1", "node2", "munge"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    # munged wants no folder above its socket to be another user's to write
    conf = folder / "slurm.conf"
    name = socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(name=name, folder=folder, ports=free_ports(3)))
    (folder / "gres.conf").write_text(GRES.format(folder=folder))
    (folder / "nvidia0").touch()
    monkeypatch.setenv("SLURM_CONF", str(conf))
    own = ("--key-file", "--pid-file", "--log-file", "--seed-file")
    files = [f"{option}={folder}/munge/{option[2:5]}" for option in own]
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]
    daemons = [start([*munge], folder / "munged.log")]
    wait_until((folder / "munge.socket").exists)
    foreground = ["-D", "-f", str(conf)]
    daemons.append(start(["slurmctld", *foreground], folder / "slurmctld.log"))
    for node in ("node1", "node2"):
        daemons.append(start(["slurmd", "-N", node, *foreground], folder / f"{node}.log"))
    nodes = ("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T")
    wait_until(lambda: output(*nodes).split() == ["idle"] * 2, 180)
    yield folder
    subprocess.run(["scancel", "--user", "root"])
    wait_until(lambda: not output("squeue", "--noheader").strip(), 90)
    for daemon in reversed(daemons):
        daemon.terminate()
    for daemon in daemons:
        daemon.wait(30)


def start(command: list[str], log: Path) -> subprocess.Popen:
    with open(log, "w") as file:
        return subprocess.Popen(command, stdout=file, stderr=file)


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout


def fields_of(task: str) -> dict[str, str]:
    """What Slurm says of a task, by the names that it has for it."""
    words = output("scontrol", "--oneliner", "show", "job", task).split()
    return dict(word.split("=", 1) for word in words if "=" in word)


def test_agents_on_two_nodes_share_one_mongodb_and_preempted_points_finish_elsewhere(slurm, home):
    """Nodes of a cluster lose jobs every day: no point may be lost or trained to its end twice, a
    preempted agent must be queued again and start, and the database that all nodes reach must not
    be open to other users of the cluster."""
    client = Endpoint(home)
    server = (PROJECT / "grok" / "new_project" / "server.sh").read_text()
    assert server.count("serve --host") == 2
    client.submit(
        "--partition=urgent", script=server.replace("serve --host", "serve --port 0 --host")
    )
    wait_until((home / "endpoint.json").exists, 120)
    uri = stores.served_uri()
    parts = urlsplit(uri)
    assert (home / "mongodb.json").stat().st_mode & 0o777 == 0o600
    with MongoClient(parts.hostname, parts.port) as stranger, pytest.raises(OperationFailure):
        stranger.sacred.runs.find_one()
    slow = {"train_steps": {"value": 1200}, "fused": {"value": False}}
    path = home / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, "parameters": {**SWEEP["parameters"], **slow}}))
    options = ["--partition", "main", "--agents", "3", "--gpus", "1", "--batch", "1"]
    done = client.call("grok", "sweep", "submit", str(path), *options, "--time", "10:00")
    assert done.returncode == 0, done.stderr
    sweep, job = re.match(r"sweep (\S+): Slurm job (\d+), 3 agents", done.stdout).groups()
    assert parts.password not in output("scontrol", "write", "batch_script", job, "-")
    wait_until(lambda: len(runs_of(sweep)) >= 2, 120)
    status = client.call("grok", "sweep", "status", sweep).stdout
    assert {*re.findall(r": running (node\d)", status)} == {"node1", "node2"}
    logs = {f"{job}_{i}": home / "slurm" / f"{job}_{i}.log" for i in range(3)}

    def ended() -> set[str]:
        said = "interrupted; the running points go back to the sweep"
        return {task for task, log in logs.items() if log.exists() and said in log.read_text()}

    subprocess.run(["scancel", f"{job}_0"], check=True)  # the third agent gets its GPU
    wait_until(lambda: ended() == {f"{job}_0"}, 60)
    wait_until(lambda: client.states(sweep).count("running") == 2, 60)
    client.submit("--partition=urgent", "--gres=gpu:1", script="#!/bin/bash\nsleep 600\n")
    wait_until(lambda: len(ended()) == 2, 60)
    (preempted,) = ended() - {f"{job}_0"}
    wait_until(lambda: fields_of(preempted)["Restarts"] == "1", 60)
    assert fields_of(preempted)["JobState"] in ("COMPLETING", "PENDING")
    wait_until(lambda: client.states(sweep) == ["finished"] * 12, 300)
    runs, points = runs_of(sweep), client.points(sweep)
    seeds = [run["config"]["seed"] for run in runs if run["status"] == "COMPLETED"]
    assert sorted(seeds) == list(range(12))
    again = [point for point in points if len(point["attempts"]) > 1]
    # fewer runs than points if an agent is interrupted between taking a point and beginning its run
    interrupted = [run["config"]["seed"] for run in runs if run["status"] == "INTERRUPTED"]
    assert {*interrupted} <= {point["point"]["seed"] for point in again}
    assert len({*interrupted}) == len(interrupted)
    assert not {point["host"].split()[-1] for point in again} & ended()
    # The agent that was not interrupted has ended, and the preempted one gets its GPU. Slurm would
    # let it wait until two minutes after it was queued again; a job that has started is left alone.
    subprocess.run(["scontrol", "update", f"JobId={preempted}", "StartTime=now"])
    wait_until(lambda: f"runs (none) for sweep {sweep}" in logs[preempted].read_text(), 120)
    wait_until(lambda: fields_of(preempted)["JobState"] == "COMPLETED", 60)
    assert fields_of(preempted)["Restarts"] == "1"
    assert fields_of(f"{job}_0")["Restarts"] == "0"
    subprocess.run(["scancel", "--user", "root"])
    wait_until(lambda: not (home / "mongodb.json").exists(), 60)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (["--time", "abc"], "--time 'abc': expected minutes, H:M:S"),
        (["--time", ""], "--time '': expected minutes"),
        (["--time", "1:00:00:00"], "--time '1:00:00:00': expected minutes"),
        (["--time", "10\n#SBATCH --gpus=8"], "expected minutes"),
        (["--sbatch", "nonsense"], "--sbatch 'nonsense': expected an option of sbatch"),
        (["--sbatch", "-c4"], "--sbatch '-c4': expected an option of sbatch"),
        (["--sbatch", "--mem=8G\nrm --all"], r"--sbatch '--mem=8G\nrm --all': expected"),
        (["--sbatch", "--mem=8G\r"], r"--sbatch '--mem=8G\r': expected"),
        (["--partition", "main\n#SBATCH --exclusive"], r"--partition 'main\n#SBATCH --exclusive'"),
        (["--partition", "main --exclusive"], "--partition 'main --exclusive': expected a name"),
        (["--partition", ""], "--partition '': expected a name"),
        (["--sweep", "a\nb"], "expected a line without control characters"),
    ],
)
def test_a_value_that_is_no_option_of_sbatch_is_refused(home, option, expected):
    """Such a value was written into the script, and one with a newline could add lines to it; a
    refusal after the sweep was made would leave it without agents."""
    file = [] if "--sweep" in option else ["sweeps/liu_figure5a.yaml"]
    for more in ([], ["--dry-run"]) if file else (["--dry-run"],):
        result = CliRunner().invoke(main, ["sweep", "submit", *file, *option, *more])
        assert result.exit_code == 2
        assert result.output.count("\n") == 1
        assert expected in result.output


@pytest.mark.parametrize(
    ("command", "reason"),
    [("echo warning >&2; echo too many >&2; exit 1", "too many"), ("exit 3", "exit code 3")],
)
def test_a_refusal_of_sbatch_is_one_line_with_or_without_its_words(
    home, tmp_path, monkeypatch, command, reason
):
    program = tmp_path / "sbatch"
    program.write_text(f"#!/bin/sh\n{command}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UserError, match=f"^sbatch refuses: {reason}$"):
        slurm_module.submit(slurm_module.Request(None, 1, 0, None, 1), "one", {})


@pytest.mark.parametrize("limit", ["0", "90", "90:30", "2:00:00", "1-12", "1-12:30", "1-12:30:00"])
def test_every_form_of_time_is_accepted(limit):
    """As sbatch's manual has them."""
    text = slurm_module.script(slurm_module.Request("a,b", 1, 0, limit, 1), "one")
    assert f"#SBATCH --time={limit}\n#" in text
    assert "#SBATCH --partition=a,b\n" in text


def words_of(line: str) -> list[str]:
    """The words of an #SBATCH line: shlex reads quotes and comments as Slurm's get_argument does."""
    return shlex.split(line.removeprefix("#SBATCH "), comments=True)


def test_folders_may_have_spaces_signs_of_comments_and_percent_signs(monkeypatch):
    """sbatch read the words after a space as the name of a script, what follows # as a comment, and %j
    of a folder as the number of the job. Of --chdir it replaces nothing."""
    monkeypatch.setattr(slurm_module, "home", lambda: Path("/tmp/my runs #1/100%j it's"))
    monkeypatch.setattr(slurm_module, "PROJECT", Path("/home/me/My Project #50%"))
    text = slurm_module.script(slurm_module.Request(None, 1, 0, None, 1), "lab/grok/my sweep")
    words = [words_of(line) for line in text.splitlines() if line.startswith("#SBATCH")]
    assert all(len(each) == 1 for each in words)
    assert ["--output=/tmp/my runs #1/100%%j it's/slurm/%A_%a.log"] in words
    assert ["--chdir=/home/me/My Project #50%"] in words
    assert ["--job-name=grok-my sweep"] in words


@pytest.mark.parametrize("folder", ['/tmp/a "b"', "/tmp/a\\b", "/tmp/a\nb"])
def test_a_folder_that_slurm_cannot_read_is_refused_before_there_is_a_sweep(
    home, monkeypatch, folder
):
    """A sweep that was made before the refusal would be left without agents."""
    monkeypatch.setattr(slurm_module, "PROJECT", Path(folder))
    monkeypatch.setattr(Client, "find", lambda: pytest.fail("the server was asked"))
    result = CliRunner().invoke(main, ["sweep", "submit", "sweeps/liu_figure5a.yaml"])
    assert result.exit_code == 2 and result.output.count("\n") == 1
    assert repr(folder)[1:-1] in result.output


def test_further_options_have_values_of_several_words():
    options = "--exclusive", "--mem=8G", "--gres gpu:1", "--comment='two words'"
    text = slurm_module.script(slurm_module.Request(None, 1, 0, None, 1, extra=options), "one")
    for option in options:
        assert f"#SBATCH {option}\n" in text


def test_dry_run_prints_the_script_and_submits_nothing(home):
    endpoint = Endpoint(home)
    options = [
        "--partition",
        "main",
        "--agents",
        "4",
        "--gpus",
        "1",
        "--workers",
        "4",
        "--time",
        "2:00:00",
    ]
    done = endpoint.call(
        "grok", "sweep", "submit", "sweeps/liu_figure5a.yaml", *options, "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    for line in ("array=0-3", "gpus-per-task=1", "partition=main", "time=2:00:00"):
        assert f"#SBATCH --{line}\n" in done.stdout
    assert "sweep agent --batch 16 --workers 4 " in done.stdout.splitlines()[-1]
