"""Data directories: put in place whole or not at all, and written from ids of any origin."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopcoder.errors import DataError, file_errors
from loopcoder.train.data import manifest
from loopcoder.train.data.corpus import write_json
from loopcoder.train.data.encode import write_arrays
from loopcoder.train.data.marks import read_marks
from loopcoder.train.data.shards import MANIFEST, TOKEN_BYTES, Answers
from loopcoder.train.data.tokenizer import save_tokenizer, token_byte_lengths

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def write_folder(
    out: Path,
    tokenizer: "Tokenizer",
    splits: Mapping[str, Iterable[NDArray[Any]]],
    *,
    shard_tokens: int,
    answers: Answers | None = None,
    about: Mapping[str, Any] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Write a data directory of the ids in `splits` ("train" and "heldout"); its manifest.

    Arrays are stretches of ids in order; a document begins with bos. `about` goes into the
    manifest as it is. Raises `DataError` for an `out` in the way or an empty split.
    """
    with all_or_nothing(out, force=force) as folder:
        save_tokenizer(tokenizer, folder / "tokenizer")
        lengths = token_byte_lengths(tokenizer)
        np.save(folder / TOKEN_BYTES, lengths, allow_pickle=False)
        bos = read_marks(folder / "tokenizer", tokenizer).bos_id
        records = {
            split: _write_split(folder, split, arrays, lengths, bos, shard_tokens)
            for split, arrays in splits.items()
        }
        result = manifest.of_arrays(folder, records, answers, about or {})
        write_json(folder / MANIFEST, result)
    return result


def _write_split(
    folder: Path,
    split: str,
    arrays: Iterable[NDArray[Any]],
    lengths: NDArray[np.int32],
    bos: int,
    shard_tokens: int,
) -> dict[str, Any]:
    documents = nbytes = 0

    def counted() -> Iterator[NDArray[Any]]:
        nonlocal documents, nbytes
        for array in arrays:
            documents += int((array == bos).sum())
            nbytes += int(lengths[array].sum())
            yield array

    shards = write_arrays(
        folder, split, counted(), vocab_size=len(lengths), shard_tokens=shard_tokens
    )
    tokens = sum(shard["tokens"] for shard in shards)
    if not tokens:
        raise DataError(f"the {split} split is empty; give it at least one document")
    return {"documents": documents, "bytes": nbytes, "tokens": tokens, "shards": shards}


@contextmanager
def all_or_nothing(out: Path, *, force: bool) -> Iterator[Path]:
    """A sibling of `out` to write into, put in its place only if everything went well."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: is a file; --out must name a directory")
    if out.is_dir() and any(out.iterdir()):
        if not force:
            raise DataError(f"{out}: exists and is not empty; give another --out, or --force")
        if not (out / MANIFEST).is_file():
            raise DataError(f"{out}: is no data directory, --force would lose it; remove it first")
    out = out.resolve()
    with file_errors(DataError, "choose a directory that can be written"):
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        (work / "new").mkdir()
        yield work / "new"
        if out.is_dir():
            out.replace(work / "old")
        (work / "new").replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
