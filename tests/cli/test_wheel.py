"""The package as a wheel: everything that `grok` finds without the checkout."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PARTS = (
    "setup.py",
    "setup.cfg",
    "README.md",
    "LICENSE",
    "grok",
    "experiments",
    "sweeps",
    "analysis",
)
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of a copy of the checkout, since a build leaves files where it is made."""
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        source = PROJECT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, folder / part)
    command = [*PIP, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "out", "."]
    subprocess.run(command, cwd=folder, env=environment(), check=True)
    (path,) = (folder / "out").glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The folder of programs of an environment with the wheel, beside this one's dependencies."""
    folder = tmp_path_factory.mktemp("env")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    programs = folder / "bin"
    command = [*PIP, "--python", programs / "python", "install", "-q", "--no-deps", wheel]
    subprocess.run(command, env=environment(), check=True)
    return programs


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An empty working directory; the user's data are beside it, with a short name."""
    folder = tmp_path_factory.mktemp("w")
    yield folder
    shutil.rmtree(folder.parent / "data", ignore_errors=True)


def environment(**changes: str) -> dict[str, str]:
    """Without the checkout's path and this session's store."""
    ours = ("PYTHONPATH", "GROK_HOME", "GROK_MONGO_URI")
    return {**{key: value for key, value in os.environ.items() if key not in ours}, **changes}


def grok(installed: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command in a folder; runs without a project are kept in `data` beside it."""
    variables = environment(
        XDG_DATA_HOME=str(folder.parent / "data"), PATH=f"{installed}:{os.environ['PATH']}"
    )
    return subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)


def test_its_packages_collide_with_no_others(wheel):
    """Everything is below `grok`; `experiments` or `analysis` could be anybody's."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"grok"}
    for part, pattern in (("experiments", "*.py"), ("sweeps", "*.yaml"), ("analysis", "*.py")):
        ours = {f"grok/papers/{part}/{path.name}" for path in (PROJECT / part).glob(pattern)}
        assert ours and ours <= {*names}
    assert "grok/papers/experiments/claims.json" in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_papers_run_without_the_checkout(installed, folder):
    """A run of an installed paper is kept in the user's data folder, which its first line names."""
    run = grok(installed, folder, "grok", "run", "liu_toy", "with", "cpu", "train_steps=20")
    assert run.returncode == 0, run.stderr
    store = folder.parent / "data" / "grok-lab" / "mongo"
    assert f"run 1 in the embedded MongoDB in {store}" in run.stderr
    assert "to find it again: grok analyze show run=1" in run.stdout
    shown = grok(installed, folder, "grok", "analyze", "show", "run=1")
    assert "liu_toy" in shown.stdout, shown.stderr
    words = ("--says", "x", "--model", "mlp", "--operation", "x", "--measures", "")
    refused = grok(installed, folder, "grok", "new", "mine", *words)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "grok init NAME" in refused.stderr
    assert list(folder.iterdir()) == []


def test_a_new_project_runs_as_its_readme_says(installed, tmp_path):
    """Every command under "Run", from its folder; with few steps, so that its claims fail."""
    made = grok(installed, tmp_path, "grok", "init", "p")
    assert made.returncode == 0, made.stderr
    project = tmp_path / "p"
    experiment = project / "experiments" / "parity.py"
    text = experiment.read_text()
    assert '"train_steps": 2500' in text
    experiment.write_text(text.replace('"train_steps": 2500', '"train_steps": 8'))
    commands = (project / "README.md").read_text().split("```bash\n")[2].split("```")[0]
    outputs = {}
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)
        done = grok(installed, project, *words)
        assert done.returncode == (words[1] == "replicate"), (words, done.stderr)
        outputs[" ".join(words[:2])] = done.stdout
    assert list(outputs) == [
        "grok claims",
        "grok run",
        "grok sweep",
        "python analysis/parity_figures.py",
        "grok papers",
        "grok replicate",
        "grok report",
        "python -m",
    ]
    assert "registered: parity-C1, parity-C2" in outputs["grok claims"]
    assert "0/3" in outputs["grok replicate"] and "stated after" not in outputs["grok replicate"]
    assert outputs["grok report"].startswith("13 runs in report.html")
    assert "4 passed" in outputs["python -m"]
    for name in ("figures/parity_accuracies.png", "figures/parity_weight_decay.png", ".grok/mongo"):
        assert (project / name).exists()
    log = ("git", "-C", str(project), "log", "--format=%s")
    assert subprocess.run(log, capture_output=True, text=True).stdout in ("grok init\n", "")
    again = grok(installed, tmp_path, "grok", "init", "p")
    assert again.returncode == 2 and "not empty" in again.stderr


def test_the_example_of_slurm_is_a_script_that_starts_an_agent():
    script = PROJECT / "grok" / "new_project" / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert script.read_text().endswith('exec grok sweep agent "$1"\n')
