"""A job that every engine can load in seconds."""

from pathlib import Path
from typing import Any

from loopcoder.bench.plan import Job, Subject, Workload
from loopcoder.model.config import ModelConfig

# 256 inputs in every matrix: the least that llama.cpp packs in 4 bits.
CONFIG = ModelConfig(
    vocab_size=512,
    hidden_size=256,
    intermediate_size=512,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=64,
    max_position_embeddings=512,
    plt_window_size=(4, 0),
)

WORKLOADS = {
    "decode": Workload(kind="decode", sequences=2, prompt=20),
    "prefill": Workload(kind="prefill", prompt=20),
    "throughput": Workload(kind="throughput", sequences=2, prompt=20, output=3),
}


def job(config: ModelConfig = CONFIG) -> Job:
    return Job(
        config=config,
        model=None,
        dtype="bfloat16",
        device="cpu",
        threads=1,
        positions=64,
        sequences=2,
    )


def message(subject: Subject, scratch: Path) -> dict[str, Any]:
    return {**job().message(subject), "scratch": str(scratch)}
