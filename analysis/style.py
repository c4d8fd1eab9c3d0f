"""One look for all figures, and where they go."""

from pathlib import Path

import click
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from grok.phases import PHASE_COLOURS, PHASES

FOLDER = Path("figures")
output_option = click.option("-o", "--output", type=click.Path(path_type=Path), default=FOLDER)
TRAIN, TEST = "#c0392b", "#2471a3"

plt.rcParams.update(
    {
        "figure.dpi": 120,
        "savefig.bbox": "tight",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "legend.frameon": False,
        "font.size": 10,
        "svg.hashsalt": "grok",
    }
)


def save(figure, name: str, folder: Path = FOLDER) -> Path:
    """Write PNG and SVG; print and return the PNG's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    figure.savefig(path)
    figure.savefig(path.with_suffix(".svg"))
    plt.close(figure)
    print(path)
    return path


def log_steps(axes, label: str = "step") -> None:
    """A logarithmic step axis that also shows step 0."""
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    axes.set_xlabel(label)


def phase_legend(figure) -> None:
    """Four patches, one per phase, under the figure."""
    patches = [plt.Rectangle((0, 0), 1, 1, color=PHASE_COLOURS[phase]) for phase in PHASES]
    figure.legend(patches, PHASES, loc="lower center", ncol=4, bbox_to_anchor=(0.5, -0.08))
