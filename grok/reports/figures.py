"""The figures that papers define in their own files, drawn from stored runs."""

import io
from collections.abc import Iterable
from pathlib import Path

from pymongo.database import Database

from grok.claims import scorecard
from grok.errors import UserError, writing
from grok.experiment.experiment import Experiment, OwnFigure
from grok.paths import atomic_write
from grok.printable import echo
from grok.store.connection import find_sweep

DOTS_PER_INCH = 120


class NotDrawn(Exception):
    """Why there is no figure."""


def save_all(database: Database, experiments: Iterable[Experiment], folder: Path) -> bool:
    """Write the figures of papers as PNG files and print the path of each; whether all were drawn.

    Why one was not is a line on stderr.
    """
    is_complete = True
    for experiment in experiments:
        for name, drawn in draw(database, experiment).items():
            if isinstance(drawn, bytes):
                path = folder / f"{name}.png"
                with writing(path):
                    folder.mkdir(parents=True, exist_ok=True)
                    with atomic_write(path, 0o644) as file:
                        file.write(drawn)
                echo(str(path))
            else:
                is_complete = False
                UserError(f"figure {name}: {' '.join(drawn.split())}").show()
    return is_complete


def draw(database: Database, experiment: Experiment) -> dict[str, bytes | str]:
    """The figures of a paper by PAPER_FIGURE: a PNG, or in words why there is none."""
    results: dict[str, bytes | str] = {}
    for name, figure in experiment.figures.items():
        key = f"{experiment.path}_{name}"
        try:
            results[key] = _png(database, experiment, figure)
        except NotDrawn as reason:
            results[key] = str(reason)
        except Exception as error:  # a figure that fails keeps no report from being written
            results[key] = f"{type(error).__name__}: {error}"
    return results


def _png(database: Database, experiment: Experiment, figure: OwnFigure) -> bytes:
    sweep = find_sweep(database, figure.sweep)
    runs = scorecard.evidence(database, experiment, sweep["_id"]) if sweep else []
    if not runs:
        raise NotDrawn(f"the sweep {figure.sweep} has no finished run")

    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    try:
        drawn, content = figure.draw(runs), io.BytesIO()
        if not hasattr(drawn, "savefig"):
            raise NotDrawn(f"expected a figure of matplotlib, not {type(drawn).__name__}")
        drawn.savefig(content, format="png", dpi=DOTS_PER_INCH, bbox_inches="tight")
        return content.getvalue()
    finally:
        plt.close("all")
