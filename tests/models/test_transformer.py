"""The transformer: equal prefixes computed once change nothing; parameter counts as published."""

import itertools

import pytest
import torch

from grok.experiment.parts import pair_tokens
from grok.models.mlp import PairMLP
from grok.models.transformer import Transformer, TransformerConfig, share_prefixes
from grok.randomness import key_of, normal, uniform
from grok.tasks.operations import table

ALL_BIASES = ("attention", "mlp", "output")


def small(**changes) -> Transformer:
    torch.manual_seed(1)
    known = {"width": 32, "depth": 2, "heads": 4, "mlp_width": 64, **changes}
    return Transformer(TransformerConfig(14, 11, 5, **known))


@pytest.mark.parametrize(
    ("norm", "positions"),
    list(itertools.product(("pre", "post", "none"), ("learned", "sinusoidal"))),
)
@pytest.mark.parametrize("count", [1, 2])
def test_sharing_prefixes_and_reading_the_end_only_equals_the_plain_forward(norm, positions, count):
    model = small(norm=norm, positions=positions, biases=ALL_BIASES, final_norm=norm == "pre")
    tokens = pair_tokens(table("x_plus_y", 11).pairs, 11, "Eaob=")
    prefixes, which, rest = share_prefixes(tokens, batch=64)
    assert prefixes.shape == (11, 3)  # E, a and the operator: as many as there are values of a
    rows = torch.randperm(121)[:64]
    whole = model(tokens[rows])[:, -count:]
    shared = model.last_logits(prefixes, which[rows], rest[rows], count)
    assert whole.std() > 0.1
    assert (whole - shared).abs().max() < 1e-5


@pytest.mark.parametrize(("depth", "tied"), [(1, False), (3, True)])
def test_gradients_of_both_forwards_agree(depth, tied):
    model = small(depth=depth, tied=tied).double()
    tokens = pair_tokens(table("x_minus_y", 11).pairs, 11, "aob=")
    prefixes, which, rest = share_prefixes(tokens, batch=121)
    whole = model(tokens)[:, -1].square().sum()
    shared = model.last_logits(prefixes, which, rest).square().sum()
    weights = list(model.parameters())
    for one, other in zip(
        torch.autograd.grad(whole, weights), torch.autograd.grad(shared, weights), strict=True
    ):
        assert torch.allclose(one, other, rtol=1e-9, atol=1e-9)


def test_prefixes_are_left_alone_where_sharing_does_not_pay():
    tokens = torch.randint(1000, (50, 4), generator=torch.Generator().manual_seed(0))
    prefixes, which, rest = share_prefixes(tokens, batch=20)
    assert prefixes.shape == (1, 0) and rest.shape == (50, 4)
    model = Transformer(TransformerConfig(1000, 7, 4, width=16, heads=2, mlp_width=16))
    assert torch.allclose(
        model(tokens)[:, -1:], model.last_logits(prefixes, which, rest), atol=1e-5
    )


def test_no_position_sees_a_later_one():
    model = small(norm="pre")
    tokens = torch.randint(14, (3, 5))
    embedded = model.tokens[tokens].detach().requires_grad_()
    model._embed = lambda *_: embedded + model.positions
    seen = torch.autograd.grad(model(tokens)[:, 2].sum(), embedded)[0].abs().sum((0, 2))
    assert (seen[:3] > 0).all() and (seen[3:] == 0).all()


SIZES = {  # the nine sizes of the capacity study, modulo 97 and in S_5
    (1, 64): (63_073, 66_040),
    (2, 64): (113_057, 116_024),
    (4, 64): (213_025, 215_992),
    (1, 128): (224_353, 230_264),
    (2, 128): (422_625, 428_536),
    (4, 128): (819_169, 825_080),
    (1, 256): (841_825, 853_624),
    (2, 256): (1_631_585, 1_643_384),
    (4, 256): (3_211_105, 3_222_904),
}


@pytest.mark.parametrize(("depth", "width"), SIZES)
@pytest.mark.parametrize("heads", [2, 4, 8])
def test_sizes_of_the_template(depth, width, heads):
    for (vocabulary, classes), size in zip(
        [(99, 97), (122, 120)], SIZES[depth, width], strict=True
    ):
        shape = TransformerConfig(
            vocabulary,
            classes,
            5,
            width=width,
            depth=depth,
            heads=heads,
            mlp_width=4 * width,
            norm="post",
            final_norm=True,
            biases=ALL_BIASES,
            positions="learned",
        )
        assert sum(p.numel() for p in Transformer(shape).parameters()) == size


@pytest.mark.parametrize("depth", [1, 3, 8])
def test_gpt2_initialization(depth):
    """N(0, 0.02^2), smaller by sqrt(2 depth) for the two matrices a layer adds to the stream by."""
    options = {"width": 64, "mlp_width": 128, "init": "gpt2", "biases": ALL_BIASES}
    model = small(depth=depth, positions="learned", **options)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            assert parameter.unique().tolist() == [1.0 if name.endswith("weight") else 0.0]
        elif parameter.ndim == 1:
            assert not parameter.any()
        else:
            is_residual = name.endswith(("mix.weight", "down.weight"))
            std = 0.02 / (2 * depth) ** 0.5 if is_residual else 0.02
            assert parameter.std().item() == pytest.approx(std, rel=5 / parameter.numel() ** 0.5)
            assert abs(parameter.mean().item()) < 5 * std / parameter.numel() ** 0.5


def test_normal_initialization_and_its_scale():
    """N(0, 1 / width), the unembedding N(0, 1 / classes), biases zero (Nanda et al. 2023)."""
    options = {"width": 64, "mlp_width": 128, "init": "normal", "biases": ALL_BIASES}
    model, scaled = small(**options), small(**options, init_scale=3.0)
    for (name, parameter), other in zip(model.named_parameters(), scaled.parameters(), strict=True):
        if "norm" in name:
            assert torch.equal(parameter, other)
            continue
        assert torch.allclose(3 * parameter, other)
        fan = 11 if name == "output.weight" else 64
        if parameter.ndim > 1:
            relative = 5 / parameter.numel() ** 0.5
            assert parameter.std().item() == pytest.approx(fan**-0.5, rel=relative)
        else:
            assert not parameter.any()


def test_size_of_power_et_al():
    model = Transformer(TransformerConfig(239, 239, 50))
    assert sum(p.numel() for p in model.blocks.parameters()) == 394_240
    assert sum(p.numel() for p in model.parameters()) == 455_424


def test_size_of_the_ordering_study():
    shape = TransformerConfig(
        9973,
        9973,
        2,
        width=256,
        depth=2,
        heads=4,
        mlp_width=2048,
        norm="pre",
        biases=ALL_BIASES,
        positions="learned",
        causal=False,
        pool=True,
    )
    assert sum(p.numel() for p in Transformer(shape).parameters()) == 7_746_805


def test_it_is_torchs_own_encoder():
    """The same weights in torch.nn.TransformerEncoder, pre-norm, mean over both positions."""
    torch.manual_seed(0)
    mine = Transformer(
        TransformerConfig(
            11,
            11,
            2,
            width=16,
            depth=2,
            heads=4,
            mlp_width=32,
            norm="pre",
            biases=ALL_BIASES,
            positions="learned",
            causal=False,
            pool=True,
            init="multihead",
        )
    )
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True, norm_first=True)
    theirs = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    bound = layer.self_attn.in_proj_weight.detach().abs().max().item()
    assert bound == pytest.approx(mine.blocks[0].keys_values.weight.abs().max().item(), rel=0.02)
    for a, b in zip(mine.blocks, theirs.layers, strict=True):
        joined = {
            "self_attn.in_proj_weight": torch.cat([a.queries.weight, a.keys_values.weight]),
            "self_attn.in_proj_bias": torch.cat([a.queries.bias, a.keys_values.bias]),
        }
        names = {
            "self_attn.out_proj": "mix",
            "linear1": "up",
            "linear2": "down",
            "norm1": "norm1",
            "norm2": "norm2",
        }
        for their, my in names.items():
            for kind in ("weight", "bias"):
                joined[f"{their}.{kind}"] = getattr(getattr(a, my), kind)
        b.load_state_dict({name: value.detach() for name, value in joined.items()})
    pairs = table("x_plus_y", 11).pairs
    expected = mine.output(theirs(mine.tokens[pairs] + mine.positions).mean(1))
    assert torch.allclose(mine(pairs)[:, 0], expected, atol=1e-5)
    nothing = torch.zeros(len(pairs), dtype=torch.long)
    assert torch.allclose(
        mine.last_logits(pairs[:1, :0], nothing, pairs)[:, 0], expected, atol=1e-5
    )


@pytest.mark.parametrize("embedding", [None, 8])
def test_the_pair_mlp_is_an_mlp_over_two_vectors(embedding):
    torch.manual_seed(0)
    model = PairMLP(11, 11, [16, 16], "relu", embedding)
    pairs = table("x_plus_y", 11).pairs
    vectors = torch.eye(11) if embedding is None else model.embedding.weight
    assert torch.allclose(model(pairs), model.net(vectors[pairs].flatten(1)), atol=1e-6)


def test_drawn_numbers_are_uniform_and_normal_and_differ_between_keys():
    keys = [
        key_of(torch.tensor(s), torch.tensor(t), k) for s in (0, 1) for t in (0, 1) for k in (0, 1)
    ]
    assert len({int(key) for key in keys}) == 8
    drawn = torch.stack([uniform(key, (20_000,), torch.float64) for key in keys])
    assert (drawn.mean(1) - 0.5).abs().max() < 0.01 and (drawn.var(1) - 1 / 12).abs().max() < 0.002
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 0.03
    noise = normal(keys[0], (20_000,), torch.float64)
    assert abs(noise.mean()) < 0.03 and abs(noise.std() - 1) < 0.03
    assert abs((noise**4).mean() - 3) < 0.2
