"""Attention over pages: the native kernel and its torch twin against dense sums in float64."""

from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from loopcoder.kernels import native, paged
from loopcoder.kernels.paged import PagedRows, gathered_attention, paged_attention

# Largest error, for values of about one.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
ATTEND = {"native": paged_attention, "twin": gathered_attention}
needs_native = pytest.mark.skipif(native.library() is None, reason="no compiler or no AVX-512")


@dataclass(frozen=True, kw_only=True)
class Case:
    """Queries, pools and rows of one call; memory that holds no token is NaN."""

    q_NHK: Tensor
    k_pool: Tensor
    v_pool: Tensor
    rows: PagedRows

    def run(self, attend: str = "native") -> Tensor:
        out = torch.full_like(self.q_NHK, 7)
        ATTEND[attend](self.q_NHK, self.k_pool, self.v_pool, self.rows, out)
        return out

    def dense(self) -> Tensor:
        """Row by row, from the definition."""
        p, G, K = self.k_pool.shape[1:]
        out = torch.full_like(self.q_NHK, 7, dtype=torch.float64)
        offsets = self.rows.group_offsets.tolist()
        for g, table in enumerate(self.rows.group_table.tolist()):
            for m in range(offsets[g], offsets[g + 1]):
                token_S = torch.arange(int(self.rows.length_M[m]))
                page_S, slot_S = self.rows.table_BP[table, token_S // p].long(), token_S % p
                k_SGK, v_SGK = (x[page_S, slot_S].double() for x in (self.k_pool, self.v_pool))
                row = int(self.rows.order_M[m])
                q_GJK = self.q_NHK[row].double().view(G, -1, K)
                weight_GJS = (torch.einsum("gjk,sgk->gjs", q_GJK, k_SGK) * K**-0.5).softmax(-1)
                out[row] = torch.einsum("gjs,sgk->gjk", weight_GJS, v_SGK).flatten(0, 1)
        return out

    def alone(self, g: int, m: int) -> "Case":
        """The same memory, and one row of one group in the call."""
        return replace(
            self,
            rows=replace(
                self.rows,
                order_M=self.rows.order_M[m : m + 1],
                length_M=self.rows.length_M[m : m + 1],
                group_offsets=_int32([0, 1]),
                group_table=self.rows.group_table[g : g + 1],
            ),
        )


def _int32(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def make(
    lengths: list[list[int]],
    *,
    p: int = 16,
    H: int = 4,
    G: int = 2,
    K: int = 32,
    dtype: torch.dtype = torch.float32,
    pool_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Case:
    """One group for each list of lengths; pages, rows and page tables in random order."""
    generator = torch.Generator().manual_seed(seed)
    pages = [-(-max(group) // p) for group in lengths]
    B, P, M = len(lengths), sum(pages) + 3, sum(map(len, lengths))
    pools = torch.full((2, P, p, G, K), torch.nan, dtype=pool_dtype or dtype)
    order_P = torch.randperm(P, generator=generator).tolist()
    table_BP = torch.full((B, max(pages) + 1), -1, dtype=torch.int32)
    group_table = torch.randperm(B, generator=generator).int()
    for table, count, group in zip(group_table.tolist(), pages, lengths, strict=True):
        used, order_P = order_P[:count], order_P[count:]
        table_BP[table, :count] = _int32(used)
        token_S = torch.arange(max(group))
        page_S, slot_S = torch.tensor(used)[token_S // p], token_S % p
        values = torch.randn(2, len(token_S), G, K, generator=generator)
        pools[:, page_S, slot_S] = values.to(pools.dtype)
    return Case(
        q_NHK=torch.randn(M + 2, H, K, generator=generator).to(dtype),
        k_pool=pools[0],
        v_pool=pools[1],
        rows=PagedRows(
            table_BP=table_BP,
            order_M=torch.randperm(M + 2, generator=generator)[:M].int(),
            group_offsets=_int32([0, *torch.tensor([*map(len, lengths)]).cumsum(0).tolist()]),
            group_table=group_table,
            length_M=_int32([length for group in lengths for length in group]),
            largest_group=max(map(len, lengths)),
            longest=max(map(max, lengths)),
        ),
    )


def check(case: Case, attend: str) -> None:
    """Right rows within the tolerance, other rows untouched."""
    kinds = (case.q_NHK.dtype, case.k_pool.dtype)
    tolerance = TOLERANCE[torch.bfloat16 if kinds[0] == torch.bfloat16 else torch.float32]
    torch.testing.assert_close(case.run(attend).double(), case.dense(), rtol=0, atol=tolerance)


LENGTHS = [[1], [17, 3], [700, 699, 701, 64, 1], [513, 512, 1030]]


@pytest.mark.parametrize("attend", ATTEND)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("K", [16, 32, 64, 80, 96, 128, 256])
@pytest.mark.parametrize("p", [1, 5, 13, 16])
def test_head_dims_and_pages(attend: str, dtype: torch.dtype, K: int, p: int) -> None:
    check(make(LENGTHS, p=p, K=K, dtype=dtype), attend)


@pytest.mark.parametrize("attend", ATTEND)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("ratio", range(1, 9))
@pytest.mark.parametrize("G", [1, 3])
def test_grouped_heads(attend: str, dtype: torch.dtype, ratio: int, G: int) -> None:
    check(make(LENGTHS, H=ratio * G, G=G, dtype=dtype, seed=ratio), attend)


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 600), min_size=1, max_size=5), min_size=1, max_size=5),
    p=st.sampled_from([1, 5, 13, 16, 64]),
    G=st.integers(1, 3),
    ratio=st.integers(1, 8),
    K=st.sampled_from([2, 8, 16, 48, 64]),
    dtype=st.sampled_from([*TOLERANCE]),
    attend=st.sampled_from([*ATTEND]),
    seed=st.integers(0, 99),
)
def test_any_shape(
    lengths: list[list[int]],
    p: int,
    G: int,
    ratio: int,
    K: int,
    dtype: torch.dtype,
    attend: str,
    seed: int,
) -> None:
    check(make(lengths, p=p, H=ratio * G, G=G, K=K, dtype=dtype, seed=seed), attend)


@pytest.mark.parametrize("attend", ATTEND)
def test_a_long_prompt_in_one_group(attend: str) -> None:
    """Far more rows than one block of queries holds, each seeing one token more."""
    check(make([[*range(100, 300)]], H=6, G=2), attend)


@pytest.mark.parametrize("attend", ATTEND)
def test_float32_queries_over_a_bfloat16_pool(attend: str) -> None:
    check(make(LENGTHS, K=80, pool_dtype=torch.bfloat16), attend)


def test_without_bfloat16_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic of processors without AVX512_BF16."""
    monkeypatch.setattr(paged, "_pairs", lambda: False)
    check(make(LENGTHS, K=80, dtype=torch.bfloat16), "native")


@pytest.mark.parametrize("attend", ATTEND)
def test_queries_inside_wider_rows(attend: str) -> None:
    """As the fused projection leaves them: q, k and v of a row side by side."""
    case = make(LENGTHS)
    wide = torch.randn(case.q_NHK.shape[0], 8, 32)
    wide[:, 2:6] = case.q_NHK
    within = replace(case, q_NHK=wide[:, 2:6])
    assert torch.equal(within.run(attend), case.run(attend))


@pytest.mark.parametrize("attend", ATTEND)
def test_a_ring_is_a_table(attend: str) -> None:
    """65 slots as 5 pages: the last 65 of 200 tokens, wherever the ring has put them."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(200, 2, 32, generator=generator) for _ in range(3))
    ring = torch.empty(2, 65, 2, 32)
    for token in range(200):
        ring[:, token % 65] = torch.stack([k[token], v[token]])
    rows = PagedRows(
        table_BP=_int32([0, 1, 2, 3, 4])[None],
        order_M=_int32([0]),
        group_offsets=_int32([0, 1]),
        group_table=_int32([0]),
        length_M=_int32([65]),
        largest_group=1,
        longest=65,
    )
    pools = ring.view(2, 5, 13, 2, 32)
    case = Case(q_NHK=q[199:], k_pool=pools[0], v_pool=pools[1], rows=rows)
    weight = (torch.einsum("hk,shk->hs", q[199], k[135:]) * 32**-0.5).softmax(-1)
    expected = torch.einsum("hs,shk->hk", weight, v[135:])
    torch.testing.assert_close(case.run(attend)[0], expected, rtol=0, atol=1e-5)


@needs_native
def test_exponentials_are_exact() -> None:
    """Two keys: the weight of the smaller, to 2e-6 of itself, as far as float32 can add it."""
    rows = PagedRows(
        table_BP=_int32([0])[None],
        order_M=torch.arange(400, dtype=torch.int32),
        group_offsets=_int32([0, 400]),
        group_table=_int32([0]),
        length_M=torch.full((400,), 2, dtype=torch.int32),
        largest_group=400,
        longest=2,
    )
    k_pool, v_pool = torch.zeros(2, 1, 2, 1, 16)
    k_pool[0, 1, 0, 0], v_pool[0, 1] = -4.0, 1.0  # 4 = sqrt(16): the score is the query
    q = torch.zeros(400, 1, 16)
    q[:, 0, 0] = torch.linspace(0, 20, 400)
    case = Case(q_NHK=q, k_pool=k_pool, v_pool=v_pool, rows=rows)
    expected = torch.sigmoid(-q[:, 0, 0].double())
    torch.testing.assert_close(case.run()[:, 0, 0].double(), expected, rtol=2e-6, atol=0)


@needs_native
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("H", [4, 14])
def test_a_row_is_the_same_alone(dtype: torch.dtype, H: int) -> None:
    """Bit for bit: neither other groups nor other rows of its group change a row."""
    case = make(LENGTHS, H=H, K=48, dtype=dtype)
    together, offsets = case.run(), case.rows.group_offsets.tolist()
    for g in range(len(LENGTHS)):
        for m in range(offsets[g], offsets[g + 1]):
            row = int(case.rows.order_M[m])
            assert torch.equal(case.alone(g, m).run()[row], together[row]), (g, m)


@needs_native
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_threads_agree(dtype: torch.dtype) -> None:
    """Bit for bit, in a call large enough for several threads."""
    case = make([[5000, 4999], [700]], H=8, K=64, dtype=dtype)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(case.run())
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("attend", ATTEND)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_a_number_shows(attend: str, bad: float) -> None:
    """A broken query breaks its own row and no other."""
    case = make(LENGTHS)
    before, row = case.run(attend), int(case.rows.order_M[0])
    case.q_NHK[row, 0, 0] = bad
    after = case.run(attend)
    broken = torch.zeros(len(after), dtype=torch.bool)
    broken[row] = True
    assert after[row, 0].isnan().all()
    assert torch.equal(after[~broken], before[~broken])


def test_no_rows_no_work() -> None:
    case = make([[3]])
    none = replace(
        case.rows,
        order_M=_int32([]),
        length_M=_int32([]),
        group_offsets=_int32([0]),
        group_table=_int32([]),
        largest_group=0,
        longest=0,
    )
    assert (replace(case, rows=none).run() == 7).all()


@needs_native
@pytest.mark.parametrize(
    ("field", "place", "value"),
    [
        ("table_BP", (0, 0), 99),
        ("table_BP", (0, 0), -1),
        ("order_M", 0, 5),
        ("length_M", 0, 0),
        ("length_M", 0, 99),
        ("group_table", 0, 1),
        ("group_offsets", 1, 9),
    ],
)
def test_an_index_outside_is_refused(field: str, place: int | tuple[int, int], value: int) -> None:
    """Before any memory is read."""
    case = make([[20, 20]])
    getattr(case.rows, field)[place] = value
    with pytest.raises(AssertionError, match="outside its memory"):
        case.run()
