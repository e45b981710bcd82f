"""The measures of SPEC.md section 5 as pure functions of states and predictions.

Shape suffixes as in `loopcoder.kernels`; an ellipsis stands for any leading axes. States may be of
any float format; the arithmetic is in float32, or float64 for states in float64.
"""

from typing import Literal

import torch
from torch import Tensor

from loopcoder.model.lens import entropy, kl

__all__ = [
    "effective_rank",
    "entropy",
    "kl",
    "offset_cost",
    "rank_of",
    "spectral_rank",
    "step_size",
    "update_angle",
]

RankRows = Literal["rms", "as_is"]


def step_size(x: Tensor, before: Tensor) -> Tensor:
    """‖x^r - x^{r-1}‖₂ of states [..., D]: [...]."""
    size: Tensor = torch.linalg.vector_norm(_precise(x) - _precise(before), dim=-1)
    return size


def update_angle(x: Tensor, before: Tensor, earlier: Tensor) -> Tensor:
    """cos(x^r - x^{r-1}, x^{r-1} - x^{r-2}) of states [..., D]: [...]; 0 where a step is zero."""
    step, last = _precise(x) - _precise(before), _precise(before) - _precise(earlier)
    return torch.cosine_similarity(step, last, dim=-1, eps=1e-30)


def offset_cost(x: Tensor) -> Tensor:
    """‖x_t - x_{t-1}‖₂ for t >= 1 of states [..., T, D]: [..., T - 1]."""
    x = _precise(x)
    size: Tensor = torch.linalg.vector_norm(x[..., 1:, :] - x[..., :-1, :], dim=-1)
    return size


def effective_rank(x: Tensor, rows: RankRows = "rms") -> Tensor:
    """exp(entropy of the normalised singular values) of matrices [..., S, D]: [...].

    `rows` "rms" first divides each row by its root mean square, so that every position counts
    alike. A matrix of zeros has rank 0. In float64: singular values are the roots of the smaller
    Gram matrix's eigenvalues, and a float32 root would leave noise in place of zeros.
    """
    x = x.double()
    if rows == "rms":
        x = x / x.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-30)
    tall = x.shape[-2] >= x.shape[-1]
    gram = x.mT @ x if tall else x @ x.mT
    return spectral_rank(torch.linalg.eigvalsh(gram))


def spectral_rank(eigenvalues: Tensor) -> Tensor:
    """The effective rank of matrices whose Gram matrices have these eigenvalues [..., n]: [...].

    Eigenvalues below what float64 can tell from zero, beside the largest, are zero.
    """
    largest = eigenvalues.amax(-1, keepdim=True).clamp_min(0)
    noise = largest * (eigenvalues.shape[-1] * torch.finfo(eigenvalues.dtype).eps)
    sigma = torch.where(eigenvalues > noise, eigenvalues, 0.0).sqrt()
    share = sigma / sigma.sum(-1, keepdim=True).clamp_min(1e-300)
    rank = torch.special.entr(share).sum(-1).exp()
    return torch.where(largest[..., 0] > 0, rank, 0.0)


def rank_of(log_p: Tensor, token: Tensor) -> Tensor:
    """The rank of `token` [...] in log-probabilities [..., V]: 1 + how many are more probable."""
    own = log_p.gather(-1, token.unsqueeze(-1))
    more_probable: Tensor = (log_p > own).sum(-1)
    return more_probable + 1


def _precise(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
