"""The tensors of a PLT checkpoint: names and shapes, without torch (SPEC.md section 1)."""

from collections.abc import Iterator

from loopcoder.model.config import ModelConfig

Shape = tuple[int, ...]


def tensor_shapes(config: ModelConfig) -> dict[str, Shape]:
    """Every tensor the checkpoint of `config` holds, by its released name, in model order.

    A tied head is the embedding and has no tensor of its own. Gates: `ModelConfig.has_gates`.
    """
    embedding = (config.vocab_size, config.hidden_size)
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": embedding}
    for index in range(config.num_hidden_layers):
        for name, shape in _layer_shapes(config):
            shapes[f"model.layers.{index}.{name}"] = shape
    shapes["model.norm.weight"] = (config.hidden_size,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = embedding
    return shapes


def _layer_shapes(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    D, F = config.hidden_size, config.intermediate_size
    HK = config.num_attention_heads * config.head_dim
    GK = config.num_key_value_heads * config.head_dim
    yield "input_layernorm.weight", (D,)
    yield "self_attn.q_proj.weight", (HK, D)
    yield "self_attn.k_proj.weight", (GK, D)
    yield "self_attn.v_proj.weight", (GK, D)
    yield "self_attn.o_proj.weight", (D, HK)
    if config.has_gates:
        yield from _gate_shapes(config)
    yield "post_attention_layernorm.weight", (D,)
    yield "mlp.gate_proj.weight", (F, D)
    yield "mlp.up_proj.weight", (F, D)
    yield "mlp.down_proj.weight", (D, F)


def _gate_shapes(config: ModelConfig) -> Iterator[tuple[str, Shape]]:
    H, D, K = config.num_attention_heads, config.hidden_size, config.head_dim
    if config.plt_gate_use_hidden_states:
        yield "self_attn.plt_gate.weight", (H, D)
        yield "self_attn.plt_gate.bias", (H,)
        yield "self_attn.plt_gate.gate_norm.weight", (D,)
    else:
        yield "self_attn.plt_gate.weight", (H, K)
        yield "self_attn.plt_gate.bias", (H,)
