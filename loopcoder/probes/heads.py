"""How much the heads of one layer differ: effective rank and cosines of their attention maps."""

import torch
from torch import Tensor

from loopcoder.probes.measures import spectral_rank


def head_gram(map_BHTS: Tensor) -> Tensor:
    """Inner products of the heads' maps, for each query: [B, T, H, H], in float64.

    float64 because singular values are the square roots of its eigenvalues: a float32 root would
    leave differences of 3e-4 between heads that are alike.
    """
    map_BTHS = map_BHTS.transpose(1, 2).to(torch.float64)
    return map_BTHS @ map_BTHS.mT


def effective_heads(gram_BTHH: Tensor) -> Tensor:
    """Effective rank of each query's H x S matrix of maps: [B, T].

    1 where all heads look at the same keys alike, H where no two share a key and all are equally
    sharp (SPEC.md section 5, head diversity).
    """
    return spectral_rank(torch.linalg.eigvalsh(gram_BTHH))


def head_cosines(gram_BTHH: Tensor) -> Tensor:
    """Cosine between the maps of every two heads, for each query: [B, T, H, H]."""
    norm_BTH = gram_BTHH.diagonal(dim1=-2, dim2=-1).sqrt()
    return gram_BTHH / (norm_BTH.unsqueeze(-1) * norm_BTH.unsqueeze(-2))


def mean_over_pairs(similarity_BHH: Tensor) -> Tensor | None:
    """Mean over the pairs of different heads, [B]; None for a lone head, which has no pair."""
    H = similarity_BHH.shape[-1]
    if H == 1:
        return None
    own_B = similarity_BHH.diagonal(dim1=-2, dim2=-1).sum(-1)
    return (similarity_BHH.sum((-2, -1)) - own_B) / (H * (H - 1))
