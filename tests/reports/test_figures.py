"""Figures that a paper's file defines are drawn from the latest sweep of their file."""

import matplotlib.pyplot as plt
import pytest

from grok.experiment.experiment import load
from grok.reports import figures
from grok.reports.page.collect import pictures
from grok.sweep import file
from grok.sweep.local import LocalSweep
from grok.sweep.progress import SweepProgress
from tests.conftest import PROJECT

SWEEP = """
program: experiments/liu_toy.py
method: grid
parameters:
  seed: {values: [0, 1]}
  p: {value: 5}
  train_steps: {value: 3}
"""


@pytest.fixture
def paper():
    """The Liu toy with figures, one of each kind."""
    ex = load(PROJECT / "experiments" / "liu_toy.py")

    @ex.figure(sweep="drawn")
    def losses(runs):
        figure, axes = plt.subplots()
        for run in runs:
            axes.plot(*run.logged("train_loss"))
        assert len(runs) == 2
        return figure

    @ex.figure(sweep="drawn")
    def broken(runs):
        raise ValueError("no such metric")

    @ex.figure(sweep="drawn")
    def text(runs):
        return "text"

    @ex.figure()
    def never_run(runs):
        raise AssertionError("there are no runs")

    return ex


def test_what_can_be_drawn_is_and_the_rest_says_why(paper, store, tmp_path, capsys):
    """Why a figure was not drawn was said on stdout, without `error:`."""
    (tmp_path / "drawn.yaml").write_text(SWEEP)
    sweep = LocalSweep.begin(file.read(tmp_path / "drawn.yaml"), store, None, None)
    with SweepProgress(6, 2) as progress:
        sweep.run(progress)
    assert not figures.save_all(store.database, [paper], tmp_path / "figures")
    printed = capsys.readouterr()
    path, reasons = printed.out.splitlines()[-1], printed.err.splitlines()[-3:]
    assert path == str(tmp_path / "figures" / "liu_toy_losses.png")
    assert (tmp_path / "figures" / "liu_toy_losses.png").read_bytes().startswith(b"\x89PNG")
    assert reasons == [
        "error: figure liu_toy_broken: ValueError: no such metric",
        "error: figure liu_toy_text: expected a figure of matplotlib, not str",
        "error: figure liu_toy_never_run: the sweep liu_toy_cpu has no finished run",
    ]
    shown = [picture["name"] for picture in pictures(store.database, paper, [])]
    assert shown == ["liu_toy_losses"]
    assert plt.get_fignums() == []


def test_two_figures_of_a_name_are_refused(paper):
    with pytest.raises(TypeError, match="a figure losses already"):

        @paper.figure()
        def losses(runs):
            pass
