"""The parts of fused steps that use the CPU's own instructions, each against NumPy."""

import ctypes

import numpy as np
import pytest

from grok.engine.fused import compiler
from grok.engine.fused.source import HERE

CONSTANTS = """
typedef REAL real;
typedef REAL loss_real;
enum { ADAMW, ADAM, SGD, LION };
constexpr int OPTIMIZER = ADAMW;
constexpr long ARENA = 0, GRADIENT = 0;
"""
CALLS = """
extern "C" void divide(const real* a, const real* b, real* to, long count) {
    for (long i = 0; i < count; i += W) store(to + i, quotient(load(a + i), load(b + i)));
}
extern "C" void roots(const real* x, const real*, real* to, long count) {
    for (long i = 0; i < count; i += W) store(to + i, root(load(x + i)));
}
extern "C" void transposed(const real* B, const real*, real* to, long) {
    copy_transposed<2, 21>(B, 24, W, 37, to);
}
extern "C" long width() { return W; }
"""
ULPS = 4  # units in the last place


@pytest.fixture(scope="module", params=["float", "double"])
def kernels(request):
    """A function that calls a kernel on arrays, and the arrays' dtype."""
    header = (HERE / "kernels.h").read_text()
    library = compiler.load(CONSTANTS.replace("REAL", request.param) + header + CALLS)
    dtype = np.dtype({"float": np.float32, "double": np.float64}[request.param])

    def call(name, *arrays, shape):
        result = np.zeros(shape, dtype)
        given = [np.ascontiguousarray(array, dtype) for array in (*arrays, *arrays)[:2]]
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (*given, result)]
        getattr(library, name)(*pointers, ctypes.c_long(result.size))
        return result

    return call, dtype, library.width()


def test_quotients_and_roots_are_exact_to_rounding(kernels):
    """An estimate that is refined once too few would change every weight of a run by 1e-4 or 1e-8."""
    call, dtype, _ = kernels
    draws = np.random.default_rng(0)
    limits = np.log(np.finfo(dtype).max) / 4
    a, b = (np.exp(draws.uniform(-limits, limits, 1024)).astype(dtype) for _ in range(2))
    signed = a * draws.choice([-1, 1], 1024).astype(dtype)
    for result, expected in (
        (call("divide", signed, b, shape=1024), signed / b),
        (call("roots", b, shape=1024), np.sqrt(b)),
    ):
        assert np.max(np.abs(result / expected - 1)) <= ULPS * np.finfo(dtype).eps


def test_roots_and_quotients_of_zero_infinity_and_nan_are_numpys(kernels):
    """AdamW divides by the root of zero where a weight never has a gradient, and a diverging run has
    infinite ones; either must go on as in torch."""
    call, dtype, width = kernels
    special = np.resize([0.0, np.inf, np.nan, 1.0], width)
    np.testing.assert_array_equal(call("roots", special, shape=width), np.sqrt(special))
    one, eps = np.ones(width), np.resize([1e-8, np.inf, np.nan, 1e-30], width)
    result = call("divide", one, eps, shape=width)
    np.testing.assert_allclose(result, one / eps.astype(dtype), rtol=1e-6)


def test_a_matrix_is_transposed_with_zeros_beyond_its_rows(kernels):
    """37 rows of 21 reals: whole squares of vectors, a rest of the columns, and rows that are
    missing, whatever the width of a vector."""
    call, dtype, width = kernels
    matrix = np.zeros((37, 24), dtype)
    matrix[:, :21] = np.arange(37 * 21).reshape(37, 21)
    result = call("transposed", matrix, shape=(21, 2 * width))
    rows = np.zeros((3 * width, 21), dtype)
    rows[: min(37, 3 * width)] = matrix[: 3 * width, :21]
    np.testing.assert_array_equal(result, rows[width:].T)
