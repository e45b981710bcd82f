"""From a checkpoint directory to a `PLT` in memory, or to one clear error and nothing.

Weights that keep their format are memory-mapped: no second copy, pages are read when touched.
Weights that change format are read and converted a piece at a time, so that the peak is the
result and little more. Files are data: safetensors only, no code of a checkpoint is run.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from loopcoder.checkpoint.check import EMBEDDING, HEAD, check_header
from loopcoder.checkpoint.config_file import parse_config, read_config_json
from loopcoder.checkpoint.dtypes import FORMATS, dtype_name
from loopcoder.checkpoint.header import CheckpointHeader, TensorInfo, open_checkpoint
from loopcoder.checkpoint.quantization import FIELD, Quantization
from loopcoder.errors import CheckpointError
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.model.shapes import tensor_shapes

_CHUNK = 4 * 2**20  # bytes read at once while converting


def load_model(
    directory: Path | str,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "cpu",
    check_values: bool = True,
    quantization: str | Quantization | None = None,
) -> PLT:
    """The model in the checkpoint `directory`, in evaluation mode.

    `dtype` "auto" keeps the weights' own format (a mixed checkpoint takes that of config.json)
    and maps the files into memory; another format is converted to, at a peak under 1.1 times the
    resulting weights. A tied head shares the embedding. `check_values` reads every weight once to
    refuse NaN and infinity; without it a mapped model loads in milliseconds. `quantization`
    "int8" or "int4" quantises while loading (see `loopcoder.checkpoint.quantized`); a checkpoint
    that was saved quantised is loaded as it is.

    Raises `ConfigError` or `CheckpointError`, naming field, file or tensor (SPEC.md section 1).
    """
    values = read_config_json(directory)
    if quantization is not None or values.get(FIELD) is not None:
        from loopcoder.checkpoint.quantized import load_quantized  # it builds on this module

        return load_quantized(
            directory,
            values,
            dtype=dtype,
            device=device,
            check_values=check_values,
            quantization=quantization,
        )
    config = parse_config(values, str(Path(directory) / "config.json"))
    header = open_checkpoint(directory)
    check_tensors(header, config)
    target = auto_dtype(header, values) if dtype == "auto" else torch_dtype(dtype)
    names = list(tensor_shapes(config))
    state = load_state(header, names, target, device=device, check_values=check_values)
    with torch.device("meta"):
        model = PLT(config)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def check_tensors(header: CheckpointHeader, config: ModelConfig) -> None:
    """Raise `CheckpointError`, naming the tensor, unless these are exactly those of `config`.

    A tied head that is stored all the same must be the embedding, bit for bit.
    """
    check_header(header, config)
    if config.tie_word_embeddings and HEAD in header.tensors:
        _check_tied_head(header)


def load_state(
    header: CheckpointHeader,
    names: list[str] | None = None,
    dtype: torch.dtype | None = None,
    *,
    device: str | torch.device = "cpu",
    check_values: bool = True,
) -> dict[str, Tensor]:
    """The tensors `names` (all of them by default) of a checkpoint, by their released names.

    `dtype` None keeps each tensor's own format. Raises `CheckpointError` naming the tensor.
    """
    state: dict[str, Tensor] = {}
    buffer = _new_buffer()
    for name in header.tensors if names is None else names:
        info = header.tensors[name]
        state[name] = load_tensor(info, dtype, device=device, buffer=buffer)
        if check_values:
            check_finite(name, info, state[name])
    return state


def load_tensor(
    info: TensorInfo,
    dtype: torch.dtype | None = None,
    *,
    device: str | torch.device = "cpu",
    buffer: Tensor | None = None,
) -> Tensor:
    """One tensor: mapped when its format and place stay, copied in pieces when converted.

    `buffer` [bytes] holds the pieces; one buffer for many tensors keeps the heap in one piece.
    """
    stored = stored_dtype(info)
    target = stored if dtype is None else dtype
    if target != stored and torch.device(device).type == "cpu":
        return _read_converted(info, stored, target, _new_buffer() if buffer is None else buffer)
    return map_tensor(info).to(device=device, dtype=target)


def map_tensor(info: TensorInfo) -> Tensor:
    """One tensor as it lies in its file, memory-mapped; of any format, packed integers too."""
    try:
        # One handle a tensor costs a header parse, and lets every mapping go with its tensor.
        with safe_open(info.file, framework="pt") as file:
            mapped: Tensor = file.get_tensor(info.key)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{info.file}: {info.key} cannot be read: {error}") from error
    return mapped


def _new_buffer() -> Tensor:
    return torch.empty(_CHUNK, dtype=torch.uint8)


def _read_converted(
    info: TensorInfo, stored: torch.dtype, target: torch.dtype, buffer: Tensor
) -> Tensor:
    result = torch.empty(info.size, dtype=target)
    raw, values = buffer.numpy().data, buffer.view(stored)
    with info.file.open("rb", buffering=0) as file:
        file.seek(info.start)
        for piece in torch.split(result, len(values)):
            wanted = raw[: len(piece) * stored.itemsize]
            if _read_exactly(file, wanted) < len(wanted):
                raise CheckpointError(f"{info.file} ended inside {info.key} while it was read")
            piece.copy_(values[: len(piece)])
    return result.view(info.shape)


def _read_exactly(file: Any, wanted: memoryview) -> int:
    done = 0
    while done < len(wanted):
        count = file.readinto(wanted[done:])
        if not count:
            break
        done += count
    return done


def check_finite(name: str, info: TensorInfo, tensor: Tensor) -> None:
    """Raise `CheckpointError` if a tensor read from `info` holds NaN or infinity."""
    if tensor.numel() == 0:
        return
    low, high = torch.aminmax(tensor)
    if not (math.isfinite(low.item()) and math.isfinite(high.item())):
        form = str(tensor.dtype).removeprefix("torch.")
        stored = FORMATS[info.dtype][0]
        after = "" if form == stored else f" as {form} (stored as {stored})"
        raise CheckpointError(
            f"{info.file}: {name} holds NaN or infinity{after}; such weights cannot be used"
        )


def _check_tied_head(header: CheckpointHeader) -> None:
    """Raise `CheckpointError` unless a head beside a tied embedding is the same, bit for bit."""
    head, embedding = (load_tensor(header.tensors[name]) for name in (HEAD, EMBEDDING))
    if head.dtype != embedding.dtype or not torch.equal(
        head.view(torch.uint8), embedding.view(torch.uint8)
    ):
        raise CheckpointError(
            f"{header.tensors[HEAD].file}: {HEAD} differs from {EMBEDDING}, but config.json has "
            "tie_word_embeddings true; set it to false or remove the head"
        )


def stored_dtype(info: TensorInfo) -> torch.dtype:
    """The format of a tensor in its file."""
    return torch_dtype(FORMATS[info.dtype][0])


def torch_dtype(dtype: str | torch.dtype) -> torch.dtype:
    """torch's object for a name or alias of a format."""
    found: torch.dtype = getattr(torch, dtype_name(str(dtype)))
    return found


def auto_dtype(header: CheckpointHeader, config_values: Mapping[str, Any]) -> torch.dtype:
    """The format of most weights; of several, the one that `config.json` names."""
    totals = header.bytes_by_dtype()
    declared = str(config_values.get("dtype") or config_values.get("torch_dtype") or "")
    if len(totals) > 1 and declared:
        return torch_dtype(declared)
    return torch_dtype(max(totals, key=lambda name: totals[name]))
