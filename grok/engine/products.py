"""Large float32 matrix products through oneDNN where the BLAS uses half of the CPU only.

torch's MKL runs AVX2 kernels on AMD processors; oneDNN, which torch also ships, runs AVX-512 ones
(Zen 5, two cores: 200 against 430 GFLOP/s).
"""

from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from grok.engine.graph import RESULT, separate_biases

MIN_MULTIPLICATIONS = 2**22  # of one product; below, oneDNN's call costs more than it saves
MAX_BATCH = 16  # products in a batch; more are faster in one call of the BLAS


@cache
def pay() -> bool:
    """Whether this CPU has AVX-512 and MKL does not use it."""
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or not torch.backends.mkldnn.enabled:
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text()


def replace_products(graph: fx.GraphModule) -> None:
    """Replace the large float32 CPU products of a traced graph, single and batched, in place."""
    separate_biases(graph, _is_large)
    for node in graph.graph.nodes:
        is_product = node.target in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default)
        if is_product and _is_large(*node.args):
            node.target = operator()
    graph.recompile()


def _is_large(left: fx.Node, right: fx.Node) -> bool:
    a, b = left.meta[RESULT], right.meta[RESULT]
    (*batches, rows, inner), columns = a.shape, b.shape[-1]
    fits = a.device.type == "cpu" and a.dtype == torch.float32 and prod(batches) <= MAX_BATCH
    return fits and rows * inner * columns >= MIN_MULTIPLICATIONS


@cache
def operator() -> Any:
    """The operator grok::products.

    It is registered where it is used: torch then reads the sources of all modules (0.3 CPU s).
    """
    registered = torch.library.custom_op("grok::products", _products, mutates_args=())
    registered.register_fake(_empty_products)
    return torch.ops.grok.products.default


def _products(left: Tensor, right: Tensor) -> Tensor:
    """The products (R, M, N) of left (R, M, K) and right (R, K, N), or one without the axis R."""
    if left.dim() == 2:
        return _product(left, right)
    results = [_product(a, b) for a, b in zip(left, right, strict=True)]
    return results[0].unsqueeze(0) if len(results) == 1 else torch.stack(results)


def _empty_products(left: Tensor, right: Tensor) -> Tensor:
    return left.new_empty(*left.shape[:-1], right.shape[-1])


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a (M, K) @ b (K, N).

    oneDNN copies a left factor that is stored transposed: the smaller factor is put there.
    """
    if a.stride(1) != 1 and b.stride(1) == 1 and b.shape[1] < a.shape[0]:
        return _linear(b.T, a).T.contiguous()
    return _linear(a, b.T)


def _linear(x: Tensor, weight: Tensor) -> Tensor:
    """x (M, K) @ weight (N, K)^T."""
    if not (weight.is_contiguous() or weight.T.is_contiguous()):
        weight = weight.contiguous()  # rows with gaps would take a path that is 200 times slower
    return torch.ops.mkldnn._linear_pointwise(x, weight, None, "none", [], "")
