"""Small float64 models whose every part matters, and samples for them."""

from pathlib import Path
from typing import Any

import torch

from loopcoder.checkpoint.save import save_model
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.probes import Sample
from loopcoder.probes.identity import source_of
from loopcoder.records.rows import DataIdentity, Source
from tests.model.configs import random_tokens, random_weights
from tests.small import byte_tokenizer, small_model

CONFIG = ModelConfig(
    vocab_size=37,
    hidden_size=24,
    intermediate_size=20,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=6,
    max_position_embeddings=64,
    rope_theta=100.0,
    plt_num_loops=3,
    plt_window_size=(4, 0),
    plt_emb_scale=0.8,
    plt_hidden_scale=0.6,
)


def tiny(seed: int = 0, **fields: Any) -> PLT:
    """`CONFIG` with `fields` changed, in float64; the same weights at every call."""
    config = CONFIG.with_(**fields)
    model = PLT(config).double().eval()
    weights = random_weights(config, seed)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    return model


def tiny_with_equal_loops(loops: int = 3) -> PLT:
    """x^r = E and gates of exactly 1: every loop computes what loop 1 did."""
    model = tiny(plt_num_loops=loops, plt_emb_scale=1.0, plt_hidden_scale=0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("plt_gate.weight"):
                parameter.zero_()
            elif name.endswith("plt_gate.bias"):
                parameter.fill_(60.0)  # its sigmoid is 1 in float64
    return model


def tokens(length: int = 12, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """[batch, length] token ids."""
    rows = [random_tokens(CONFIG, length, seed + b) for b in range(batch)]
    return torch.tensor(rows)


def sample(document: str, seed: int, length: int = 12) -> Sample:
    """A random one; its `bytes` mean nothing."""
    ids = random_tokens(CONFIG, length, seed)
    return Sample(document=document, start=10 * seed, token_ids=ids, bytes=2 * length)


def source(model: PLT, length: int = 12) -> Source:
    """Where the rows of a test come from."""
    data = DataIdentity(name="random", hash="0", length=length)
    return source_of(model, name="tiny", data=data, seed=0, command="test")


def small_checkpoint(path: Path, *, tokenizer: bool = True, **fields: Any) -> Path:
    """A byte model of 256 positions and a window of 5 keys."""
    model = small_model(**fields)
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    save_model(state, model.config.shape(), path)
    if tokenizer:
        byte_tokenizer().save_pretrained(path)
    return path
