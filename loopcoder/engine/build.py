"""How much memory, how many rows: an `Engine` for a loaded model."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch

from loopcoder.cache.paged import PagedMemory, PagedShape, fitting_page_size
from loopcoder.engine.core import Engine
from loopcoder.engine.scheduler import Limits
from loopcoder.engine.wavefront import Wavefront
from loopcoder.errors import ConfigError, RequestError
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.records import available_bytes

MEMORY_SHARE = 0.5  # of what is free once the weights are loaded
ROWS = {"cpu": 512, "cuda": 4096}


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """What shapes an engine, beside the model.

    `max_num_seqs` sequences run together, a step has at most `max_num_batched_tokens` rows, one
    for each token and loop (None: 512 on a CPU, 4,096 on a GPU). `kv_cache_memory_bytes` is for
    keys and values (None: what `max_num_seqs` sequences of full length need, at most half of the
    free memory). `enable_prefix_caching` keeps finished prompts to be reused.

    Raises `RequestError`, naming the argument, for a value out of range.
    """

    max_num_seqs: int = 16
    max_num_batched_tokens: int | None = None
    kv_cache_memory_bytes: int | None = None
    enable_prefix_caching: bool = True
    schedule: Literal["parallel", "serial"] = "parallel"
    prefill: Literal["tail", "full"] = "tail"

    def __post_init__(self) -> None:
        """Check every range."""
        for name in ("max_num_seqs", "max_num_batched_tokens", "kv_cache_memory_bytes"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise RequestError(f"{name} is {value!r}; it must be a whole number")
            if value is not None and value < 1:
                raise RequestError(f"{name} is {value}; it must be at least 1")
        for name, known in (("schedule", ("parallel", "serial")), ("prefill", ("tail", "full"))):
            if getattr(self, name) not in known:
                raise RequestError(
                    f"{name} is {getattr(self, name)!r}; it must be {known[0]!r} or {known[1]!r}"
                )


def build_engine(
    model: PLT,
    settings: EngineSettings,
    *,
    max_model_len: int,
    loops: int,
    end_token_ids: Collection[int] = (),
    tokenizer: Any = None,
) -> Engine:
    """An engine with memory for sequences of `max_model_len` tokens at `loops` loops.

    Raises `ConfigError` for a variant of the architecture.
    """
    check_released(model.config)
    config, like = model.config, model.model.norm.weight
    shape = PagedShape(
        layers=config.num_hidden_layers,
        groups=config.num_key_value_heads,
        head_dim=config.head_dim,
        window=config.window,
        page_size=fitting_page_size(config.window),
        dtype=like.dtype,
        device=like.device,
    )
    rows = settings.max_num_batched_tokens or ROWS.get(like.device.type, ROWS["cpu"])
    return Engine(
        model,
        PagedMemory(
            shape, pages=_pages(shape, settings, max_model_len, loops), slots=settings.max_num_seqs
        ),
        limits=Limits(sequences=settings.max_num_seqs, rows=rows),
        wavefront=Wavefront(
            config, tail=settings.prefill == "tail", serial=settings.schedule == "serial"
        ),
        end_token_ids=end_token_ids,
        tokenizer=tokenizer,
        reuse=settings.enable_prefix_caching,
    )


def check_released(config: ModelConfig) -> None:
    """Raise `ConfigError` for a variant: pages, windows and schedule are the released model's."""
    if config.variant:
        raise ConfigError(
            f"the engine runs the released architecture only; this model has {config.variant_text} "
            "(for text use transformers' generate, which needs no cache; for its measures "
            "`loopcoder probe`; for its loss the held-out score of training)"
        )


def _pages(shape: PagedShape, settings: EngineSettings, max_model_len: int, loops: int) -> int:
    """Pages within the memory asked for, or within a share of what is free."""
    budget = settings.kv_cache_memory_bytes
    sequence = -(-max_model_len // shape.page_size) + loops * shape.ring_pages
    wanted = settings.max_num_seqs * sequence
    if budget is None:
        return max(
            sequence, min(wanted, int(_free_bytes(shape.device) * MEMORY_SHARE) // shape.page_bytes)
        )
    if budget < shape.page_bytes:
        raise RequestError(
            f"kv_cache_memory_bytes is {budget}; one page of {shape.page_size} tokens takes "
            f"{shape.page_bytes}, and a full sequence {sequence} of them"
        )
    return budget // shape.page_bytes


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return available_bytes() or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
