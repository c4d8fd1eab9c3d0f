"""Two circuits that compete for the logits (Varma et al. 2023, section 3.3 and appendix)."""

from dataclasses import dataclass
from math import exp, log

import numpy as np


@dataclass(frozen=True)
class Circuits:
    """A generalizing and a memorizing circuit, each of strength w = w_1 w_2 with w_1 = 0 at the start.

    A circuit of strength w has parameter norm P w^(1 / kappa).
    """

    norm_gen: float = 1.0  # P of the generalizing circuit
    norm_mem: float = 2.0  # P of the memorizing circuit
    start_gen: float = 0.005  # w_2 at the start; a small one is learned slowly
    start_mem: float = 1.0
    decay: float = 0.005  # weight decay
    kappa: float = 1.2
    classes: int = 113

    def descend(self, steps: int, lr: float = 0.01) -> np.ndarray:
        """Strengths (steps + 1, 2), generalizing and memorizing, under gradient descent."""
        first, second = [0.0, 0.0], [self.start_gen, self.start_mem]
        norms, power = (self.norm_gen, self.norm_mem), 2 / self.kappa
        path = np.empty((steps + 1, 2))
        for step in range(steps + 1):
            strengths = [a * b for a, b in zip(first, second, strict=True)]
            path[step] = strengths
            z = sum(strengths)
            slope = -(self.classes - 1) / (exp(z) + self.classes - 1)
            for i, (w, norm) in enumerate(zip(strengths, norms, strict=True)):
                shrink = (
                    self.decay * norm**2 * power * abs(w) ** (power - 1) * (1 if w >= 0 else -1)
                )
                a, b = first[i], second[i]
                first[i], second[i] = a - lr * (slope + shrink) * b, b - lr * (slope + shrink) * a
        return path

    def losses(self, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Train and test loss (T,) along a path (T, 2) of strengths.

        The memorizing circuit contributes to the logits of train rows alone.
        """
        others = log(self.classes - 1)
        return np.logaddexp(0, others - path.sum(1)), np.logaddexp(0, others - path[:, 0])


def halved(losses: np.ndarray) -> float:
    """The first step at which losses (T,) are below half of the first; inf if they never are."""
    below = np.flatnonzero(losses < losses[0] / 2)
    return float(below[0]) if len(below) else float("inf")
