"""The cache that transformers' `generate` carries from step to step."""

from typing import NoReturn

import torch
from torch import Tensor
from transformers.modeling_outputs import CausalLMOutputWithPast

from loopcoder.cache.contiguous import CacheShape, ContiguousCache
from loopcoder.errors import RequestError
from loopcoder.model.config import ModelConfig

# The name under which `generate` passes the cache, and looks for it in an output. 5.24 renamed it.
CACHE_NAME = (
    "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
)


class PLTCache:
    """`ContiguousCache` under the method names that transformers calls.

    Raises `RequestError` for a variant of the architecture: it keeps other states than this holds.
    """

    is_compileable = False
    is_croppable = False
    is_linear = (False,)  # as for a cache of one layer: no layer is of linear attention

    def __init__(self, config: ModelConfig, *, loops: int, batch: int, like: Tensor) -> None:
        if config.variant:
            raise RequestError(
                f"use_cache is true, and the cache is for the released architecture only; this "
                f"model has {config.variant_text}; leave use_cache out, or give use_cache=False"
            )
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


def given_cache(cache: PLTCache | None, past_key_values: PLTCache | None) -> PLTCache | None:
    """The cache that a caller gave under either of its names.

    Raises `RequestError` if it was given under both.
    """
    if cache is not None and past_key_values is not None:
        raise RequestError("give either cache or past_key_values, its older name, not both")
    return past_key_values if cache is None else cache
