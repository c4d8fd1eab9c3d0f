"""Loss landscapes of Omnigrok in the norm of the weights, which is kept, and in the messiness of the inputs
(Liu, Michaud, Tegmark 2022, figures 2, 6 and 8).

`grok sweep run sweeps/omnigrok_landscape.yaml` first, and sweeps/omnigrok_messiness.yaml for the second.
"""

import click
import matplotlib.pyplot as plt
import numpy as np

from analysis import query, style

NAMES = {"teacher": "teacher and student", "digits": "digits"}


@click.command(help=__doc__)
@style.options
def main() -> None:
    store = query.connect()
    for name, draw in (("landscape", landscapes), ("messiness", messiness)):
        if query.has_run(store, f"omnigrok_{name}"):
            style.save(draw(query.sweep(store, f"omnigrok_{name}")[1]), f"omnigrok_{name}")


def landscapes(runs):
    """Train and test loss after training at a fixed norm, against that norm in torch's."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for axes, (dataset, title) in zip(panels, NAMES.items(), strict=True):
        mine = runs[runs["config.dataset"] == dataset]
        for part, colour in (("train", style.TRAIN), ("test", style.TEST)):
            losses = mine[f"result.{part}_loss"].astype(float)
            axes.plot(mine["config.init_scale"], losses, "o", ms=3, alpha=0.4, color=colour)
            means = losses.groupby(mine["config.init_scale"]).median()
            axes.plot(means.index, means, color=colour, label=part)
        axes.set(xscale="log", yscale="log", title=title, ylabel="loss",
                 xlabel="norm of the weights, in torch's initial norm")  # fmt: skip
    panels[0].legend()
    return figure


def messiness(runs):
    """Train and test loss after training at a fixed norm, against norm and messiness of the inputs."""
    figure, panels = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for row, dataset in zip(panels, ("sums", "digits"), strict=True):
        mine = runs[runs["config.dataset"] == dataset]
        for axes, part in zip(row, ("train", "test"), strict=True):
            losses = mine.assign(loss=mine[f"result.{part}_loss"].astype(float)).pivot_table(
                "loss", "config.messiness", "config.init_scale", aggfunc="median"
            )
            image = axes.imshow(np.log10(losses), origin="lower", aspect="auto", cmap="magma")
            for (y, x), value in np.ndenumerate(losses.to_numpy()):
                is_dark = image.norm(np.log10(value)) < 0.6
                colour = "white" if is_dark else "black"
                axes.text(x, y, f"{value:.1g}", ha="center", va="center", fontsize=7, color=colour)
            axes.set(title=f"{dataset}, {part} loss", xlabel="norm of the weights, in torch's initial norm",
                     ylabel="messiness of the inputs", xticks=range(losses.shape[1]), xticklabels=losses.columns,
                     yticks=range(losses.shape[0]), yticklabels=losses.index)  # fmt: skip
            figure.colorbar(image, ax=axes, label="log10 loss")
    return figure


if __name__ == "__main__":
    main()
