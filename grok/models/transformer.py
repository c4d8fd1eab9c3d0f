"""A decoder-only transformer of one replica, for short sequences many of which begin alike."""

import math
from dataclasses import KW_ONLY, dataclass
from typing import cast

import torch
from torch import Tensor, nn

from grok.models.mlp import ACTIVATIONS
from grok.randomness import uniform
from grok.tensors import Tensors

# Sequences for each token of the vocabulary from which the first layer's products are computed once
# for each token and position: the gathers cost less than the products then.
TABLE_PAYS_FROM = 2


@dataclass(frozen=True)
class TransformerConfig:
    """The architecture and initialization of a transformer; published variants differ in these alone.

    Values of `init`:
        "torch": each linear layer's own.
        "multihead": that of torch.nn.MultiheadAttention for the attention, torch's elsewhere.
        "normal": matrices N(0, 1 / width), W_U N(0, 1 / classes), biases 0 (Nanda et al. 2023).
        "gpt2": matrices N(0, 0.02^2), those that write to the residual stream (W_O, W_out) with
            a standard deviation smaller by sqrt(2 depth), biases 0 (Radford et al. 2019).
    """

    vocabulary: int  # number of tokens
    classes: int  # number of logits
    length: int  # longest sequence
    _: KW_ONLY
    width: int = 128  # of the residual stream, D
    depth: int = 2  # layers with parameters of their own
    heads: int = 4  # of each attention; they divide the width
    mlp_width: int = 512  # neurons of each MLP
    norm: str = "post"  # LayerNorm before each sublayer ("pre"), after it ("post"), or "none"
    final_norm: bool = False  # LayerNorm before the unembedding
    biases: tuple[str, ...] = ()  # layers with biases, among "attention", "mlp" and "output"
    activation: str = "relu"  # of the MLPs, a key of ACTIVATIONS
    positions: str = "sinusoidal"  # positional embedding: "learned", or fixed "sinusoidal"
    tied: bool = False  # W_U is the transpose of W_E
    init: str = "torch"  # scheme of the initial parameters, see above
    init_scale: float = 1.0  # factor of all initial parameters but LayerNorm's
    dropout: float = 0.0  # rate, on the MLPs' outputs
    causal: bool = True  # each position attends to itself and those before; False: to all
    pool: bool = False  # one logit vector, of the mean over positions
    elements: int | None = None  # number of tokens that are operands, the first; None: `classes`
    repeats: int = 1  # passes through the layers (Wang et al. 2024, section 3.4)


class Transformer(nn.Module):
    """Logits after every token.

    `forward` is the textbook computation. `last_logits` gives the same logits at the last positions
    at less cost. The parameters are, in the usual notation: tokens W_E, positions W_pos,
    output.weight the transpose of W_U, and in each block queries.weight W_Q, keys_values.weight
    W_K above W_V, mix.weight W_O, up.weight W_in, down.weight W_out, all transposed as in nn.Linear.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        width = config.width
        self.tokens = nn.Parameter(torch.randn(config.vocabulary, width))
        if config.positions == "learned":
            self.positions = nn.Parameter(torch.randn(config.length, width))
        else:
            self.register_buffer("positions", sinusoids(config.length, width))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final = nn.LayerNorm(width) if config.final_norm else nn.Identity()
        if not config.tied:
            self.output = nn.Linear(width, config.classes, bias="output" in config.biases)
        self._initialize()

    def extra_repr(self) -> str:
        return str(self.config)

    @torch.no_grad()
    def _initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if "norm" in name or name.startswith("final"):
                continue
            if self.config.init == "normal":
                self._init_normal(name, parameter)
            elif self.config.init == "gpt2":
                self._init_gpt2(name, parameter)
            elif self.config.init == "multihead":
                self._init_multihead(name, parameter)
            parameter.mul_(self.config.init_scale)

    def _init_normal(self, name: str, parameter: Tensor) -> None:
        if parameter.ndim == 1:
            parameter.zero_()
        else:
            fan = self.config.classes if name == "output.weight" else self.config.width
            parameter.normal_(0, fan**-0.5)

    def _init_gpt2(self, name: str, parameter: Tensor) -> None:
        if parameter.ndim == 1:
            parameter.zero_()
        else:
            is_residual = "mix" in name or "down" in name  # W_O and W_out
            std = 0.02 / (2 * self.config.depth) ** 0.5 if is_residual else 0.02
            parameter.normal_(0, std)

    def _init_multihead(self, name: str, parameter: Tensor) -> None:
        if "queries" in name or "keys_values" in name:
            bound = (1.5 / self.config.width) ** 0.5 if parameter.ndim > 1 else 0.0
            parameter.uniform_(-bound, bound)
        elif "mix.bias" in name:
            parameter.zero_()

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, S, C) for tokens (N, S), or (N, 1, C) with `pool`."""
        return self.unembed(self.residual_stream(tokens)[-1])

    def last_logits(
        self,
        prefixes: Tensor,
        prefix_index: Tensor,
        suffixes: Tensor,
        count: int = 1,
        key: Tensor | None = None,
    ) -> Tensor:
        """Logits at the last `count` positions of sequences that share prefixes.

        A prefix is computed once, however many sequences begin with it, and the last layer only at
        the positions asked for. Queries, keys and values of the first layer depend on the token and
        its position alone. Where there are fewer of these than positions in all sequences, they are
        computed once for each token and position.

        Arguments:
            prefixes: tokens (U, K), K = 0 unless the model is causal.
            prefix_index: (N,), the prefix of each sequence.
            suffixes: tokens (N, S - K), the rest of each sequence.
            count: number of positions, from the end, at most S - K.
            key: random key of the training step, for dropout; None for no dropout.

        Returns:
            Logits (N, count, C), or (N, 1, C) with `pool`.
        """
        prefix_length = prefixes.shape[1]
        prefix_x = self._embed(prefixes, 0) if prefix_length else None
        length, vocabulary = suffixes.shape[1], self.config.vocabulary
        rows = None
        if TABLE_PAYS_FROM * vocabulary <= len(suffixes):
            every_token = torch.arange(vocabulary, device=suffixes.device)
            x = self._embed(every_token[:, None].expand(-1, length), prefix_length).flatten(0, 1)
            rows = suffixes * length + torch.arange(length, device=suffixes.device)
        else:
            x = self._embed(suffixes, prefix_length)
        layers = self.layers()
        for index, block in enumerate(layers):
            is_last = index == len(layers) - 1
            past = None
            if prefix_x is not None:
                # the last layer needs of the prefixes only the keys and values
                prefix_x, keys_values = block(prefix_x, None, 0 if is_last else prefix_length)
                past = keys_values[prefix_index]  # (N, K, 2D)
            positions = count if is_last and not self.config.pool else length
            x, _ = block(x, past, positions, key if key is None else key + index, rows)
            rows = None
        return self.unembed(x)

    def layers(self) -> list["Block"]:
        """The blocks in the order of the forward pass; the same several times with `repeats`."""
        return cast("list[Block]", list(self.blocks)) * self.config.repeats

    def residual_stream(self, tokens: Tensor) -> list[Tensor]:
        """The residual stream (N, S, D) of tokens (N, S), before the first layer and after each."""
        stream = [self._embed(tokens, 0)]
        for block in self.layers():
            stream.append(block(stream[-1], None, tokens.shape[1])[0])
        return stream

    def forward_from(self, x: Tensor, layer: int) -> Tensor:
        """Logits (N, S, C), given the residual stream (N, S, D) after `layer` layers."""
        for block in self.layers()[layer:]:
            x, _ = block(x, None, x.shape[1])
        return self.unembed(x)

    def attention(self, tokens: Tensor) -> list[Tensor]:
        """Attention weights (N, H, S, S) of every layer on tokens (N, S): query, then key position."""
        x, weights = self._embed(tokens, 0), []
        for block in self.layers():
            weights.append(block.attention(x))
            x, _ = block(x, None, x.shape[1])
        return weights

    def _embed(self, tokens: Tensor, offset: int) -> Tensor:
        W_E, W_pos = self.tokens, self.positions
        return W_E[tokens] + W_pos[offset : offset + tokens.shape[-1]]

    def unembed(self, x: Tensor) -> Tensor:
        """Logits (..., C) of a residual stream (..., D), as after the last layer."""
        if self.config.pool:
            x = x.mean(-2, keepdim=True)
        x = self.final(x)
        if not self.config.tied:
            return self.output(x)
        W_E = self.tokens
        return x @ W_E[: self.config.classes].T


class Block(nn.Module):
    """One layer: attention, then an MLP, each added to the residual stream."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        width, attention_bias = config.width, "attention" in config.biases
        self.heads, self.norm, self.dropout = config.heads, config.norm, config.dropout
        self.causal = config.causal
        self.queries = nn.Linear(width, width, bias=attention_bias)
        self.keys_values = nn.Linear(width, 2 * width, bias=attention_bias)
        self.mix = nn.Linear(width, width, bias=attention_bias)
        self.up = nn.Linear(width, config.mlp_width, bias="mlp" in config.biases)
        self.activation = ACTIVATIONS[config.activation]()
        self.down = nn.Linear(config.mlp_width, width, bias="mlp" in config.biases)
        self.norm1, self.norm2 = (
            nn.Identity() if config.norm == "none" else nn.LayerNorm(width) for _ in range(2)
        )

    def forward(
        self,
        x: Tensor,
        past: Tensor | None,
        count: int,
        key: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor]:
        """The residual stream after this layer, at the last `count` positions.

        Arguments:
            x: the residual stream before it, (N, S, D); with `rows`, its different values (T, D).
            past: keys and values (N, K, 2D) of the positions before x; None if there are none.
            count: positions to compute.
            key: random key for dropout; None for no dropout.
            rows: (N, S), the row of x of each position; None if x has all positions.

        Returns:
            The residual stream (N, count, D), None if count is 0; keys and values (N, S, 2D) of x.
        """
        inner = self.norm1(x) if self.norm == "pre" else x
        keys_values = self.keys_values(inner)
        if not count:
            return None, keys_values
        if rows is None:
            start = x.shape[1] - count
            # contiguous, since torch multiplies a strided input row by row
            x, queries = x[:, start:], self.queries(inner[:, start:].contiguous())
        else:
            last_rows = rows[:, rows.shape[1] - count :]
            x, queries, keys_values = (
                x[last_rows],
                self.queries(inner)[last_rows],
                keys_values[rows],
            )
        visible = keys_values if past is None else torch.cat([past, keys_values], -2)
        x = self._add(x, self.mix(self._attend(queries, visible)), self.norm1)
        inner = self.norm2(x) if self.norm == "pre" else x
        update = self.down(self.activation(self.up(inner)))
        if key is not None and self.dropout:
            update = dropped(update, self.dropout, key)
        return self._add(x, update, self.norm2), keys_values

    def attention(self, x: Tensor) -> Tensor:
        """Attention weights (N, H, S, S) on a residual stream (N, S, D): query, then key position."""
        inner = self.norm1(x) if self.norm == "pre" else x
        keys, _ = self._split_heads(self.keys_values(inner))
        return self._attention_weights(self.queries(inner), keys).permute(0, 3, 1, 2)

    def _attend(self, queries: Tensor, keys_values: Tensor) -> Tensor:
        """(N, Q, D), for queries (N, Q, D) at the last Q positions of keys_values (N, T, 2D)."""
        keys, values = self._split_heads(keys_values)
        weights = self._attention_weights(queries, keys).unsqueeze(-1)
        return (weights * values).sum(2).flatten(-2)

    def _split_heads(self, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N, 1, T, H, d) of keys_values (N, T, 2D)."""
        keys, values = keys_values.unflatten(-1, (2, self.heads, -1)).unsqueeze(1).unbind(3)
        return keys, values

    def _attention_weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(N, Q, T, H), summing to 1 over T, for queries (N, Q, D) and keys (N, 1, T, H, d)."""
        query_count, total = queries.shape[1], keys.shape[2]
        q = queries.unflatten(-1, (self.heads, -1)).unsqueeze(2)  # (N, Q, 1, H, d)
        # for matrices this small, products and sums that fuse are faster than a batched matmul
        scores = (q * keys).sum(-1) / math.sqrt(q.shape[-1])  # (N, Q, T, H)
        if query_count > 1 and self.causal:
            position = torch.arange(total, device=q.device)
            is_later = position[None, :] > position[total - query_count :, None]
            scores = scores.masked_fill(is_later[:, :, None], -math.inf)
        return scores.softmax(2)

    def _add(self, x: Tensor, update: Tensor, norm: nn.Module) -> Tensor:
        return norm(x + update) if self.norm == "post" else x + update


def sinusoids(length: int, width: int) -> Tensor:
    """Positional embedding (length, width): sines at even entries, cosines at odd ones.

    As in the published code of Power et al. 2022.
    """
    entry = torch.arange(width)
    angle = torch.arange(length)[:, None] / 10000 ** ((entry - entry % 2) / width)
    return torch.where(entry % 2 == 0, angle.sin(), angle.cos()).to(torch.get_default_dtype())


def bias_of(weights: Tensors, name: str, size: int) -> Tensor:
    """The bias (size,) of a transformer's layer; zeros where it has none."""
    return weights.get(f"{name}.bias", torch.zeros(size, dtype=weights["tokens"].dtype))


def share_prefixes(tokens: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """The different prefixes of sequences, as `Transformer.last_logits` takes them.

    The prefix length K is the one with the fewest tokens to compute; at least the last position
    belongs to the suffixes.

    Arguments:
        tokens: sequences (N, S).
        batch: number of sequences that are computed together; 0 for K = 0.

    Returns:
        prefixes (U, K), prefix_index (N,), suffixes (N, S - K).
    """
    count, length = tokens.shape
    costs = [(batch * length, 0)]
    for size in range(1, length if batch else 1):
        unique = len(torch.unique(tokens[:, :size], dim=0))
        costs.append((unique * size + batch * (length - size), size))
    _, size = min(costs)
    if not size:
        return tokens[:1, :0], torch.zeros(count, dtype=torch.long), tokens
    prefixes, prefix_index = torch.unique(tokens[:, :size], dim=0, return_inverse=True)
    return prefixes, prefix_index, tokens[:, size:]


def dropped(x: Tensor, rate: float, key: Tensor) -> Tensor:
    """x after dropout at this rate, with the random numbers of `key`."""
    return x * (uniform(key, x.shape, x.dtype) >= rate) / (1 - rate)
