"""Multiplication tables of finite groups."""

from collections.abc import Sequence

import torch

from grok.errors import UserError
from grok.tasks.operations import Table

LARGEST_GROUP = 1000  # elements; the table has the square of that many rows
Permutation = tuple[int, ...]


def permutation_group(generators: Sequence[Sequence[int]]) -> Table:
    """The table of the group that permutations generate: all pairs (a, b) and their products a b.

    Elements are numbered in lexicographic order, so that 0 is the identity. The product a b applies a
    first, as in `grok.tasks.tables.symmetric_group`.

    Arguments:
        generators: permutations of 0 to n - 1, each the list of the images.

    Raises:
        UserError: one is no permutation, or the group has more than LARGEST_GROUP elements.
    """
    steps = [tuple(generator) for generator in generators]
    size = len(steps[0]) if steps else 0
    for step in steps:
        if sorted(step) != list(range(size)):
            raise UserError(f"generator {list(step)}: expected a permutation of 0 to {size - 1}")
    found = {tuple(range(size))}
    new = set(found)
    while new:
        new = {_product(step, element) for step in steps for element in new} - found
        found |= new
        if len(found) > LARGEST_GROUP:
            raise UserError(f"the generated group has more than {LARGEST_GROUP} elements")
    elements = sorted(found)
    number = {element: index for index, element in enumerate(elements)}
    pairs = torch.cartesian_prod(*[torch.arange(len(elements))] * 2)
    labels = torch.tensor([number[_product(a, b)] for a in elements for b in elements])
    return Table(pairs, labels, len(elements), len(elements))


def cyclic_group(n: int) -> Table:
    """The table of the rotations of n points: addition modulo n."""
    return permutation_group([[*range(1, n), 0]])


def dihedral_group(n: int) -> Table:
    """The table of the 2 n symmetries of a regular polygon with n >= 3 corners."""
    return permutation_group([[*range(1, n), 0], [-i % n for i in range(n)]])


def _product(a: Permutation, b: Permutation) -> Permutation:
    return tuple(b[image] for image in a)
