import torch
from torch.func import vmap

from grok.measures import representation
from grok.tasks import tables
from grok.theory import representation as theory


def quads(table):
    return torch.as_tensor(theory.quads(*(tensor.numpy() for tensor in table)))


def test_a_linear_representation_has_rqi_1_and_a_random_one_has_not():
    indices = quads(tables.addition(10))
    line = torch.stack([5 - 0.3 * torch.arange(10.0), torch.arange(10.0)], dim=1)
    assert representation.rqi(representation.sum_gaps(line, indices) < 0.01) == 1
    noise = torch.randn(10, 1, generator=torch.Generator().manual_seed(0))
    assert representation.rqi(representation.sum_gaps(noise, indices) < 0.01) < 0.3


def test_gap_is_the_mean_square_of_one_standardized_parallelogram():
    vectors = torch.randn(4, 3, dtype=torch.float64)
    scaled = (vectors - vectors.mean(0)) / vectors.std(0)
    expected = ((scaled[0] + scaled[3] - scaled[1] - scaled[2]) ** 2).mean()
    gap = representation.sum_gaps(vectors, torch.tensor([[0, 3, 1, 2]]))
    assert torch.allclose(gap, expected)


def test_a_representation_of_one_point_has_rqi_0():
    indices = quads(tables.addition(5))
    assert representation.rqi(representation.sum_gaps(torch.ones(5, 1), indices) < 0.01) == 0


def test_permutation_matrices_multiply_as_the_group_does():
    pairs, labels = tables.symmetric_group(3)
    matrices = torch.zeros(6, 3, 3)
    from itertools import permutations

    for index, order in enumerate(permutations(range(3))):
        matrices[index, range(3), list(order)] = 1
    indices = quads((pairs, labels))
    assert len(indices) == 90
    assert representation.product_gaps(matrices.flatten(1), indices).abs().max() < 1e-6


def test_mapped_over_replicas_it_is_the_same():
    indices = quads(tables.addition(6))
    stacked = torch.randn(3, 6, 2, dtype=torch.float64)
    mapped = vmap(lambda vectors: representation.sum_gaps(vectors, indices))(stacked)
    assert torch.allclose(mapped, representation.sum_gaps(stacked, indices))
