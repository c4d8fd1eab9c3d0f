"""Knowledge graphs as token sequences: two-hop composition, and comparison (Wang et al. 2024, 3.1, 4.1).

A part has `tokens` (N, S), `labels` (N,), and `places` (N,), the positions at which the labels are
predicted. Parts: `atomic`, all facts, which are trained on; inferences `train` and `test`, from facts
that occur in train inferences; and `ood`, from facts that do not.
"""

from math import floor

import torch
from torch import Tensor

from grok.tensors import Tensors


class GraphError(ValueError):
    """A graph with these sizes does not exist; `key` is the config key at fault."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def composition(
    entities: int, relations: int, degree: int, ood: float, test: float, phi: float, seed: int
) -> Tensors:
    """Facts h r -> t, and two-hop inferences h r1 r2 -> t over a bridge entity b.

    Arguments:
        entities, relations: how many there are.
        degree: facts of each head entity, of different relations.
        ood: fraction of the facts that are in no train or test inference.
        test: fraction of the other facts' inferences that are in the test set.
        phi: train inferences per fact that is not ood.
        seed: the graph depends on it alone.

    Returns:
        PART_{tokens,places,labels}, and train_bridges (N,). Tokens: entities, relations, a filler.

    Raises:
        GraphError: if there are not enough relations or inferences.
    """
    if degree > relations:
        raise GraphError("out_degree", f"at most relations={relations}")
    g = torch.Generator().manual_seed(seed)
    heads = torch.arange(entities).repeat_interleave(degree)
    ranked = torch.rand(entities, relations, generator=g).argsort(1)
    used = ranked[:, :degree].flatten()
    tails = torch.randint(entities, heads.shape, generator=g)
    count = len(heads)
    is_ood = torch.zeros(count, dtype=torch.bool)
    is_ood[torch.randperm(count, generator=g)[: round(ood * count)]] = True
    first = torch.arange(count).repeat_interleave(degree)
    second = tails[first] * degree + torch.arange(degree).repeat(count)
    inside = _shuffled(~is_ood[first] & ~is_ood[second], g)
    cut = round(test * len(inside))
    rows = {
        "test": inside[:cut],
        "train": _first(inside[cut:], phi, int((~is_ood).sum())),
        "ood": _shuffled(is_ood[first] & is_ood[second], g),
    }
    filler = torch.full_like(heads, entities + relations)
    tokens = {"atomic": torch.stack([heads, entities + used, filler], 1)}
    labels = {"atomic": tails}
    for part, pairs in rows.items():
        f, s = first[pairs], second[pairs]
        tokens[part] = torch.stack([heads[f], entities + used[f], entities + used[s]], 1)
        labels[part] = tails[s]
    places = {part: 1 if part == "atomic" else 2 for part in tokens}
    return {**_named(tokens, places, labels), "train_bridges": tails[first[rows["train"]]]}


def comparison(
    entities: int, attributes: int, values: int, ood: float, test: float, phi: float, seed: int
) -> Tensors:
    """Facts e a -> value, and comparisons a q e1 m e2 -> whether e1's value is less than, equal to or
    greater than e2's, with three label tokens per attribute.

    Arguments:
        entities, attributes, values: how many there are.
        ood: fraction of the entities, for each attribute, that are in no train or test comparison.
        test: fraction of the other pairs of entities in the test set; both orders of a pair are in
            the same set.
        phi: train comparisons per fact that is not ood.
        seed: the facts depend on it alone.

    Returns:
        PART_{tokens,places,labels}. Tokens: entities, attributes, values, labels, q, m, a filler.

    Raises:
        GraphError: if there are not enough comparisons.
    """
    g = torch.Generator().manual_seed(seed)
    table = torch.randint(values, (entities, attributes), generator=g)
    hidden = torch.rand(entities, attributes, generator=g).argsort(0) < round(ood * entities)
    e1, e2, a = torch.meshgrid(
        torch.arange(entities), torch.arange(entities), torch.arange(attributes), indexing="ij"
    )
    e1, e2, a = (grid.flatten() for grid in (e1, e2, a))
    one, other, same = hidden[e1, a], hidden[e2, a], e1 == e2
    uniform = torch.rand(entities, entities, attributes, generator=g)
    is_test = uniform[torch.minimum(e1, e2), torch.maximum(e1, e2), a] < test
    inside = ~one & ~other & ~same
    pool = _shuffled(inside & ~is_test, g)
    rows = {
        "test": _shuffled(inside & is_test, g),
        "train": _first(pool, phi, int((~hidden).sum())),
        "ood": _shuffled(one & other & ~same, g),
    }
    first_value = entities + attributes
    first_label = first_value + values
    ask, middle, filler = (first_label + 3 * attributes + k for k in range(3))
    e, of = (
        grid.flatten()
        for grid in torch.meshgrid(torch.arange(entities), torch.arange(attributes), indexing="ij")
    )
    fill = torch.full_like(e, filler)
    tokens = {"atomic": torch.stack([e, entities + of, fill, fill, fill], 1)}
    labels = {"atomic": first_value + table[e, of]}
    for part, at in rows.items():
        left, right, which = e1[at], e2[at], a[at]
        ends = [torch.full_like(left, token) for token in (ask, middle)]
        tokens[part] = torch.stack([entities + which, ends[0], left, ends[1], right], 1)
        order = (table[left, which] - table[right, which]).sign() + 1
        labels[part] = first_label + 3 * which + order
    places = {part: 1 if part == "atomic" else 4 for part in tokens}
    return _named(tokens, places, labels)


def vocabulary(parts: Tensors) -> int:
    """Number of tokens; the filler is the last."""
    return int(parts["atomic_tokens"].max()) + 1


def _shuffled(chosen: Tensor, g: torch.Generator) -> Tensor:
    """The indices (N,) that are chosen, in random order."""
    indices = chosen.nonzero().flatten()
    return indices[torch.randperm(len(indices), generator=g)]


def _first(pool: Tensor, phi: float, facts: int) -> Tensor:
    """The first phi * facts inferences of the pool; GraphError if it has fewer."""
    if not facts:
        raise GraphError("ood_share", "less: it leaves no fact to infer from")
    wanted = round(phi * facts)
    if not 1 <= wanted <= len(pool):
        most = floor(100 * len(pool) / facts) / 100
        raise GraphError(
            "phi",
            f"at most {most:.2f}: this seed's graph has {len(pool)} inferences of {facts} facts",
        )
    return pool[:wanted]


def _named(tokens: Tensors, places: dict[str, int], labels: Tensors) -> Tensors:
    found = {}
    for part, rows in tokens.items():
        if not len(rows):
            key = "ood_share" if part == "ood" else "test_share"
            raise GraphError(key, f"enough for one {part} inference")
        found[f"{part}_tokens"], found[f"{part}_labels"] = rows, labels[part]
        found[f"{part}_places"] = torch.full((len(rows),), places[part])
    return found
