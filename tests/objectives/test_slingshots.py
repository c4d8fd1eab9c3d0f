"""What Thilak et al. 2022 look at: cycles, changes of one update, curvature along it, rounding."""

from dataclasses import replace

import pytest
import torch

from grok.engine.events import Outcome, Record
from grok.engine.train import train
from grok.experiment.experiment import load
from grok.measures import slingshots
from tests.conftest import PROJECT


def test_a_cycle_is_counted_once_and_armed_again():
    losses = [2, 1e-5, 0.5, 0.4, 1e-3, 0.6, 1e-5, 5e-3, 0.02, 1e-6]
    assert slingshots.cycles(range(10), losses) == [2, 8]
    assert slingshots.cycles(range(3), [1.0, 0.5, 2.0]) == []


def test_absorption_begins_where_float32_rounds_to_one():
    logits = torch.tensor([[0.0, -17.5], [0.0, -15.0]])
    labels = torch.tensor([0, 0])
    assert float(slingshots.absorbed(logits, labels)) == 0.5
    exact = torch.nn.functional.softmax(logits, -1)[:, 0]
    assert exact[0] == 1 and exact[1] < 1


def test_the_gradient_of_float32_does_not_sum_to_zero_once_absorbed():
    logits = torch.tensor([[20.0, 0.0, 1.0]])
    slope = logits.softmax(-1) - torch.tensor([[1.0, 0.0, 0.0]])
    assert float(slingshots.zero_sum_defect(slope)) == pytest.approx(1)
    exact = logits.double().softmax(-1) - torch.tensor([[1.0, 0.0, 0.0]])
    assert float(slingshots.zero_sum_defect(exact)) < 1e-6


@pytest.fixture(scope="module")
def looked():
    """Records at successive updates of the division recipe, made small, and its weights after each."""
    paper = load(PROJECT / "experiments" / "thilak.py")
    config = paper.full_config(
        {"p": 7, "width": 16, "eval_steps": 1, "train_steps": 4, "seed": 1}, ("cpu_division",)
    )
    problem = paper.problem_of(config)
    weights = []
    for steps in range(5):
        short = replace(problem, train_steps=max(steps, 1), log_steps=[0, max(steps, 1)])
        events = list(train([short], compiled=False))
        weights.append(next(e for e in events if isinstance(e, Outcome)).weights)
    weights[0] = {name: p.detach() for name, p in problem.module.named_parameters()}
    records = [e for e in train([problem], compiled=False) if isinstance(e, Record)]
    return problem, weights, {record.step: record.metrics for record in records}


def logits_of(problem, weights):
    return torch.func.functional_call(problem.module, weights, (problem.data["train_pairs"],))


def test_change_is_that_of_the_last_update(looked):
    problem, weights, metrics = looked
    for step in (1, 3, 4):
        now, before = (logits_of(problem, weights[i]) for i in (step, step - 1))
        change = ((now - before).norm(dim=1) / before.norm(dim=1)).mean()
        assert metrics[step]["logit_change"] == pytest.approx(float(change), rel=1e-4)
    assert metrics[0]["logit_change"] == 0


def test_sharpness_is_the_hessian_along_the_update(looked):
    problem, weights, metrics = looked
    names, old = list(weights[2]), weights[2]

    def loss(*values):
        outputs = torch.func.functional_call(
            problem.module, dict(zip(names, values, strict=True)), (problem.data["train_pairs"],)
        )
        return torch.nn.functional.cross_entropy(outputs, problem.data["train_labels"][:, 0])

    update = tuple(weights[3][name] - old[name] for name in names)
    values = tuple(old[name] for name in names)
    _, curved = torch.autograd.functional.hvp(loss, values, update)
    top = sum(float((u * h).sum()) for u, h in zip(update, curved, strict=True))
    known = top / sum(float((u * u).sum()) for u in update)
    assert metrics[3]["update_sharpness"] == pytest.approx(known, rel=1e-3)


def test_distances_are_from_the_start(looked):
    _, weights, metrics = looked
    last = [name for name in weights[4] if name.startswith("net.6")]
    flat = [torch.cat([w[name].flatten() for name in last]) for w in (weights[4], weights[0])]
    cosine = torch.nn.functional.cosine_similarity(*flat, dim=0)
    assert metrics[4]["classifier_distance"] == pytest.approx(1 - float(cosine), abs=1e-5)
    assert metrics[4]["classifier_norm"] == pytest.approx(float(weights[4]["net.6.weight"].norm()))


def test_a_compiled_step_remembers_the_same(looked):
    problem, _, metrics = looked
    records = [e for e in train([problem], compiled=True) if isinstance(e, Record)]
    for record in records:
        for name in ("logit_change", "representation_change", "update_sharpness"):
            known = metrics[record.step][name]
            assert record.metrics[name] == pytest.approx(known, rel=1e-2, abs=1e-5)
