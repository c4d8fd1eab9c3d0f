"""What a new author does, from an empty folder: a clean environment, the wheel, a project of one's own.

    make transcript

builds the wheel, installs it with pip in a new environment, and runs every command of the README that
`grok init` writes, W&B's sweep among them, with the output and the seconds of each. Nothing of the
checkout is on the path. It needs a package index, and takes some minutes; those for Slurm are left out.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from grok.paths import PROJECT

PASSED_ON = ("LANG", "OMP_NUM_THREADS", "SSL_", "PIP_", "REQUESTS_CA_BUNDLE")
ANSWERS = "--says 'A network learns a sum.' --operation 'x + y' --model mlp --measures norms"
BUNDLE = ("grok bundle write parity --to bundle", "grok bundle verify bundle --runs 2")


class Shell:
    """A folder and an environment in which commands are run and shown."""

    def __init__(self, folder: Path) -> None:
        programs = folder / "env" / "bin"
        self.folder = folder
        self.variables = {
            key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)
        }
        self.variables |= {"HOME": str(folder / "home"), "PATH": f"{programs}:/usr/bin:/bin"}

    def run(self, line: str) -> str:
        """The output of a command; a click exception if it fails."""
        click.echo(f"\n$ {line}")
        words, began = shlex.split(line, comments=True), time.monotonic()
        done = subprocess.run(
            words,
            cwd=self.folder,
            env=self.variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        click.echo(f"{done.stdout.rstrip()}\n[{time.monotonic() - began:.1f} s]")
        if done.returncode:
            raise click.ClickException(f"exit code {done.returncode}: {line}")
        return done.stdout

    @contextmanager
    def serving(self, line: str) -> Iterator[None]:
        """A server that runs during the block, with the variables that it says others need."""
        click.echo(f"\n$ {line} &")
        process = subprocess.Popen(
            shlex.split(line, comments=True),
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        try:
            for output in process.stdout:
                click.echo(output.rstrip())
                words = shlex.split(output)
                if words[:1] == ["export"]:
                    self.variables |= dict(word.split("=", 1) for word in words[1:])
                    break
            yield
        finally:
            process.terminate()
            process.wait()


@click.command()
def main() -> None:
    """Run every command of a new project in a clean environment, and show its output."""
    with tempfile.TemporaryDirectory(prefix="grok-") as temporary:
        folder = Path(temporary)
        (folder / "home").mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
        shell, began = Shell(folder), time.monotonic()
        shell.run(f"git clone --quiet --depth 1 file://{PROJECT} source")
        shell.run("pip wheel --quiet --no-deps --wheel-dir wheel ./source")
        shell.run("rm -r source")
        (wheel,) = (folder / "wheel").iterdir()
        shell.run(f"pip install --quiet {wheel}")
        shell.run("grok init my_project")
        shell.folder = folder / "my_project"
        install, runs, sweeps, (new,) = blocks(shell.folder / "README.md")
        for line in (*install, *runs):
            shell.run(line)
        with_wandb(shell, sweeps)
        for line in ("grok papers parity", "grok report", *BUNDLE):
            shell.run(line)
        shell.run(f"{new.partition('#')[0].strip()} {ANSWERS}")
        for line in ("grok run my_paper with cpu train_steps=100", "python -m pytest"):
            shell.run(line)
        click.echo(f"\nall commands in {time.monotonic() - began:.0f} s")


def blocks(page: Path) -> list[list[str]]:
    """The commands of each block of a page."""
    parts = page.read_text().split("```bash\n")[1:]
    return [part.partition("```")[0].splitlines() for part in parts]


def with_wandb(shell: Shell, lines: list[str]) -> None:
    """The block on W&B: each sweep is run by W&B's agent, and once more by this project's."""
    serve, create, agent, *_ = lines
    with shell.serving(serve):
        for command in (agent.partition("#")[0].strip(), "grok sweep agent ENTITY/PROJECT/SWEEP"):
            name = shell.run(create).split("wandb agent ")[1].split()[0]
            shell.run(command.replace("ENTITY/PROJECT/SWEEP", name))
            shell.run(f"grok sweep status {name.rpartition('/')[2]}")


if __name__ == "__main__":
    main()
