"""Reading token shards: a data directory's tokens as one long memory-mapped row."""

import hashlib
import json
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from loopcoder.errors import DataError

MANIFEST = "manifest.json"
TOKEN_BYTES = "token_bytes.npy"
_REBUILD = "build it again with `loopcoder data build`"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Ids of the marks between which answers lie: all that is learned and scored of such data.

    An answer begins after an `open` mark and ends with the next `close` mark, which it includes.
    """

    open: tuple[int, ...]
    close: tuple[int, ...]

    def record(self) -> dict[str, list[int]]:
        """As the manifest has it, under `answers`."""
        return {"open": list(self.open), "close": list(self.close)}


class TokenShards:
    """The tokens of one split, in order: each document is bos, its tokens, eos.

    Where eos is bos, it is written before each document only.

    Opening reads the manifest and the files' headers only; `verify()` reads everything.
    Raises `DataError` naming the file that is missing, truncated or of another size.
    """

    def __init__(self, folder: str | Path, split: Literal["train", "heldout"] = "train") -> None:
        self.folder = Path(folder)
        self.split = split
        self._manifest, self.manifest_hash = read_manifest(self.folder)
        record = _split_record(self._manifest, split, self.folder)
        self._shards = [self._open(shard) for shard in record["shards"]]
        self._starts = np.cumsum([0, *map(len, self._shards)]).tolist()
        self.documents: int = record["documents"]
        if len(self) != record["tokens"]:
            raise DataError(
                f"{self.folder}: the {split} shards hold {len(self)} tokens, the manifest says "
                f"{record['tokens']}; {_REBUILD}"
            )
        self.token_bytes = self._token_bytes()
        # None where every token is learned and scored.
        self.answers = _answers(self._manifest.get("answers"), self.vocab_size, self.folder)

    @property
    def vocab_size(self) -> int:
        """V: ids are below it."""
        return int(self._manifest["tokenizer"]["vocab_size"])

    @property
    def bos_id(self) -> int:
        """The token before each document."""
        return int(self._manifest["tokenizer"]["bos_id"])

    @property
    def eos_id(self) -> int:
        """The token after each document; where it is bos, the next document's stands for it."""
        return int(self._manifest["tokenizer"]["eos_id"])

    @property
    def pad_id(self) -> int:
        """A token that never occurs in the shards, except where the tokenizer has none but eos."""
        return int(self._manifest["tokenizer"]["pad_id"])

    @property
    def tokenizer_dir(self) -> Path:
        """Where the tokenizer lies, for `transformers.AutoTokenizer.from_pretrained`."""
        return self.folder / "tokenizer"

    def __len__(self) -> int:
        """Tokens in the split, bos and eos among them."""
        return int(self._starts[-1])

    def window(self, start: int, length: int) -> NDArray[np.int64]:
        """[length] tokens from position `start`, across shard borders.

        Raises `IndexError` if the window does not lie within the split.
        """
        if start < 0 or length < 0 or start + length > len(self):
            raise IndexError(f"window {start} + {length} is not within {len(self)} tokens")
        out = np.empty(length, dtype=np.int64)
        filled = 0
        shard = bisect_right(self._starts, start) - 1
        while filled < length:
            offset = start + filled - self._starts[shard]
            piece = self._shards[shard][offset : offset + length - filled]
            out[filled : filled + len(piece)] = piece
            filled += len(piece)
            shard += 1
        return out

    def bytes_of(self, ids: ArrayLike) -> int:
        """Bytes of text that the ids stand for; special tokens count as none."""
        return int(self.token_bytes[np.asarray(ids)].sum())

    def verify(self) -> None:
        """Read every file of the directory and compare its sha256. Raises `DataError`."""
        for name, record in self._manifest["files"].items():
            path = self._checked(name)
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != record["sha256"]:
                raise DataError(
                    f"{path}: sha256 is {found[:12]}..., the manifest says "
                    f"{record['sha256'][:12]}...; {_REBUILD}"
                )

    def _open(self, shard: dict[str, Any]) -> NDArray[np.unsignedinteger[Any]]:
        path = self._checked(shard["file"])
        tokens: NDArray[np.unsignedinteger[Any]] = _load_npy(path, mmap=True)
        if tokens.shape != (shard["tokens"],) or tokens.dtype.kind != "u":
            raise DataError(
                f"{path}: holds {tokens.dtype} {tokens.shape}, expected unsigned "
                f"({shard['tokens']},); {_REBUILD}"
            )
        return tokens

    def _token_bytes(self) -> NDArray[np.int32]:
        path = self._checked(TOKEN_BYTES)
        table: NDArray[np.int32] = _load_npy(path, mmap=False)
        if table.shape != (self.vocab_size,):
            raise DataError(f"{path}: shape {table.shape}, expected ({self.vocab_size},)")
        return table

    def _checked(self, name: str) -> Path:
        path = self.folder / name
        expected = self._manifest["files"].get(name, {}).get("bytes")
        if not path.is_file():
            raise DataError(f"{path}: missing; {_REBUILD}")
        if path.stat().st_size != expected:
            raise DataError(
                f"{path}: {path.stat().st_size} bytes, the manifest says {expected}; {_REBUILD}"
            )
        return path


def read_manifest(folder: Path) -> tuple[dict[str, Any], str]:
    """The manifest of a data directory and the sha256 of its file. Raises `DataError`."""
    path = folder / MANIFEST
    try:
        content = path.read_bytes()
        manifest: dict[str, Any] = json.loads(content)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); give a directory that "
            "`loopcoder data build` made"
        ) from error
    except ValueError as error:
        raise DataError(f"{path}: not JSON ({error}); {_REBUILD}") from error
    absent = {"files", "splits", "tokenizer"} - set(manifest)
    if absent:
        raise DataError(f"{path}: lacks {', '.join(sorted(absent))}; {_REBUILD}")
    return manifest, hashlib.sha256(content).hexdigest()


def _split_record(manifest: dict[str, Any], split: str, folder: Path) -> dict[str, Any]:
    splits: dict[str, dict[str, Any]] = manifest["splits"]
    if split not in splits:
        raise DataError(f"{folder}: no split {split!r}; there are {', '.join(sorted(splits))}")
    return splits[split]


def _answers(record: Any, vocab_size: int, folder: Path) -> Answers | None:
    if record is None:
        return None
    sides = [_ids(record, side) for side in ("open", "close")]
    ids = [*sides[0], *sides[1]]
    known = all(isinstance(mark, int) and 0 <= mark < vocab_size for mark in ids)
    if not all(sides) or not known or len(set(ids)) < len(ids):
        raise DataError(
            f"{folder / MANIFEST}: answers is {json.dumps(record)}; it must be open and close, two "
            f"lists of ids below {vocab_size} that have none in common; {_REBUILD}"
        )
    return Answers(open=tuple(sides[0]), close=tuple(sides[1]))


def _ids(record: Any, side: str) -> list[Any]:
    ids = record.get(side) if isinstance(record, dict) else None
    return ids if isinstance(ids, list) else []


def _load_npy(path: Path, *, mmap: bool) -> Any:
    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: not a .npy file ({error}); {_REBUILD}") from error
