"""Wang et al. 2024: the trained rows, the loss, what is traced, and each claim at its threshold."""

from math import inf

import pytest
import torch

from grok.claims.testing import claim_run, finding
from grok.errors import UserError
from grok.experiment.experiment import load_module
from tests.conftest import PROJECT

SMALL = {"entities": 12, "relations": 5, "out_degree": 4, "width": 8, "heads": 2, "depth": 2}
SMALL = {**SMALL, "phi": 2.0, "ood_share": 0.3, "test_share": 0.2, "seed": 1, "dropout": 0.0}


@pytest.fixture(scope="module")
def wang():
    return load_module(PROJECT / "experiments" / "wang.py")


@pytest.fixture(scope="module")
def problem(wang):
    return wang.ex.problem_of(wang.ex.full_config(SMALL))


def test_all_facts_and_the_train_inferences_are_trained_on(problem):
    """The facts of ood inferences too: the network is told them, and never infers from them."""
    data = problem.data
    rows = {tuple(row) for row in data["rows_tokens"].tolist()}
    assert len(data["atomic_tokens"]) == 12 * 4
    assert rows == {tuple(row) for k in ("atomic", "train") for row in data[f"{k}_tokens"].tolist()}
    for part in ("test", "ood"):
        assert not rows & {tuple(row) for row in data[f"{part}_tokens"].tolist()}
    assert problem.minibatch_keys == ("rows_tokens", "rows_places", "rows_labels")
    assert problem.sampling == "replacement"


def test_a_composition_goes_through_its_bridge(problem):
    """(h, r1) -> b and (b, r2) -> t are among the facts."""
    data = problem.data
    facts = {
        (head, relation): tail
        for (head, relation, _), (tail,) in zip(
            data["atomic_tokens"].tolist(), data["atomic_labels"].tolist(), strict=True
        )
    }
    for (head, first, second), (label,), bridge in zip(
        data["train_tokens"].tolist(),
        data["train_labels"].tolist(),
        data["train_bridges"].tolist(),
        strict=True,
    ):
        assert facts[head, first] == bridge and facts[bridge, second] == label


def test_loss_is_the_cross_entropy_of_the_token_that_answers(problem):
    """At the second position of facts, and at the last of inferences."""
    model, data = problem.module, problem.data
    assert set(data["atomic_places"].tolist()) == {1} and set(data["train_places"].tolist()) == {2}
    with torch.no_grad():
        logits = model(data["rows_tokens"])
        rows = torch.arange(len(logits))
        expected = torch.nn.functional.cross_entropy(
            logits[rows, data["rows_places"]], data["rows_labels"][:, 0]
        )
        assert float(problem.loss(model, data)) == pytest.approx(float(expected), rel=1e-5)
        metrics = problem.metrics(model, data)
    predictions = logits[rows, data["rows_places"]].argmax(-1) == data["rows_labels"][:, 0]
    facts = len(data["atomic_tokens"])
    assert float(metrics["atomic_accuracy"]) == pytest.approx(
        float(predictions[:facts].float().mean())
    )
    assert set(metrics) == {
        "atomic_accuracy",
        "train_loss",
        "train_accuracy",
        "test_loss",
        "test_accuracy",
        "ood_accuracy",
    }


def test_biases_and_layer_norm_do_not_decay(problem):
    parts = {group.part: group.weight_decay for group in problem.optimizer.groups}
    assert parts == {"bias": 0.0, "norm": 0.0, "final": 0.0, "": 0.1}


def test_evaluation_is_on_at_most_3000_rows_and_training_on_all(wang):
    rows = torch.arange(3100)
    graph = {
        f"{part}_{kind}": rows
        for part in ("atomic", "train", "test", "ood")
        for kind in ("tokens", "places", "labels")
    }
    data = wang.with_trained_subset(graph)
    assert len(data["rows_labels"]) == 6200 and data["rows_labels"].shape[1] == 1
    assert {len(data[f"{part}_tokens"]) for part in wang.EVALUATED_SUBSETS} == {3000}


def test_tracing_names_every_layer_and_leaves_the_model_as_it_is(wang, problem):
    """The last layer has no causal strength: nothing moves between positions after it."""
    before = {name: value.clone() for name, value in problem.module.state_dict().items()}
    weights = {name: torch.randn_like(p) for name, p in problem.module.named_parameters()}
    own = {name: p.detach() for name, p in problem.module.named_parameters()}
    traced = wang.trace_composition(problem.module, [own, weights, own], problem.data, seed=0)
    lenses = {f"lens_{name}_{layer}" for name in ("bridge", "relation") for layer in (1, 2)}
    assert set(traced) == lenses | {"causal_1"}
    for values in traced.values():
        assert len(values) == 3 and values[0] == values[2]
        assert all(0 <= value <= 1 for value in values)
    assert all(torch.equal(before[k], v) for k, v in problem.module.state_dict().items())


def test_a_graph_that_is_too_small_names_the_key(wang):
    with pytest.raises(UserError, match=r"phi=100\.0: expected at most"):
        wang.ex.problem_of(wang.ex.full_config({**SMALL, "phi": 100.0}))
    with pytest.raises(UserError, match="out_degree=6: expected at most relations=5"):
        wang.ex.problem_of(wang.ex.full_config({**SMALL, "out_degree": 6}))


def ramp(end: float, value: float = 1.0) -> tuple[list[int], list[float]]:
    """A metric that has a value from a step on, and 0 before."""
    return [0, int(end), int(end) + 10_000], [0.0, value, value]


@pytest.mark.parametrize(
    ("memorized", "accuracy_then", "inferred", "passed"),
    [
        (1000, 0.3, 3000, True),
        (1000, 0.31, 3000, False),
        (1000, 0.3, 2990, False),
        (2000, 0.3, 8000, True),
        (2000, 0.3, 8100, False),
        (1000, 0.3, inf, False),
    ],
)
def test_composition_is_late(wang, memorized, accuracy_then, inferred, passed):
    """99 % of train at `memorized`, and 90 % of test at `inferred`; a spike at step 2 is not held."""
    end = 20_000 if inferred == inf else inferred
    steps, last = [0, 2, memorized, end, end + 1], 0.89 if inferred == inf else 0.9
    series = {
        "train_accuracy": (steps, [0.0, 0.0, 0.99, 1.0, 1.0]),
        "test_accuracy": (steps, [0.0, 1.0, accuracy_then, last, last]),
    }
    outcome = finding(wang, "04-C1", claim_run("cpu", series=series))
    assert outcome.passed == passed
    assert outcome.measured["test 90 %"] == pytest.approx(inferred)


@pytest.mark.parametrize(
    ("most", "rows", "inferred", "passed"),
    [(0.1, 50, 0.9, True), (0.11, 50, 0.9, False), (0.0, 49, 0.9, False), (0.0, 50, 0.89, False)],
)
def test_ood_is_never_composed(wang, most, rows, inferred, passed):
    """At no evaluation step, not only at the last, by a network that has learned the others."""
    series = {
        "ood_accuracy": ([0, 10, 20], [0.0, most, 0.0]),
        "train_accuracy": ramp(10),
        "test_accuracy": ramp(20, inferred),
    }
    assert finding(wang, "04-C2", claim_run("cpu", {"ood_count": rows}, series)).passed == passed


@pytest.mark.parametrize(("compared", "passed"), [(0.75, True), (0.74, False)])
def test_comparison_is_better_on_ood(wang, compared, passed):
    runs = (
        claim_run("cpu_comparison", series={"ood_accuracy": ([0, 10], [0.0, compared])}),
        claim_run("cpu", series={"ood_accuracy": ([0, 10], [0.0, 0.25])}),
    )
    assert finding(wang, "04-C3-above", *runs).passed == passed


@pytest.mark.parametrize(
    ("test", "ood", "passed"), [(0.95, 0.95, True), (0.94, 1.0, False), (1.0, 0.94, False)]
)
def test_comparison_is_learned_for_all_facts(wang, test, ood, passed):
    series = {"test_accuracy": ([0, 10], [0.0, test]), "ood_accuracy": ([0, 10], [0.0, ood])}
    assert finding(wang, "04-C3", claim_run("cpu_comparison", series=series)).passed == passed


@pytest.mark.parametrize(("ood", "passed"), [(0.5, True), (0.49, False)])
def test_shared_layers_compose_ood(wang, ood, passed):
    series = {"test_accuracy": ([0, 10], [0.0, 1.0]), "ood_accuracy": ([0, 10], [0.0, ood])}
    assert finding(wang, "04-C6", claim_run("cpu_shared", series=series)).passed == passed


@pytest.mark.parametrize(
    ("steps", "passed"),
    [((6000, 5000, 4000), True), ((5000, 5000, 4000), False), ((6000, 5000, 5000), False)],
)
def test_more_inferences_are_faster(wang, steps, passed):
    names = ("phi_60", "phi_72", "cpu")
    runs = [
        claim_run(name, series={"test_accuracy": ramp(step)})
        for name, step in zip(names, steps, strict=True)
    ]
    outcome = finding(wang, "04-C4", *runs)
    assert outcome.passed == passed
    assert outcome.measured["cpu"] == steps[2]


@pytest.mark.parametrize(("accuracy", "passed"), [(0.625, True), (0.59, False)])
def test_more_decay_is_faster(wang, accuracy, passed):
    """Compared at step 3000; what comes later does not matter."""
    runs = (
        claim_run("decay_30", series={"test_accuracy": ([0, 3000, 4000], [0.0, 0.5, 1.0])}),
        claim_run("decay_100", series={"test_accuracy": ([0, 3000, 4000], [0.0, accuracy, 0.0])}),
    )
    assert finding(wang, "04-C5", *runs).passed == passed


@pytest.mark.parametrize(
    ("relation", "causal", "passed"),
    [
        ((0.1, 0.2), (0.3, 0.4), True),
        ((0.1, 0.1), (0.3, 0.4), False),
        ((0.1, 0.2), (0.4, 0.3), False),
    ],
)
def test_second_hop_moves(wang, relation, causal, passed):
    """Between step 1000, memorized, and step 9000, inferred; the bridge is only shown."""
    series = {
        "train_accuracy": ramp(1000),
        "test_accuracy": ramp(9000),
        "lens_bridge_1": ([0, 9000], [0.9, 0.8]),
        "lens_relation_1": ([0, 9000], list(relation)),
        "causal_1": ([0, 9000], list(causal)),
    }
    outcome = finding(wang, "04-C7", claim_run("cpu", series=series))
    assert outcome.passed == passed
    assert outcome.measured["lens_bridge_1, last"] == 0.8


def test_second_hop_needs_a_network_that_has_inferred(wang):
    """What grows in a run that never reaches 90 % test accuracy is no grokking."""
    growing = ([0, 9000], [0.1, 0.2])
    names = ("lens_bridge_1", "lens_relation_1", "causal_1")
    series = {
        "train_accuracy": ramp(1000),
        "test_accuracy": ramp(10_000, 0.89),
        **dict.fromkeys(names, growing),
    }
    assert not finding(wang, "04-C7", claim_run("cpu", series=series)).passed
