"""The comparison of delay laws: no law sees the cell that it predicts, and errors are what they say."""

from math import exp, inf

import numpy as np
import pandas as pd
import pytest

from analysis import delay_laws
from grok.theory.delays import Trial

STEPS = np.array([0.0, 100.0, 101.0, 40_000.0])


def trial(cell, steps, decay=1.0, lr=0.005, held=None, temperature=1.0):
    norm = 2.0 if held is None else held
    return Trial(
        cell, lr, decay, 100.0, steps, held, temperature, STEPS, [3.0, 3.0, norm, norm], [norm] * 4
    )


@pytest.fixture(scope="module")
def table():
    """Free runs with D = 4 / (eta lambda), one cell apart by a factor of 2, and held runs whose T is
    exponential in rho^3 / tau."""
    made = []
    for decay in (0.25, 0.5, 1.0, 2.0):
        factor = 2 if decay == 0.25 else 1
        steps = 100 + factor * 4 / (0.005 * decay)
        made += [("free, decays", trial(f"decay {decay}", steps, decay))] * 2
    for rate in (0.0025, 0.01):
        made.append(("free, other lr", trial(f"lr {rate}", 100 + 4 / rate, lr=rate)))
    for ratio in (0.9, 1.0, 1.1, 1.2):
        steps = 100 * exp(2 * ratio**3)
        made.append(("held at a norm", trial(f"norm {ratio}", steps, held=ratio)))
    made.append(("held, other lr", trial("other", 50 * exp(2), lr=0.01, held=1.0)))
    divided = 100 * exp(2 * 1.1**3 / 1.5)
    made.append(("temperature", trial("divided", divided, held=1.1, temperature=1.5)))
    return delay_laws.predictions(*zip(*made, strict=True))


def test_a_cell_is_predicted_without_itself(table):
    """All other cells agree on c = 4, so that the one that differs is predicted with 4, and is wrong."""
    rows = table[table["law"] == "c / (lr decay)"].set_index("cell")
    odd = rows.loc["decay 0.25"]
    assert odd["predicted"].to_numpy() == pytest.approx(100 + 4 / (0.005 * 0.25))
    assert odd["measured"].to_numpy() == pytest.approx(100 + 8 / (0.005 * 0.25))


def test_laws_speak_of_their_own_runs_only(table):
    kinds = table.groupby("law")["group"].agg(set)
    free, held = {"free, decays", "free, other lr"}, {"held at a norm", "held, other lr"}
    assert kinds["c / (lr decay)"] == free
    assert kinds["exp(norm)"] == held | {"temperature"}
    assert kinds["clock of the norm"] == free | held | {"temperature"}


def test_temperature_separates_the_laws_of_held_norms(table):
    errors = delay_laws.errors_by_group(table)["temperature"]
    assert errors["exp(logit scale)"] == pytest.approx(1, abs=1e-6)
    assert errors["exp(norm)"] > 1.5


def test_a_prediction_of_never_counts_as_a_factor_of_ten():
    row = {"law": "a", "group": "runs", "cell": "x", "measured": 100.0}
    table = pd.DataFrame([{**row, "predicted": inf}, {**row, "predicted": 200.0}])
    assert np.exp(delay_laws.log_errors(table)).tolist() == pytest.approx([10, 2])


def test_interval_has_the_factor_and_vanishes_without_spread():
    cells = [("x", 2.0), ("x", 1.0), ("y", 1.5), ("z", 3.0)]
    rows = [("a", "runs", cell, 100.0, 100.0 * factor) for cell, factor in cells]
    table = pd.DataFrame(rows, columns=["law", "group", "cell", "measured", "predicted"])
    low, high = delay_laws.bootstrap(table)
    assert low < exp(delay_laws.log_errors(table).mean()) < high
    assert delay_laws.bootstrap(table.iloc[[0]]) == pytest.approx((2, 2))


def test_sentence_names_the_best_and_the_worst_law(table):
    text = delay_laws.sentence(table, delay_laws.summarize(table))
    assert "held runs that it has not seen, exp(logit scale)" in text
    assert text.startswith("On 10 free runs that it has not seen, c / (lr decay) is wrong by")


def test_figure_has_a_panel_for_each_law(table):
    figure = delay_laws.plot(table)
    titles = [axes.get_title() for axes in figure.axes if axes.axison]
    assert [title.partition(":")[0] for title in titles] == delay_laws.laws_of(table)
