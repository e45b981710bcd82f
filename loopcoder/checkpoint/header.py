"""What tensors a checkpoint directory holds, from the safetensors headers alone. No torch.

A safetensors file is eight bytes (the header's length), a JSON header that gives each tensor's
format, shape and place, and the tensors' bytes without gaps. Reading the headers takes
milliseconds for any size of model and runs no code.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loopcoder.checkpoint.config_file import read_json
from loopcoder.checkpoint.dtypes import FORMATS
from loopcoder.errors import CheckpointError, file_errors
from loopcoder.model.shapes import Shape

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_HEADER_LIMIT = 100_000_000  # bytes; safetensors' own limit
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True, kw_only=True)
class TensorInfo:
    """One tensor in a shard: `key` is its name in the file, `start` its first byte there."""

    file: Path
    key: str
    dtype: str  # safetensors' name, such as BF16
    shape: Shape
    start: int
    nbytes: int

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class CheckpointHeader:
    """The tensors of a checkpoint by their released names."""

    directory: Path
    tensors: Mapping[str, TensorInfo]

    @property
    def files(self) -> list[Path]:
        """The shards, in order of their names."""
        return sorted({info.file for info in self.tensors.values()})

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.tensors.values())

    def bytes_by_dtype(self) -> dict[str, int]:
        """Bytes of the tensors of each format, under torch's name of it."""
        totals: dict[str, int] = {}
        for info in self.tensors.values():
            name = FORMATS[info.dtype][0] if info.dtype in FORMATS else info.dtype
            totals[name] = totals.get(name, 0) + info.nbytes
        return totals


def open_checkpoint(directory: Path | str) -> CheckpointHeader:
    """Read the headers of the checkpoint in `directory`; no tensor is loaded.

    The files are complete and agree with the index when this returns; whether they are the
    tensors of a model, `check_header` tells. Raises `CheckpointError` naming file and tensor.
    """
    directory = Path(directory)
    if (directory / SINGLE_FILE).is_file():
        found = {info.key: info for info in read_shard(directory / SINGLE_FILE)}
    elif (directory / INDEX_FILE).is_file():
        found = _read_indexed(directory)
    else:
        raise CheckpointError(_why_no_weights(directory))
    tensors: dict[str, TensorInfo] = {}
    for key, info in found.items():
        name = key.replace(".loop_gate_proj.", ".plt_gate.")
        if name in tensors:
            raise CheckpointError(f"{info.file}: {name} occurs twice, as {key} too")
        tensors[name] = info
    return CheckpointHeader(directory=directory, tensors=tensors)


def _why_no_weights(directory: Path) -> str:
    if not directory.is_dir():
        return f"{directory} is not a directory; a checkpoint is a directory with config.json"
    names = sorted(path.name for path in directory.iterdir())
    wanted = f"{directory} has neither {SINGLE_FILE} nor {INDEX_FILE}"
    for name in names:
        if name.endswith(".safetensors"):
            return f"{wanted}, though it has {name}; the index belongs to the shards"
    for name in names:
        if name.endswith(".gguf"):
            return f"{wanted}; make a checkpoint of {name} with `loopcoder convert`"
    for name in names:
        if name.endswith(_PICKLES):
            return (
                f"{wanted}; {name} is a pickle, which can run code when it is opened and is "
                "never read: save the weights as safetensors"
            )
    return f"{wanted}; it holds no weights"


def _read_indexed(directory: Path) -> dict[str, TensorInfo]:
    index = directory / INDEX_FILE
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map; it must give each tensor's file")
    found: dict[str, TensorInfo] = {}
    for file in dict.fromkeys(weight_map.values()):
        for info in read_shard(_shard_path(directory, file)):
            if info.key in found:
                both = f"{found[info.key].file.name} and in {file}"
                raise CheckpointError(f"{directory}: {info.key} is in {both}; one must go")
            found[info.key] = info
    for key, file in weight_map.items():
        if key not in found or found[key].file.name != file:
            raise CheckpointError(f"{index}: {key} should be in {file}, but is not there")
    for key, info in found.items():
        if key not in weight_map:
            raise CheckpointError(f"{info.file}: unexpected {key}; {INDEX_FILE} does not list it")
    return found


def _shard_path(directory: Path, file: object) -> Path:
    # A name from a downloaded file must not lead out of its directory.
    if not isinstance(file, str) or Path(file).name != file or not file.endswith(".safetensors"):
        raise CheckpointError(
            f"{directory / INDEX_FILE}: {file!r} is not the name of a .safetensors file beside it"
        )
    if not (directory / file).is_file():
        raise CheckpointError(
            f"{directory / file} is missing; {INDEX_FILE} lists it, so fetch or copy it again"
        )
    return directory / file


def read_shard(path: Path) -> Iterator[TensorInfo]:
    """The tensors of one safetensors file, in the order of their bytes."""
    header, data_start = _read_header(path)
    entries = [_parse_entry(path, key, entry) for key, entry in header.items()]
    entries.sort(key=lambda entry: (entry[1].start, entry[1].nbytes))
    position = 0
    for begin_end, info in entries:
        if begin_end != (position, position + info.nbytes):
            raise CheckpointError(
                f"{path}: {info.key} is {info.dtype} {list(info.shape)}, {info.nbytes} bytes from "
                f"{position}, but the header places it at {list(begin_end)}; the file is damaged"
            )
        position += info.nbytes
    expected, actual = data_start + position, path.stat().st_size
    if actual != expected:
        last = entries[-1][1].key if entries else "the header"
        what = "truncated" if actual < expected else "too long"
        raise CheckpointError(
            f"{path} is {what}: {actual} bytes, but {last} ends at {expected}; fetch it again"
        )
    for (begin, _), info in entries:
        yield TensorInfo(**{**vars(info), "start": data_start + begin})


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    advice = "a checkpoint's files must be readable"
    with file_errors(CheckpointError, advice), path.open("rb") as file:
        size = path.stat().st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise CheckpointError(
                f"{path} is not a complete safetensors file: {size} bytes, "
                f"header of {length}; fetch it again"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} has a damaged safetensors header: {error}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path} has a damaged safetensors header: not an object")
    header.pop("__metadata__", None)
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} occurs twice")
    return values


def _parse_entry(path: Path, key: str, entry: Any) -> tuple[tuple[int, int], TensorInfo]:
    """((first byte, end) as the header says, the tensor with `nbytes` as its shape says)."""
    try:
        begin, end = (int(offset) for offset in entry["data_offsets"])
        shape = tuple(int(side) for side in entry["shape"])
        dtype = str(entry["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the header's entry of {key} is damaged") from error
    # Other formats are refused by name later; here only their bytes need to add up.
    nbytes = math.prod(shape) * FORMATS[dtype][1] if dtype in FORMATS else end - begin
    info = TensorInfo(file=path, key=key, dtype=dtype, shape=shape, start=begin, nbytes=nbytes)
    return (begin, end), info
