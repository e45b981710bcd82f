"""The yardstick of decoding: how fast memory can be read when nothing else is done."""

import time

import torch
from torch import Tensor

from loopcoder.kernels.memory import read_bytes_per_second


def plain_read(memory: Tensor) -> float:
    """Bytes per second of one pass over `memory`; on a GPU a copy, whose bytes count twice."""
    if not memory.is_cuda:
        return read_bytes_per_second(memory)
    target = torch.empty_like(memory)
    torch.cuda.synchronize()
    start = time.perf_counter()
    target.copy_(memory)
    torch.cuda.synchronize()
    return 2 * memory.nbytes / (time.perf_counter() - start)
