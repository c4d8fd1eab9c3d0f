"""The bounds of every type of configuration value, at the bounds themselves."""

from math import inf, nan
from typing import Any

import pytest

from grok.experiment import config_types as types

BELOW, ABOVE = 1 - 2**-53, 1 + 2**-52  # the float64 numbers next to 1


@pytest.mark.parametrize(
    ("declared", "valid", "invalid"),
    [
        (types.Whole, [-3, 0, 5], [1.0, 0.5, "1", True, None]),
        (types.Count, [1, 2], [0, -1, 1.0, True]),
        (types.CountFromZero, [0, 1], [-1, 0.0, False]),
        (types.CountFromTwo, [2, 97], [1, 0, 2.0]),
        (types.Seed, [0, 2**32 - 1], [-1, 2**32, 0.0]),
        (types.NonNegative, [0, 0.0, 1e-300, 5], [-1e-300, inf, nan, "0", True]),
        (types.Positive, [1e-300, 1, 2.5], [0, 0.0, -1.0, inf, nan]),
        (types.BelowOne, [0, 0.0, BELOW], [1, 1.0, ABOVE, -1e-300, nan]),
        (types.OpenFraction, [1e-300, 0.5, BELOW], [0, 0.0, 1, 1.0, ABOVE, nan]),
        (types.KeptFraction, [1e-300, 1, 1.0], [0, 0.0, ABOVE, nan]),
        (types.Fraction, [0, 0.0, 1, 1.0], [-1e-300, ABOVE, nan]),
        (types.Betas, [(0.9, 0.98), [0, BELOW]], [(0.9, 1.0), (1, 0.9), (0.9,), (0.9,) * 3, 0.9]),
        (types.Counts, [[], [1, 200]], [[0], [1.5], 3]),
    ],
)
def test_a_type_has_its_bounds(declared: Any, valid: list[Any], invalid: list[Any]) -> None:
    """A share or a beta of exactly 1 is an empty test set, or an average that never moves."""
    assert [value for value in valid if not types.is_valid(value, declared)] == []
    assert [value for value in invalid if types.is_valid(value, declared)] == []
