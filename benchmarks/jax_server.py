"""Training steps in JAX, `jit(lax.scan(vmap(step)))`: a server of measurements for the benchmarks.

It runs in an environment of its own, which has JAX and not this project. The first line that it
prints is JAX's version. Each line of its input is a JSON object: the model (a key of MODELS), its
`spec`, the number of replicas and of steps; for each it prints replica-steps per second. The models
are written plainly, as a user of JAX would write them.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
ACTIVATIONS: dict[str, Callable] = {
    "relu": jax.nn.relu,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "tanh": jnp.tanh,
    "square": jnp.square,
}
Parameters = dict[str, Any]
# Initial parameters, the data of all rows, and loss(parameters, rows of the data).
Model = tuple[Parameters, dict[str, Any], Callable[[Parameters, dict], Any]]


def toy(dtype: str, random: np.random.Generator) -> Model:
    """The toy of Liu et al. 2022: 45 pairs of 10 symbols, widths 200, squared error."""
    shapes = {"E": (10, 1), "w1": (200, 1), "b1": (200,), "w2": (200, 200), "b2": (200,)}
    shapes |= {"w3": (30, 200), "b3": (30,)}
    parameters = {name: uniform(random, shape, dtype) for name, shape in shapes.items()}
    data = {
        "pairs": random.integers(0, 10, (45, 2)),
        "targets": random.standard_normal((45, 30)).astype(dtype),
    }

    def loss(w: Parameters, rows: dict) -> Any:
        x = w["E"][rows["pairs"][:, 0]] + w["E"][rows["pairs"][:, 1]]
        h = jnp.tanh(x @ w["w1"].T + w["b1"])
        h = jnp.tanh(h @ w["w2"].T + w["b2"])
        return ((h @ w["w3"].T + w["b3"] - rows["targets"]) ** 2).mean()

    return parameters, data, loss


def pair_mlp(
    symbols: int,
    hidden: list[int],
    activation: str,
    loss_kind: str,
    rows: int,
    one_hot: bool,
    random: np.random.Generator,
) -> Model:
    """An MLP without biases on pairs of symbols: products with one-hot vectors, or columns of W."""
    sizes = [2 * symbols, *hidden, symbols]
    parameters = {
        f"w{i}": uniform(random, (sizes[i + 1], sizes[i]), "float32") for i in range(len(sizes) - 1)
    }
    data = {
        "pairs": random.integers(0, symbols, (rows, 2)),
        "labels": random.integers(0, symbols, rows),
    }
    act = ACTIVATIONS[activation]

    def loss(w: Parameters, rows: dict) -> Any:
        a, b = rows["pairs"].T
        if one_hot:
            encoded = [jax.nn.one_hot(x, symbols, dtype="float32") for x in (a, b)]
            h = jnp.concatenate(encoded, 1) @ w["w0"].T
        else:
            h = w["w0"].T[a] + w["w0"].T[symbols + b]
        for i in range(1, len(sizes) - 1):
            h = act(h) @ w[f"w{i}"].T
        if loss_kind == "squared_error":
            return ((h - jax.nn.one_hot(rows["labels"], symbols, dtype="float32")) ** 2).mean()
        return cross_entropy(h, rows["labels"])

    return parameters, data, loss


def transformer(
    vocabulary: int,
    classes: int,
    length: int,
    width: int,
    depth: int,
    heads: int,
    mlp_width: int,
    norm: str,
    final_norm: bool,
    biases: bool,
    activation: str,
    pool: bool,
    rows: int,
    random: np.random.Generator,
) -> Model:
    """A transformer; without `pool` its last layer is computed at the last position only."""

    def block() -> Parameters:
        return {
            "qkv": normal(random, 3 * width, width),
            "o": normal(random, width, width),
            "up": normal(random, mlp_width, width),
            "down": normal(random, width, mlp_width),
            **{f"{name}_b": zeros(size) for name, size in sizes.items() if biases},
            **{f"norm{i}": (zeros(width) + 1, zeros(width)) for i in (1, 2) if norm != "none"},
        }

    sizes = {"qkv": 3 * width, "o": width, "up": mlp_width, "down": width}
    parameters = {
        "tokens": normal(random, vocabulary, width),
        "positions": normal(random, length, width),
        "blocks": [block() for _ in range(depth)],
        "output": normal(random, classes, width),
        **({"final": (zeros(width) + 1, zeros(width))} if final_norm else {}),
    }
    data = {
        "tokens": random.integers(0, vocabulary, (rows, length)),
        "labels": random.integers(0, classes, rows),
    }
    act = ACTIVATIONS[activation]
    later = jnp.triu(jnp.full((length, length), -jnp.inf, "float32"), 1)

    def dense(w: Parameters, name: str, x: Any) -> Any:
        return x @ w[name].T + (w[f"{name}_b"] if biases else 0)

    def heads_of(x: Any) -> Any:
        return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)

    def attend(w: Parameters, x: Any, last_only: bool) -> Any:
        q, k, v = (heads_of(part) for part in jnp.split(dense(w, "qkv", x), 3, -1))
        q = q[:, :, -1:] if last_only else q
        scores = q @ k.transpose(0, 1, 3, 2) / (width // heads) ** 0.5
        if not (last_only or pool):
            scores = scores + later
        mixed = (jax.nn.softmax(scores, -1) @ v).transpose(0, 2, 1, 3)
        return dense(w, "o", mixed.reshape(*mixed.shape[:2], width))

    def loss(w: Parameters, rows: dict) -> Any:
        x = w["tokens"][rows["tokens"]] + w["positions"]
        for index, layer in enumerate(w["blocks"]):
            last_only = index == depth - 1 and not pool
            update = attend(layer, layer_norm(x, layer["norm1"]) if norm == "pre" else x, last_only)
            x = x[:, -1:] + update if last_only else x + update
            x = layer_norm(x, layer["norm1"]) if norm == "post" else x
            inner = layer_norm(x, layer["norm2"]) if norm == "pre" else x
            x = x + dense(layer, "down", act(dense(layer, "up", inner)))
            x = layer_norm(x, layer["norm2"]) if norm == "post" else x
        x = x.mean(1) if pool else x[:, -1]
        x = layer_norm(x, w["final"]) if final_norm else x
        return cross_entropy(x @ w["output"].T, rows["labels"])

    return parameters, data, loss


MODELS: dict[str, Callable[..., Model]] = {
    "toy": toy,
    "pair_mlp": pair_mlp,
    "transformer": transformer,
}


def uniform(random: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    return random.uniform(-0.07, 0.07, shape).astype(dtype)


def normal(random: np.random.Generator, outputs: int, inputs: int) -> Any:
    return (random.standard_normal((outputs, inputs)) * inputs**-0.5).astype("float32")


def zeros(size: int) -> Any:
    return np.zeros(size, "float32")


def layer_norm(x: Any, scale_shift: tuple) -> Any:
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale_shift[0] + scale_shift[1]


def cross_entropy(logits: Any, labels: Any) -> Any:
    right = jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]
    return (jax.nn.logsumexp(logits, -1) - right).mean()


def train_step(state: tuple, t: Any, data: dict, loss: Callable, batch_size: int | None) -> tuple:
    """One step of AdamW on the whole data or on rows drawn with replacement."""
    parameters, mean, square, key = state
    if batch_size is not None:
        key, used = jax.random.split(key)
        count = len(next(iter(data.values())))
        rows = jax.random.randint(used, (batch_size,), 0, count)
        data = {name: value[rows] for name, value in data.items()}
    gradient = jax.grad(loss)(parameters, data)
    mean = jax.tree.map(lambda m, g: m + (g - m) * 0.1, mean, gradient)
    square = jax.tree.map(lambda v, g: v * 0.98 + g * g * 0.02, square, gradient)
    scale, root = 1e-3 / (1 - 0.9**t), 1 / jnp.sqrt(1 - 0.98**t)

    def updated(w: Any, m: Any, v: Any) -> Any:
        kind = w.dtype
        denominator = jnp.sqrt(v) * root.astype(kind) + 1e-8
        return w * (1 - 1e-3 * 0.5) - scale.astype(kind) * m / denominator

    parameters = jax.tree.map(updated, parameters, mean, square)
    return parameters, mean, square, key


@cache
def program(model: str, spec: str, replicas: int, batch_size: int | None) -> tuple:
    """The initial state and data of random replicas, and the compiled function of many steps."""
    made = [
        MODELS[model](**json.loads(spec), random=np.random.default_rng(i)) for i in range(replicas)
    ]
    parameters, data = (
        jax.tree.map(lambda *values: jnp.stack(values), *(one[i] for one in made)) for i in (0, 1)
    )
    one_step = partial(train_step, loss=made[0][2], batch_size=batch_size)

    @partial(jax.jit, static_argnums=1, donate_argnums=0)
    def many_steps(state: tuple, count: int, data: dict) -> tuple:
        def body(state: tuple, t: Any) -> tuple:
            return jax.vmap(one_step, (0, None, 0))(state, t, data), None

        times = 1 + jnp.arange(count, dtype="float32")
        return jax.lax.scan(body, state, times)[0]

    return parameters, data, many_steps


def rate(model: str, spec: dict, replicas: int, steps: int, batch_size: int | None = None) -> float:
    """Replica-steps per second, compiling not counted."""
    parameters, data, many_steps = program(model, json.dumps(spec), replicas, batch_size)

    def state() -> tuple:
        zeros = [jax.tree.map(jnp.zeros_like, parameters) for _ in range(2)]
        keys = jax.random.split(jax.random.key(0), replicas)
        return jax.block_until_ready((jax.tree.map(jnp.copy, parameters), *zeros, keys))

    jax.block_until_ready(many_steps(state(), steps, data))
    fresh = state()
    began = time.perf_counter()
    jax.block_until_ready(many_steps(fresh, steps, data))
    return replicas * steps / (time.perf_counter() - began)


if __name__ == "__main__":
    print(jax.__version__, flush=True)
    for line in sys.stdin:
        print(rate(**json.loads(line)), flush=True)
