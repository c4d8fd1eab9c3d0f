"""Where this project and its data are."""

import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def home() -> Path:
    """The folder of the project's data: GROK_HOME, else .grok in the project, else .grok here."""
    if os.environ.get("GROK_HOME"):
        return Path(os.environ["GROK_HOME"]).resolve()
    return (PROJECT if (PROJECT / "setup.cfg").exists() else Path.cwd()) / ".grok"


def experiment_file(name: str) -> Path:
    """The program of an experiment of this project."""
    return PROJECT / "experiments" / f"{name}.py"
