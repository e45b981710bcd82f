"""The GPU's paged attention against its twin, in Triton's interpreter, which needs no GPU."""

import importlib.util
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="triton is not installed"
)

SCRIPT = """
import torch
from loopcoder.kernels.paged import PagedRows, gathered_attention
from loopcoder.kernels.paged_triton import triton_attention

torch.set_num_threads(1)
random = torch.Generator().manual_seed(0)
P = 60
for G, J, K, p, groups, R, dtype in [
    (2, 2, 16, 5, 3, 2, torch.float32),
    (8, 5, 32, 13, 2, 4, torch.float32),
    (1, 4, 64, 16, 4, 1, torch.float32),
    (2, 5, 64, 13, 3, 2, torch.float16),
]:
    k, v = (torch.randn(P, p, G, K, generator=random).to(dtype) for _ in "kv")
    table = torch.stack([torch.randperm(P, generator=random)[:14] for _ in range(groups)]).int()
    rows = [R - (R > 1 and group % 2) for group in range(groups)]
    M = sum(rows)
    length = torch.randint(1, 14 * p, (M,), generator=random).int()
    paged = PagedRows(
        table_BP=table,
        order_M=torch.randperm(M + 3, generator=random)[:M].int(),
        group_offsets=torch.tensor([0, *torch.tensor(rows).cumsum(0)]).int(),
        group_table=torch.arange(groups).int(),
        length_M=length,
        largest_group=max(rows),
        longest=int(length.max()),
    )
    q = torch.randn(M + 3, G * J, K, generator=random).to(dtype)
    slow, fast = torch.zeros_like(q), torch.zeros_like(q)
    gathered_attention(q, k, v, paged, slow)
    triton_attention(q, k, v, paged, fast)
    assert slow.abs().max() > 0.1
    limit = 1e-6 if dtype == torch.float32 else 2e-3
    assert (slow - fast).abs().max() < limit, (slow - fast).abs().max()
"""


def test_it_equals_the_gathered_twin() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
