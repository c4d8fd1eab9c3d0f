"""Analytic weights of networks for modular arithmetic (Gromov 2023; Doshi et al. 2024, section 3)."""

from math import factorial

import numpy as np


def analytic_weights(
    p: int, width: int, terms: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """U (S, p, N) and W (p, N) of a network W (sum_s U_s[n_s])^S that adds S numbers modulo p.

    Neuron k has frequency 1 + k mod (p-1)/2 and a random phase for every term; the phase of its
    output vector is their sum. The amplitude makes the expected output of the label's class 1.
    """
    frequency = 1 + np.arange(width) % ((p - 1) // 2)
    phases = generator.uniform(0, 2 * np.pi, (terms, 1, width))
    amplitude = (2**terms / (width * factorial(terms))) ** (1 / (terms + 1))
    angle = 2 * np.pi / p * np.arange(p)[:, None] * frequency
    return amplitude * np.cos(angle + phases), amplitude * np.cos(angle + phases.sum(0))


def network(
    p: int, width: int, terms: int, product: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """U (S, p, N) and W (p, N) of the network that adds `terms` numbers modulo p, or multiplies two."""
    generator = np.random.default_rng(seed)
    if product:
        return analytic_product(p, width, generator)
    return analytic_weights(p, width, terms, generator)


def spectral_order(p: int, product: bool) -> np.ndarray:
    """The symbols in the order in which neurons are periodic: 0..p-1 for sums, and 1..p-1 by discrete
    logarithm for products."""
    return discrete_logarithm(p)[1:].argsort() + 1 if product else np.arange(p)


def analytic_product(
    p: int, width: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """U (2, p, N) and W (p, N) of a network that multiplies two numbers modulo a prime p.

    It adds discrete logarithms; one of the N = `width` neurons predicts 0 if an operand is 0.
    """
    logs = discrete_logarithm(p)
    u, w = analytic_weights(p - 1, width - 1, 2, generator)
    inputs, outputs = np.zeros((2, p, width)), np.zeros((p, width))
    inputs[:, 1:, 1:], outputs[1:, 1:] = u[:, logs[1:]], w[logs[1:]]
    inputs[:, 0, 0], outputs[0, 0] = 1, 2  # beats what the other operand's vector alone gives
    return inputs, outputs


def discrete_logarithm(p: int) -> np.ndarray:
    """log_g n (p,) for n = 1..p-1, with the smallest primitive root g of p; entry 0 is -1.

    Raises:
        ValueError: if p is not prime.
    """
    for g in range(1, p):
        powers = np.array([pow(g, k, p) for k in range(p - 1)])
        if len(set(powers.tolist())) == p - 1:
            logs = np.full(p, -1)
            logs[powers] = np.arange(p - 1)
            return logs
    raise ValueError(f"{p} has no primitive root: it is not prime")


def accuracy(
    inputs: np.ndarray, outputs: np.ndarray, symbols: np.ndarray, labels: np.ndarray
) -> float:
    """Fraction of rows of symbols (N, S) whose largest output is that of the label (N,)."""
    return float((outputs_of(inputs, outputs, symbols).argmax(1) == labels).mean())


def outputs_of(inputs: np.ndarray, outputs: np.ndarray, symbols: np.ndarray) -> np.ndarray:
    """W (sum_s U_s[n_s])^S, (N, p), for symbols (N, S)."""
    total = sum(table[column] for table, column in zip(inputs, symbols.T, strict=True))
    return total ** len(inputs) @ outputs.T
