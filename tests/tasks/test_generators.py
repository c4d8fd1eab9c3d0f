"""Generated tasks: labels follow from the inputs as stated, and equal seeds give equal data."""

import pytest
import torch

from grok.errors import UserError
from grok.tasks.clusters import gaussian_clusters, xor_centers
from grok.tasks.groups import cyclic_group, dihedral_group, permutation_group
from grok.tasks.operations import table
from grok.tasks.parities import sparse_parity
from grok.tasks.tables import symmetric_group


def test_the_target_of_a_sparse_parity_is_the_product_of_the_relevant_signs():
    data = sparse_parity(10, 3, 40, 20, seed=1)
    assert data["train_inputs"].shape == (40, 10) and data["test_inputs"].shape == (20, 10)
    assert set(data["train_inputs"].unique().tolist()) == {-1.0, 1.0}
    for part in ("train", "test"):
        signs = data[f"{part}_inputs"]
        assert torch.equal(data[f"{part}_targets"], signs[:, 0] * signs[:, 1] * signs[:, 2])
    assert torch.equal(sparse_parity(10, 3, 40, 20, 1)["test_inputs"], data["test_inputs"])


def test_xor_clusters_need_both_axes():
    """The two centers of a label are opposite, so that no linear function separates the labels."""
    centers, labels = xor_centers(5, distance=7.0)
    for label in (0, 1):
        assert torch.equal(centers[labels == label].sum(0), torch.zeros(5))
    assert centers.norm(dim=1).tolist() == [7.0] * 4


def test_only_train_labels_of_clusters_are_flipped_and_as_many_as_asked_for():
    centers, labels = xor_centers(3, distance=50.0)
    data = gaussian_clusters(centers, labels, 100, 50, seed=0, flipped=0.1)
    wrong = {}
    for part in ("train", "test"):
        nearest = torch.cdist(data[f"{part}_inputs"], centers).argmin(1)
        wrong[part] = int((labels[nearest] != data[f"{part}_labels"]).sum())
    assert wrong == {"train": 10, "test": 0}


def test_generated_groups_are_the_known_ones():
    s3 = permutation_group([[1, 0, 2], [1, 2, 0]])
    pairs, products = symmetric_group(3)
    assert torch.equal(s3.pairs, pairs) and torch.equal(s3.labels, products)
    assert torch.equal(cyclic_group(7).labels, table("x_plus_y", 7).labels)
    assert (cyclic_group(7).elements, dihedral_group(5).elements) == (7, 10)


def test_the_table_of_a_dihedral_group_is_a_group_s():
    """Each row and column has every element once; 0 is the identity; products are associative."""
    d4 = dihedral_group(4)
    products = d4.labels.view(8, 8)
    everyone = torch.arange(8)
    assert torch.equal(products.sort(0).values, everyone[:, None].expand(8, 8))
    assert torch.equal(products.sort(1).values, everyone.expand(8, 8))
    assert torch.equal(products[0], everyone) and torch.equal(products[:, 0], everyone)
    assert torch.equal(products[products], products[:, products])
    assert not torch.equal(products, products.T)


@pytest.mark.parametrize(
    ("generators", "message"),
    [([[0, 2]], "a permutation of 0 to 1"), ([[*range(1, 1002), 0]], "more than 1000 elements")],
)
def test_what_generates_no_group_is_refused(generators, message):
    with pytest.raises(UserError, match=message):
        permutation_group(generators)
