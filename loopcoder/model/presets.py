"""Model shapes by name; each preset is a function and a test builds every one."""

from collections.abc import Callable

from loopcoder.errors import ConfigError
from loopcoder.model.config import ModelConfig


def loopcoder_v2() -> ModelConfig:
    """The released LoopCoder-V2: 7.61 B parameters, two loops (SPEC.md section 1)."""
    return ModelConfig(
        vocab_size=76800,
        hidden_size=5120,
        intermediate_size=27648,
        num_hidden_layers=14,
        num_attention_heads=40,
        num_key_value_heads=8,
        head_dim=128,
    )


PRESETS: dict[str, Callable[[], ModelConfig]] = {"loopcoder-v2": loopcoder_v2}


def preset(name: str) -> ModelConfig:
    """The shape called `name`. Raises `ConfigError` with the known names."""
    if name not in PRESETS:
        raise ConfigError(f"there is no preset {name!r}; known: {', '.join(sorted(PRESETS))}")
    return PRESETS[name]()
