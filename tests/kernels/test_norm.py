"""RMSNorm against torch's, over widths that do and do not fill vectors."""

import pytest
import torch
from torch.nn.functional import rms_norm as torch_rms_norm

from loopcoder.kernels.norm import rms_norm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 15), (2, 16), (5, 33), (2, 3, 256), (40, 5120)])
def test_it_equals_torch_in_double_precision(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(len(shape))
    x = (7 * torch.randn(shape, generator=random)).to(dtype)
    weight_D = torch.randn(shape[-1], generator=random).to(dtype)
    exact = torch_rms_norm(x.double(), weight_D.shape, weight_D.double(), 1e-5)
    limit = 1e-6 if dtype == torch.float32 else 2**-8
    assert torch.allclose(rms_norm(x, weight_D, 1e-5).double(), exact, rtol=limit, atol=1e-9)


def test_rows_do_not_depend_on_each_other_and_may_lie_apart() -> None:
    x_ND = torch.randn(300, 512, generator=torch.Generator().manual_seed(0))[::3]
    weight_D = torch.rand(512)
    whole = rms_norm(x_ND, weight_D, 1e-5)
    assert torch.equal(whole[7:8], rms_norm(x_ND[7:8], weight_D, 1e-5))
    assert rms_norm(x_ND[:0], weight_D, 1e-5).shape == (0, 512)


def test_nan_stays_in_its_row() -> None:
    x_ND = torch.ones(3, 20)
    x_ND[1, 4] = float("nan")
    found = rms_norm(x_ND, torch.ones(20), 0.0)
    assert found[1].isnan().all()
    assert torch.allclose(found[[0, 2]], torch.ones(2, 20))
