"""Build the image of containers/Dockerfile, and use it as a stranger would: make container

An embedded MongoDB must work for a user that is not root, in a folder that outlives the container.
Words after `--` are options of the build, for example of a machine behind a proxy. Where no container
tool is at hand, tests/test_containers.py checks the files alone.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable

import click

from grok.paths import PROJECT

DOCKERFILE = "containers/Dockerfile"
USER = 1000  # the image's, if root runs this


@click.command()
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu")
@click.option(
    "--tool", type=click.Choice(["docker", "podman", "buildah"]), help="default: what works"
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(device: str, tool: str | None, options: tuple[str, ...]) -> None:
    """Build the image and run a project of its own in it."""
    tool, image = tool or working_tool(), f"grok-lab:{device}"
    build = [tool, "build" if tool != "buildah" else "bud", "-f", DOCKERFILE, "-t", image]
    isolation = ["--isolation", "chroot", "--layers"] if tool == "buildah" else []
    call(*build, *isolation, "--build-arg", f"DEVICE={device}", *options, ".")
    with tempfile.TemporaryDirectory(prefix="grok-", ignore_cleanup_errors=True) as folder:
        owner = os.getuid() or USER
        os.chown(folder, owner, -1)
        run = in_buildah if tool == "buildah" else in_docker(tool)
        check(lambda where, *words: run(image, owner, folder, where, words))


def working_tool() -> str:
    """The first container tool that answers; a click exception without one."""
    for tool in ("docker", "podman", "buildah"):
        if (
            shutil.which(tool)
            and subprocess.run([tool, "info"], capture_output=True).returncode == 0
        ):
            return tool
    raise click.ClickException("neither docker, podman nor buildah works here")


def call(*words: str) -> str:
    """The output of a command, which is shown; an error if it fails."""
    click.echo(f"$ {' '.join(words)}")
    done = subprocess.run(words, cwd=PROJECT, text=True, stdout=subprocess.PIPE)
    click.echo(done.stdout.rstrip())
    if done.returncode:
        raise click.ClickException(f"exit code {done.returncode}")
    return done.stdout


def in_docker(tool: str) -> Callable[..., str]:
    """How docker or podman runs `grok` in a new container, with a folder mounted at /project."""

    def run(image: str, user: int, folder: str, where: str, words: tuple[str, ...]) -> str:
        options = ["--rm", "--user", f"{user}:{user}", "-v", f"{folder}:/project", "-w", where]
        return call(tool, "run", *options, image, *words)

    return run


def in_buildah(image: str, user: int, folder: str, where: str, words: tuple[str, ...]) -> str:
    """The same with buildah, which leaves out the entry point."""
    container = call("buildah", "from", image).strip()
    try:
        options = ["--isolation", "chroot", "--user", f"{user}:{user}", "-v", f"{folder}:/project"]
        call("buildah", "config", "--workingdir", where, container)
        return call("buildah", "run", *options, container, "--", "grok", *words)
    finally:
        call("buildah", "rm", container)


def check(grok: Callable[..., str]) -> None:
    """A project made in one container, a run of it in a second, and the run read in a third."""
    grok("/project", "init", "p")
    grok("/project/p", "run", "parity", "with", "cpu")
    shown = grok("/project/p", "analyze", "show", "run=1")
    if "parity" not in shown:
        raise click.ClickException(
            "the run of the second container is not in the store of the third"
        )
    click.echo("the image works")


if __name__ == "__main__":
    main()
