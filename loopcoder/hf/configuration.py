"""The released `config.json` as a transformers configuration."""

from transformers import PreTrainedConfig

from loopcoder.checkpoint.config_file import parse_config
from loopcoder.model.config import MODEL_TYPE, ModelConfig


class PLTCoderConfig(PreTrainedConfig):
    """Fields and defaults of LoopCoder-V2's `config.json` (SPEC.md section 1).

    It is read as `load_model` reads it: what a PLT does not compute, or cannot be, is a
    `ConfigError` that names the field.
    """

    model_type = MODEL_TYPE
    keys_to_ignore_at_inference = ("past_key_values", "loop_hidden_states")

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

    def __post_init__(self, **kwargs: object) -> None:
        """Give the end tokens their default and check the shape."""
        if self.eos_token_id is None:
            self.eos_token_id = [2, 75864, 75869]
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self.rope_theta = self.shape().rope_theta  # some files nest it in `rope_parameters`

    def shape(self) -> ModelConfig:
        """The part that decides the mathematics."""
        values = self.to_dict()
        # Set by transformers when it quantises while loading; the files are checked without it.
        values.pop("quantization_config", None)
        return parse_config(values, "config.json")
