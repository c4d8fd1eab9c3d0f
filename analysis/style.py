"""One look for all figures, for a screen or a paper, and where they go."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from analysis import query
from grok.errors import UserError, writing
from grok.phases import PHASES

TRAIN, TEST = "#c0392b", "#2471a3"
# Wong 2011: told apart by colour-blind readers too
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
# The colours of Liu et al. 2022, figure 6, as RGB in 0..1.
PHASE_COLOURS = {
    "comprehension": (160 / 255, 218 / 255, 57 / 255),
    "grokking": (253 / 255, 231 / 255, 37 / 255),
    "memorization": (70 / 255, 50 / 255, 126 / 255),
    "confusion": (30 / 255, 30 / 255, 30 / 255),
}
LOOKS = {
    "screen": {"font.size": 10, "figure.dpi": 120, "lines.linewidth": 1.5, "font.family": "sans-serif"},
    "paper": {"font.size": 8, "figure.dpi": 300, "lines.linewidth": 1.0, "font.family": "serif"},
}  # fmt: skip

plt.rcParams.update(
    {
        **LOOKS["screen"],
        "axes.prop_cycle": plt.cycler(color=COLOURS),
        "savefig.bbox": "tight",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "svg.hashsalt": "grok",
    }
)


@dataclass
class Place:
    """Where figures and tables go, and in which formats besides PNG and SVG."""

    folder: Path = Path("figures")
    formats: tuple[str, ...] = ("png", "svg")


PLACE = Place()


def options(command):
    """Give a script's command -o, --look and --pdf, for what it saves afterwards; a UserError is one
    line and exit code 2."""

    @click.option(
        "-o",
        "--output",
        type=click.Path(path_type=Path, file_okay=False),
        default=PLACE.folder,
        show_default=True,
        help="folder of figures and tables",
    )
    @click.option("--look", type=click.Choice(list(LOOKS)), default="screen", show_default=True)
    @click.option("--pdf", is_flag=True, help="PDF besides PNG and SVG")
    @functools.wraps(command)
    def wrapped(*args, output, look, pdf, **kwargs):
        PLACE.folder, PLACE.formats = output, ("png", "svg", *(["pdf"] if pdf else []))
        plt.rcParams.update(LOOKS[look])
        try:
            return command(*args, **kwargs)
        except UserError as error:
            query.fail(str(error))

    return wrapped  # fmt: skip


def name_option(default: str):
    """--name, of what a script writes."""
    return click.option("--name", default=default, show_default=True, help="of the file")


def save(figure, name: str) -> Path:
    """Write PNG and SVG, and PDF if asked for; print and return the PNG's path."""
    path = place(f"{name}.png")
    for kind in PLACE.formats:
        figure.savefig(path.with_suffix(f".{kind}"))
    plt.close(figure)
    print(path)
    return path


def place(name: str) -> Path:
    """The path of a file to write, its folder made."""
    path = PLACE.folder / name
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def draw_seeds(axes, curves: Iterable[pd.Series], label: str | None = None, **line) -> None:
    """The curves of one setting's seeds, alike, the first with the label."""
    for place, curve in enumerate(curves):
        axes.plot(curve.index, curve, label=None if place else label, **{"lw": 1, **line})


def log_steps(axes, label: str = "step") -> None:
    """A logarithmic step axis that also shows step 0."""
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)


def phase_legend(figure) -> None:
    """Four patches, one per phase, under the figure."""
    patches = [plt.Rectangle((0, 0), 1, 1, color=PHASE_COLOURS[phase]) for phase in PHASES]
    figure.legend(patches, PHASES, loc="lower center", ncol=4, bbox_to_anchor=(0.5, -0.08))


def words(name: str) -> str:
    """A metric's or key's name for an axis."""
    return name.removeprefix("config.").removeprefix("result.").replace("_", " ")
