"""Products with prepared weights: each native kernel against plain arithmetic in float64."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from loopcoder.kernels import linear, memory, native, packed
from loopcoder.kernels.grouped import GroupedWeight, quantize
from loopcoder.kernels.linear import prepare

needs_bf16 = pytest.mark.skipif(
    "avx512bf16" not in native.features(), reason="no native bfloat16 kernel here"
)
needs_vnni = pytest.mark.skipif(
    "avx512vnni" not in native.features(), reason="no native kernel for quantised weights here"
)
# Outputs that fill no tile, inputs that fill no vector or block, rows that fill no register block.
SHAPES = [(1, 1), (3, 33), (37, 64), (130, 1000), (16, 1024), (65, 2080), (1001, 40)]
# Float32 sums of bfloat16 products, then rounding to bfloat16: half of 2^-8, plus a little.
BF16_TOLERANCE = 2.1e-3
# Rows rounded to 8 bits over every 32 inputs lose 0.55 % of the norm where they are normal.
ROWS_OF_8_BITS = 8e-3


@pytest.fixture
def _two_threads() -> Iterator[None]:
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def _normal(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def _relative(y: Tensor, truth: Tensor) -> float:
    return ((y.double() - truth).norm() / truth.norm()).item()


def _one_by_one(product: linear.Product, x_NK: Tensor) -> Tensor:
    return torch.cat([product(row[None]) for row in x_NK])


@needs_bf16
@pytest.mark.parametrize("shape", SHAPES)
def test_native_bf16_is_the_product_and_rows_do_not_meet(shape: tuple[int, int]) -> None:
    weight_MK = _normal(*shape, dtype=torch.bfloat16)
    product = prepare(weight_MK, name="native")
    assert (product.name, product.shape, product.nbytes) == (
        "native-bf16",
        shape,
        2 * weight_MK.numel(),
    )
    most = product._most_rows
    x_NK = _normal(most, shape[1], dtype=torch.bfloat16, seed=1)
    alone_NM = _one_by_one(product, x_NK)
    for rows in range(1, most + 1):
        assert torch.equal(product(x_NK[:rows]), alone_NM[:rows])
    if shape[1] > 1:
        assert _relative(alone_NM, x_NK.double() @ weight_MK.double().T) < BF16_TOLERANCE


@needs_bf16
def test_more_rows_than_the_kernel_takes_are_torchs() -> None:
    weight_MK = _normal(37, 64, dtype=torch.bfloat16)
    product = prepare(weight_MK)
    x_NK = _normal(product._most_rows + 2, 64, dtype=torch.bfloat16, seed=1)
    twin = prepare(weight_MK, name="torch")
    assert torch.equal(product(x_NK), twin(x_NK))
    assert _relative(product(x_NK[:3]), twin(x_NK[:3]).double()) < 2 * BF16_TOLERANCE


@needs_bf16
def test_a_bf16_weight_is_shared_not_copied_and_may_lie_anywhere() -> None:
    storage = _normal(16 * 96 + 1, dtype=torch.bfloat16)
    weight_MK = storage[1:].view(16, 96)
    x_NK = _normal(2, 96, dtype=torch.bfloat16, seed=1)
    product = prepare(weight_MK)
    assert product.name == "native-bf16"
    assert _relative(product(x_NK), x_NK.double() @ weight_MK.double().T) < BF16_TOLERANCE
    weight_MK.zero_()
    assert not product(x_NK).any()


@needs_bf16
def test_bf16_results_round_to_nearest_even() -> None:
    # 1 + 2^-8 lies midway between 1 and 1 + 2^-7, 1 + 3 2^-8 between that and 1 + 2^-6.
    weight_MK = torch.tensor([[1.0, 2**-8], [1.0, 3 * 2**-8]], dtype=torch.bfloat16)
    y_NM = prepare(weight_MK)(torch.ones(1, 2, dtype=torch.bfloat16))
    assert y_NM.tolist() == [[1.0, 1 + 2**-6]]


@needs_vnni
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize(("M", "K", "group"), [(1, 32, 32), (37, 256, 64), (100, 384, 128)])
@pytest.mark.parametrize("scale", [torch.bfloat16, torch.float16, torch.float32])
def test_native_integers_are_exact_where_rows_fit_8_bits(
    bits: int, M: int, K: int, group: int, scale: torch.dtype
) -> None:
    weight = quantize(_normal(M, K), bits, group, scale_dtype=scale)
    x_NK = torch.randint(-127, 128, (9, K), generator=torch.Generator().manual_seed(1)).float()
    x_NK[:, ::32] = 127.0
    product = prepare(weight, name="native")
    truth_NM = x_NK.double() @ weight.dequantize().double().T
    assert _relative(product(x_NK), truth_NM) < 1e-6
    assert _relative(product(x_NK.bfloat16()), truth_NM) < BF16_TOLERANCE


@needs_vnni
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("M", "K"), [(37, 64), (256, 768), (520, 2048)])
def test_native_grouped_is_close_and_rows_do_not_meet(
    bits: int, dtype: torch.dtype, M: int, K: int
) -> None:
    weight = quantize(_normal(M, K), bits, 64)
    product = prepare(weight)
    assert (product.name, product.shape) == (f"native-int{bits}", (M, K))
    padded = -(-M // 16) * 16
    assert product.nbytes == padded * K * bits // 8 + padded * K // 64 * 2
    x_NK = _normal(70, K, dtype=dtype, seed=1)  # more than one pass over the weight
    y_NM = product(x_NK)
    assert y_NM.dtype == dtype
    assert _relative(y_NM, x_NK.double() @ weight.dequantize().double().T) < ROWS_OF_8_BITS
    assert torch.equal(y_NM, _one_by_one(product, x_NK))
    for rows in (1, 2, 3, 5, 8, 13, 33):
        assert torch.equal(product(x_NK[:rows]), y_NM[:rows])


@needs_vnni
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_many_rows_with_amx_use_the_dequantised_weight(
    bits: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = quantize(_normal(200, 128), bits, 32)
    with_amx = native.features() | {"amx_bf16"}
    monkeypatch.setattr(native, "features", lambda: with_amx)
    monkeypatch.setattr(linear, "_EXPANDED_BYTES", 3 * 16 * 128 * dtype.itemsize)
    product = prepare(weight, name="native")
    most = product._most_rows
    x_NK = _normal(most + 1, 128, dtype=dtype, seed=1)
    expected_NM = x_NK.double() @ weight.dequantize(dtype).double().T
    tolerance = 1e-6 if dtype == torch.float32 else BF16_TOLERANCE
    assert _relative(product(x_NK), expected_NM) < tolerance
    assert _relative(prepare(weight, name="torch")(x_NK), expected_NM) < tolerance
    assert tolerance < _relative(product(x_NK[:most]), expected_NM[:most]) < ROWS_OF_8_BITS


@needs_vnni
@pytest.mark.parametrize("bits", [8, 4])
def test_expanding_gives_the_dequantised_weight_bit_for_bit(bits: int) -> None:
    weight = quantize(_normal(37, 256), bits, 64)
    stored = packed.PackedWeight(weight)
    for dtype in (torch.float32, torch.bfloat16):
        whole = weight.dequantize(dtype)
        assert torch.equal(stored.expand(0, 3, dtype), whole)
        assert torch.equal(stored.expand(1, 1, dtype), whole[16:32])
        assert torch.equal(stored.expand(2, 9, dtype), whole[32:])


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("group", [8, 16, 32])
def test_torch_does_any_quantised_weight(bits: int, group: int) -> None:
    weight = quantize(_normal(37, 96), bits, group)
    product = prepare(weight, name=None if group < 32 else "torch")
    assert (product.name, product.nbytes) == (f"torch-int{bits}", weight.nbytes)
    x_NK = _normal(5, 96, seed=1)
    assert _relative(product(x_NK), x_NK.double() @ weight.dequantize().double().T) < 1e-6


@pytest.mark.parametrize(("M", "K", "group"), [(16, 96, 32), (80, 128, 64), (1120, 256, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torchs_packed_4_bits_are_the_dequantised_product(
    M: int, K: int, group: int, dtype: torch.dtype
) -> None:
    weight = quantize(_normal(M, K), 4, group)
    product = prepare(weight, name="torch")
    assert product.name == "torch-int4pack"
    x_NK = _normal(5, K, dtype=dtype, seed=1)
    tolerance = 1e-6 if dtype == torch.float32 else BF16_TOLERANCE
    assert _relative(product(x_NK), x_NK.double() @ weight.dequantize().double().T) < tolerance


def _products() -> list[tuple[linear.Product, torch.dtype]]:
    """One product of each kind on 1024 inputs, and the type of its rows."""
    weight_MK = _normal(300, 1024)
    return [
        (prepare(weight_MK), torch.float32),
        (prepare(weight_MK.bfloat16()), torch.bfloat16),
        (prepare(quantize(weight_MK, 8, 32)), torch.float32),
        (prepare(quantize(weight_MK, 4, 32)), torch.float32),
    ]


def _assert_same(product: linear.Product, a: Tensor, b: Tensor) -> None:
    """Bit for bit where the kernel is ours; torch's sums may differ in order."""
    if product.name.startswith("native"):
        assert torch.equal(a, b), product.name
    else:
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


@pytest.mark.usefixtures("_two_threads")
def test_the_number_of_threads_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_BYTES_FOR_THREADS", 0)
    for product, dtype in _products():
        x_NK = _normal(5, 1024, dtype=dtype, seed=1)
        torch.set_num_threads(2)
        with_two_NM = product(x_NK)
        torch.set_num_threads(1)
        _assert_same(product, with_two_NM, product(x_NK))


def test_any_leading_shape_and_any_strides() -> None:
    for product, dtype in _products():
        x = _normal(2, 3, 2048, dtype=dtype, seed=1)
        flat_NM = product(x[..., 512:1536].reshape(6, 1024))
        _assert_same(product, product(x[..., 512:1536]), flat_NM.view(2, 3, 300))
        _assert_same(product, product(x[0, 0, :1024]), product(x[:1, 0, :1024])[0])
        assert product(x[:0, :, :1024]).shape == (0, 3, 300)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_row_that_is_not_finite_spoils_itself_only(bad: float) -> None:
    for product, dtype in _products():
        x_NK = _normal(4, 1024, dtype=dtype, seed=1)
        clean_NM = product(x_NK)
        x_NK[2, 700] = bad
        y_NM = product(x_NK)
        # Zero times infinity is NaN, so a weight of 0 makes no difference.
        assert not y_NM[2].isfinite().any(), product.name
        _assert_same(product, y_NM[[0, 1, 3]], clean_NM[[0, 1, 3]])


def test_zero_tiny_and_large_rows() -> None:
    for product, dtype in _products():
        x_NK = _normal(3, 1024, dtype=dtype, seed=1)
        x_NK[0], x_NK[1], x_NK[2] = 0.0, x_NK[1] * 1e-35, x_NK[2] * 1e30
        y_NM = product(x_NK)
        assert not y_NM[0].any(), product.name
        assert y_NM.isfinite().all(), product.name


def test_without_the_library_torch_does_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "library", lambda: None)
    caches = (linear._bf16_kernel, packed._kernels)
    for cached in caches:
        cached.cache_clear()
    try:
        assert [product.name for product, _ in _products()] == [
            "torch",
            "torch",
            "torch-int8",
            "torch-int4",
        ]
        weight: Tensor | GroupedWeight
        for weight in (_normal(4, 32).bfloat16(), quantize(_normal(4, 32), 8, 32)):
            with pytest.raises(ValueError, match="no native kernel for this weight"):
                prepare(weight, name="native")
    finally:
        for cached in caches:
            cached.cache_clear()


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no product is called 'fast'; known: native, torch"):
        prepare(_normal(2, 2), name="fast")


def test_the_yardstick_reads_and_huge_pages_hold_any_shape() -> None:
    tensor = memory.empty_in_huge_pages(3, 1 << 20, dtype=torch.float32)
    tensor.fill_(1.0)
    assert tensor.sum() == 3 << 20
    assert memory.read_bytes_per_second(tensor) > 0
    assert memory.empty_in_huge_pages(5, dtype=torch.int8).shape == (5,)
