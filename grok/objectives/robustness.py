"""What a run of Humayun et al. 2024 looks at: accuracy under attack, and local complexity."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.func import grad

from grok.engine.problem import Problem
from grok.measures.local_complexity import frame, local_complexity
from grok.objectives.classification import ClassificationMetrics
from grok.objectives.losses import accuracy, cross_entropy
from grok.tensors import Tensors


@dataclass(frozen=True)
class ImageLogits:
    """Logits (N, 1, C) of an ImageMLP; its normalization measures the batch, in evaluation the train set."""

    draws = False
    batched = ("train_images", "train_labels")

    def __call__(self, model: nn.Module, data: Tensors, split: str, training: bool) -> Tensor:
        images = data[f"{split}_images"]
        return model(images, images if training else data["train_images"]).unsqueeze(1)


@dataclass(frozen=True)
class RobustnessMetrics:
    """Loss and accuracies; test accuracy under attacks of each size in `sizes`; mean local complexity
    around train, test and random points, the first `points` of each, at each radius in `radii`.

    Data: start (M, D), where in its ball each test image's attack begins; directions (P, D);
    random_images (N, D).
    """

    classification: ClassificationMetrics
    sizes: tuple[float, ...]
    radii: tuple[float, ...]
    attack_steps: int
    points: int

    def __call__(self, model: nn.Module, data: Tensors) -> dict[str, Tensor]:
        result = self.classification(model, data)
        for size in self.sizes:
            attacked = self.attacked(model, data, size)
            predictions = model(attacked, data["train_images"]).argmax(-1)
            result[adversarial(size)] = accuracy(predictions, data["test_labels"][:, 0])

        def layers(x: Tensor) -> list[Tensor]:
            return model.layers(x, data["train_images"])[:-1]

        for split in ("train", "test", "random"):
            for radius in self.radii:
                result[complexity(split, radius)] = local_complexity(
                    layers, data[f"{split}_images"][: self.points], data["directions"], radius
                )
        return result

    def attacked(self, model: nn.Module, data: Tensors, size: float) -> Tensor:
        """Test images (M, D) after projected gradient ascent of the cross-entropy, whatever the network was
        trained with, in the cube of half-width `size` around each, and in [0, 1] (Madry et al. 2018)."""
        images, labels = data["test_images"], data["test_labels"]

        def loss(x: Tensor) -> Tensor:
            return cross_entropy(model(x, data["train_images"]), labels[:, 0])

        low, high = (images - size).clamp(min=0), (images + size).clamp(max=1)
        x = torch.minimum(torch.maximum(images + size * data["start"], low), high)
        for _ in range(self.attack_steps):
            x = x + size / 4 * grad(loss)(x).sign()
            x = torch.minimum(torch.maximum(x, low), high)
        return x


def adversarial(size: float) -> str:
    """The metric of accuracy under attacks of this size, in hundredths."""
    return f"adversarial_accuracy_{round(100 * size):02d}"


def complexity(split: str, radius: float) -> str:
    """The metric of local complexity at this radius, in thousandths."""
    return f"complexity_{split}_{round(1000 * radius):03d}"


def probes(
    images: Tensor, directions: int, seed: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """What RobustnessMetrics reads beside test images (M, D): start, random_images, directions."""
    count, size = images.shape
    return {
        "start": 2 * torch.rand(count, size, generator=generator, dtype=images.dtype) - 1,
        "random_images": torch.rand(1000, size, generator=generator, dtype=images.dtype),
        "directions": frame(directions, size, seed).to(images.dtype),
    }


def with_robustness(problem: Problem, sizes, radii, attack_steps: int, points: int) -> Problem:
    """The problem, looked at for robustness and local complexity."""
    metrics = RobustnessMetrics(problem.metrics, tuple(sizes), tuple(radii), attack_steps, points)
    return replace(problem, metrics=metrics)
