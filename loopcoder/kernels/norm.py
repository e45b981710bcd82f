"""RMSNorm in one C++ call where torch takes a chain of operations. For inference."""

import ctypes
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import rms_norm as torch_rms_norm

from loopcoder.kernels import native

_KERNELS = {torch.float32: "lc_rms_norm_f32", torch.bfloat16: "lc_rms_norm_bf16"}


def rms_norm(x: Tensor, weight_D: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis: float32 inside, rounded once."""
    kernel = _kernel(x.dtype) if x.is_cpu and weight_D.dtype == x.dtype else None
    if kernel is None:
        return torch_rms_norm(x, weight_D.shape, weight_D, eps)
    D = weight_D.numel()
    x = x.contiguous()
    y = torch.empty_like(x)
    rows = x.numel() // D
    kernel(
        *(x.data_ptr(), weight_D.data_ptr(), eps, y.data_ptr(), rows, D, torch.get_num_threads())
    )
    return y


@cache
def _kernel(dtype: torch.dtype) -> Callable[..., None] | None:
    library = native.library()
    if library is None or dtype not in _KERNELS:
        return None
    kernel = library[_KERNELS[dtype]]
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    kernel.argtypes = [pointer, pointer, ctypes.c_float, pointer, number, number, ctypes.c_int]
    kernel.restype = None
    return kernel
