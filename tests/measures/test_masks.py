"""Masks: their scores against definitions, their graphs, their distance."""

import networkx as nx
import numpy as np
import pytest
import torch
from networkx.algorithms import bipartite

from grok.measures import masks, pruning
from grok.measures.periodicity import fourier_entropy
from grok.models.sum_mlp import SumMLP, logits

P, D, H = 11, 13, 7
SPLIT = {
    "train_pairs": torch.cartesian_prod(torch.arange(P), torch.arange(P))[::2],
    "train_labels": torch.arange(P * P)[::2] % P,
}


def initial_weights() -> dict:
    torch.manual_seed(0)
    return {name: w.detach() for name, w in SumMLP(P, D, H).double().named_parameters()}


def test_snip_and_grasp_are_the_first_changes_by_removing_a_weight():
    """d loss and d |gradient|^2 / 2 by scaling one weight, in finite differences."""
    weights = initial_weights()

    def loss(of):
        of = {k: w.double() for k, w in of.items()}
        return torch.nn.functional.cross_entropy(
            logits(of, SPLIT["train_pairs"]), SPLIT["train_labels"]
        )

    def slope(of):
        return sum((g**2).sum() for g in torch.func.grad(loss)(of).values()) / 2

    snip, grasp = pruning.snip(weights, loss), pruning.grasp(weights, loss)
    for name, place in (("embed", (2, 3)), ("w_in", (1, 4)), ("unembed", (5, 6))):

        def scaled(by, name=name, place=place):
            changed = weights[name].clone()
            changed[place] *= by
            return {**weights, name: changed}

        step = 1e-5
        by_loss = (loss(scaled(1 + step)) - loss(scaled(1 - step))) / (2 * step)
        by_slope = (slope(scaled(1 + step)) - slope(scaled(1 - step))) / (2 * step)
        assert snip[name][place] == pytest.approx(abs(by_loss.item()), rel=1e-5, abs=1e-9)
        assert grasp[name][place] == pytest.approx(by_slope.item(), rel=1e-5, abs=1e-9)


def test_independent_masks_are_as_far_apart_as_expected():
    def drawn(seed):
        big = {"w": torch.zeros(300, 300)}
        mask = pruning.mask_of(pruning.at_random(big, seed), 0.4)
        return {k: m.numpy() for k, m in mask.items()}

    first, second = drawn(0), drawn(1)
    assert masks.jaccard_distance(first, second) == pytest.approx(0.75, abs=0.01)
    assert masks.jaccard_distance(first, first) == 0


def test_graphs_have_networkx_path_length_and_clustering():
    weights = np.random.default_rng(0).normal(size=(9, 6))
    weights[np.abs(weights) < 1.0] = 0
    weights[3] = 0  # a node without edges
    graph = nx.from_numpy_array(masks.adjacency((weights != 0).astype(float)))
    lengths = [
        d for a, row in nx.all_pairs_shortest_path_length(graph) for b, d in row.items() if a != b
    ]
    found = masks.graph_metrics(weights)
    assert found["path_length"] == pytest.approx(np.mean(lengths))
    assert found["clustering"] == pytest.approx(bipartite.average_clustering(graph, mode="dot"))


def test_a_complete_graph_has_closed_forms():
    """K(I, O) of weights w: singular values w sqrt(IO) and 0; d = 2IO/(I + O)."""
    found = masks.graph_metrics(np.full((4, 6), 0.5))
    assert found["spectral_gap"] == pytest.approx(0.5 * 24**0.5)
    assert found["ramanujan_gap"] == pytest.approx((2 * 4.8 - 1) ** 0.5)
    assert found["clustering"] == pytest.approx(1)
    assert found["path_length"] == pytest.approx((48 * 1 + 12 * 2 + 30 * 2) / 90)


def test_fourier_entropy_of_a_tone_and_of_white_power():
    x = torch.arange(67, dtype=torch.float64)
    tone = torch.cos(2 * torch.pi * 5 * x / 67 + 0.3).unsqueeze(1)
    pulse = (x == 4).double().unsqueeze(1)  # equal power everywhere
    assert fourier_entropy(tone + 7) == pytest.approx(0, abs=1e-9)  # the constant is left out
    assert fourier_entropy(pulse) == pytest.approx(np.log(33))
    assert fourier_entropy(torch.cat([tone, pulse], 1)) == pytest.approx(np.log(33) / 2)
