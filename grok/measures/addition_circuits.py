"""Which algorithm adds modulo p: the clock or the pizza (Zhong et al. 2023, arXiv:2306.17844)."""

import torch
from torch import Tensor

COMPONENTS = 4  # principal components of the embeddings, as in the paper


def gradient_symmetricity(gradients_a_ND: Tensor, gradients_b_ND: Tensor) -> float:
    """The mean cosine of the gradients of logits with respect to the embeddings of a and of b.

    1 for a function of the sum of the embeddings, as the pizza is; the clock multiplies them and is
    below (definition 4.1).
    """
    return float(torch.cosine_similarity(gradients_a_ND, gradients_b_ND, dim=-1).mean())


def distance_irrelevance(correct_pp: Tensor) -> float:
    """How little the label's logit depends on the distance a - b: near 1 for the clock, near 0 for the
    pizza (section 4.2).

    It is the mean over differences t of the standard deviation over sums s, divided by the standard
    deviation of all.

    Arguments:
        correct_pp: the logit of the label of a and b, at [a, b].
    """
    p = len(correct_pp)
    a, b = torch.meshgrid(*[torch.arange(p, device=correct_pp.device)] * 2, indexing="ij")
    by_sum_and_difference = torch.empty_like(correct_pp)
    by_sum_and_difference[(a + b) % p, (a - b) % p] = correct_pp
    return float(by_sum_and_difference.std(0, correction=0).mean() / correct_pp.std(correction=0))


def circularity(embeddings_pD: Tensor) -> float:
    """How nearly the first principal components of the embeddings are waves of one frequency, 0 to 1.

    The mean over four components v, centred and of length 1, of max_k (2 / p) |sum_j v_j e^(2 pi i j
    k / p)|^2 (section 4.2).
    """
    p = len(embeddings_pD)
    centred = embeddings_pD - embeddings_pD.mean(0)
    components = torch.linalg.svd(centred, full_matrices=False)[0][:, :COMPONENTS]
    components = components - components.mean(0)
    components = components / components.norm(dim=0)
    powers = torch.fft.rfft(components.double(), dim=0).abs().square()[1:]
    return float((2 / p * powers.amax(0)).mean())
