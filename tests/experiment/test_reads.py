"""Keys that a run does not read are refused where the user has set them."""

from types import SimpleNamespace

import pytest

from grok.engine.instruments import BY_NAME
from grok.engine.metric_names import METRICS
from grok.errors import UserError
from grok.experiment import reads
from grok.experiment.experiment import load
from grok.paths import experiment_file, experiment_names

WITHOUT_MEASURES = SimpleNamespace(measures=None)


def measured(*names: str) -> SimpleNamespace:
    """As much of a problem as is looked at: its measures."""
    measures = tuple(BY_NAME[name] for name in names)
    return SimpleNamespace(measures=SimpleNamespace(measures=measures))


def check(name: str, updates, named=(), problem=WITHOUT_MEASURES) -> None:
    paper = load(experiment_file(name))
    config = paper.full_config({"seed": 0, **updates}, named)
    paper.check_read(updates, named, config, problem)


@pytest.mark.parametrize(
    ("name", "updates", "line"),
    [
        (
            "nanda",
            {"grokfast_gain": 5.0},
            "grokfast_gain=5.0: expected 2.0, or grokfast other than",
        ),
        (
            "nanda",
            {"grokfast": "window", "grokfast_alpha": 0.5},
            "or grokfast=ema: otherwise it is",
        ),
        ("nanda", {"train_count": 99, "train_fraction": 0.4}, "expected 0.3, or train_count=None"),
        ("nanda", {"optimizer": "sgd", "betas": [0.5, 0.5]}, "or optimizer other than sgd"),
        ("nanda", {"optimizer": "lion", "eps": 0.1}, "or optimizer other than sgd or lion"),
        ("nanda", {"snapshot_every": 3}, "snapshot_every=3: expected 10, or measures with one"),
        ("nanda", {"reference_run": 3}, "reference_run=3: expected None, or measures with one of"),
        ("rfm", {"batch_size": 8}, "batch_size=8: expected 32, or method=network: otherwise"),
        ("rfm", {"kernel": "quadratic", "bandwidth": 1.0}, "or kernel=gaussian: otherwise"),
        (
            "levi",
            {"activation": "tanh"},
            "activation='tanh': expected 'linear', or hidden_dim other",
        ),
        ("power", {"list_length": 3}, "or operation=sort or reverse or copy: otherwise"),
        ("thilak", {"model": "mlp", "norm": "pre"}, "or model=transformer: otherwise"),
        ("omnigrok", {"dataset": "digits", "heads": 2}, "or dataset=addition: otherwise"),
        (
            "liu_toy",
            {"init_scale": 2.0},
            "expected 1.0, or variant=table or permutation: otherwise",
        ),
        (
            "liu_toy",
            {"encoder_width": 50, "variant": "table"},
            "expected 200, or variant=encoder or permutation or authors_grid=True: otherwise",
        ),
        (
            "liu_toy",
            {"symbol_rep_dim": 20, "variant": "table", "loss": "cross_entropy"},
            "expected 10, or variant=encoder or loss=squared_error: otherwise",
        ),
        ("ordering", {"stride": 5, "ordering": "target"}, "stride=5: expected None, or ordering="),
        ("minegishi", {"keep": 0.2}, "keep=0.2: expected 0.4, or mask other than none: otherwise"),
    ],
)
def test_a_key_that_is_not_read_is_refused(name, updates, line):
    """It was accepted and changed nothing, so that a run seemed to have another setting."""
    with pytest.raises(UserError) as refused:
        check(name, updates)
    assert line in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "updates", "named", "problem"),
    [
        ("nanda", {"grokfast": "ema", "grokfast_gain": 5.0}, (), WITHOUT_MEASURES),
        ("nanda", {"grokfast_gain": 2.0}, (), WITHOUT_MEASURES),  # its default: nothing is changed
        ("nanda", {"reference_run": 3}, (), measured("norms", "hessian")),
        ("nanda", {"snapshot_every": 3}, (), measured("attention")),
        ("rfm", {"batch_size": 8, "preset": "network"}, (), WITHOUT_MEASURES),
        ("omnigrok", {"width": 8}, ["sequences"], WITHOUT_MEASURES),
        ("liu_toy", {"encoder_depth": 2}, ["phase_diagram"], WITHOUT_MEASURES),
        ("liu_toy", {"symbol_rep_dim": 20}, ["authors_seed58"], WITHOUT_MEASURES),
        ("ordering", {"stride": 5, "ordering": "alternating"}, (), WITHOUT_MEASURES),
        ("minegishi", {"keep": 0.2}, ["random"], WITHOUT_MEASURES),
    ],
)
def test_a_key_that_is_read_or_unchanged_is_taken(name, updates, named, problem):
    check(name, updates, named, problem)


def test_a_named_config_may_set_a_key_that_is_not_read():
    """Of a control, it is often that of the run that it is compared with."""
    paper = load(experiment_file("nanda"))
    paper.preset("unread", "Without the filter.", {"grokfast_gain": 5.0})
    config = paper.full_config({"seed": 0}, ["unread"])
    paper.check_read({"seed": 0}, ["unread"], config, WITHOUT_MEASURES)
    config = paper.full_config({"seed": 0, "preset": "unread"})
    paper.check_read({"seed": 0, "preset": "unread"}, [], config, WITHOUT_MEASURES)


def test_one_of_several_conditions_has_to_hold_beside_the_others():
    """A rule with both would otherwise leave one of them out without a word."""
    paper = load(experiment_file("nanda"))
    paper.read_if("width", either=({"dtype": "float32"}, {"depth": 1}), optimizer="sgd")
    rule = paper.read_rules[-1]
    assert rule.lacking({"optimizer": "sgd", "dtype": "float64", "depth": 1}) is None
    assert rule.lacking({"optimizer": "adam", "dtype": "float64", "depth": 1}) is not None
    assert rule.lacking({"optimizer": "sgd", "dtype": "float64", "depth": 2}) is not None


@pytest.mark.parametrize("name", experiment_names())
def test_rules_name_keys_of_their_experiment(name):
    """A rule of another key would never refuse anything."""
    paper = load(experiment_file(name))
    for rule in paper.read_rules:
        assert {*rule.keys}.union(*rule.alternatives) <= {*paper.defaults()}


def test_the_measures_that_read_the_reference_are_those_with_metrics_of_it():
    """Those of bursts have no metrics at evaluation steps."""
    of_evaluations = {name for name, metrics in METRICS.items() if "solution" in metrics}
    assert {*reads.REFERENCE_READERS} == of_evaluations | {"hessian", "adam_dynamics"}
    assert {*reads.REFERENCE_READERS} <= {*BY_NAME}
