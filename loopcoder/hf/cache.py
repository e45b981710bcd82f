"""The cache that transformers' `generate` carries from step to step."""

from typing import NoReturn

import torch
from torch import Tensor

from loopcoder.cache.contiguous import CacheShape, ContiguousCache
from loopcoder.errors import RequestError
from loopcoder.model.config import ModelConfig


class PLTCache:
    """`ContiguousCache` under the method names that transformers calls."""

    is_compileable = False

    def __init__(self, config: ModelConfig, *, loops: int, batch: int, like: Tensor) -> None:
        self.memory = ContiguousCache(CacheShape.of(config, loops=loops, batch=batch, like=like))

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns stored, padding included."""
        return self.memory.length

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes the old row `beam_idx[i]`."""
        self.memory.select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows only."""
        self.memory.select(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat each row `repeats` times."""
        self.memory.select(torch.arange(self.memory.shape.batch).repeat_interleave(repeats))

    def crop(self, max_length: int) -> NoReturn:
        """Impossible: a ring has forgotten the keys that a shorter text would need."""
        raise RequestError(
            f"this cache cannot go back to {max_length} tokens, because the later loops keep only "
            "their last window; assisted decoding is therefore not possible, use plain generate()"
        )
