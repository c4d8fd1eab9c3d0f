"""What a run's network makes of a: `python analysis/activations.py RUN [-b 5]`.

The model is built anew from the run's config and takes its final weights. For one second operand b, a heat
map of first operand x neuron at every point of the network that its modules give.
"""

import click
import matplotlib.pyplot as plt
import numpy as np
import torch

from analysis import query, style
from grok.engine.functional import run_with
from grok.experiment.repeat import experiment_of
from grok.store import connection as stores

NEURONS = 128  # shown of a layer, evenly drawn
PANELS = 4  # in a row


@click.command(help=__doc__)
@click.argument("run", type=int, required=False)
@click.option("-b", "second", type=int, help="the second operand; the one with most rows, if none")
@click.option(
    "--position", default="last", show_default=True, help="last, mean or a number: of a sequence"
)
@click.option("--skip-logits", is_flag=True, help="leave out the output layer")
@style.options  # fmt: skip
def main(run, second, position, skip_logits) -> None:
    store = query.connect()
    row = query.run(store, run)
    number = int(row["run"])
    document = stores.find_run(store.database, number)
    paper = experiment_of(document)
    own = {"device": "cpu", "initial_run": None}  # its final weights come below
    problem = paper.problem_of({**paper.defaults(), **document["config"], **own})
    weights = stores.final_weights(store, number)
    inputs, pairs = inputs_of(problem.data)
    symbols, counts = np.unique(pairs[:, 1], return_counts=True)
    second = int(symbols[counts.argmax()]) if second is None else second
    rows = np.flatnonzero(pairs[:, 1] == second)
    if not len(rows):
        query.fail(
            f"-b {second}: no row with this second operand; {symbols.min()} to {symbols.max()}"
        )
    rows = rows[np.argsort(pairs[rows, 0], kind="stable")]
    seen = points(problem.module, weights, inputs[torch.from_numpy(rows)])
    if skip_logits:
        seen.pop("output", None)
    tables = {name: at(values, position) for name, values in seen.items()}
    style.save(draw(tables, pairs[rows, 0], number, second), f"activations_{number}")


def inputs_of(data: dict[str, torch.Tensor]) -> tuple[torch.Tensor, np.ndarray]:
    """All rows of train and test set as the model takes them, and their operands (N, 2). Exits if
    the task has none."""
    if "train_suffixes" in data:
        parts = [
            torch.cat(
                [data["prefixes"][data[f"{split}_prefix_index"]], data[f"{split}_suffixes"]], 1
            )
            for split in ("train", "test")
        ]
    elif "train_pairs" in data:
        parts = [data["train_pairs"], data["test_pairs"]]
    else:
        query.fail("this experiment's inputs are no operands")
    inputs = torch.cat(parts)
    changing = [i for i in range(inputs.shape[1]) if inputs[:, i].unique().numel() > 1]
    if len(changing) < 2:
        query.fail("this experiment's inputs are no pairs of operands")
    return inputs, inputs[:, [changing[0], changing[-1]]].cpu().numpy()


def points(module: torch.nn.Module, weights: dict, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
    """Outputs of every module that gives one tensor, by name, in the order in which they are made."""
    seen: dict[str, torch.Tensor] = {}

    def keep(name: str):
        def hook(_module, _inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, torch.Tensor) and first.is_floating_point():
                seen[name] = first.detach()

        return hook

    handles = [
        one.register_forward_hook(keep(name))
        for name, one in module.named_modules()
        if name and not isinstance(one, torch.nn.ModuleList | torch.nn.Identity)
    ]
    with torch.no_grad():
        result = run_with(module, weights, lambda model, given: model(given), inputs)
    for handle in handles:
        handle.remove()
    seen.setdefault("output", result)
    return seen


def at(values: torch.Tensor, position: str) -> np.ndarray:
    """(N, neurons) at one position of (N, S, neurons), or their mean; (N, neurons) as it is."""
    if values.ndim == 2:
        return values.numpy()
    if position == "mean":
        return values.mean(1).numpy()
    place = -1 if position == "last" else int(position) if position.isdigit() else None
    if place is None or place >= values.shape[1]:
        query.fail(f"--position {position}: expected last, mean, or 0 to {values.shape[1] - 1}")
    return values[:, place].numpy()


def draw(tables: dict[str, np.ndarray], symbols: np.ndarray, number: int, second: int):
    """A panel per point of the network."""
    rows = -(-len(tables) // PANELS)
    figure, axes = plt.subplots(
        rows, PANELS, figsize=(13, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for panel, (name, table) in zip(axes.flat, tables.items(), strict=False):
        kept = np.unique(np.linspace(0, table.shape[1] - 1, NEURONS).astype(int))
        most = np.percentile(np.abs(table), 99) or 1.0
        extent = (0, len(kept), symbols.max() + 0.5, symbols.min() - 0.5)
        image = panel.imshow(table[:, kept], aspect="auto", cmap="RdBu_r", vmin=-most, vmax=most,
                             extent=extent, interpolation="nearest")  # fmt: skip
        panel.set_title(f"{name} ({table.shape[1]})", fontsize="small")
        figure.colorbar(image, ax=panel)
    for panel in axes.flat[len(tables) :]:
        panel.remove()
    figure.supylabel("first operand a")
    figure.suptitle(f"run {number}, b = {second}: activations by neuron")
    return figure


if __name__ == "__main__":
    main()
