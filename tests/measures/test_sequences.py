"""An order of the data as a signal, against what is known of simple orders."""

import numpy as np

from grok.measures import sequences


def test_a_sorted_sequence_is_smooth_and_its_batches_narrow():
    p, batch = 50, 100
    x = np.repeat(np.arange(p), batch)  # every batch holds one symbol
    found = sequences.signals(x, p, batch)
    assert np.allclose(found["entropy"], 0) and np.allclose(found["distinct"], 1 / p)
    assert np.allclose(found["circle"], batch)  # |sum of one phase|^2 / B = B
    said = sequences.summary(found, p, stride=7)
    assert said["peak_frequency"] == 1 and said["autocorrelation_1"] > 0.99
    assert np.isclose(found["spectrum"].sum(), 1)


def test_uniform_symbols_give_the_uniform_baseline():
    p, batch = 97, 256
    x = np.random.default_rng(0).integers(p, size=200 * batch)
    found = sequences.signals(x, p, batch)
    assert abs(found["circle"].mean() - 1) < 0.05
    assert abs(found["distinct"].mean() - (1 - (1 - 1 / p) ** batch)) < 0.005
    said = sequences.summary(found, p, stride=9)
    assert 0.5 < said["flatness"] < 0.62  # exp(-Euler's constant) = 0.5615 for white noise
    assert abs(said["autocorrelation_1"]) < 0.02 and said["peaks"] == []


def test_a_batch_of_one_residue_class_peaks_at_the_dual_frequency():
    p, stride = 99, 9
    x = np.concatenate([np.arange(j, p, stride) for j in range(stride)])  # 11 members each
    circle = sequences.signals(x, p, 11)["circle"]
    assert np.allclose(
        circle[10::11][:4], 11
    )  # frequencies 11, 22, 33, 44: p / stride and multiples
    assert np.allclose(np.delete(circle, np.arange(10, len(circle), 11)), 0, atol=1e-9)


def test_steps_are_signed_and_modular():
    found = sequences.signals(np.array([0, 9, 1, 6, 6, 2] * 4), 10, 6)
    assert found["steps"][:5].tolist() == [-1, 2, -5, 0, -4]


def test_autocorrelation_is_the_direct_sum():
    x = np.random.default_rng(1).integers(20, size=300).astype(float)
    found = sequences.signals(x.astype(int), 20, 30)["autocorrelation"]
    centred = x - x.mean()
    direct = [np.mean(centred[:-k] * centred[k:]) / centred.var() for k in range(1, len(found) + 1)]
    assert np.allclose(found, direct)
