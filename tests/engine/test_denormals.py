"""Squares of gradients below the smallest normal number, which Adam with a tiny eps divides by."""

import copy
import subprocess
import sys

import pytest
import torch

from grok.engine import denormals
from grok.engine.threads import usable_cores
from grok.engine.train import make_program, train
from grok.experiment.experiment import load
from tests.conftest import PROJECT
from tests.engine.toy import outcome, problem

MARGIN = 46.0  # of the logits; gradients are of the order of its negative exponential, 1e-20


def saturated(eps: float):
    """A network of numerical_stability that has every train label right by a margin of MARGIN or more."""
    paper = load(PROJECT / "experiments" / "numerical_stability.py")
    keys = {"p": 7, "width": 8, "train_steps": 1, "eps": eps, "loss_dtype": "float64", "seed": 0}
    made = paper.problem_of(paper.full_config(keys))
    with torch.no_grad():
        logits = made.loss.logits(made.module, made.data, "train", False)
        made.data["train_labels"] = logits.argmax(-1)
        best = logits.topk(2).values
        factor = MARGIN / (best[..., 0] - best[..., 1]).min()
        for weights in made.module.parameters():
            weights *= factor ** (1 / 3)  # of each of three layers
    return made


@pytest.mark.parametrize(
    "way", [{"compiled": False}, {"compiled": True, "fused": False}, {"fused": True}]
)
def test_steps_with_a_tiny_eps_are_those_of_pytorch(way):
    """With eps = 1e-25 (Prieto et al. 2025), a gradient of 1e-20 moves a weight by the learning rate. As
    its square was zero, it moved it by up to a million times that."""
    made = saturated(1e-25)
    reference = copy.deepcopy(made.module)
    group = made.optimizer.groups[0]
    options = {"betas": group.betas, "eps": group.eps, "weight_decay": group.weight_decay}
    adamw = torch.optim.AdamW(reference.parameters(), lr=group.lr, **options)
    torch.set_flush_denormal(False)
    made.loss(reference, made.data).backward()
    tiny = torch.finfo(torch.float32).tiny
    squares = torch.cat([w.grad.flatten() for w in reference.parameters()]).double().square()
    assert ((squares > 0) & (squares * (1 - group.betas[1]) < tiny)).any()
    adamw.step()
    denormals.set_for([problem(0)])
    found = outcome(train([made], **way)).weights
    for name, weights in reference.named_parameters():
        torch.testing.assert_close(found[name], weights.detach(), rtol=0, atol=1e-3 * group.lr)


@pytest.mark.skipif(usable_cores() < 2, reason="needs a second thread")
@pytest.mark.parametrize("first", [True, False])
def test_pytorch_s_other_threads_flush_whatever_was_trained_before(first):
    """They keep the setting that they start with: a run must not depend on those before it. So problems
    that need denormal numbers are trained in one thread, or by a fused step."""
    program = f"""
import torch
from tests.engine.test_denormals import denormals, problem, saturated

def kept():
    return int((torch.full((2**20,), 1e-20).square() > 0).sum())

needs = saturated(1e-25)
torch.set_num_threads(2)
if {first}:
    denormals.set_for([needs])
    kept()
denormals.set_for([problem(0)])
print(kept())
denormals.set_for([needs])
print(kept(), torch.get_num_threads())
"""
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=PROJECT)
    assert found.stdout.split() == ["0", str(2**19), "2"]


def test_a_program_with_a_tiny_eps_has_one_thread():
    for eps, threads in ((1e-25, 1), (1e-8, 2)):
        made = make_program([saturated(eps)], 1, compiled=False, fused=False, threads=2)
        assert made.threads == threads


def test_denormal_numbers_are_zero_unless_they_count():
    """They make steps eight times slower; beside an eps of 1e-8 the root of one is nothing."""
    assert denormals.are_needed([saturated(1e-25)])
    assert denormals.are_needed([saturated(1e-8), saturated(0.0)])
    assert not denormals.are_needed([saturated(1e-8), saturated(1e-12)])
    assert not denormals.are_needed([problem(0)])
