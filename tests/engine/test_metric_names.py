"""The names of the instruments' metrics, and the conditions of interventions that wait for them."""

import re

import pytest

from grok.engine.events import Record
from grok.engine.measure import BURST
from grok.engine.metric_names import METRICS, metric_names_of
from grok.errors import UserError
from tests.conftest import PROJECT
from tests.engine.test_measurement import ordering, train
from tests.engine.test_own_instruments import paper_with, problem_of
from tools.docs.markdown import code_spans, section_rows


def test_they_are_those_that_the_reference_lists():
    """The reference lists what a run with every option logs, and is compared with such a run."""
    page = (PROJECT / "docs" / "reference" / "instruments.md").read_text()
    for row in section_rows(page, "Instruments"):
        if "its metrics" in row:
            (name,) = code_spans(row["instrument"])
            found = {
                re.sub(r"^(lag|efficiency)_\d+", lambda m: f"{m[1]}_{KINDS[m[1]]}", metric)
                for metric in code_spans(row["its metrics"])
            }
            known = METRICS.get(name, "").replace("MATRIX", "PARAMETER").split()
            of_bursts = name in ("hessian", "adam_dynamics")
            assert of_bursts or found == {*known}


KINDS = {"lag": "LAG", "efficiency": "WINDOW"}


def test_a_run_logs_no_others():
    """Options that are off, and a reference that is missing, leave metrics out."""
    problem = ordering()
    known = set()
    for measure in problem.measures.measures:
        if measure.when != BURST:
            known |= metric_names_of(measure, problem)
    logged = {
        name for e in train([problem]) if isinstance(e, Record) for name in e.metrics if "/" in name
    }
    assert logged <= known
    missing = {name.partition("/")[2] for name in known - logged}
    assert all(re.match("lag_|efficiency_", name) for name in missing), missing


@pytest.mark.parametrize(
    ("measures", "metric", "line"),
    [
        (["consecutive"], "consecutive/cosim", r"did you mean consecutive/cos_sim\?"),
        (["norms"], "norms/norm/blocks/9/up", "did you mean norms/norm/blocks/./up/weight"),
        (["margins"], "margins/least_normalized", r"did you mean margins/least\?"),
        (["hessian"], "hessian/content_norm", "hessian, which is not taken at evaluation steps"),
    ],
)
def test_a_condition_on_what_an_instrument_does_not_log_is_refused(measures, metric, line):
    """It would never hold, and the intervention never happen."""
    with pytest.raises(UserError, match=line):
        ordering(measures, interventions=[{"when": f"{metric} > 1", "set": {"lr": 0}}])


@pytest.mark.parametrize(
    ("measures", "metric"),
    [
        ("full", "fourier/spectral_entropy"),
        (["norms"], "norms/norm/blocks/0/up/weight"),
        (["batch_dynamics"], "batch_dynamics/lag_5"),
        (["attention"], "attention/effective_rank/0/q"),
    ],
)
def test_a_condition_on_a_metric_that_it_logs_is_accepted(measures, metric):
    """Names with a parameter, a number or a layer in them are known, too."""
    problem = ordering(measures, interventions=[{"when": f"{metric} > 1", "set": {"lr": 0}}])
    assert problem.interventions[0].when.metric == metric


def test_a_condition_on_an_instrument_of_the_paper_s_own_is_accepted():
    """Nobody knows its metrics before it has been taken."""

    def lengths(observed):
        return {"any": 1.0}

    changes = [{"when": "lengths/any > 0", "set": {"lr": 0}}]
    paper = paper_with(lengths)
    assert problem_of(paper, measures="lengths", interventions=changes).interventions
