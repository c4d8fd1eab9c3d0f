"""Masks of subnetworks: their distance, and metrics of their graphs (Minegishi et al. 2023, section 4).

A mask (I, O) of 0 and 1 is a bipartite graph from inputs to outputs.
"""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

Masks = Mapping[str, np.ndarray | Tensor]


def jaccard_distance(first: Masks, second: Masks) -> float:
    """1 - |intersection| / |union| over all parameters.

    2 (1 - k) / (2 - k) is expected of independent masks that keep a fraction k.
    """
    both = sum(int(((first[k] != 0) & (second[k] != 0)).sum()) for k in first)
    either = sum(int(((first[k] != 0) | (second[k] != 0)).sum()) for k in first)
    return 1 - both / either


def graph_metrics(weights: np.ndarray) -> dict[str, float]:
    """Metrics of the graph of the nonzero weights (I, O).

    Returns:
        spectral_gap: the difference of the two largest eigenvalues of the weighted adjacency.
        ramanujan_gap: sqrt(2 d - 1) less the second largest eigenvalue of the unweighted adjacency,
            where d is the mean degree.
        path_length, clustering: as of the functions of these names.
    """
    mask = (weights != 0).astype(float)
    weighted, unweighted = (
        np.append(np.linalg.svd(matrix, compute_uv=False), 0.0)
        for matrix in (np.abs(weights), mask)
    )
    degree = 2 * mask.sum() / sum(mask.shape)
    return {
        "spectral_gap": float(weighted[0] - weighted[1]),
        "ramanujan_gap": float(np.sqrt(max(2 * degree - 1, 0)) - unweighted[1]),
        "path_length": path_length(mask),
        "clustering": clustering(mask),
    }


def adjacency(mask: np.ndarray) -> np.ndarray:
    """The symmetric adjacency matrix (I + O, I + O) of a mask (I, O)."""
    inputs, outputs = mask.shape
    return np.block([[np.zeros((inputs, inputs)), mask], [mask.T, np.zeros((outputs, outputs))]])


def path_length(mask: np.ndarray) -> float:
    """Mean length in edges of the shortest path between two connected nodes; NaN without edges."""
    from scipy.sparse import csr_matrix  # imported here, since all commands import this module
    from scipy.sparse.csgraph import shortest_path

    lengths = shortest_path(csr_matrix(adjacency(mask)), unweighted=True)
    connected = lengths[np.isfinite(lengths) & (lengths > 0)]
    return float(connected.mean()) if len(connected) else float("nan")


def clustering(mask: np.ndarray) -> float:
    """Bipartite clustering coefficient, the mean over nodes (Latapy et al. 2008).

    A node's coefficient is the mean, over its neighbours' other neighbours, of the number of shared
    neighbours over that of all; 0 for a node that has none.
    """
    edges = adjacency(mask)
    degrees, shared = edges.sum(1), edges @ edges
    either = degrees[:, None] + degrees[None] - shared
    is_second_neighbour = shared > 0
    np.fill_diagonal(is_second_neighbour, False)
    overlap = np.divide(shared, either, out=np.zeros_like(shared), where=is_second_neighbour)
    count = is_second_neighbour.sum(1)
    return float(np.divide(overlap.sum(1), count, out=np.zeros(len(edges)), where=count > 0).mean())
