"""Laws of the delay: each recovers the runs that it describes, and says what it should of others."""

from math import exp, inf

import numpy as np
import pytest

from grok.theory import delays
from grok.theory.delays import Trial

STEPS = np.arange(0, 30_001, 50.0)


def free(delay, lr=0.01, weight_decay=1.0, norms=(4.0, 2.0), memorized=100.0):
    """A free run whose norm is the first number up to memorization and the second one later."""
    values = np.where(memorized >= STEPS, *norms)
    end = memorized + delay
    return Trial("free", lr, weight_decay, memorized, end, steps=STEPS, norms=values)


def held(ratio, steps, lr=0.01, temperature=1.0):
    norms = np.full_like(STEPS, ratio)
    products = norms**3 / temperature
    return Trial("", lr, 1.0, 100.0, steps, ratio, temperature, STEPS, norms, products)


def test_the_inverse_law_has_one_constant():
    predict = delays.inverse_decay([free(1000), free(500, weight_decay=2.0)])
    assert predict(free(0, lr=0.02, weight_decay=0.25)) == pytest.approx(100 + 2000)


def test_first_passage_recovers_its_constants_and_can_be_negative():
    """D = ln(V_m / V*) / (2 kappa eta lambda), V the squared norm."""
    kappa = 0.25
    delay = 2 * np.log(2) / (2 * kappa * 0.01)
    predict = delays.first_passage([free(delay)])
    assert predict(free(0, norms=(8.0, 2.0))) == pytest.approx(100 + 2 * delay)
    assert predict(free(0, norms=(1.0, 2.0))) < 100  # the norm is below V* at memorization


def test_first_passage_can_count_from_the_largest_norm_after_memorization():
    """A norm that rises to 4 after memorization has as far to fall as one that was 4 there."""
    delay = 2 * np.log(2) / (2 * 0.25 * 0.01)
    norms = np.interp(STEPS, [0, 100, 150, 100 + delay], [1.0, 1.0, 4.0, 2.0])
    rising = Trial("free", 0.01, 1.0, 100.0, 100 + delay, steps=STEPS, norms=norms)
    predict = delays.first_passage([free(delay)], from_peak=True)
    assert predict(rising) == pytest.approx(100 + delay)
    assert delays.first_passage([free(delay)])(rising) < 100


def test_a_power_above_a_threshold_is_found_and_infinite_below_it():
    decays = (0.25, 0.5, 1.0, 2.0, 4.0)
    runs = [free(90 * (d - 0.1) ** -0.75 - 100, weight_decay=d) for d in decays]
    c, nu, threshold = delays.threshold_power_fit(runs)
    assert (c, nu, threshold) == pytest.approx((90, 0.75, 0.1), rel=1e-6)
    assert delays.threshold_power(runs)(free(1, weight_decay=0.05)) == inf


def test_two_powers_are_recovered():
    runs = [
        free(3 * d**-0.9 * lr**-0.7, lr, d)
        for d, lr in ((0.5, 0.01), (1, 0.01), (2, 0.02), (1, 0.04))
    ]
    (_, *powers), r2 = delays.two_powers_fit(runs)
    assert powers == pytest.approx([-0.9, -0.7])
    assert r2 == pytest.approx(1)


@pytest.mark.parametrize(
    ("law", "variable"),
    [
        (delays.held_norm, lambda ratio, temperature: ratio),
        (delays.logit_scale, lambda ratio, temperature: ratio**3 / temperature),
    ],
)
def test_exponential_laws_differ_in_their_variable_alone(law, variable):
    def run(ratio, temperature=1.0, lr=0.01):
        steps = 5 * exp(2 * variable(ratio, temperature)) * lr**-0.5
        return held(ratio, steps, lr, temperature)

    predict = law([run(0.9), run(1.0), run(1.2), run(1.0, lr=0.02)])
    other = run(1.1, 1.5, 0.005)
    assert predict(other) == pytest.approx(other.generalized)


def test_a_clock_counts_at_the_rate_of_the_held_runs():
    """T_held is 1000 at 1 and 4000 at 2. A free run at 2 for 100 steps and at 1 from then on has
    counted 1 when 100 / 4000 + (T - 100) / 1000 = 1, and the trapezoid of one interval between."""
    runs = [held(1.0, 1000.0), held(2.0, 4000.0)]
    start = free(0, norms=(2.0, 1.0))
    interval = 50 * (1 / 4000 + 1 / 1000) / 2
    end = 150 + 1000 * (1 - 100 / 4000 - interval)
    found = delays.norm_clock([*runs, free(end - 100, norms=(2.0, 1.0))])(start)
    assert found == pytest.approx(end)
    slower = delays.norm_clock([*runs, free(end - 100, norms=(2.0, 1.0))])(held(2.0, 0.0))
    assert slower == pytest.approx(4000)


def test_a_clock_goes_on_after_the_end_of_a_run_and_beyond_the_held_norms():
    runs = [held(1.0, 1000.0), held(2.0, 4000.0), free(900, norms=(1.0, 1.0))]
    predict = delays.norm_clock(runs)
    assert predict(held(3.0, 0.0)) == pytest.approx(16_000)
    short = Trial("", 0.01, 1.0, 100, 0, None, 1.0, STEPS[:3], np.full(3, 3.0))
    assert predict(short) == pytest.approx(16_000)
    assert predict(held(0.5, 0.0)) == pytest.approx(1000)  # a constant below


def test_the_clock_s_learning_rate_is_a_power_between_the_held_norms():
    runs = [
        *(held(ratio, 1000.0 * ratio**2) for ratio in (1.0, 2.0)),
        held(1.0, 500.0, lr=0.02),
        held(2.0, 2000.0 * 2**0.5, lr=0.02),
        free(900, norms=(1.0, 1.0)),
    ]
    predict = delays.norm_clock(runs)
    assert predict(held(1.0, 0, lr=0.04)) == pytest.approx(250)
    assert predict(held(2.0, 0, lr=0.04)) == pytest.approx(2000)
