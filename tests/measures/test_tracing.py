"""Logit lens and causal tracing on models built by hand."""

import pytest
import torch

from grok.measures import tracing
from grok.models.transformer import Transformer, TransformerConfig


class Copying:
    """Two layers over one-hot states: the first moves position 0's token to position 1, the second moves
    position 1's to position 2, where it is read; logits are the states."""

    def residual_stream(self, tokens):
        start = torch.nn.functional.one_hot(tokens, 9).float()
        first = start.clone()
        first[:, 1] = start[:, 0]
        second = first.clone()
        second[:, 2] = first[:, 1]
        return [start, first, second]

    def forward_from(self, x, layer):
        x = x.clone()
        if layer < 1:
            x[:, 1] = x[:, 0]
        if layer < 2:
            x[:, 2] = x[:, 1]
        return x

    def unembed(self, x):
        return x


TOKENS = torch.tensor([[0, 5, 6], [1, 5, 6], [2, 5, 6]])
OTHERS = torch.tensor([[3, 5, 6], [3, 5, 6], [2, 5, 6]])  # the last is the same


def test_the_lens_reads_what_a_state_holds():
    states = Copying().residual_stream(TOKENS)
    heads = TOKENS[:, 0]
    rank = lambda layer, place: tracing.reciprocal_rank(Copying(), states[layer][:, place], heads)  # noqa: E731
    assert rank(0, 0) == rank(1, 1) == rank(2, 2) == 1.0
    assert rank(0, 1) == rank(1, 2) == 0.5  # behind the one token that is there


def test_a_state_is_causal_exactly_where_the_answer_passes_through():
    strength = {
        (layer, place): tracing.causal_strength(Copying(), TOKENS, OTHERS, layer, [place], 2)
        for layer in (0, 1)
        for place in (0, 1)
    }
    assert strength[0, 0] == strength[1, 1] == pytest.approx(2 / 3)  # one row's other is itself
    assert strength[0, 1] == strength[1, 0] == 0


def test_others_end_alike_and_have_another_answer():
    known = torch.tensor([[0, 5, 6], [1, 5, 6], [2, 5, 6], [3, 5, 7]])
    labels = torch.tensor([10, 10, 11, 12])
    found, which = tracing.other_heads(known, labels, known, labels, seed=0)
    assert which.tolist() == [0, 1, 2]  # the last has no other that ends alike
    assert (found[:, 1:] == known[which, 1:]).all()
    assert found[:2, 0].tolist() == [2, 2] and found[2, 0] in (0, 1)


@pytest.mark.parametrize("repeats", [1, 2])
def test_resuming_from_any_layer_is_the_whole(repeats):
    torch.manual_seed(0)
    shape = TransformerConfig(
        11,
        11,
        4,
        width=8,
        depth=2,
        heads=2,
        mlp_width=16,
        norm="pre",
        final_norm=True,
        tied=True,
        positions="learned",
        init="gpt2",
        repeats=repeats,
    )
    model = Transformer(shape).double()
    tokens = torch.randint(11, (5, 4))
    states = model.residual_stream(tokens)
    assert len(states) == 2 * repeats + 1
    for layer, state in enumerate(states):
        assert torch.allclose(model.forward_from(state, layer), model(tokens))
    nothing = tokens[:, :0], tokens[:, 0]
    assert torch.allclose(model.last_logits(*nothing, tokens, 4), model(tokens))
