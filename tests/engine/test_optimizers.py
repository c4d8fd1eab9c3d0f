"""Optimizers against their formulas and torch.optim, without the engine around them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch._dynamo  # torch.optim imports it late; each process of `make mutants` would

from grok.engine import optimizers
from grok.engine.spec import Group, Optimizer, Stop
from grok.randomness import key_of, normal

STEPS = 5
GROUP = Group(lr=0.1, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-3, momentum=0.7)


def tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "first": torch.randn(4, 3, dtype=torch.float64, generator=generator),
        "second": torch.randn(2, dtype=torch.float64, generator=generator),
    }


GRADIENTS = [tensors(seed) for seed in range(1, STEPS + 1)]


def scalars_of(optimizer: Optimizer, t: int) -> torch.Tensor:
    numbers = optimizers.hyperparameters(optimizer)
    return torch.from_numpy(optimizers.step_scalars(numbers, np.array(t)))


def trained(optimizer: Optimizer, **options) -> dict[str, torch.Tensor]:
    """The parameters after STEPS steps with GRADIENTS."""
    params = tensors(0)
    state = optimizers.initial_state(optimizer, params)
    for t, grads in enumerate(GRADIENTS, start=1):
        scalars = scalars_of(optimizer, t)
        params, state = optimizers.update(optimizer, params, grads, state, scalars, **options)
    return params


def trained_by_torch(kind: type[torch.optim.Optimizer], **options) -> dict[str, torch.Tensor]:
    params = {name: torch.nn.Parameter(value) for name, value in tensors(0).items()}
    optimizer = kind(params.values(), lr=GROUP.lr, weight_decay=GROUP.weight_decay, **options)
    for grads in GRADIENTS:
        for name, param in params.items():
            param.grad = grads[name].clone()
        optimizer.step()
    return {name: param.detach() for name, param in params.items()}


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "theirs", "options"),
    [
        ("adamw", torch.optim.AdamW, {"betas": GROUP.betas, "eps": GROUP.eps}),
        ("adam", torch.optim.Adam, {"betas": GROUP.betas, "eps": GROUP.eps}),
        ("sgd", torch.optim.SGD, {"momentum": GROUP.momentum}),
    ],
)
def test_steps_equal_torch(kind, theirs, options):
    assert_equal(trained(Optimizer(kind, (GROUP,))), trained_by_torch(theirs, **options))


def test_sgd_decays_towards_the_initial_weights():
    """v <- mu v + g + lambda (w - w_0), w <- w - lr v."""
    start = tensors(0)
    expected = {name: value.clone() for name, value in start.items()}
    velocity = {name: torch.zeros_like(value) for name, value in start.items()}
    for grads in GRADIENTS:
        for name, value in expected.items():
            pull = GROUP.weight_decay * (value - start[name])
            velocity[name] = GROUP.momentum * velocity[name] + grads[name] + pull
            expected[name] = value - GROUP.lr * velocity[name]
    optimizer = Optimizer("sgd", (GROUP,), decay_to="init")
    assert_equal(trained(optimizer, decay_target=start), expected)


def test_adamw_decays_towards_the_initial_weights_apart_from_the_gradient():
    """w <- w - lr lambda (w - w_0) before AdamW's step without decay."""
    start = tensors(0)
    plain = Optimizer("adamw", (replace(GROUP, weight_decay=0.0),))
    params, state = tensors(0), optimizers.initial_state(plain, start)
    for t, grads in enumerate(GRADIENTS, start=1):
        params = {
            name: value - GROUP.lr * GROUP.weight_decay * (value - start[name])
            for name, value in params.items()
        }
        params, state = optimizers.update(plain, params, grads, state, scalars_of(plain, t))
    assert_equal(trained(Optimizer("adamw", (GROUP,), decay_to="init"), decay_target=start), params)


@pytest.mark.parametrize("kind", ["adamw", "adam", "sgd"])
def test_each_parameter_has_the_settings_of_its_group(kind):
    slow = replace(GROUP, prefix="second", lr=0.01, weight_decay=0.0, betas=(0.5, 0.6))
    both = trained(Optimizer(kind, (slow, GROUP)))
    assert torch.equal(both["first"], trained(Optimizer(kind, (GROUP,)))["first"])
    assert torch.equal(both["second"], trained(Optimizer(kind, (slow, GROUP)))["second"])
    alone = trained(Optimizer(kind, (replace(slow, prefix=""),)))
    assert torch.equal(both["second"], alone["second"])


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_update_noise_moves_by_lr_times_std_times_its_own_numbers(kind):
    optimizer = Optimizer(kind, (GROUP,), update_noise=0.2)
    params, grads, scalars = tensors(0), GRADIENTS[0], scalars_of(optimizer, 1)
    state, key = optimizers.initial_state(optimizer, params), torch.tensor(17)
    keys = {"update_noise": key}
    noisy, _ = optimizers.update(optimizer, params, grads, state, scalars, keys=keys)
    plain = replace(optimizer, update_noise=0.0)
    exact, _ = optimizers.update(plain, params, grads, state, scalars)
    for index, (name, value) in enumerate(exact.items()):
        noise = normal(key + index, value.shape, value.dtype)
        expected = value - GROUP.lr * 0.2 * noise  # of the precision of the weights
        torch.testing.assert_close(noisy[name], expected, rtol=1e-12, atol=1e-12)


def noise_of_update(kind: str, seed: int, step: int) -> dict[str, torch.Tensor]:
    """What `update_noise` adds to a step of these weights, divided by lr and the noise's scale."""
    optimizer, params = Optimizer(kind, (GROUP,), update_noise=0.2), large_tensors()
    scalars, state = scalars_of(optimizer, step), optimizers.initial_state(optimizer, params)
    keys = {"update_noise": key_of(torch.tensor(seed), torch.tensor(step), 1)}
    noisy, _ = optimizers.update(optimizer, params, params, state, scalars, keys=keys)
    plain = replace(optimizer, update_noise=0.0)
    exact, _ = optimizers.update(plain, params, params, state, scalars)
    return {name: (exact[name] - noisy[name]) / (GROUP.lr * 0.2) for name in params}


def noise_of_weights(seed: int, step: int) -> dict[str, torch.Tensor]:
    """What `weight_noise` adds to the weights where the gradient is taken, divided by its scale."""
    params = large_tensors()
    keys = {"weight_noise": key_of(torch.tensor(seed), torch.tensor(step), 2)}
    seen = optimizers.gradient(Optimizer(weight_noise=0.3), lambda p: p, params, keys)
    return {name: (seen[name] - value) / 0.3 for name, value in params.items()}


def large_tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = {"first": (100, 300), "second": (300, 100)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_noise_is_standard_normal_and_independent(kind):
    """Of mean 0 and standard deviation 1 where it is scaled by lr and by its own scale; no two of
    parameters, steps, seeds and purposes share their numbers, and the same ones repeat."""
    drawn = [
        noise.flatten()
        for seed in (1, 2)
        for step in (1, 2)
        for noises in (noise_of_update(kind, seed, step), noise_of_weights(seed, step))
        for noise in noises.values()
    ]
    table = torch.stack(drawn)
    few = 5 / table.shape[1] ** 0.5  # standard errors
    assert table.mean(1).abs().max() < few and (table.std(1) - 1).abs().max() < few
    assert (table**4).mean() == pytest.approx(3, abs=0.1)
    correlations = torch.corrcoef(table) - torch.eye(len(table))
    assert correlations.abs().max() < few
    again = noise_of_update(kind, 1, 1)["first"].flatten()
    assert torch.equal(again, drawn[0])


def test_an_update_without_noise_needs_no_key_of_it():
    """Keys of other noises, which a run may have, change nothing."""
    optimizer, params = Optimizer("adamw", (GROUP,), weight_noise=0.1), tensors(0)
    state, scalars = optimizers.initial_state(optimizer, params), scalars_of(optimizer, 1)
    keys = {"weight_noise": torch.tensor(3)}
    new, _ = optimizers.update(optimizer, params, GRADIENTS[0], state, scalars, keys=keys)
    plain, _ = optimizers.update(optimizer, params, GRADIENTS[0], state, scalars)
    assert all(torch.equal(new[name], value) for name, value in plain.items())


def test_weight_noise_is_added_where_the_gradient_is_taken():
    optimizer, params = Optimizer(weight_noise=0.3), tensors(0)
    key = torch.tensor(5)
    seen = optimizers.gradient(optimizer, lambda p: p, params, {"weight_noise": key})
    for index, (name, value) in enumerate(params.items()):
        noise = normal(key + index, value.shape, value.dtype)
        torch.testing.assert_close(seen[name], value + 0.3 * noise, rtol=1e-12, atol=1e-12)


def test_sam_takes_the_gradient_at_the_distance_rho_along_the_gradient():
    def gradient_at(params):  # of sum w^4 / 4
        return {name: value**3 for name, value in params.items()}

    params, rho = tensors(0), 0.2
    norm = math.sqrt(sum((value**6).sum().item() for value in params.values()))
    found = optimizers.gradient(Optimizer(sam_rho=rho), gradient_at, params, {})
    for name, value in params.items():
        torch.testing.assert_close(found[name], (value + rho * value**3 / norm) ** 3)
    plain = optimizers.gradient(Optimizer(), gradient_at, params, {})
    assert all(torch.equal(plain[name], value**3) for name, value in params.items())


def test_sam_adds_1e_12_to_the_norm_as_the_published_code_does():
    """It keeps a gradient of zero finite, and halves the radius at a gradient of norm 1e-12."""
    optimizer, params = Optimizer(sam_rho=0.2), {"w": torch.tensor([5.0], dtype=torch.float64)}
    for slope, moved in ((1e-12, 0.1), (0.0, 0.0)):
        seen = []

        def gradient_at(at, slope=slope, seen=seen):
            seen.append(at["w"].item())
            return {"w": torch.full_like(at["w"], slope)}

        found = optimizers.gradient(optimizer, gradient_at, params, {})
        assert seen == [5, pytest.approx(5 + moved, abs=1e-9)] and found["w"] == slope


@pytest.mark.parametrize("clip", [0.5, 100.0])
def test_the_clipped_gradient_of_all_parameters_together_has_at_most_the_norm(clip):
    group = Group(lr=1.0)
    optimizer = Optimizer("sgd", (group,), clip_norm=clip)
    params, grads = tensors(0), GRADIENTS[0]
    norm = math.sqrt(sum((g**2).sum().item() for g in grads.values()))
    state = optimizers.initial_state(optimizer, params)
    new, _ = optimizers.update(optimizer, params, grads, state, scalars_of(optimizer, 1))
    for name, value in params.items():
        torch.testing.assert_close(value - new[name], grads[name] * min(1.0, clip / norm))


def test_a_short_gradient_is_clipped_to_a_shorter_norm():
    """The norm of the gradient is below 1, as late in training: it still is scaled to the norm."""
    optimizer = Optimizer("sgd", (Group(lr=1.0),), clip_norm=1e-5)
    params = {"w": torch.zeros(2, dtype=torch.float64)}
    grads = {"w": torch.tensor([3e-4, -4e-4], dtype=torch.float64)}
    state = optimizers.initial_state(optimizer, params)
    new, _ = optimizers.update(optimizer, params, grads, state, scalars_of(optimizer, 1))
    assert new["w"].tolist() == pytest.approx([-6e-6, 8e-6], rel=1e-12)


def test_clipping_keeps_the_precision_of_a_single_number():
    """The norm is float64, and a float32 parameter without a shape must not become float64."""
    optimizer = Optimizer("sgd", (Group(lr=1.0),), clip_norm=1.0)
    params, grads = {"scale": torch.tensor(2.0)}, {"scale": torch.tensor(4.0)}
    state = optimizers.initial_state(optimizer, params)
    scalars = scalars_of(optimizer, 1).float()
    new, velocities = optimizers.update(optimizer, params, grads, state, scalars)
    assert new["scale"] == 1 and new["scale"].dtype == torch.float32
    assert velocities["velocity"]["scale"].dtype == torch.float32


def test_a_clipped_gradient_of_zero_is_zero():
    """No division by the norm 0."""
    optimizer = Optimizer("sgd", (Group(lr=1.0),), clip_norm=1.0)
    params = tensors(0)
    zeros = optimizers.initial_state(optimizer, params)["velocity"]
    state = optimizers.initial_state(optimizer, params)
    new, _ = optimizers.update(optimizer, params, zeros, state, scalars_of(optimizer, 1))
    assert all(torch.equal(new[name], value) for name, value in params.items())


def test_orthogonal_gradients_are_used():
    optimizer = Optimizer("sgd", (Group(lr=1.0),), orthogonal=True)
    params, grads = tensors(0), GRADIENTS[0]
    state = optimizers.initial_state(optimizer, params)
    new, _ = optimizers.update(optimizer, params, grads, state, scalars_of(optimizer, 1))
    for name, value in params.items():
        moved = value - new[name]
        assert (moved * value).sum().abs() < 1e-12
        assert moved.norm().item() == pytest.approx(grads[name].norm().item(), rel=1e-12)


def test_an_orthogonal_gradient_of_zero_or_at_zero_weights_is_finite():
    """Zero weights have no direction to leave out; a radial gradient has nothing else."""
    grad, zeros = torch.tensor([3.0, 4.0]), torch.zeros(2)
    assert torch.equal(optimizers.without_radial_part(grad, zeros), grad)
    assert torch.equal(optimizers.without_radial_part(zeros, grad), zeros)
    weights = torch.tensor([1.0, 0.0])
    radial = optimizers.without_radial_part(2 * weights, weights)
    assert torch.equal(radial, zeros)
    rest = optimizers.without_radial_part(grad, weights)
    assert rest.tolist() == pytest.approx([0, 5])  # the norm 5 stays


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_large_gradient_of_one_number_is_wholly_radial(dtype):
    """Nothing is left of it, exactly 0. Its norm by the least number is infinite, and made the bias
    of a network with one output NaN (omnigrok with dataset=qm9)."""
    grad, weights = torch.tensor([10.0], dtype=dtype), torch.tensor([3.0], dtype=dtype)
    assert optimizers.without_radial_part(grad, weights).tolist() == [0]


def test_step_scalars_are_those_of_adam_at_step_t():
    optimizer = Optimizer(groups=(GROUP, replace(GROUP, lr=0.2)), warmup_steps=4)
    numbers = optimizers.hyperparameters(optimizer)
    rows = torch.from_numpy(optimizers.step_scalars(numbers, np.array([[3], [9]])))
    assert rows.shape == (2, 2, len(optimizers.StepScalars._fields))
    for t, rates, row in ((3, (0.05, 0.1), rows[0]), (9, (0.1, 0.2), rows[1])):
        assert optimizers.step_number(row) == t
        for lr, scalars in zip(rates, optimizers.by_group(row), strict=True):
            assert scalars._asdict() == pytest.approx(
                {
                    "lr": lr,
                    "step_size": lr * math.sqrt(1 - 0.95**t) / (1 - 0.8**t),
                    "lr_times_decay": lr * 0.3,
                    "weight_decay": 0.3,
                    "one_minus_beta1": 0.2,
                    "beta2": 0.95,
                    "one_minus_beta2": 0.05,
                    "eps": 1e-3 * math.sqrt(1 - 0.95**t),
                    "momentum": 0.7,
                    "t": t,
                }
            )


def rates(t: list[int], **schedule) -> list[float]:
    optimizer = Optimizer(groups=(Group(lr=2.0),), **schedule)
    numbers = optimizers.hyperparameters(optimizer)
    return optimizers.learning_rate(numbers, np.array(t)).tolist()


def test_learning_rates():
    assert rates([1, 2, 1000]) == [2.0, 2.0, 2.0]
    assert rates([1, 2, 3, 5, 6, 100], warmup_steps=4) == [0.0, 0.5, 1.0, 2.0, 2.0, 2.0]
    assert rates([1, 2], warmup_steps=1) == [0.0, 2.0]
    annealed = rates([1, 3, 5, 9, 50], anneal_steps=4, lr_floor=0.2)
    quarter = 2 * (0.2 + 0.8 * 0.5)
    assert annealed == pytest.approx([2.0, quarter, 0.4, 0.4, 0.4])
    assert rates([1, 2], anneal_steps=1, lr_floor=0.0) == pytest.approx([2.0, 0.0])
    both = rates([2, 3], warmup_steps=2, anneal_steps=4, lr_floor=0.0)
    first = 2 * 0.5 * (1 + math.cos(math.pi / 4)) / 2
    assert both == pytest.approx([first, 1.0])


def test_the_number_of_the_step_is_there_for_one_group_too():
    """The noise of a step is drawn from it, whatever the number of groups."""
    assert optimizers.step_number(scalars_of(Optimizer(groups=(GROUP,)), 12)) == 12


def test_numbers_given_as_whole_numbers_are_computed_in_float64():
    """A command line gives `lr=1` as an int; powers and rates of ints would be whole."""
    group = Group(lr=1, weight_decay=1, betas=(0, 0), eps=1, momentum=0)
    numbers = optimizers.hyperparameters(Optimizer(groups=(group,), lr_floor=0))
    assert {values.dtype for values in numbers} == {np.dtype(np.float64)}
    assert [values.tolist() for values in numbers] == [[n] for n in (1, 1, 0, 0, 1, 0, 0, 0, 0)]


def test_norm_is_taken_over_all_parameters_in_float64():
    params = {"a": torch.full((2, 2), 1e30), "b": torch.full((1,), 3e30)}
    norm = optimizers.norm_of(params)
    assert norm.dtype == torch.float64
    assert norm.item() == pytest.approx(math.sqrt(13) * 1e30, rel=1e-6)


def test_a_parameter_without_a_group_is_refused():
    optimizer = Optimizer(groups=(Group("decoder."),))
    assert optimizer.group_of("decoder.weight") == 0
    with pytest.raises(ValueError, match="no optimizer group matches the parameter 'table'"):
        optimizer.group_of("table")


def test_the_noises_that_are_on_are_named():
    assert Optimizer().noises() == []
    assert Optimizer(weight_noise=0.1).noises() == ["weight_noise"]
    assert Optimizer(weight_noise=0.1, update_noise=1.0).noises() == [
        "weight_noise",
        "update_noise",
    ]


def test_early_stopping_needs_every_metric_at_its_threshold():
    stop = Stop((("train_accuracy", 0.9), ("test_accuracy", 0.5)))
    assert stop.reached({"train_accuracy": 0.9, "test_accuracy": 0.5})
    assert not stop.reached({"train_accuracy": 0.9, "test_accuracy": 0.49})
    assert not stop.reached({"train_accuracy": 0.89, "test_accuracy": 1.0})


# -- Lion and Muon: numbers computed from their published rules, outside this project -----------------

G1 = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype=torch.float64)
G2 = torch.tensor([[1.0, 0.0, 0.0], [0.0, -1.0, 2.0]], dtype=torch.float64)
NS_OF_G1 = [[-0.568290, 0.057742, 0.683774], [0.563355, 0.405613, 0.247871]]


def one_step(optimizer: Optimizer, value, grad, state):
    """New weights and accumulators of a single matrix w."""
    named = {key: {"w": accumulator} for key, accumulator in state.items()}
    params, new = optimizers.update(
        optimizer, {"w": value}, {"w": grad}, named, scalars_of(optimizer, 1)
    )
    return params["w"], {key: tensors["w"] for key, tensors in new.items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_newton_schulz_has_the_reference_numbers_and_transposes_with_its_argument(dtype):
    """Its singular values are about 1, not 1: the exact polar factor is another matrix."""
    found = optimizers.orthogonalized(G1.to(dtype))
    torch.testing.assert_close(found.double(), torch.tensor(NS_OF_G1).double(), atol=1e-5, rtol=0)
    torch.testing.assert_close(optimizers.orthogonalized(G1.to(dtype).mT), found.mT)
    expected = torch.tensor([0.920396, 0.700027], dtype=dtype)
    torch.testing.assert_close(torch.linalg.svdvals(found), expected, atol=1e-5, rtol=0)


def test_singular_values_end_near_one():
    """s <- a s + b s^3 + c s^5, five times, from 0.01 to 1 (at 0.001 it ends at 0.47)."""
    values = torch.tensor([1.0, 0.5, 0.1, 0.02, 0.01], dtype=torch.float64)
    found = optimizers.orthogonalized(torch.diag(values)).diagonal()
    expected = values / (values.norm() + 1e-7)
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    torch.testing.assert_close(found, expected)
    assert found[:4].min() >= 0.68 and found.max() <= 1.13


def test_two_steps_of_muon_have_the_reference_numbers():
    group = Group(lr=0.02, weight_decay=0.1, momentum=0.95, muon=True)
    optimizer, zero = Optimizer("muon", (group,)), torch.zeros_like(G1)
    value, state = one_step(optimizer, torch.ones_like(G1), G1, {"mean": zero, "square": zero})
    expected = [[1.009366, 0.996845, 0.984325], [0.986733, 0.989888, 0.993043]]
    torch.testing.assert_close(value, torch.tensor(expected).double(), atol=2e-6, rtol=0)
    torch.testing.assert_close(state["mean"], 0.05 * G1)
    after, state = one_step(optimizer, value, G2, state)
    mean = [[0.0975, 0.095, 0.1425], [0.19, 0.1875, 0.385]]
    torch.testing.assert_close(state["mean"], torch.tensor(mean).double())
    direction = [[0.827173, 0.475404, -0.231265], [-0.017341, 0.025629, 0.758371]]
    expected = value * (1 - 0.002) - 0.02 * torch.tensor(direction).double()
    torch.testing.assert_close(after, expected, atol=1e-7, rtol=0)


def test_muon_s_step_of_a_tall_matrix_is_longer_and_others_are_adamw_s():
    """The factor is the root of rows / columns, sqrt(1.5) for 3 x 2; vectors are updated by AdamW."""
    group = Group(lr=0.02, momentum=0.0, muon=True)
    optimizer, zero = Optimizer("muon", (group,)), torch.zeros_like(G1.mT)
    value, _ = one_step(optimizer, zero, G1.mT, {"mean": zero, "square": zero})
    expected = -0.02 * 1.224745 * torch.tensor(NS_OF_G1).double().mT
    torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)
    both = trained(Optimizer("muon", (replace(GROUP, prefix="first", muon=True), GROUP)))
    adamw = trained(Optimizer("adamw", (GROUP,)))
    assert torch.equal(both["second"], adamw["second"])
    assert not torch.allclose(both["first"], adamw["first"])


def test_stacked_matrices_are_orthogonalized_one_by_one():
    """Keys and values are one parameter, and two matrices to Muon: as one, the larger would make the
    step of the other shorter, and the step of a square one would be longer by the root of two."""
    group = Group(lr=0.02, momentum=0.0, muon=True)
    G3 = 100 * G2
    apart = [
        one_step(Optimizer("muon", (group,)), 0 * G, G, {"mean": 0 * G, "square": 0 * G})[0]
        for G in (G1, G3)
    ]
    both, zero = torch.cat([G1, G3]), torch.cat([0 * G1, 0 * G3])
    optimizer = Optimizer("muon", (replace(group, stacked=2),))
    value, _ = one_step(optimizer, zero, both, {"mean": zero, "square": zero})
    assert torch.equal(value, torch.cat(apart))


def test_two_steps_of_lion_have_the_reference_numbers():
    group = Group(lr=0.01, weight_decay=0.1, betas=(0.9, 0.99))
    optimizer, start = Optimizer("lion", (group,)), torch.ones_like(G1)
    value, state = one_step(optimizer, start, G1, {"mean": torch.zeros_like(G1)})
    torch.testing.assert_close(value, start * 0.999 - 0.01)
    torch.testing.assert_close(state["mean"], 0.01 * G1)
    grad = torch.tensor([[-0.05, -0.5, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    after, state = one_step(optimizer, value, grad, state)
    signs = torch.tensor([[1.0, -1.0, 1.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(after, value * 0.999 - 0.01 * signs)
    torch.testing.assert_close(state["mean"], 0.99 * 0.01 * G1 + 0.01 * grad)


@pytest.mark.parametrize("kind", ["lion", "muon"])
def test_they_decay_towards_the_initial_weights_like_adamw(kind):
    """Without a gradient only the decay moves the weights: w <- w - lr lambda (w - w_0)."""
    group = replace(GROUP, muon=True)
    optimizer, start = Optimizer(kind, (group,), decay_to="init"), tensors(0)
    params = {name: value + 1 for name, value in start.items()}
    state = optimizers.initial_state(optimizer, params)
    grads = {name: torch.zeros_like(value) for name, value in params.items()}
    scalars = scalars_of(optimizer, 1)
    found, _ = optimizers.update(optimizer, params, grads, state, scalars, start)
    for name, value in found.items():
        torch.testing.assert_close(value, params[name] - GROUP.lr * GROUP.weight_decay)
