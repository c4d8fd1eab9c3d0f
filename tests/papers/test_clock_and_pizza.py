"""Zhong et al. 2023: the mixed attention, its measures on it, and the claims."""

from math import log2, sqrt

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.engine.addition import addition_of
from grok.errors import UserError
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT

SMALL = {"p": 7, "width": 8, "heads": 2, "mlp_width": 16, "seed": 1, "dtype": "float64"}


@pytest.fixture(scope="module")
def paper():
    return load_module(PROJECT / "experiments" / "clock_and_pizza.py")


def problem(paper, **updates):
    return paper.ex.problem_of(paper.ex.full_config({**SMALL, **updates}))


def by_the_formula(module, a, b, rate, residual=1.0):
    """Logits at b, head by head, with A' = rate softmax(q k / sqrt(d)) + (1 - rate)."""
    W = dict(module.named_parameters())
    x = torch.stack([W["embed"][a] + W["positions"][0], W["embed"][b] + W["positions"][1]])
    q, k, v = (x @ W[name] for name in ("queries", "keys", "values"))
    heads = []
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        scores = k[:, part] @ q[1, part] / sqrt(4)
        weights = rate * torch.softmax(scores, 0) + (1 - rate)
        heads.append(weights @ v[:, part])
    y = residual * x[1] + torch.cat(heads) @ W["mix"]
    return (y + torch.relu(y @ W["up"] + W["up_bias"]) @ W["down"] + W["down_bias"]) @ W["output"]


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_attention_is_a_mixture_whose_weights_need_not_sum_to_one(paper, rate):
    module = problem(paper, attention_rate=rate).module
    with torch.no_grad():
        found = module(torch.tensor([[2, 5]]))[0]
        torch.testing.assert_close(found, by_the_formula(module, 2, 5, rate))


def test_rates_train_as_one_program(paper):
    """The rate is a number of each replica, so that a sweep compiles one step."""
    assert problem(paper, attention_rate=0.0).signature() == problem(paper).signature()


def test_without_attention_the_mixed_part_depends_on_the_sum_alone(paper):
    """With the rate 0, equal positions and no residual way for b, exchanging a and b changes nothing;
    with the usual attention it does. The pizza's symmetry is that of this part."""
    for rate, is_equal in ((0.0, True), (1.0, False)):
        module = problem(paper, attention_rate=rate).module
        with torch.no_grad():
            module.positions.zero_()
            logits = [
                by_the_formula(module, *pair, rate, residual=0.0) for pair in ((2, 5), (5, 2))
            ]
        assert torch.allclose(*logits) is is_equal


def test_the_instrument_fits_this_network(paper):
    addition = addition_of(problem(paper))
    assert addition is not None
    assert (addition.p, addition.table) == (7, "embed")


def test_initial_weights_have_the_authors_scales(paper):
    """W_in by its number of neurons, W_U by the number of classes, all others by the width."""
    module = problem(paper, p=59, width=64, heads=4, mlp_width=256).module
    stds = {name: float(w.detach().std()) for name, w in module.named_parameters() if w.ndim > 1}
    fans = {"up": 256, "output": 59}
    for name, std in stds.items():
        assert std == pytest.approx(fans.get(name, 64) ** -0.5, rel=0.15), name


def test_even_moduli_and_odd_widths_are_refused(paper):
    with pytest.raises(UserError, match="p=8: expected an odd number"):
        problem(paper, p=8)
    with pytest.raises(UserError, match="width=9: expected a multiple of heads=2"):
        problem(paper, width=9)


def runs(paper, **changes):
    """Runs of all rates with the symmetricities of the authors' table, and other measures that pass."""
    values = dict(zip(paper.RATES, paper.PUBLISHED[paper.SYMMETRICITY], strict=True))
    steps = [0, 2500, 8000]
    made = []
    of_pizza = changes.pop("irrelevance", 0.4)
    for name, end in {**values, **changes}.items():
        irrelevance = of_pizza if name == "pizza" else 0.8
        series = {
            paper.SYMMETRICITY: (steps, [0.6, 0.9, end]),
            paper.IRRELEVANCE: (steps, [0.9, irrelevance, 0.8]),
            "test_accuracy": (steps, [0.0, 0.995, 1.0]),
        }
        made.append(claim_run(name, series=series, attention_rate=paper.RATES[name]))
    return made


@pytest.mark.parametrize(
    ("id", "changes", "passed"),
    [
        ("B1a", {}, True),
        ("B1a", {"pizza": 0.97}, False),
        ("B1a", {"cpu": 0.7}, False),
        ("B1b", {}, True),
        ("B1b", {"irrelevance": 0.6}, False),
        ("B1c", {}, True),
        ("B1c", {"rate_45": 0.96}, False),
        ("B1c", {"cpu": 0.7}, False),
        ("B1d", {}, True),
        ("B1d", {"rate_75": 0.82}, False),
        ("B1e", {}, True),
        ("B1e", {"cpu": 0.75}, False),
        ("B1-fit", {}, True),
    ],
)
def test_claims_pass_and_fail_at_their_bounds(paper, id, changes, passed):
    assert finding(paper, id, *runs(paper, **changes)).passed is passed


@pytest.mark.parametrize(("when", "passed"), [(0.8, True), (0.79, False)])
def test_the_symmetricity_of_a_pizza_is_read_when_it_has_generalized(paper, when, passed):
    """It is measured at every fifth evaluation, and falls afterwards: the value before is larger."""
    series = {
        paper.SYMMETRICITY: ([0, 500, 750, 8000], [0.6, 0.95, when, 0.3]),
        "test_accuracy": ([0, 500, 700, 750, 8000], [0.0, 0.5, 0.99, 1.0, 1.0]),
    }
    assert finding(paper, "B1e", claim_run("cpu", series=series)).passed is passed


def of_widths(paper, slope, accuracy=1.0):
    """Runs of three seeds, whose symmetricity changes with the logarithm of the width by a slope."""
    made = []
    for (rate, width), name in paper.OF_WIDTHS.items():
        for seed in range(3):
            end = 0.5 + slope * log2(width / 64) + 0.01 * seed
            series = {
                paper.SYMMETRICITY: ([0, 8000], [0.6, end]),
                "test_accuracy": ([0, 8000], [0.0, accuracy if width == 48 else 1.0]),
            }
            config = {"attention_rate": rate, "width": width, "seed": seed}
            made.append(claim_run(name, series=series, **config))
    return made


@pytest.mark.parametrize(
    ("slope", "accuracy", "passed"), [(0.1, 1.0, True), (-0.1, 1.0, False), (0.1, 0.5, False)]
)
def test_wide_networks_must_stay_pizzas_longer(paper, slope, accuracy, passed):
    """At both attention rates; a quarter of the networks does not add correctly in the last case, and
    the measure says nothing of those."""
    outcome = finding(paper, "B1-width", *of_widths(paper, slope, accuracy))
    assert outcome.passed == passed
    assert outcome.measured["add at 0.9"] == (1.0 if accuracy == 1 else 0.75)


def test_widths_differ_in_size_and_rate_alone(paper):
    plain = paper.ex.full_config({"seed": 1}, ["cpu"])
    for (rate, width), name in paper.OF_WIDTHS.items():
        config = paper.ex.full_config({"seed": 1}, [name])
        assert (config["width"], config["mlp_width"]) == (width, 4 * width)
        assert config["attention_rate"] == rate
        differing = {key for key in plain if plain[key] != config[key]}
        assert differing <= {"width", "mlp_width", "attention_rate"}
