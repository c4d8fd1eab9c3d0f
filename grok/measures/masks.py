"""What subnetworks look like: how far two masks are apart, and their graphs.

Minegishi et al. 2023, section 4. A mask (I, O) of 0 and 1 is a bipartite graph, inputs to outputs.
"""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path
from torch import Tensor

Masks = dict[str, np.ndarray | Tensor]


def jaccard_distance(first: Masks, second: Masks) -> float:
    """1 - |both| / |either|, over all parameters; of independent masks that keep k: 2(1 - k)/(2 - k)."""
    both = sum(int(((first[k] != 0) & (second[k] != 0)).sum()) for k in first)
    either = sum(int(((first[k] != 0) | (second[k] != 0)).sum()) for k in first)
    return 1 - both / either


def graph_metrics(weights: np.ndarray) -> dict[str, float]:
    """Of the graph of the weights (I, O) that are not zero: spectral_gap, between the two largest
    eigenvalues of the weighted adjacency; ramanujan_gap, sqrt(2 d - 1) less the largest but one of the
    plain adjacency, d the mean degree; path_length, the mean over connected pairs; clustering."""
    mask = (weights != 0).astype(float)
    sizes, plain = (
        np.append(np.linalg.svd(matrix, compute_uv=False), 0.0)
        for matrix in (np.abs(weights), mask)
    )
    degree = 2 * mask.sum() / sum(mask.shape)
    return {
        "spectral_gap": float(sizes[0] - sizes[1]),
        "ramanujan_gap": float(np.sqrt(max(2 * degree - 1, 0)) - plain[1]),
        "path_length": path_length(mask),
        "clustering": clustering(mask),
    }


def adjacency(mask: np.ndarray) -> np.ndarray:
    """(I + O, I + O), symmetric."""
    inputs, outputs = mask.shape
    return np.block([[np.zeros((inputs, inputs)), mask], [mask.T, np.zeros((outputs, outputs))]])


def path_length(mask: np.ndarray) -> float:
    """Mean number of edges on the shortest path between two different connected nodes; NaN if none are."""
    lengths = shortest_path(csr_matrix(adjacency(mask)), unweighted=True)
    found = lengths[np.isfinite(lengths) & (lengths > 0)]
    return float(found.mean()) if len(found) else float("nan")


def clustering(mask: np.ndarray) -> float:
    """Mean over nodes of the mean over their neighbours' other neighbours of shared / all neighbours
    (Latapy et al. 2008): two sides of a graph have no triangles. Nodes without such count as 0."""
    edges = adjacency(mask)
    degrees, shared = edges.sum(1), edges @ edges
    either = degrees[:, None] + degrees[None] - shared
    near = shared > 0
    np.fill_diagonal(near, False)
    overlap = np.divide(shared, either, out=np.zeros_like(shared), where=near)
    count = near.sum(1)
    return float(np.divide(overlap.sum(1), count, out=np.zeros(len(edges)), where=count > 0).mean())
