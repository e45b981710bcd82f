"""What one loop's attention in one layer looks like (SPEC.md section 5), from queries and keys.

Maps exist for one block of queries at a time, [B, H, block, S], and as logarithms: a softmax is
positive wherever it may look, but small values underflow, and KL divides by them. Shape suffixes as
in `loopcoder.kernels`; T are a block's queries where S, the keys, stands beside it.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import pad

from loopcoder.errors import RequestError
from loopcoder.kernels.masks import window_mask
from loopcoder.probes.heads import effective_heads, head_cosines, head_gram, mean_over_pairs

Branch = Literal["mixed", "global"]
Direction = Literal["to_previous", "from_previous"]


@dataclass(frozen=True, kw_only=True)
class LayerAttention:
    """What one loop asks of one layer: B samples of T tokens, each one unpadded document.

    Queries and keys are those after RoPE. `k_global_BTGK` are loop 1's keys (the loop's own, in a
    model whose loops do not share them), `k_local_BTGK` the loop's own, of which a query sees the
    last `window`, itself included. `gate_BTH` is the weight on the global branch. Loop 1 has no
    local branch, nor has a model without G-SWA: both are None.

    A gate of exactly 0 was rounded, as a sigmoid is positive: it counts as the smallest normal
    number, so that KL against its map is finite. A gate of exactly 1 is taken as it is.

    Raises `RequestError` for shapes that do not belong together.
    """

    q_BTHK: Tensor
    k_global_BTGK: Tensor
    k_local_BTGK: Tensor | None = None
    gate_BTH: Tensor | None = None
    window: int

    def __post_init__(self) -> None:
        """Compare every shape with that of the queries."""
        for name in ("q_BTHK", "k_global_BTGK"):
            _expect_axes(name, getattr(self, name), 4)
        B, T, H, K = self.q_BTHK.shape
        G = self.k_global_BTGK.shape[2]
        if G == 0 or H % G:
            raise RequestError(f"{H} query heads read {G} key heads; expected a divisor of {H}")
        _expect("k_global_BTGK", self.k_global_BTGK, (B, T, G, K))
        if (self.k_local_BTGK is None) != (self.gate_BTH is None):
            raise RequestError("k_local_BTGK and gate_BTH belong together; give both or neither")
        if self.k_local_BTGK is not None and self.gate_BTH is not None:
            _expect("k_local_BTGK", self.k_local_BTGK, (B, T, G, K))
            _expect("gate_BTH", self.gate_BTH, (B, T, H))
        _at_least_one("window", self.window)


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Attention of T queries over all S keys: [B, H, T, S], rows sum to 1.

    `mixed_BHTS` is g A_global + (1 - g) A_local; without a local branch it is `global_BHTS`
    itself, and `local_BHTS` is None.
    """

    global_BHTS: Tensor
    local_BHTS: Tensor | None
    mixed_BHTS: Tensor


@dataclass(frozen=True, kw_only=True)
class AttentionMeasures:
    """Means over each sample's queries, in float64; entropies and shift in nats.

    `shift_BH` is None without a previous loop. `head_rank_B` lies in 1..H. `head_similarity_BHH`
    holds the cosines between the heads' mixed maps and `head_cosine_B` their mean over pairs of
    different heads, None where there is one head.
    """

    entropy_global_BH: Tensor
    entropy_local_BH: Tensor | None
    entropy_mixed_BH: Tensor
    shift_BH: Tensor | None
    head_rank_B: Tensor
    head_similarity_BHH: Tensor
    head_cosine_B: Tensor | None


@dataclass(frozen=True, kw_only=True)
class _LogMaps:
    """A block's maps as logarithms, over the keys up to its last query; `_HIDDEN` on unseen keys.

    `local_BHTS` covers only the last of those keys, from the first query's window on.
    """

    global_BHTS: Tensor
    local_BHTS: Tensor | None
    mixed_BHTS: Tensor


def maps(layer: LayerAttention, queries: slice) -> Maps:
    """The maps of a run of queries, in float32, or float64 if the queries are.

    Raises `RequestError` for a slice that is empty or has a step.
    """
    T = layer.q_BTHK.shape[1]
    start, stop, step = queries.indices(T)
    if step != 1 or start >= stop:
        raise RequestError(f"queries is {queries}; expected a run of positions within 0..{T - 1}")
    log = _log_maps(layer, start, stop)
    global_BHTS = pad(log.global_BHTS.exp(), (0, T - stop))
    if log.local_BHTS is None:
        return Maps(global_BHTS=global_BHTS, local_BHTS=None, mixed_BHTS=global_BHTS)
    before = stop - log.local_BHTS.shape[-1]
    return Maps(
        global_BHTS=global_BHTS,
        local_BHTS=pad(log.local_BHTS.exp(), (before, T - stop)),
        mixed_BHTS=pad(log.mixed_BHTS.exp(), (0, T - stop)),
    )


def measure_attention(
    current: LayerAttention,
    previous: LayerAttention | None,
    *,
    block: int = 32,
    shift_branch: Branch = "mixed",
    shift_direction: Direction = "to_previous",
    first_query: int = 0,
) -> AttentionMeasures:
    """Entropy, shift and head diversity of one loop in one layer (SPEC.md section 5).

    `previous` is the same layer in the loop before, None in loop 1. The shift is KL(A^r | A^{r-1})
    by key position, of the maps of `shift_branch`; "from_previous" turns it round. Means are over
    the queries from `first_query` on. Memory is O(B H block T); results do not depend on `block`.

    Raises `RequestError` for an argument out of range, or loops of different shapes.
    """
    T = current.q_BTHK.shape[1]
    _at_least_one("block", block)
    _one_of("shift_branch", shift_branch, get_args(Branch))
    _one_of("shift_direction", shift_direction, get_args(Direction))
    if not 0 <= first_query < T:
        raise RequestError(f"first_query is {first_query}; expected 0..{T - 1} for {T} tokens")
    if previous is not None:
        _expect("q_BTHK of the previous loop", previous.q_BTHK, tuple(current.q_BTHK.shape))
    total: dict[str, Tensor] = {}
    for start in range(first_query, T, block):
        stop = min(start + block, T)
        log = _log_maps(current, start, stop)
        values = _block_sums(log)
        if previous is not None:
            log_previous = _log_maps(previous, start, stop)
            values["shift"] = _shift_sum(log, log_previous, shift_branch, shift_direction)
        for name, value in values.items():
            total[name] = total.get(name, torch.zeros_like(value)) + value
    return _means(total, T - first_query)


def _means(total: dict[str, Tensor], queries: int) -> AttentionMeasures:
    mean = {name: value / queries for name, value in total.items()}
    return AttentionMeasures(
        entropy_global_BH=mean["entropy_global"],
        entropy_local_BH=mean.get("entropy_local"),
        entropy_mixed_BH=mean["entropy_mixed"],
        shift_BH=mean.get("shift"),
        head_rank_B=mean["head_rank"],
        head_similarity_BHH=mean["head_similarity"],
        head_cosine_B=mean_over_pairs(mean["head_similarity"]),
    )


def _block_sums(log: _LogMaps) -> dict[str, Tensor]:
    """Sums over the block's queries."""
    global_BHTS = log.global_BHTS.exp()
    sums = {"entropy_global": -_expectation(global_BHTS, log.global_BHTS)}
    if log.local_BHTS is None:
        mixed_BHTS, sums["entropy_mixed"] = global_BHTS, sums["entropy_global"]
    else:
        mixed_BHTS = log.mixed_BHTS.exp()
        sums["entropy_local"] = -_expectation(log.local_BHTS.exp(), log.local_BHTS)
        sums["entropy_mixed"] = -_expectation(mixed_BHTS, log.mixed_BHTS)
    gram_BTHH = head_gram(mixed_BHTS)
    sums["head_similarity"] = head_cosines(gram_BTHH).sum(1)
    sums["head_rank"] = effective_heads(gram_BTHH).sum(1)
    return sums


def _shift_sum(log: _LogMaps, previous: _LogMaps, branch: Branch, direction: Direction) -> Tensor:
    """KL summed over the block's queries: [B, H]; not below 0, where rounding could put it."""
    log_p, log_q = (
        each.mixed_BHTS if branch == "mixed" else each.global_BHTS for each in (log, previous)
    )
    if direction == "from_previous":
        log_p, log_q = log_q, log_p
    return _expectation(log_p.exp(), log_p - log_q).clamp(min=0)


def _expectation(p_BHTS: Tensor, value_BHTS: Tensor) -> Tensor:
    """Under each query's map, summed over the queries: [B, H], in float64."""
    # An einsum stores no product of the two maps: several times as fast as (p * value).sum(-1).
    each_BHT = torch.einsum("bhts,bhts->bht", p_BHTS, value_BHTS)
    total_BH: Tensor = each_BHT.sum(-1, dtype=torch.float64)
    return total_BH


# Not infinity: 0 * infinity is no number, 0 * this is 0. Half, as softmax subtracts the largest.
_HIDDEN = -0.5 * torch.finfo(torch.float32).max


def _log_maps(layer: LayerAttention, start: int, stop: int) -> _LogMaps:
    """Of the queries start..stop - 1."""
    q_BTHK = layer.q_BTHK[:, start:stop]
    global_BHTS = _log_attention(q_BTHK, layer.k_global_BTGK[:, :stop], stop)
    if layer.k_local_BTGK is None or layer.gate_BTH is None:
        return _LogMaps(global_BHTS=global_BHTS, local_BHTS=None, mixed_BHTS=global_BHTS)
    first = max(0, start - layer.window + 1)
    local_BHTS = _log_attention(q_BTHK, layer.k_local_BTGK[:, first:stop], layer.window)
    gate_BHT1 = layer.gate_BTH[:, start:stop].transpose(1, 2).unsqueeze(-1).to(global_BHTS.dtype)
    gate_BHT1 = gate_BHT1.clamp(min=torch.finfo(gate_BHT1.dtype).tiny)
    mixed_BHTS = global_BHTS + gate_BHT1.log()
    mixed_BHTS[..., first:] = torch.logaddexp(
        global_BHTS[..., first:] + gate_BHT1.log(), local_BHTS + (-gate_BHT1).log1p()
    )
    return _LogMaps(global_BHTS=global_BHTS, local_BHTS=local_BHTS, mixed_BHTS=mixed_BHTS)


def _log_attention(q_BTHK: Tensor, k_BSGK: Tensor, window: int) -> Tensor:
    """log softmax(q k / sqrt(K)) of queries that are the last T of S tokens: [B, H, T, S]."""
    T, H, K = q_BTHK.shape[1:]
    S, G = k_BSGK.shape[1:3]
    precise = torch.promote_types(q_BTHK.dtype, torch.float32)
    q_BGJTK = q_BTHK.to(precise).mul(K**-0.5).unflatten(2, (G, H // G)).movedim(1, 3)
    k_BGKS = k_BSGK.to(precise).permute(0, 2, 3, 1)
    score_BGJTS = (q_BGJTK.flatten(2, 3) @ k_BGKS).unflatten(2, (H // G, T))
    column_S = torch.arange(S, device=q_BTHK.device)
    hidden_TS = ~window_mask(column_S[S - T :], column_S, window)
    log_BHTS: Tensor = score_BGJTS.masked_fill_(hidden_TS, _HIDDEN).flatten(1, 2).log_softmax(-1)
    return log_BHTS


def _expect(name: str, x: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(x.shape) != shape:
        raise RequestError(f"{name} has shape {tuple(x.shape)}; expected {shape}, as the queries")


def _expect_axes(name: str, x: Tensor, axes: int) -> None:
    if x.ndim != axes:
        raise RequestError(f"{name} has shape {tuple(x.shape)}; expected {axes} axes")


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise RequestError(f"{name} is {value}; it must be at least 1")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise RequestError(f"{name} is {value!r}; choose one of {', '.join(map(repr, choices))}")
