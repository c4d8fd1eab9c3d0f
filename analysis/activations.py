"""Activations of a run's network for all first operands a and one second operand b.

`python analysis/activations.py RUN [-b 5]`

Builds the model from the run's config, loads its final weights, and draws a heat map of first
operand x neuron for the output of every module. Without RUN, the latest completed run is shown.
"""

from collections.abc import Callable
from typing import Any

import click
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from grok.analysis import query, style
from grok.cli.options import run_id
from grok.engine.functional import run_with
from grok.errors import UserError
from grok.experiment.repeat import experiment_of
from grok.store import connection

MAX_NEURONS = 128  # shown of a layer, evenly spaced
PANELS_PER_ROW = 4
HEAT_MAP_PERCENTILE = 99  # of absolute values, at the ends of the colour scale


@click.command(help=__doc__)
@click.argument("run", type=run_id, required=False)
@click.option(
    "-b",
    "second_operand",
    type=int,
    help="Second operand; by default the one with the most rows.",
)
@click.option(
    "--position",
    default="last",
    show_default=True,
    help="Position in a sequence: last, mean (over all positions) or a number.",
)
@click.option("--skip-logits", is_flag=True, help="Leave out the output layer.")
@style.options
def main(
    run: int | str | None, second_operand: int | None, position: str, skip_logits: bool
) -> None:
    store = query.connect()
    number = query.mongo_id(query.run(store, run)["run"])
    document = connection.find_run(store.database, number)
    experiment = experiment_of(document)
    # The final weights are loaded below, so no other run and no file is needed.
    others = dict.fromkeys(("initial_run", "initial_weights", "reference_run"))
    alone = {**document["config"], **others, "device": "cpu", "measures": []}
    problem = experiment.problem_of({**experiment.defaults(), **alone})
    inputs, operands = model_inputs(problem.data)
    second_operand, rows = rows_of_operand(operands, second_operand)
    weights = connection.final_weights(store, number)
    outputs = module_outputs(problem.module, weights, inputs[torch.from_numpy(rows)])
    if skip_logits:
        outputs.pop("output", None)
    tables = {name: at_position(values, position) for name, values in outputs.items()}
    figure = plot_activations(tables, operands[rows, 0])
    figure.suptitle(f"run {number}, b = {second_operand}: activations by neuron")
    style.save(figure, f"activations_{number}")


def model_inputs(data: dict[str, Tensor]) -> tuple[Tensor, np.ndarray]:
    """All inputs of the train and test sets (B, S), and their two operands (B, 2).

    Raises:
        UserError: the experiment's inputs are not pairs of operands.
    """
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
        raise UserError("this experiment's inputs are no operands")
    inputs = torch.cat(parts)
    varying = [i for i in range(inputs.shape[1]) if inputs[:, i].unique().numel() > 1]
    if len(varying) < 2:
        raise UserError("this experiment's inputs are no pairs of operands")
    return inputs, inputs[:, [varying[0], varying[-1]]].cpu().numpy()


def rows_of_operand(operands: np.ndarray, second_operand: int | None) -> tuple[int, np.ndarray]:
    """A second operand, and the rows (N,) that have it, in the order of their first operand.

    Arguments:
        operands: the operands (B, 2) of all rows.
        second_operand: None chooses the one that most rows have.

    Raises:
        UserError: no row has the second operand.
    """
    symbols, counts = np.unique(operands[:, 1], return_counts=True)
    if second_operand is None:
        second_operand = int(symbols[counts.argmax()])
    rows = np.flatnonzero(operands[:, 1] == second_operand)
    if not len(rows):
        raise UserError(
            f"-b {second_operand}: no row with this second operand; "
            f"{symbols.min()} to {symbols.max()}"
        )
    return second_operand, rows[np.argsort(operands[rows, 0], kind="stable")]


def module_outputs(
    module: nn.Module, weights: dict[str, Tensor], inputs: Tensor
) -> dict[str, Tensor]:
    """The output of every submodule by its name, in the order of computation, and `output`.

    Submodules that do not return a floating-point tensor are left out; of a tuple the first entry
    counts.
    """
    outputs: dict[str, Tensor] = {}

    def record_as(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor) and first.is_floating_point():
                outputs[name] = first.detach()

        return hook

    handles = [
        submodule.register_forward_hook(record_as(name))
        for name, submodule in module.named_modules()
        if name and not isinstance(submodule, nn.ModuleList | nn.Identity)
    ]
    with torch.no_grad():
        result = run_with(module, weights, lambda model, batch: model(batch), inputs)
    for handle in handles:
        handle.remove()
    outputs.setdefault("output", result)
    return outputs


def at_position(values: Tensor, position: str) -> np.ndarray:
    """Activations (B, neurons) at one position of a sequence (B, S, neurons), or their mean.

    Activations without a sequence axis are returned as they are.

    Arguments:
        position: `last`, `mean` or a number.

    Raises:
        UserError: the position is none of these, or beyond the sequence.
    """
    if values.ndim == 2:
        return values.numpy()
    if position == "mean":
        return values.mean(1).numpy()
    last = values.shape[1] - 1
    if position == "last":
        return values[:, last].numpy()
    if not position.isdigit() or int(position) > last:
        raise UserError(f"--position {position}: expected last, mean, or 0 to {last}")
    return values[:, int(position)].numpy()


def plot_activations(tables: dict[str, np.ndarray], first_operands: np.ndarray) -> Figure:
    """One heat map per module.

    Arguments:
        tables: activations (N, neurons) by the module's name.
        first_operands: (N,), ascending.
    """
    rows = -(-len(tables) // PANELS_PER_ROW)
    figure, axes = plt.subplots(
        rows, PANELS_PER_ROW, figsize=(13, 2.8 * rows), squeeze=False, layout="constrained"
    )
    for panel, (name, table) in zip(axes.flat, tables.items(), strict=False):
        neurons = np.unique(np.linspace(0, table.shape[1] - 1, MAX_NEURONS).astype(int))
        limit = np.percentile(np.abs(table), HEAT_MAP_PERCENTILE) or 1.0
        image = panel.imshow(
            table[:, neurons],
            aspect="auto",
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
            extent=(0, len(neurons), first_operands.max() + 0.5, first_operands.min() - 0.5),
            interpolation="nearest",
        )
        panel.set_title(f"{name} ({table.shape[1]})", fontsize="small")
        figure.colorbar(image, ax=panel)
    for unused in axes.flat[len(tables) :]:
        unused.remove()
    figure.supylabel("first operand a")
    return figure


if __name__ == "__main__":
    main()
