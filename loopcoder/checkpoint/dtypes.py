"""Names of number formats: safetensors', torch's, and the short ones people type. No torch."""

from loopcoder.errors import ConfigError

# safetensors' name -> (torch's name, bytes per value): the formats a PLT's weights may have.
FORMATS = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "BF16": ("bfloat16", 2),
    "F16": ("float16", 2),
}
TORCH_TO_SAFETENSORS = {torch_name: name for name, (torch_name, _) in FORMATS.items()}
_ALIASES = {
    "fp64": "float64",
    "f64": "float64",
    "fp32": "float32",
    "f32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
}


def dtype_name(text: str) -> str:
    """torch's name of the format that `text` means: `bf16`, `bfloat16`, `torch.bfloat16`.

    Raises `ConfigError` for a format that weights cannot have.
    """
    name = text.lower().removeprefix("torch.")
    name = _ALIASES.get(name, name)
    if name not in TORCH_TO_SAFETENSORS:
        raise ConfigError(f"dtype is {text!r}; it must be one of {', '.join(TORCH_TO_SAFETENSORS)}")
    return name


def dtype_bytes(name: str) -> int:
    """Bytes of one value of the format that torch calls `name`."""
    return FORMATS[TORCH_TO_SAFETENSORS[name]][1]
