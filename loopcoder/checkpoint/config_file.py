"""`config.json`, read and written (SPEC.md section 1, the released fields). No torch."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, NoReturn

from loopcoder.errors import CheckpointError, ConfigError, LoopCoderError
from loopcoder.model.config import ARCHITECTURE, MODEL_TYPE, VARIANT_FIELDS, ModelConfig

CONFIG_FILE = "config.json"

_LLAMA_LIKE = frozenset({"llama", "mistral", "qwen2", "qwen3", "gemma", "phi3", "smollm3"})

# What the model does not compute. Each field must be absent or have one of these values.
_ONLY: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu", "swish"),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "attention_dropout": (0, None),
    "quantization_config": (None,),
}


def read_config(directory: Path | str) -> ModelConfig:
    """The configuration of the PLT checkpoint in `directory`.

    Raises `ConfigError`, naming the field, for a model that this one is not.
    """
    path = Path(directory) / CONFIG_FILE
    return parse_config(read_config_json(directory), str(path))


def read_config_json(directory: Path | str) -> dict[str, Any]:
    """All fields of `config.json`, those of other programs too. Raises `ConfigError`."""
    path = Path(directory) / CONFIG_FILE
    if not path.is_file():
        raise ConfigError(f"{path} does not exist; a checkpoint directory holds a config.json")
    return read_json(path, ConfigError)


def parse_config(values: Mapping[str, Any], where: str) -> ModelConfig:
    """`ModelConfig` from the fields of a `config.json`; `where` starts every error message."""
    _check_model_type(values.get("model_type"), where)
    check_plain_decoder(values, where)
    merged = {**values, "rope_theta": rope_theta(values)}
    missing = [
        field.name
        for field in fields(ModelConfig)
        if field.default is MISSING and field.name not in merged
    ]
    if missing:
        raise ConfigError(f"{where}: {missing[0]} is missing; the checkpoint's shape needs it")
    try:
        return ModelConfig.from_mapping(merged)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_model_type(model_type: object, where: str) -> None:
    if model_type == MODEL_TYPE:
        return
    hint = "this is not a Parallel Loop Transformer"
    if model_type == "iquestloopcoder":
        hint = "that is an older, different model (IQuest-Coder-V1 Loop), which cannot be run here"
    elif model_type in _LLAMA_LIKE:
        hint = "make a Parallel Loop Transformer of it with `loopcoder convert`"
    raise ConfigError(f"{where}: model_type is {model_type!r}, not {MODEL_TYPE!r}; {hint}")


def check_plain_decoder(values: Mapping[str, Any], where: str) -> None:
    """Refuse what neither a PLT nor its Llama layers compute: biases, dropout, scaled RoPE."""
    for name, allowed in _ONLY.items():
        if name in values and values[name] not in allowed:
            raise ConfigError(
                f"{where}: {name} is {_short(values[name])}; only {allowed[0]!r} is supported"
            )
    for name in ("rope_scaling", "rope_parameters"):
        _check_rope(name, values.get(name), where)
    if values.get("partial_rotary_factor", 1) not in (1, None):
        raise ConfigError(f"{where}: partial_rotary_factor must be 1; RoPE turns whole heads")


def _check_rope(name: str, rope: object, where: str) -> None:
    if rope is None:
        return
    if not isinstance(rope, dict):
        raise ConfigError(f"{where}: {name} is {_short(rope)}; it must be null or an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", None):
        raise ConfigError(
            f"{where}: {name} has the type {kind!r}; only unscaled RoPE (null or 'default') "
            "is supported"
        )


def rope_theta(values: Mapping[str, Any], default: float = ModelConfig.rope_theta) -> Any:
    """RoPE's base, from `rope_theta` or, as transformers 5 writes it, `rope_parameters`."""
    nested = values.get("rope_parameters") or {}
    return nested.get("rope_theta", values.get("rope_theta", default))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def config_json(
    config: ModelConfig, *, dtype: str, base: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The `config.json` of `config`: the released fields over those of `base`, which survive.

    The fields of variants are there only where they differ from the released architecture's.
    `dtype` is torch's name of the weights' format.
    """
    base = dict(base or {})
    # Other spellings of what is written here, and fields that are left out at their defaults.
    for replaced in ("rope_parameters", "torch_dtype", *VARIANT_FIELDS):
        base.pop(replaced, None)
    values = config.to_mapping() | {"plt_window_size": list(config.plt_window_size)}
    return {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **base,
        **values,
        "architectures": [ARCHITECTURE],
        "hidden_act": "silu",
        "mlp_bias": False,
        "model_type": MODEL_TYPE,
        "rope_scaling": None,
        "dtype": dtype,
    }


def read_json(path: Path, error_type: type[LoopCoderError] = CheckpointError) -> dict[str, Any]:
    """The JSON object in `path`; anything else is one `error_type` that names the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise error_type(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise error_type(f"{path} holds {_short(values)}; a JSON object was expected")
    return values


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write `values` as transformers does: indented, keys sorted, a newline at the end."""
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
