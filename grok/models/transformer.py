"""A decoder-only transformer of one replica, for short sequences of which many begin alike."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from grok.models.mlp import ACTIVATIONS
from grok.randomness import uniform

NORMS = ("pre", "post", "none")
POSITIONS = ("learned", "sinusoidal")


@dataclass(frozen=True)
class TransformerConfig:
    """What a transformer is made of. Every published variant differs in these alone.

    vocabulary, classes, length: tokens known, answers possible, positions. elements: how many tokens,
    the first, are what is operated on (None: as many as classes). norm: LayerNorm before a
    sublayer, after it, or none. biases: which linear layers have one ("attention", "mlp", "output").
    positions: learned, or the fixed sines of Vaswani et al. 2017. tied: the output layer is the
    embedding. init: "torch" (each linear layer's own), "multihead" (torch.nn.MultiheadAttention's for
    the attention), "normal" (N(0, 1/width), the output's N(0, 1/classes): Nanda et al. 2023) or "gpt2"
    (N(0, 0.02), what is added to the residual stream by 1/sqrt(2 depth) less, biases 0).
    init_scale: factor of all initial parameters but LayerNorm's. repeats: how many times the layers are
    gone through, with the same parameters (Wang et al. 2024, section 3.4).
    """

    vocabulary: int
    classes: int
    length: int
    width: int = 128
    depth: int = 2
    heads: int = 4
    mlp_width: int = 512
    norm: str = "post"
    final_norm: bool = False
    biases: tuple[str, ...] = ()
    activation: str = "relu"
    positions: str = "sinusoidal"
    tied: bool = False
    init: str = "torch"
    init_scale: float = 1.0
    dropout: float = 0.0  # after the MLP
    causal: bool = True  # False: every position sees all
    pool: bool = False  # read the mean over all positions, not the last one
    elements: int | None = None
    repeats: int = 1


class Transformer(nn.Module):
    """Logits after tokens. `forward` is the textbook's; `answers` gives the same, computing less."""

    def __init__(self, shape: TransformerConfig):
        super().__init__()
        self.shape = shape
        width = shape.width
        self.tokens = nn.Parameter(torch.randn(shape.vocabulary, width))
        if shape.positions == "learned":
            self.positions = nn.Parameter(torch.randn(shape.length, width))
        else:
            self.register_buffer("positions", sinusoids(shape.length, width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.final = nn.LayerNorm(width) if shape.final_norm else nn.Identity()
        if not shape.tied:
            self.output = nn.Linear(width, shape.classes, bias="output" in shape.biases)
        self._initialize()

    def extra_repr(self) -> str:
        return str(self.shape)

    @torch.no_grad()
    def _initialize(self) -> None:
        for name, parameter in self.named_parameters():
            if "norm" in name or name.startswith("final"):
                continue
            if self.shape.init == "normal" and parameter.ndim > 1:
                fan = self.shape.classes if name == "output.weight" else self.shape.width
                parameter.normal_(0, fan**-0.5)
            elif self.shape.init == "normal":
                parameter.zero_()
            elif self.shape.init == "gpt2":
                added = "mix" in name or "down" in name
                std = 0.02 / (2 * self.shape.depth) ** 0.5 if added else 0.02
                parameter.zero_() if parameter.ndim == 1 else parameter.normal_(0, std)
            elif self.shape.init == "multihead" and ("queries" in name or "keys_values" in name):
                bound = (1.5 / self.shape.width) ** 0.5 if parameter.ndim > 1 else 0.0
                parameter.uniform_(-bound, bound)
            elif self.shape.init == "multihead" and "mix.bias" in name:
                parameter.zero_()
            parameter.mul_(self.shape.init_scale)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (N, S, C) for tokens (N, S), or (N, 1, C) with `pool`; if `causal`, each position
        sees itself and those before."""
        return self.read(self.states(tokens)[-1])

    def last_logits(
        self,
        prefixes: Tensor,
        which: Tensor,
        rest: Tensor,
        count: int = 1,
        key: Tensor | None = None,
    ) -> Tensor:
        """Logits (N, count, C) at the last `count` positions of the sequences prefixes[which] + rest.

        prefixes (U, K), which (N,), rest (N, S - K), K = 0 unless causal. A prefix is computed once, however many
        sequences share it, and the last layer only at the positions asked for. key: of the step's
        dropout, None for none.
        """
        shared = prefixes.shape[1]
        before = self._embed(prefixes, 0) if shared else None
        x = self._embed(rest, shared)
        layers = self.layers()
        last = len(layers) - 1
        for index, block in enumerate(layers):
            wanted = count if index == last and not self.shape.pool else x.shape[1]
            past = None
            if before is not None:
                following, past = block(before, None, 0 if index == last else shared)
                past = past[which]  # keys and values, (N, K, 2D)
                before = following
            x, _ = block(x, past, wanted, key if key is None else key + index)
        return self.read(x)

    def layers(self) -> list["Block"]:
        """The blocks in the order in which they are gone through."""
        return list(self.blocks) * self.shape.repeats

    def states(self, tokens: Tensor) -> list[Tensor]:
        """What is on the residual stream of tokens (N, S) before the first layer and after each, (N, S, D)."""
        found = [self._embed(tokens, 0)]
        for block in self.layers():
            found.append(block(found[-1], None, tokens.shape[1])[0])
        return found

    def resumed(self, x: Tensor, layer: int) -> Tensor:
        """Logits (N, S, C) from what is on the residual stream (N, S, D) after so many layers."""
        for block in self.layers()[layer:]:
            x, _ = block(x, None, x.shape[1])
        return self.read(x)

    def attention(self, tokens: Tensor) -> list[Tensor]:
        """Of every layer, how much each position of tokens (N, S) looks at which, (N, H, S, S)."""
        x, maps = self._embed(tokens, 0), []
        for block in self.layers():
            maps.append(block.attention(x))
            x, _ = block(x, None, x.shape[1])
        return maps

    def _embed(self, tokens: Tensor, offset: int) -> Tensor:
        return self.tokens[tokens] + self.positions[offset : offset + tokens.shape[-1]]

    def read(self, x: Tensor) -> Tensor:
        """Logits (..., C) of states (..., D), as if they were the last layer's."""
        if self.shape.pool:
            x = x.mean(-2, keepdim=True)
        x = self.final(x)
        return x @ self.tokens[: self.shape.classes].T if self.shape.tied else self.output(x)


class Block(nn.Module):
    """Attention, then an MLP, each added to what came in."""

    def __init__(self, shape: TransformerConfig):
        super().__init__()
        width, in_attention = shape.width, "attention" in shape.biases
        self.heads, self.norm, self.dropout = shape.heads, shape.norm, shape.dropout
        self.causal = shape.causal
        self.queries = nn.Linear(width, width, bias=in_attention)
        self.keys_values = nn.Linear(width, 2 * width, bias=in_attention)
        self.mix = nn.Linear(width, width, bias=in_attention)
        self.up = nn.Linear(width, shape.mlp_width, bias="mlp" in shape.biases)
        self.activation = ACTIVATIONS[shape.activation]()
        self.down = nn.Linear(shape.mlp_width, width, bias="mlp" in shape.biases)
        self.norm1, self.norm2 = (
            nn.Identity() if shape.norm == "none" else nn.LayerNorm(width) for _ in range(2)
        )

    def forward(
        self, x: Tensor, past: Tensor | None, wanted: int, key: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor]:
        """The last `wanted` positions (N, wanted, D) of x (N, S, D) after this block (None if 0), and
        the keys and values (N, S, 2D) of all of x. `past`: those of the positions before x."""
        inner = self.norm1(x) if self.norm == "pre" else x
        keys_values = self.keys_values(inner)
        if not wanted:
            return None, keys_values
        everything = keys_values if past is None else torch.cat([past, keys_values], -2)
        start = x.shape[1] - wanted
        attended = self._attend(self.queries(inner[:, start:]), everything)
        x = self._added(x[:, start:], self.mix(attended), self.norm1)
        inner = self.norm2(x) if self.norm == "pre" else x
        change = self.down(self.activation(self.up(inner)))
        if key is not None and self.dropout:
            change = dropped(change, self.dropout, key)
        return self._added(x, change, self.norm2), keys_values

    def attention(self, x: Tensor) -> Tensor:
        """Attention (N, H, S, S) over x (N, S, D): from which position, to which."""
        inner = self.norm1(x) if self.norm == "pre" else x
        keys, _ = self._heads(self.keys_values(inner))
        return self._weights(self.queries(inner), keys).permute(0, 3, 1, 2)

    def _attend(self, queries: Tensor, keys_values: Tensor) -> Tensor:
        """queries (N, Q, D) are the last Q positions of keys_values (N, T, 2D); (N, Q, D)."""
        keys, values = self._heads(keys_values)
        weights = self._weights(queries, keys).unsqueeze(-1)
        return (weights * values).sum(2).flatten(-2)

    def _heads(self, keys_values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (N, 1, T, H, d) of (N, T, 2D)."""
        return keys_values.unflatten(-1, (2, self.heads, -1)).unsqueeze(1).unbind(3)

    def _weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(N, Q, T, H), summing to 1 over T."""
        asked, total = queries.shape[1], keys.shape[2]
        q = queries.unflatten(-1, (self.heads, -1)).unsqueeze(2)  # (N, Q, 1, H, d)
        # tiny matrices: products and sums that fuse beat a batch of matrix products
        scores = (q * keys).sum(-1) / math.sqrt(q.shape[-1])  # (N, Q, T, H)
        if asked > 1 and self.causal:
            place = torch.arange(total, device=q.device)
            hidden = place[None, :] > place[total - asked :, None]
            scores = scores.masked_fill(hidden[:, :, None], -math.inf)
        return scores.softmax(2)

    def _added(self, x: Tensor, change: Tensor, norm: nn.Module) -> Tensor:
        return norm(x + change) if self.norm == "post" else x + change


def sinusoids(length: int, width: int) -> Tensor:
    """(length, width): sines at even and cosines at odd entries (Power et al. 2022's code)."""
    entry = torch.arange(width)
    angle = torch.arange(length)[:, None] / 10000 ** ((entry - entry % 2) / width)
    return torch.where(entry % 2 == 0, angle.sin(), angle.cos()).to(torch.get_default_dtype())


def share_prefixes(tokens: Tensor, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """(prefixes (U, K), which (N,), rest (N, S - K)) of sequences (N, S), for batches of `batch`.

    K is what leaves the fewest tokens to compute; at least the last position remains. K = 0 for a
    batch of 0.
    """
    count, length = tokens.shape
    options = [(batch * length, 0)]
    for shared in range(1, length if batch else 1):
        unique = len(torch.unique(tokens[:, :shared], dim=0))
        options.append((unique * shared + batch * (length - shared), shared))
    shared = min(options)[1]
    if not shared:
        return tokens[:1, :0], torch.zeros(count, dtype=torch.long), tokens
    prefixes, which = torch.unique(tokens[:, :shared], dim=0, return_inverse=True)
    return prefixes, which, tokens[:, shared:]


def dropped(x: Tensor, rate: float, key: Tensor) -> Tensor:
    """Dropout by the numbers that `key` gives."""
    return x * (uniform(key, x.shape, x.dtype) >= rate) / (1 - rate)
