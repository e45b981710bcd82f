"""Memory itself: how fast it can be read, by how many threads, and large pages for weights."""

import ctypes
import time
from functools import cache
from typing import Any

import torch
from torch import Tensor

from loopcoder.kernels import native

_HUGE_PAGE = 1 << 21
_MADV_HUGEPAGE = 14
# A second thread is not worth waking for less.
_BYTES_FOR_THREADS = 1 << 18


def read_bytes_per_second(tensor: Tensor) -> float:
    """Bytes per second of one plain read of a CPU tensor by all of torch's threads.

    The yardstick of kernels that are bound by reading weights. A tensor much larger than the last
    cache measures memory. Without the native library torch's sum does the reading.
    """
    assert tensor.is_contiguous()
    assert tensor.nbytes % 8 == 0
    kernel = _read_kernel()
    start = time.perf_counter()
    if kernel is not None:
        kernel(tensor.data_ptr(), tensor.nbytes, torch.get_num_threads())
    else:
        tensor.view(torch.uint8).view(-1).view(torch.int64).sum()
    return tensor.nbytes / (time.perf_counter() - start)


def threads_for(nbytes: int) -> int:
    """How many of torch's threads should share the reading of `nbytes`: all, or one for little."""
    return 1 if nbytes < _BYTES_FOR_THREADS else torch.get_num_threads()


def empty_in_huge_pages(*shape: int, dtype: torch.dtype) -> Tensor:
    """`torch.empty` on the CPU, in 2 MiB pages where the system grants them.

    Weights that are streamed once a step then cost 512 times fewer page translations.
    """
    tensor = torch.empty(*shape, dtype=dtype)
    advise = _madvise()
    first = -(-tensor.data_ptr() // _HUGE_PAGE) * _HUGE_PAGE
    last = (tensor.data_ptr() + tensor.nbytes) // _HUGE_PAGE * _HUGE_PAGE
    if advise is not None and last > first:
        advise(first, last - first, _MADV_HUGEPAGE)  # advice: a refusal changes nothing
    return tensor


@cache
def _read_kernel() -> Any:
    library = native.library()
    if library is None:
        return None
    library.lc_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.lc_read.restype = ctypes.c_uint64
    return library.lc_read


@cache
def _madvise() -> Any:
    function = getattr(ctypes.CDLL(None), "madvise", None)
    if function is not None:
        function.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return function
