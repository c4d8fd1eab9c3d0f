"""Squares of gradients below the smallest normal number, which Adam with a tiny eps divides by."""

import copy
import subprocess
import sys

import pytest
import torch

from grok.engine import denormals
from grok.engine.threads import usable_cores
from grok.engine.train import train
from grok.experiment.experiment import load
from tests.conftest import PROJECT
from tests.engine.toy import outcome, problem

MARGIN = 46.0  # of the logits; gradients are of the order of its negative exponential, 1e-20


@pytest.fixture
def flushed():
    """Another training has let all threads treat denormal numbers as zero."""
    denormals.flush()
    yield
    denormals.flush()


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
@pytest.mark.usefixtures("flushed")
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
    denormals.flush()
    found = outcome(train([made], **way)).weights
    for name, weights in reference.named_parameters():
        torch.testing.assert_close(found[name], weights.detach(), rtol=0, atol=1e-3 * group.lr)


@pytest.mark.skipif(usable_cores() < 2, reason="needs a second thread")
@pytest.mark.parametrize(("at_first", "kept"), [("flush", False), ("keep", True)])
def test_a_thread_that_flushes_for_good_is_found(at_first, kept):
    """PyTorch's threads inherit the setting when they start, and no call changes it later: a run whose
    denormal numbers count must not use threads that were started by one whose did not."""
    program = (
        "import torch; from grok.engine import denormals; torch.set_num_threads(2);"
        f"denormals.{at_first}(); torch.ones(2**20).square(); denormals.flush();"
        "print(denormals.keep(), torch.get_num_threads())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.split() == [str(kept), "2"]


def test_denormal_numbers_are_zero_unless_they_count():
    """They make steps eight times slower; beside an eps of 1e-8 the root of one is nothing."""
    assert denormals.are_needed([saturated(1e-25)])
    assert denormals.are_needed([saturated(1e-8), saturated(0.0)])
    assert not denormals.are_needed([saturated(1e-8), saturated(1e-12)])
    assert not denormals.are_needed([problem(0)])
