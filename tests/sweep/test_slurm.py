"""Agents in a Slurm that is started here, with its own munge key, ports and folders."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.endpoint import SWEEP, Endpoint, runs_of
from tests.helpers import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
CONF = """\
ClusterName=grok
SlurmctldHost={name}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=60
NodeName={name} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={name} Default=YES State=UP
"""


def free_ports(count: int) -> list[int]:
    servers = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [server.getsockname()[1] for server in servers]
    for server in servers:
        server.close()
    return ports


@pytest.fixture
def slurm(tmp_path_factory, monkeypatch):
    """A Slurm of one node with four processors; commands find it through SLURM_CONF."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    reason = f"no Slurm here: {', '.join(missing)} missing" if missing else ""
    if not reason and os.geteuid() != 0:
        reason = "only root can start slurmd"
    if reason and not os.environ.get("GROK_NEED_SLURM"):
        pytest.skip(reason)
    assert not reason, reason
    folder = tmp_path_factory.mktemp("s")
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    # munged wants no folder above its socket to be another user's to write
    conf = folder / "slurm.conf"
    name = socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(name=name, folder=folder, ports=free_ports(2)))
    monkeypatch.setenv("SLURM_CONF", str(conf))
    own = ("--key-file", "--pid-file", "--log-file", "--seed-file")
    files = [f"{option}={folder}/munge/{option[2:5]}" for option in own]
    munge = ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *files]
    daemons = [start([*munge], folder / "munged.log")]
    wait_until((folder / "munge.socket").exists)
    for daemon in ("slurmctld", "slurmd"):
        daemons.append(start([daemon, "-D", "-f", str(conf)], folder / f"{daemon}.log"))
    wait_until(lambda: "idle" in output("sinfo", "--noheader", "--format=%T"), 180)
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


def test_an_array_of_agents_survives_a_cancelled_and_a_requeued_task(slurm, home):
    endpoint = Endpoint(home).start()
    slow = {"train_steps": {"value": 1200}, "fused": {"value": False}}
    parameters = {**SWEEP["parameters"], **slow}
    path = home / "sweep.yaml"
    path.write_text(yaml.safe_dump({**SWEEP, "parameters": parameters}))
    submit = ["grok", "sweep", "submit", str(path), "--partition", "main", "--agents", "4"]
    done = endpoint.call(*submit, "--time", "10:00", "--batch", "1")
    assert done.returncode == 0, done.stderr
    sweep, job = re.match(r"sweep (\S+): Slurm job (\d+), 4 agents", done.stdout).groups()
    wait_until(lambda: len(runs_of(sweep)) >= 2, 120)
    cancelled, requeued = [point["host"].split()[-1] for point in endpoint.points(sweep)[:2]]
    assert cancelled.startswith(f"{job}_")
    assert f"Slurm {cancelled}: running" in endpoint.call("grok", "sweep", "status", sweep).stdout
    subprocess.run(["scancel", cancelled], check=True)
    subprocess.run(["scontrol", "requeue", requeued], check=True)
    wait_until(lambda: endpoint.states(sweep) == ["finished"] * 12, 300)
    runs = runs_of(sweep)
    assert sorted(run["status"] for run in runs) == ["COMPLETED"] * 12 + ["INTERRUPTED"] * 2
    seeds = sorted(run["config"]["seed"] for run in runs if run["status"] == "COMPLETED")
    assert seeds == list(range(12))
    for task in (cancelled, requeued):
        log = (home / "slurm" / f"{task}.log").read_text()
        assert "interrupted; the running points go back to the sweep" in log
    endpoint.stop()


def test_dry_run_prints_the_script_and_submits_nothing(home):
    endpoint = Endpoint(home)
    options = ["--partition", "main", "--agents", "4", "--gpus", "1", "--time", "2:00:00"]
    done = endpoint.call(
        "grok", "sweep", "submit", "sweeps/liu_figure5a.yaml", *options, "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    for line in ("array=0-3", "gpus-per-task=1", "partition=main", "time=2:00:00"):
        assert f"#SBATCH --{line}\n" in done.stdout
    assert "sweep agent --batch 16" in done.stdout.splitlines()[-1]
