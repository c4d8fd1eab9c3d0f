"""Levi et al. 2023: the closed form against simulation, the numbers of section 3."""

import numpy as np
import pytest
import torch

from grok.theory import linear as theory

LAW = {  # delays at 95 %, eps 1e-3, lr 0.01, at the paper's level eps / 4
    0.3: (441, 561),
    0.5: (725, 1156),
    0.7: (1290, 3139),
    0.8: (1781, 6654),
    0.9: (2408, 22890),
    0.95: (2654, 75245),
}


@pytest.mark.parametrize("lam", LAW)
def test_times_by_the_marchenko_pastur_law(lam):
    for part, known in enumerate(LAW[lam]):
        found = theory.first_time(lambda t, i=part: theory.losses(t, lam, 0.01)[i], 1e-3 / 4)
        assert found == pytest.approx(known, rel=0.01)


def test_the_exact_level_is_an_error_function():
    level = theory.loss_at(0.95, 1e-3)
    assert level == pytest.approx(1e-3 / 3.8415, rel=1e-4)
    assert theory.accuracy(np.array([level]), 1e-3)[0] == pytest.approx(0.95)
    loss = 3e-4
    erf = torch.special.erf(torch.tensor((1e-3 / (2 * loss)) ** 0.5, dtype=torch.float64))
    assert theory.accuracy(np.array([loss]), 1e-3)[0] == pytest.approx(float(erf))


@pytest.mark.parametrize(
    ("decay", "time"),
    [(0, 22634), (1e-5, 22650), (1e-4, 22805), (1e-3, 27072), (3e-3, np.inf), (1e-2, np.inf)],
)
def test_weight_decay_lengthens_then_forbids(decay, time):
    assert theory.times(0.9, 0.01, 1e-3, decay)[1] == pytest.approx(time, rel=1e-4)


def test_the_delay_has_a_maximum_in_the_number_of_outputs():
    delays = {
        d: theory.delay(theory.times(0.9, 0.01, 1e-3, d_out=d)) for d in (1, 10, 30, 100, 500)
    }
    assert max(delays, key=delays.get) == 30
    assert delays[30] == pytest.approx(71_744, rel=1e-4)
    assert delays[500] == pytest.approx(10_380, rel=1e-4)


def test_the_law_sums_to_one_and_has_its_moments():
    for lam in (0.3, 0.9, 2.0):
        nu, weight = theory.spectrum(lam)
        assert weight.sum() == pytest.approx(min(1, 1 / lam))
        assert weight @ nu == pytest.approx(1)  # E tr C / d
        assert weight @ nu**2 == pytest.approx(1 + lam)


def test_nothing_generalizes_above_one():
    _, loss = theory.losses(np.array([1e8]), 2.0, 0.01)
    assert loss[0] == pytest.approx(0.5)


def test_late_losses_are_those_of_the_published_limit():
    """For lam < 1 and one output, after many steps (Levi et al. 2023, eq. 11)."""
    t, lam, lr = 3e5, 0.9, 0.01
    edge = (1 - lam**0.5) ** 2
    late = np.exp(-4 * lr * edge * t) / (16 * np.pi**0.5 * lam**0.75 * (lr * t) ** 1.5)
    train, generalization = theory.losses(np.array([t]), lam, lr)
    assert train == pytest.approx(late, rel=0.15)
    assert generalization == pytest.approx(late / edge, rel=0.15)


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_the_recursion_is_gradient_descent(decay):
    """On inputs, not eigenvectors, by autograd; two outputs."""
    d, n, d_out, lr = 12, 15, 2, 0.05
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    teacher = torch.randn(d, d_out, generator=generator, dtype=torch.float64)
    student = torch.randn(d, d_out, generator=generator, dtype=torch.float64).requires_grad_()
    values, vectors = torch.linalg.eigh(x.T @ x / n)
    gap = (vectors.T @ (student - teacher)).detach().numpy()
    known = theory.descent(
        np.arange(200), values.numpy(), gap, (vectors.T @ teacher).numpy(), lr, decay
    )
    optimizer = torch.optim.SGD([student], lr=lr, weight_decay=decay / d_out)
    for step in range(200):
        loss = ((x @ student - x @ teacher) ** 2).mean()
        assert loss.item() == pytest.approx(known[0][step], rel=1e-9)
        apart = float(((student - teacher) ** 2).sum()) / d_out
        assert apart == pytest.approx(known[1][step], rel=1e-9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
