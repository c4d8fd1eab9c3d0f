"""The Liu toy in JAX, `jit(lax.scan(vmap(step)))`: a server of measurements for `benchmarks.toy`.

It runs in an environment of its own, which has JAX and not this project. For every line `DTYPE R
STEPS` on its input it prints replica-steps per second; the first line it prints is JAX's version.
"""

import sys
import time
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
SHAPES = {"E": (10, 1), "w1": (200, 1), "b1": (200,), "w2": (200, 200), "b2": (200,)}
SHAPES |= {"w3": (30, 200), "b3": (30,)}
LEARNING_RATES = {name: 1e-3 if name == "E" else 1e-4 for name in SHAPES}


def loss(params: dict, pairs: Any, targets: Any) -> Any:
    x = params["E"][pairs[:, 0]] + params["E"][pairs[:, 1]]
    h = jnp.tanh(x @ params["w1"].T + params["b1"])
    h = jnp.tanh(h @ params["w2"].T + params["b2"])
    return ((h @ params["w3"].T + params["b3"] - targets) ** 2).mean()


def step(state: tuple, t: Any, pairs: Any, targets: Any) -> tuple:
    """One step of AdamW without decay."""
    params, mean, square = state
    grads = jax.grad(loss)(params, pairs, targets)
    mean = jax.tree.map(lambda m, g: m + (g - m) * 0.1, mean, grads)
    square = jax.tree.map(lambda v, g: v * 0.999 + g * g * 0.001, square, grads)
    scale, root = 1 - 0.9**t, 1 / jnp.sqrt(1 - 0.999**t)
    params = {
        name: value
        - LEARNING_RATES[name] / scale * mean[name] / (jnp.sqrt(square[name]) * root + 1e-8)
        for name, value in params.items()
    }
    return params, mean, square


@partial(jax.jit, static_argnums=(1,), donate_argnums=(0,))
def many_steps(state: tuple, count: int, pairs: Any, targets: Any) -> tuple:
    def body(state: tuple, t: Any) -> tuple:
        mapped = jax.vmap(step, in_axes=(0, None, 0, 0))
        return mapped(state, t.astype(targets.dtype), pairs, targets), None

    return jax.lax.scan(body, state, 1 + jnp.arange(count))[0]


@cache
def problem(dtype: str, replicas: int) -> tuple:
    """Parameters, pairs (R, 45, 2) and targets (R, 45, 30) of random replicas."""
    random = np.random.default_rng(0)
    params = {
        name: jnp.asarray(random.uniform(-0.07, 0.07, (replicas, *shape)), dtype)
        for name, shape in SHAPES.items()
    }
    pairs = jnp.asarray(random.integers(0, 10, (replicas, 45, 2)))
    return params, pairs, jnp.asarray(random.standard_normal((replicas, 45, 30)), dtype)


def rate(dtype: str, replicas: int, count: int) -> float:
    """Replica-steps per second, compiling not counted."""
    params, pairs, targets = problem(dtype, replicas)

    def state() -> tuple:
        zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]
        return jax.block_until_ready((jax.tree.map(jnp.copy, params), *zeros))

    jax.block_until_ready(many_steps(state(), count, pairs, targets))
    fresh = state()
    began = time.perf_counter()
    jax.block_until_ready(many_steps(fresh, count, pairs, targets))
    return replicas * count / (time.perf_counter() - began)


if __name__ == "__main__":
    print(jax.__version__, flush=True)
    for line in sys.stdin:
        dtype, replicas, count = line.split()
        print(rate(dtype, int(replicas), int(count)), flush=True)
