"""Progress measures of Nanda et al. 2023 on logits and networks whose structure is known."""

import math

import pytest
import torch

from grok.measures import progress
from grok.models.transformer import Transformer, TransformerConfig

P = 11
X = torch.arange(P, dtype=torch.float64)


def waves(amplitudes: dict[int, float]) -> torch.Tensor:
    """sum_k alpha_k cos(w_k (a + b - c)), (p, p, p)."""
    rest = X[:, None, None] + X[None, :, None] - X
    return sum(a * (2 * math.pi * k * rest / P).cos() for k, a in amplitudes.items())


def test_the_basis_is_orthonormal():
    basis = progress.fourier_basis(P)
    torch.testing.assert_close(basis @ basis.T, torch.eye(P, dtype=torch.float64))


def test_directions_are_unit_vectors_of_the_sum():
    u, v = progress.directions(P, 3)
    assert float((u * u).sum()) == pytest.approx(1)
    assert float((u * v).sum()) == pytest.approx(0, abs=1e-12)
    assert u[2, 5] == u[5, 2] == u[0, 7]  # of a + b alone


def test_restricted_and_excluded_split_the_logits():
    logits = waves({2: 1.0, 5: 0.5})
    keys = torch.tensor([2])
    torch.testing.assert_close(progress.restricted(logits, keys), waves({2: 1.0}))
    torch.testing.assert_close(progress.excluded(logits, keys), waves({5: 0.5}))
    both = torch.tensor([2, 5])
    torch.testing.assert_close(progress.excluded(logits, both), torch.zeros_like(logits))


def test_excluded_keeps_the_mean_over_inputs():
    bias = torch.randn(P, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    logits = waves({2: 1.0}) + bias
    kept = progress.excluded(logits, torch.tensor([2]))
    torch.testing.assert_close(kept, bias.expand(P, P, P))
    torch.testing.assert_close(progress.restricted(logits, torch.tensor([2])), logits)


def test_share_explained_by_cosines():
    logits = waves({2: 1.0, 4: 1.0})
    assert progress.cosine_variance(logits, torch.tensor([2, 4])) == pytest.approx(1)
    assert progress.cosine_variance(logits, torch.tensor([2])) == pytest.approx(0.5)
    noise = torch.randn(P, P, P, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert progress.cosine_variance(noise, torch.tensor([2])) < 0.02


def test_loss_of_logits_is_cross_entropy_on_sums():
    logits = waves({1: 3.0})
    every = torch.ones(P, P, dtype=torch.bool)
    some = progress.grid_of(torch.tensor([[1, 2], [4, 10]]), P)
    assert some.sum() == 2 and some[4, 10]
    by_hand = [-logits[a, b].log_softmax(0)[(a + b) % P] for a, b in ((1, 2), (4, 10))]
    assert progress.loss_of(logits, some) == pytest.approx(float(sum(by_hand)) / 2)
    assert progress.loss_of(logits, every) == pytest.approx(float(by_hand[0]))  # all are alike


def test_gini():
    assert progress.gini(torch.ones(50)) == pytest.approx(0)
    one = torch.zeros(50)
    one[3] = 2.0
    assert progress.gini(one) == pytest.approx(49 / 50)
    assert progress.gini(torch.tensor([1.0, 3.0])) == pytest.approx(0.25)


def test_key_frequencies_have_a_tenth_of_the_largest_power():
    angles = 2 * math.pi * X[:, None] * torch.tensor([2.0, 4.0, 5.0], dtype=torch.float64) / P
    table = angles.cos() * torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    power = progress.frequency_power(table)
    assert power[[1, 3, 4]].tolist() == pytest.approx([P / 2, P / 8, P / 200])
    assert progress.key_frequencies(table).tolist() == [2, 4]


def test_neurons_have_the_frequency_of_their_block():
    wave = (2 * math.pi * 3 * X / P).cos()
    one = wave[:, None] + wave + 0.3 * wave[:, None] * wave
    other = torch.randn(P, P, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    frequencies, shares = progress.neuron_frequencies(torch.stack([one, other], -1))
    assert frequencies[0] == 3
    assert float(shares[0]) == pytest.approx(1)
    assert float(shares[1]) < 0.5


def test_a_circuit_is_the_plain_forward_of_every_pair():
    torch.manual_seed(0)
    shape = TransformerConfig(
        P + 1,
        P + 1,
        3,
        width=16,
        depth=1,
        heads=2,
        mlp_width=32,
        norm="none",
        biases=("mlp",),
        positions="learned",
    )
    module = Transformer(shape)
    weights = {name: value.detach() for name, value in module.named_parameters()}
    found = progress.circuit_of(module, weights, P)
    logits = module(torch.tensor([[4, 9, P]]))[0, -1]
    torch.testing.assert_close(found.logits[4, 9].float(), logits[:P], atol=1e-5, rtol=1e-5)
    output, down = weights["output.weight"], weights["blocks.0.down.weight"]
    torch.testing.assert_close(found.neurons_to_logits.float(), (output @ down)[:P])
    unread = found.activations[4, 9] @ found.neurons_to_logits.T  # what the MLP adds to the logits
    assert unread.shape == (P,) and (found.activations >= 0).all()
