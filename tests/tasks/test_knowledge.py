"""Knowledge graphs: counts against enumeration, and what is kept apart."""

import itertools

import pytest
import torch

from grok.tasks import knowledge

SMALL = {"entities": 12, "relations": 7, "degree": 3, "ood": 0.2, "test": 0.1}


def facts(parts) -> dict[tuple[int, int], int]:
    """(head, relation) -> tail."""
    rows = zip(parts["atomic_tokens"].tolist(), parts["atomic_labels"].tolist(), strict=True)
    return {(h, r): t for (h, r, _), t in rows}


def hops(parts, part: str) -> list[tuple]:
    """((h, r1), (b, r2), t) of every inference."""
    known = facts(parts)
    rows = zip(parts[f"{part}_tokens"].tolist(), parts[f"{part}_labels"].tolist(), strict=True)
    return [((h, r1), (known[h, r1], r2), t) for (h, r1, r2), t in rows]


def test_a_graph_has_the_facts_and_inferences_of_enumeration():
    parts = knowledge.composition(**SMALL, phi=1.0, seed=4)
    known = facts(parts)
    assert len(known) == 12 * 3 and all(12 <= r < 19 for _, r in known)
    for h in range(12):
        assert len({r for head, r in known if head == h}) == 3
    for part in ("train", "test", "ood"):
        assert all(known[second] == t for _, second, t in hops(parts, part))  # by b, and right
    ood = {f for part in ("ood",) for one, other, _ in hops(parts, part) for f in (one, other)}
    used = {
        f for part in ("train", "test") for one, other, _ in hops(parts, part) for f in (one, other)
    }
    assert not ood & used
    inside = [f for f in known if f not in ood]
    two_hops = [(f, g) for f, g in itertools.product(known, known) if known[f] == g[0]]
    both = [(f, g) for f, g in two_hops if f in ood and g in ood]
    assert len(hops(parts, "ood")) >= len(both) > 0
    assert len(parts["train_labels"]) <= len(inside)
    bridges = [second[0] for _, second, _ in hops(parts, "train")]
    assert parts["train_bridges"].tolist() == bridges


@pytest.mark.parametrize("ood", [0.1, 0.3])
def test_every_pair_of_facts_is_in_its_part_exactly(ood):
    """All two-hop pairs: both known inside -> train, test or spare; both outside -> ood; else in none."""
    sizes = {**SMALL, "ood": ood}
    with pytest.raises(knowledge.GraphError, match="at most") as error:
        knowledge.composition(**sizes, phi=100.0, seed=1)
    most = int(str(error.value).split("graph has ")[1].split()[0])
    inside = 36 - round(ood * 36)
    parts = knowledge.composition(**sizes, phi=most / inside, seed=1)
    found = {part: hops(parts, part) for part in ("train", "test", "ood")}
    pairs = [pair[:2] for part in found.values() for pair in part]
    assert len(pairs) == len(set(pairs))  # nothing twice, nothing in two parts
    used = {f for part in ("train", "test") for one, other, _ in found[part] for f in (one, other)}
    all_inside = [(f, g) for f in used for g in used if facts(parts)[f] == g[0]]
    assert len(found["train"]) + len(found["test"]) == len(all_inside)
    assert len(found["test"]) == round(0.1 * len(all_inside))


def test_comparisons_are_right_and_apart():
    parts = knowledge.comparison(20, 3, 5, ood=0.2, test=0.1, phi=4.0, seed=2)
    value = {
        (e, a): v
        for (e, a, *_), v in zip(
            parts["atomic_tokens"].tolist(), parts["atomic_labels"].tolist(), strict=True
        )
    }
    assert len(value) == 60
    first_label = 20 + 3 + 5
    rows = {}
    for part in ("train", "test", "ood"):
        rows[part] = [
            (a, e1, e2, label)
            for (a, _, e1, _, e2), label in zip(
                parts[f"{part}_tokens"].tolist(), parts[f"{part}_labels"].tolist(), strict=True
            )
        ]
        for a, e1, e2, label in rows[part]:
            x, y = value[e1, a], value[e2, a]
            assert label == first_label + 3 * (a - 20) + (x > y) + (x >= y)
    assert len(rows["ood"]) == 3 * 4 * 3  # ordered pairs of the four hidden entities, by attribute
    hidden = {(e, a) for a, e1, e2, _ in rows["ood"] for e in (e1, e2)}
    for part in ("train", "test"):
        assert not {(e, a) for a, e1, e2, _ in rows[part] for e in (e1, e2)} & hidden
    sides = {part: {(a, frozenset((e1, e2))) for a, e1, e2, _ in rows[part]} for part in rows}
    assert not sides["train"] & sides["test"]
    assert len(rows["train"]) == 4 * (60 - 12)


def test_a_seed_is_a_graph():
    first, same, other = (
        knowledge.composition(**{**SMALL, "ood": 0.4}, phi=0.5, seed=seed)["atomic_labels"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_the_largest_phi_that_an_error_names_can_be_used():
    """The number of inferences depends on the seed, so that phi=8.5 is too large for some."""
    sizes = {"entities": 60, "relations": 20, "degree": 10, "ood": 0.1, "test": 0.05, "seed": 62}
    with pytest.raises(knowledge.GraphError) as error:
        knowledge.composition(**sizes, phi=8.5)
    most = float(str(error.value).split()[2].rstrip(":"))
    assert 8.4 < most < 8.5
    knowledge.composition(**sizes, phi=most)


@pytest.mark.parametrize(
    ("wrong", "key"),
    [({"degree": 8}, "out_degree"), ({"ood": 0.0}, "ood_share"), ({"test": 0.0}, "test_share")],
)
def test_a_graph_that_cannot_be_made_names_the_key(wrong, key):
    with pytest.raises(knowledge.GraphError) as error:
        knowledge.composition(**{**SMALL, **wrong}, phi=1.0, seed=1)
    assert error.value.key == key
