"""The appearance of all figures, the options that scripts share, and the files they write.

Importing this module selects matplotlib's Agg backend and sets its rcParams.
"""

import functools
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from grok.cli.options import NamedPath, mongo_option
from grok.errors import UserError, writing
from grok.paths import is_below
from grok.phases import PHASES

TRAIN, TEST = "#c0392b", "#2471a3"
# The palette of Wong 2011, which colour-blind readers can distinguish.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
# The colours of Liu et al. 2022, figure 6, as RGB between 0 and 1.
PHASE_COLOURS = {
    "comprehension": (160 / 255, 218 / 255, 57 / 255),
    "grokking": (253 / 255, 231 / 255, 37 / 255),
    "memorization": (70 / 255, 50 / 255, 126 / 255),
    "confusion": (30 / 255, 30 / 255, 30 / 255),
}
SHARED_PARAMS: dict[str, Any] = {
    "axes.prop_cycle": plt.cycler(color=COLOURS),
    "savefig.bbox": "tight",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "grok",
}
LOOKS: dict[str, dict[str, Any]] = {
    "screen": {
        "font.size": 10,
        "figure.dpi": 120,
        "lines.linewidth": 1.5,
        "font.family": "sans-serif",
    },
    "paper": {
        "font.size": 8,
        "figure.dpi": 300,
        "lines.linewidth": 1.0,
        "font.family": "serif",
    },
}

plt.style.use([SHARED_PARAMS, LOOKS["screen"]])

DEFAULT_FOLDER = Path("figures")


@dataclass
class Output:
    """The folder of figures and tables, and the file formats of figures."""

    folder: Path = DEFAULT_FOLDER
    formats: tuple[str, ...] = ("png", "svg")


OUTPUT = Output()  # `options` sets it from the command line


def options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options --output, --look and --pdf, which apply to all that it saves.

    It also has -m, which names the store that it reads.
    """

    @mongo_option
    @click.option(
        "-o",
        "--output",
        type=NamedPath(file_okay=False),
        default=DEFAULT_FOLDER,
        show_default=True,
        help="Folder of the figures and tables.",
    )
    @click.option(
        "--look",
        type=click.Choice(list(LOOKS)),
        default="screen",
        show_default=True,
        help="Fonts, line widths and resolution.",
    )
    @click.option("--pdf", is_flag=True, help="Write PDF as well as PNG and SVG.")
    @functools.wraps(command)
    def command_with_options(*args: Any, output: Path, look: str, pdf: bool, **kwargs: Any) -> None:
        OUTPUT.folder = output
        OUTPUT.formats = ("png", "svg", "pdf") if pdf else ("png", "svg")
        plt.style.use(LOOKS[look])
        command(*args, **kwargs)

    return command_with_options


def name_option(default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option --name, for the name of the files that a script writes."""
    return click.option(
        "--name", default=default, show_default=True, help="Name of the files, without suffix."
    )


def save(figure: Figure, name: str) -> Path:
    """The path of the PNG, after the figure has been written in all formats and closed.

    Arguments:
        name: file name without suffix, below the output folder.

    Raises:
        UserError: the name leads out of the folder, or a file cannot be written.
    """
    path = _output_path(f"{name}.png")
    with writing(path):
        for suffix in OUTPUT.formats:
            figure.savefig(path.with_suffix(f".{suffix}"))
    plt.close(figure)
    print(path)
    return path


def write_text(name: str, text: str) -> Path:
    """The path of a file, after the text has been written to it.

    Arguments:
        name: of the file, below the output folder.

    Raises:
        UserError: the name leads out of the folder, or the file cannot be written.
    """
    path = _output_path(name)
    with writing(path):
        path.write_text(text)
    return path


def _output_path(name: str) -> Path:
    """The path of a file in the output folder, whose parent folder has been made.

    A name may have values of runs in it, and these may have come from an archive of anybody's.
    """
    if not is_below(name):
        raise UserError(f"{name!r:.200} would be written outside {OUTPUT.folder}")
    path = OUTPUT.folder / name
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    return path


def cycle_colours(count: int) -> list[str]:
    """The first `count` colours of the palette, which starts again after its last."""
    return list(itertools.islice(itertools.cycle(COLOURS), count))


def plot_seeds(
    axes: Axes, curves: Iterable[pd.Series], label: str | None = None, **line: Any
) -> None:
    """Plot one curve per seed of the same setting; only the first has a legend entry.

    Arguments:
        curves: values indexed by step.
        line: properties of the lines, as `Axes.plot` takes them.
    """
    for index, curve in enumerate(curves):
        axes.plot(curve.index, curve, label=None if index else label, **{"lw": 1, **line})


def log_steps(axes: Axes, label: str = "step") -> None:
    """Make the x axis a logarithmic axis of steps that also shows step 0."""
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)


def phase_legend(figure: Figure) -> None:
    """Add a legend of the four phases' colours below the figure."""
    patches = [plt.Rectangle((0, 0), 1, 1, color=PHASE_COLOURS[phase]) for phase in PHASES]
    figure.legend(patches, PHASES, loc="lower center", ncol=4, bbox_to_anchor=(0.5, -0.08))


def axis_label(name: str) -> str:
    """The name of a metric, result or config key as text for an axis."""
    words = name.removeprefix("config.").removeprefix("result.").split("_")
    return " ".join("learning rate" if word == "lr" else word for word in words)
