"""One growing block of memory per layer for loop 1, a ring of W keys for each later loop.

The simplest memory that is right: a batch of B sequences that advance together.
"""

from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from loopcoder.kernels.attention import AttentionBackend, attention_backend
from loopcoder.kernels.masks import causal_mask
from loopcoder.kernels.window import window_attention

SMALLEST_CAPACITY = 64


class Attended(Protocol):
    """What a cache must know of a model; `ModelConfig` is one."""

    @property
    def num_hidden_layers(self) -> int:
        """L."""
        ...

    @property
    def num_key_value_heads(self) -> int:
        """G."""
        ...

    @property
    def head_dim(self) -> int:
        """K."""
        ...

    @property
    def window(self) -> int:
        """W, the query itself counted."""
        ...


@dataclass(frozen=True, kw_only=True)
class CacheShape:
    """The sizes a cache is made of. W counts the query itself (SPEC.md section 1)."""

    layers: int
    loops: int
    batch: int
    groups: int
    head_dim: int
    window: int
    dtype: torch.dtype
    device: torch.device

    @classmethod
    def of(cls, config: Attended, *, loops: int, batch: int, like: Tensor) -> Self:
        """Room for `batch` sequences of a model, in the format and place of `like`."""
        return cls(
            layers=config.num_hidden_layers,
            loops=loops,
            batch=batch,
            groups=config.num_key_value_heads,
            head_dim=config.head_dim,
            window=config.window,
            dtype=like.dtype,
            device=like.device,
        )


class ContiguousCache:
    """Keys, values and carried states of B sequences (SPEC.md section 2).

    Loop 1: [B, capacity, G, K] per layer, `length` columns in use. Loops r >= 2: [R-1, B, W, G, K]
    per layer, where column c lives in slot c mod W. `carried_RBD` [R-1, B, D] is what loops
    1..R-1 hand to the next token. `document_BS` is None as long as no row is padded or packed.
    """

    def __init__(self, shape: CacheShape) -> None:
        self.shape = shape
        self.backend: AttentionBackend = attention_backend(shape.device, shape.dtype)
        self.length = 0
        self.carried_RBD: Tensor | None = None
        self.document_BS: Tensor | None = None
        self.first_k, self.first_v = ([self._empty(0) for _ in range(shape.layers)] for _ in "kv")
        self.ring_k, self.ring_v = ([self._rings() for _ in range(shape.layers)] for _ in "kv")

    def _empty(self, columns: int) -> Tensor:
        s = self.shape
        size = (s.batch, columns, s.groups, s.head_dim)
        return torch.empty(size, dtype=s.dtype, device=s.device)

    def _rings(self) -> Tensor:
        s = self.shape
        size = (s.loops - 1, s.batch, s.window, s.groups, s.head_dim)
        return torch.zeros(size, dtype=s.dtype, device=s.device)

    @property
    def ring_bytes(self) -> int:
        """Bytes of all later loops' rings, constant in the length."""
        return sum(ring.nbytes for ring in (*self.ring_k, *self.ring_v))

    @property
    def first_loop_bytes(self) -> int:
        """Bytes of loop 1's keys and values in use."""
        s = self.shape
        column = 2 * s.layers * s.batch * s.groups * s.head_dim * s.dtype.itemsize
        return self.length * column

    @property
    def last_document_B(self) -> Tensor | None:
        """The latest document of each sequence; None before the first token."""
        if self.length == 0:
            return None
        if self.document_BS is None:
            return torch.zeros(self.shape.batch, dtype=torch.long, device=self.shape.device)
        return self.document_BS.amax(dim=1)

    def open(self, tokens: int, document_BT: Tensor | None) -> "ChunkKV":
        """Make room for `tokens` more columns and return the views to fill them."""
        self._reserve(self.length + tokens)
        return ChunkKV(self, tokens, self._documents(tokens, document_BT))

    def commit(self, chunk: "ChunkKV", carried_RBD: Tensor) -> None:
        """Count a chunk's columns as stored, and keep what its last token hands on."""
        self.length += chunk.tokens
        self.document_BS = chunk.document_BS
        self.carried_RBD = carried_RBD

    def select(self, index_B: Tensor) -> None:
        """Keep, drop or repeat sequences: row i becomes the old row `index_B[i]` (beam search)."""
        index_B = index_B.to(self.shape.device)
        for keep in (self.first_k, self.first_v):
            keep[:] = [x.index_select(0, index_B) for x in keep]
        for keep in (self.ring_k, self.ring_v):
            keep[:] = [x.index_select(1, index_B) for x in keep]
        if self.carried_RBD is not None:
            self.carried_RBD = self.carried_RBD.index_select(1, index_B)
        if self.document_BS is not None:
            self.document_BS = self.document_BS.index_select(0, index_B)
        self.shape = replace(self.shape, batch=index_B.numel())

    def _reserve(self, columns: int) -> None:
        capacity = self.first_k[0].shape[1]
        if columns <= capacity:
            return
        capacity = max(columns, 2 * capacity, SMALLEST_CAPACITY)
        for keep in (self.first_k, self.first_v):
            for layer, old in enumerate(keep):
                new = self._empty(capacity)
                new[:, : self.length] = old[:, : self.length]
                keep[layer] = new

    def _documents(self, tokens: int, document_BT: Tensor | None) -> Tensor | None:
        if document_BT is None and self.document_BS is None:
            return None
        batch, device = self.shape.batch, self.shape.device
        before = self.document_BS
        if before is None:
            before = torch.zeros(batch, self.length, dtype=torch.long, device=device)
        if document_BT is None:
            document_BT = before.amax(dim=1, keepdim=True).expand(batch, tokens)
        return torch.cat([before, document_BT], dim=1)


class ChunkKV:
    """Views of `tokens` new columns that start at the cache's length."""

    def __init__(self, cache: ContiguousCache, tokens: int, document_BS: Tensor | None) -> None:
        self.cache = cache
        self.tokens = tokens
        self.start = cache.length
        self.document_BS = document_BS

    def loop(self, loop: int) -> "ChunkLoopKV":
        """The view for all new tokens of one loop (0-based): the serial schedule."""
        return ChunkLoopKV(self, loop)

    def parallel(self) -> "TokenKV":
        """The view for all loops of one new token."""
        assert self.tokens == 1, "only a single token's loops are independent"
        return TokenKV(self)

    def global_mask(self) -> Tensor | None:
        """New tokens over all columns: bool [B or 1, T, S]; None if T == S or 1 and unpadded."""
        if self.document_BS is not None:
            return causal_mask(self.document_BS, self.tokens)
        if self.start == 0 or self.tokens == 1:
            return None
        columns = torch.zeros(1, self.start + self.tokens, device=self.cache.shape.device)
        return causal_mask(columns, self.tokens)


class ChunkLoopKV:
    """A `KVView` of T new tokens of one loop, over what the cache holds and themselves."""

    def __init__(self, chunk: ChunkKV, loop: int) -> None:
        self.chunk, self.cache, self.loop = chunk, chunk.cache, loop
        self.mask_BTS = chunk.global_mask()
        window, start = self.cache.shape.window, chunk.start
        self.past = min(window - 1, start)
        device = self.cache.shape.device
        self.past_slot = torch.arange(start - self.past, start, device=device) % window
        end = start + chunk.tokens
        self.kept = min(window, chunk.tokens)
        self.kept_slot = torch.arange(end - self.kept, end, device=device) % window
        self.own: tuple[Tensor, Tensor] | None = None

    def write(self, layer: int, k_NGK: Tensor, v_NGK: Tensor) -> None:
        """See `KVView.write`."""
        k_BTGK, v_BTGK = (self._per_sequence(x) for x in (k_NGK, v_NGK))
        if self.loop == 0:
            columns = slice(self.chunk.start, self.chunk.start + self.chunk.tokens)
            self.cache.first_k[layer][:, columns] = k_BTGK
            self.cache.first_v[layer][:, columns] = v_BTGK
            return
        rings = (self.cache.ring_k[layer][self.loop - 1], self.cache.ring_v[layer][self.loop - 1])
        k, v = (self._extend(ring, x) for ring, x in zip(rings, (k_BTGK, v_BTGK), strict=True))
        self.own = (k, v)

    def attend_global(self, layer: int, q_NHK: Tensor) -> Tensor:
        """See `KVView.attend_global`."""
        S = self.chunk.start + self.chunk.tokens
        y_BTHK = self.cache.backend.attend(
            self._per_sequence(q_NHK),
            self.cache.first_k[layer][:, :S],
            self.cache.first_v[layer][:, :S],
            mask_BTS=self.mask_BTS,
            causal=self.mask_BTS is None and self.chunk.start == 0,
        )
        return y_BTHK.flatten(0, 1)

    def attend_local(self, layer: int, q_MHK: Tensor) -> Tensor:
        """See `KVView.attend_local`."""
        assert self.own is not None, "a layer writes before it attends"
        document_BS = self.chunk.document_BS
        y_BTHK = window_attention(
            self.cache.backend,
            self._per_sequence(q_MHK),
            *self.own,
            self.cache.shape.window,
            None if document_BS is None else document_BS[:, self.chunk.start - self.past :],
        )
        return y_BTHK.flatten(0, 1)

    def _extend(self, ring_BWGK: Tensor, x_BTGK: Tensor) -> Tensor:
        """The ring's last keys before the new ones; then keep the newest W in the ring."""
        extended = torch.cat([ring_BWGK[:, self.past_slot], x_BTGK], dim=1)
        ring_BWGK[:, self.kept_slot] = x_BTGK[:, -self.kept :]
        return extended

    def _per_sequence(self, x_NHK: Tensor) -> Tensor:
        x_BTHK: Tensor = x_NHK.unflatten(0, (self.cache.shape.batch, self.chunk.tokens))
        return x_BTHK


class TokenKV:
    """A `KVView` of one new token in all loops: rows [R, B], loop 1 first."""

    def __init__(self, chunk: ChunkKV) -> None:
        self.cache, self.column = chunk.cache, chunk.start
        shape = self.cache.shape
        self.rows = (shape.loops, shape.batch)
        self.slot = self.column % shape.window
        self.filled = min(self.column + 1, shape.window)
        self.global_mask_B1S = chunk.global_mask()
        self.local_mask_M1W = self._local_mask(chunk.document_BS)

    def write(self, layer: int, k_NGK: Tensor, v_NGK: Tensor) -> None:
        """See `KVView.write`."""
        firsts = (self.cache.first_k[layer], self.cache.first_v[layer])
        rings = (self.cache.ring_k[layer], self.cache.ring_v[layer])
        for first, ring, x_NGK in zip(firsts, rings, (k_NGK, v_NGK), strict=True):
            x_RBGK = x_NGK.unflatten(0, self.rows)
            first[:, self.column] = x_RBGK[0]
            ring[:, :, self.slot] = x_RBGK[1:]

    def attend_global(self, layer: int, q_NHK: Tensor) -> Tensor:
        """See `KVView.attend_global`. All loops of a sequence read its loop-1 keys together."""
        S = self.column + 1
        y_BRHK = self.cache.backend.attend(
            q_NHK.unflatten(0, self.rows).transpose(0, 1),
            self.cache.first_k[layer][:, :S],
            self.cache.first_v[layer][:, :S],
            mask_BTS=self._for_every_loop(self.global_mask_B1S),
        )
        return y_BRHK.transpose(0, 1).flatten(0, 1)

    def attend_local(self, layer: int, q_MHK: Tensor) -> Tensor:
        """See `KVView.attend_local`."""
        k_MWGK, v_MWGK = (
            ring[:, :, : self.filled].flatten(0, 1)
            for ring in (self.cache.ring_k[layer], self.cache.ring_v[layer])
        )
        y_M1HK = self.cache.backend.attend(
            q_MHK[:, None], k_MWGK, v_MWGK, mask_BTS=self.local_mask_M1W
        )
        return y_M1HK[:, 0]

    def _for_every_loop(self, mask_B1S: Tensor | None) -> Tensor | None:
        return None if mask_B1S is None else mask_B1S.expand(-1, self.rows[0], -1)

    def _local_mask(self, document_BS: Tensor | None) -> Tensor | None:
        """Slots of the token's own document: bool [M, 1, filled]; None without padding."""
        if document_BS is None:
            return None
        window = self.cache.shape.window
        slot = torch.arange(self.filled, device=document_BS.device)
        column = self.column - (self.slot - slot) % window
        same_BW = document_BS[:, column] == document_BS[:, self.column, None]
        return same_BW.repeat(self.rows[0] - 1, 1)[:, None]
