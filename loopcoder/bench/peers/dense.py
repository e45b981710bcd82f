"""The dense Llama that has a PLT's shape. Standard library only."""

from typing import Any

_SHARED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "tie_word_embeddings",
)


def llama_config(job: dict[str, Any]) -> dict[str, Any]:
    """A Hugging Face `config.json` of a Llama in bfloat16, for the job's shape."""
    config = job["config"]
    return {
        **{name: config[name] for name in _SHARED},
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "max_position_embeddings": max(job["positions"], config["max_position_embeddings"]),
        "rope_theta": config["rope_theta"],
        "rope_parameters": {"rope_type": "default", "rope_theta": config["rope_theta"]},
        "dtype": "bfloat16",
    }


def matrix_values(config: dict[str, Any]) -> int:
    """Values of all matrices that a decode step reads: layers and head, not the embedding."""
    D, F = config["hidden_size"], config["intermediate_size"]
    heads = 2 * (config["num_attention_heads"] + config["num_key_value_heads"])
    layer = D * (heads * config["head_dim"] + 3 * F)
    return int(config["num_hidden_layers"] * layer + config["vocab_size"] * D)
