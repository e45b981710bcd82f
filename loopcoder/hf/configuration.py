"""The released `config.json` as a transformers configuration."""

from typing import Any

from transformers import PreTrainedConfig

from loopcoder.checkpoint.config_file import parse_config
from loopcoder.model.config import MODEL_TYPE, VARIANT_FIELDS, ModelConfig


class PLTCoderConfig(PreTrainedConfig):
    """Fields and defaults of LoopCoder-V2's `config.json` (SPEC.md section 1).

    It is read as `load_model` reads it: what a PLT does not compute, or cannot be, is a
    `ConfigError` that names the field.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ("cache", "past_key_values", "loop_hidden_states")

    vocab_size: int = 76800
    hidden_size: int = 5120
    intermediate_size: int = 27648
    num_hidden_layers: int = 14
    num_attention_heads: int = 40
    num_key_value_heads: int = 8
    head_dim: int = 128
    hidden_act: str = "silu"
    max_position_embeddings: int = 131072
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-5
    rope_theta: float = 500000.0
    rope_scaling: dict[str, object] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    tie_word_embeddings: bool = False
    use_cache: bool = True
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = None
    plt_num_loops: int = 2
    plt_window_size: list[int] | tuple[int, ...] = (64, 0)
    plt_emb_scale: float | None = 0.707
    plt_hidden_scale: float | None = 0.053
    plt_normalize_per_loop: bool = True
    plt_gate_use_hidden_states: bool = True
    plt_loop_offset: int = 1
    plt_share_kv: bool = True
    plt_gated_window: bool = True

    def __post_init__(self, **kwargs: object) -> None:
        """Give the end tokens their default and check the shape."""
        if self.eos_token_id is None:
            self.eos_token_id = [2, 75864, 75869]
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self.rope_theta = self.shape().rope_theta  # some files nest it in `rope_parameters`

    def to_dict(self) -> dict[str, Any]:
        """As transformers', without the fields of variants that have their defaults.

        So the files of the released architecture hold its fields alone.
        """
        values = super().to_dict()
        for name in VARIANT_FIELDS:
            if values.get(name) is getattr(type(self), name):  # True is not 1: a mistake shows
                del values[name]
        return values

    def shape(self) -> ModelConfig:
        """The part that decides the mathematics."""
        values = self.to_dict()
        # Set by transformers when it quantises while loading; the files are checked without it.
        values.pop("quantization_config", None)
        return parse_config(values, "config.json")
