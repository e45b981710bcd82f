"""Our engine around one model, with memory for exactly what is measured."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from loopcoder.bench.random_model import random_model
from loopcoder.checkpoint.load import load_model, torch_dtype
from loopcoder.engine.build import EngineSettings, build_engine
from loopcoder.engine.core import Engine
from loopcoder.engine.device import usable_device
from loopcoder.engine.sequence import Request
from loopcoder.kernels.native import features
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.model.products import fuse, products
from loopcoder.types import SamplingParams


def measured_model(job: dict[str, Any]) -> PLT:
    """The job's model, its products prepared; threads are set on the way."""
    torch.set_num_threads(job["threads"])
    device = usable_device(job["device"])
    if job["model"] is not None:
        model = load_model(
            job["model"],
            dtype=job["dtype"],
            device=device,
            quantization=job["quantization"],
        )
    else:
        dtype = torch_dtype("bfloat16" if job["dtype"] == "auto" else job["dtype"])
        config = ModelConfig.from_mapping(job["config"])
        model = random_model(config, dtype=dtype, device=device, quantization=job["quantization"])
    fuse(model)
    return model


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a model runs: the machine's part, the format of its activations, its kernels."""

    machine: dict[str, Any]
    dtype: str
    kernels: list[str]
    weight_bytes: int


def describe_place(model: PLT) -> Place:
    """Facts of a prepared model; `weight_bytes` are those that a decode step reads."""
    weight, prepared = model.model.norm.weight, products(model).values()
    return Place(
        machine={
            "features": sorted(features()),
            "device": str(weight.device),
            "gpu": torch.cuda.get_device_name() if weight.is_cuda else None,
        },
        dtype=str(weight.dtype).removeprefix("torch."),
        kernels=sorted({product.name for product in prepared}),
        weight_bytes=sum(product.nbytes for product in prepared),
    )


def new_engine(
    model: PLT,
    *,
    sequences: int,
    positions: int,
    loops: int,
    schedule: Literal["parallel", "serial"] = "parallel",
    prefill: Literal["tail", "full"] = "tail",
) -> Engine:
    """The engine that `LLM` would make for `sequences` sequences of `positions` tokens."""
    settings = EngineSettings(max_num_seqs=sequences, schedule=schedule, prefill=prefill)
    return build_engine(model, settings, max_model_len=positions, loops=loops)


def add_all(engine: Engine, prompts: list[list[int]], *, loops: int, tokens: int) -> None:
    """Queue a greedy request of exactly `tokens` tokens for each prompt."""
    params = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, loops=loops)
    for index, prompt in enumerate(prompts):
        engine.add(
            Request(
                request_id=str(index),
                prompt=None,
                prompt_token_ids=prompt,
                params=params,
                limit=tokens,
            )
        )


def run_until_written(engine: Engine, sequences: int) -> None:
    """Step until each of `sequences` has written a token more: a decode step, prompts before."""
    written: set[str] = set()
    while len(written) < sequences:
        written |= {update.request_id for update in engine.step()}


def run_until_done(engine: Engine) -> None:
    """Step until every request is finished."""
    while engine.busy:
        engine.step()
