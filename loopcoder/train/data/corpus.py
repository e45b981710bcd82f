"""The corpus as files: one compressed JSONL for each split, and where everything came from."""

import json
import lzma
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from loopcoder.errors import DataError
from loopcoder.train.data.files import Document

SPLITS = ("train", "heldout")
ABOUT = "corpus.json"


def split_path(folder: Path, split: str) -> Path:
    """The file of one split."""
    return folder / f"{split}.jsonl.xz"


def write_split(folder: Path, split: str, documents: Iterable[Document]) -> None:
    """Write documents in the order given, one JSON object a line: the fields of `Document`."""
    with lzma.open(
        split_path(folder, split), "wt", preset=6, encoding="utf-8", newline="\n"
    ) as file:
        for document in documents:
            file.write(json.dumps(asdict(document), ensure_ascii=False) + "\n")


def read_split(folder: Path, split: str) -> Iterator[Document]:
    """The documents of a split. Raises `DataError` naming a file that is missing or damaged."""
    path = split_path(folder, split)
    try:
        with lzma.open(path, "rt", encoding="utf-8", newline="\n") as file:
            for line in file:
                yield Document(**json.loads(line))
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; give a corpus folder that `data build` made") from error
    except (lzma.LZMAError, EOFError, TypeError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}); build the corpus again") from error


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write what is known of the corpus: recipe hash, sources, held-out projects, drops."""
    write_json(folder / ABOUT, about)


def read_about(folder: Path, corpus_hash: str) -> dict[str, Any]:
    """Read it back, checking that it is the corpus of that recipe. Raises `DataError`."""
    path = folder / ABOUT
    try:
        about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = about["corpus_recipe_sha256"]
    except OSError as error:
        raise DataError(f"{path}: missing; give a corpus folder that `data build` made") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); build the corpus again") from error
    if found != corpus_hash:
        raise DataError(
            f"{path}: made by another recipe (sha256 {found[:12]}, this one {corpus_hash[:12]}); "
            "use the recipe it was built with, or build without --from-corpus"
        )
    return about


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Indented, with sorted keys, so that equal values are equal bytes."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8", newline="\n")
