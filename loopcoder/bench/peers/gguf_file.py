"""A GGUF file of the dense shape with random weights, in the types llama.cpp itself would choose.

llama.cpp quantises a miniature with as many layers; the large file has the miniature's type for
each tensor, and the miniature's bytes, repeated. So no large model is ever quantised.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

Shape = tuple[int, ...]

_STD = 0.02
_SUPER_BLOCK = 256  # values that a K-quant packs together, along the input
FILE_TYPES = {"bf16": None, "Q8_0": 7, "Q4_K_M": 15}  # llama.cpp's numbers for its quantiser


def write_gguf(
    path: Path, config: dict[str, Any], form: str, quantize: Callable[[Path, Path, int], None]
) -> None:
    """Write a model of `config` in `form`, a key of `FILE_TYPES`, at `path`.

    `quantize` is llama.cpp's: from a file, to a file, a file type. Raises `ValueError` for widths
    that the form cannot pack.
    """
    from gguf import GGUFReader

    file_type = FILE_TYPES[form]
    if form == "Q4_K_M":
        _check_widths(config)
    small = path.with_suffix(".small")
    _write(small, _miniature(config), _random_tensors(_miniature(config)))
    if file_type is not None:
        quantised = path.with_suffix(".quantised")
        quantize(small, quantised, file_type)
        small.unlink()
        small = quantised
    samples = {
        tensor.name: (tensor.tensor_type, tensor.data) for tensor in GGUFReader(small).tensors
    }
    partial = path.with_suffix(".partial")
    _write(partial, config, _repeated_tensors(config, samples))
    small.unlink()
    partial.replace(path)


def _check_widths(config: dict[str, Any]) -> None:
    widths = {
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "heads times head_dim": config["num_attention_heads"] * config["head_dim"],
    }
    for name, width in widths.items():
        if width % _SUPER_BLOCK:
            raise ValueError(f"Q4_K_M packs {_SUPER_BLOCK} inputs together; {name} is {width}")


def _miniature(config: dict[str, Any]) -> dict[str, Any]:
    """As many layers and query heads a group, as llama.cpp's choice of types depends on both."""
    return {
        **config,
        "hidden_size": _SUPER_BLOCK,
        "intermediate_size": _SUPER_BLOCK,
        "num_attention_heads": config["num_attention_heads"] // config["num_key_value_heads"],
        "num_key_value_heads": 1,
        "head_dim": _SUPER_BLOCK,
        "vocab_size": _SUPER_BLOCK,
    }


def _shapes(config: dict[str, Any]) -> Iterator[tuple[str, Shape]]:
    """llama.cpp's tensor names, each with its shape as [out, in]."""
    D, F, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    HK = config["num_attention_heads"] * config["head_dim"]
    GK = config["num_key_value_heads"] * config["head_dim"]
    yield "token_embd.weight", (V, D)
    for index in range(config["num_hidden_layers"]):
        for name, shape in (
            ("attn_norm", (D,)),
            ("attn_q", (HK, D)),
            ("attn_k", (GK, D)),
            ("attn_v", (GK, D)),
            ("attn_output", (D, HK)),
            ("ffn_norm", (D,)),
            ("ffn_gate", (F, D)),
            ("ffn_up", (F, D)),
            ("ffn_down", (D, F)),
        ):
            yield f"blk.{index}.{name}.weight", shape
    yield "output_norm.weight", (D,)
    if not config["tie_word_embeddings"]:
        yield "output.weight", (V, D)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A tensor's type and size, and how to make its data when its turn comes."""

    shape: Shape
    form: Any
    nbytes: int
    data: Callable[[], Any]


def _random_tensors(config: dict[str, Any]) -> dict[str, _Source]:
    import numpy as np
    from gguf import GGMLQuantizationType as Type

    random = np.random.default_rng(0)
    return {
        name: _Source(
            shape=shape,
            form=Type.F32 if len(shape) == 1 else Type.BF16,
            nbytes=prod(shape) * (4 if len(shape) == 1 else 2),
            data=partial(_random_values, random, shape),
        )
        for name, shape in _shapes(config)
    }


def _random_values(random: Any, shape: Shape) -> Any:
    """A norm's ones in float32, or a random matrix in bfloat16."""
    import numpy as np

    if len(shape) == 1:
        return np.ones(shape, dtype=np.float32)
    single = random.normal(0.0, _STD, size=shape).astype(np.float32)
    return (single.view(np.uint32) >> 16).astype(np.uint16)  # bfloat16 is its upper half


def _repeated_tensors(
    config: dict[str, Any], samples: dict[str, tuple[Any, Any]]
) -> dict[str, _Source]:
    import numpy as np
    from gguf import GGML_QUANT_SIZES

    found: dict[str, _Source] = {}
    for name, shape in _shapes(config):
        form, sample = samples[name]
        values, size = GGML_QUANT_SIZES[form]
        if shape[-1] % values:
            raise ValueError(f"{form.name} packs {values} inputs together; {name} is {shape}")
        nbytes = prod(shape) // values * size
        data = partial(np.resize, sample.view(np.uint8).reshape(-1), nbytes)
        found[name] = _Source(shape=shape, form=form, nbytes=nbytes, data=data)
    return found


def _write(path: Path, config: dict[str, Any], tensors: dict[str, _Source]) -> None:
    """Header first, then one tensor after another, so that one at a time is in memory."""
    import numpy as np
    from gguf import GGUFWriter

    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    for name, tensor in tensors.items():
        writer.add_tensor_info(
            name, tensor.shape, np.dtype(np.float32), tensor.nbytes, raw_dtype=tensor.form
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors.values():
        writer.write_tensor_data(tensor.data())
    writer.close()
