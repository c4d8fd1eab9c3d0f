"""What one thread can do at most: multiply-add in registers, and the products of a step alone."""

import ctypes
import time
from collections.abc import Callable

import numpy as np
import torch

from grok.engine.fused import compiler

REGISTERS = """
#if defined(__AVX512F__)
constexpr int BYTES = 64, COUNT = 16;
#else
constexpr int BYTES = 32, COUNT = 12;
#endif
typedef REAL V __attribute__((vector_size(BYTES)));
extern "C" double multiply_add(long rounds, const REAL* numbers) {
    V sums[COUNT], factor = V{} + numbers[0], term = V{} + numbers[1];
    for (int k = 0; k < COUNT; k++) sums[k] = V{} + numbers[k];  // equal sums would be computed once
    for (long i = 0; i < rounds; i++)
#pragma GCC unroll 16
        for (int k = 0; k < COUNT; k++) sums[k] = sums[k] * factor + term;
    REAL total = 0;
    for (int k = 0; k < COUNT; k++) total += sums[k][0];
    return total + 0 * rounds;
}
extern "C" long operations() { return 2 * COUNT * (BYTES / sizeof(REAL)); }
"""


def registers(dtype: torch.dtype, rounds: int = 5_000_000) -> float:
    """GFLOP/s of fused multiply-add on values that stay in registers."""
    real = {torch.float32: "float", torch.float64: "double"}[dtype]
    library = compiler.load(REGISTERS.replace("REAL", real))
    library.multiply_add.restype = ctypes.c_double
    work = ctypes.c_long(rounds)
    numbers = torch.linspace(0.5, 0.9, 16, dtype=dtype)
    address = ctypes.c_void_p(numbers.data_ptr())
    seconds = best_time(lambda: library.multiply_add(work, address))
    return library.operations() * rounds / seconds / 1e9


def products(dtype: torch.dtype, shapes: list[tuple[int, int, int]]) -> float:
    """GFLOP/s of the products (M, K) @ (K, N) of these shapes, one after the other.

    It is the best of torch's BLAS, which is MKL as a rule, and NumPy's, which is OpenBLAS.
    """
    factors = [
        (torch.randn(m, k, dtype=dtype), torch.randn(k, n, dtype=dtype)) for m, k, n in shapes
    ]
    arrays = [(a.numpy(), b.numpy()) for a, b in factors]
    operations = sum(2 * m * k * n for m, k, n in shapes)

    def with_numpy() -> None:
        for a, b in arrays:
            np.dot(a, b)

    def with_torch() -> None:
        for a, b in factors:
            torch.mm(a, b)

    return max(operations / best_time(work) / 1e9 for work in (with_numpy, with_torch))


def best_time(work: Callable[[], object], repeats: int = 20) -> float:
    """Seconds of the fastest of some calls."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
