"""Local complexity against the analytic count, and its invariants (section 06.5 of the specification)."""

import pytest
import torch

from grok.measures.local_complexity import frame, local_complexity
from grok.models.image_mlp import ImageMLP
from grok.objectives.classification import ClassificationLoss, ClassificationMetrics
from grok.objectives.losses import cross_entropy
from grok.objectives.robustness import ImageLogits, RobustnessMetrics

D, P = 16, 9


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ImageMLP([D, 40, 30, 5], "relu", 2.0, normalized=False).double()


@pytest.fixture
def points():
    return torch.rand(25, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_directions_are_orthonormal_and_no_more_than_there_are_dimensions():
    v = frame(P, D, 3)
    assert torch.allclose(v @ v.T, torch.eye(P, dtype=torch.float64))
    with pytest.raises(ValueError, match="17 orthonormal directions in 16"):
        frame(17, 16, 0)


@pytest.mark.parametrize("radius", [0.01, 0.1, 1.0])
def test_at_the_first_layer_it_is_the_analytic_count(model, points, radius):
    v, first = frame(P, D, 3), model.linears[0]
    found = local_complexity(lambda x: [first(x)], points, v, radius)
    reach = radius * (first.weight @ v.T).abs().amax(1)  # of each neuron
    counted = (first(points).abs() < reach).sum(1).double().mean()
    assert found.item() == counted.item() > 0


def test_planes_through_a_point_are_all_counted_with_one_direction(model):
    torch.nn.init.zeros_(model.linears[0].bias)
    at = torch.zeros(1, D, dtype=torch.float64)
    assert local_complexity(lambda x: [model.linears[0](x)], at, frame(1, D, 0), 1e-3).item() == 40


def test_it_grows_with_the_radius_and_falls_away_from_the_origin(model, points):
    v = frame(P, D, 3)
    hidden = lambda x: model.layers(x)[:-1]  # noqa: E731
    grows = [local_complexity(hidden, points, v, r).item() for r in (0.001, 0.01, 0.1, 1.0)]
    assert grows == sorted(grows) and grows[0] < grows[-1] <= 70
    near, far = (local_complexity(hidden, k * (points - 0.5), v, 0.1).item() for k in (0.1, 30))
    assert far < near


def metrics(steps: int) -> RobustnessMetrics:
    labels = ClassificationMetrics(ClassificationLoss(ImageLogits(), kind="squared_error"))
    return RobustnessMetrics(labels, (0.1,), (0.01,), steps, 1000)


def data_of(points) -> dict:
    generator = torch.Generator().manual_seed(5)
    return {
        "test_images": points,
        "train_images": points,
        "test_labels": torch.randint(5, (len(points), 1), generator=generator),
        "start": 2 * torch.rand(points.shape, dtype=torch.float64, generator=generator) - 1,
    }


@pytest.mark.parametrize("size", [0.03, 0.5])
def test_an_attack_stays_in_its_ball_and_raises_the_loss(model, points, size):
    data, one = data_of(points), metrics(10)
    found = one.attacked(model, data, size)
    assert (found - points).abs().max() <= size + 1e-12
    assert found.min() >= 0 and found.max() <= 1
    loss = lambda x: cross_entropy(model(x), data["test_labels"][:, 0])  # noqa: E731
    assert loss(found) > loss(metrics(0).attacked(model, data, size))


def test_normalization_is_torch_s_on_a_batch():
    torch.manual_seed(0)
    ours = ImageMLP([D, 12, 3], "relu", 1.0, normalized=True)
    x = torch.rand(20, D)
    norm = torch.nn.BatchNorm1d(12)
    expected = ours.linears[1](torch.relu(norm(ours.linears[0](x))))
    assert torch.allclose(ours(x, x), expected, atol=1e-6)
