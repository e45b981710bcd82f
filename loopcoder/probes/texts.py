"""Where the documents come from: text files, JSONL, folders, and the held-out split of a corpus."""

import codecs
import json
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loopcoder.errors import DataError, file_errors
from loopcoder.probes.samples import Document, Documents
from loopcoder.train.data.shards import MANIFEST, TokenShards
from loopcoder.train.text import EncodedText, TextWindow, read_text

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

STANDARD_LIBRARY = "Python's standard library"


@dataclass(frozen=True)
class _Text:
    name: str
    place: str  # no two texts have the same
    read: Callable[[], str]


class NamedText(EncodedText):
    """An `EncodedText` that is a `Document`."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", name: str, text: str) -> None:
        super().__init__(tokenizer, text)
        self.name = name


class TextDocuments:
    """`Documents` of files: each a document, a line of JSONL with a "text" field another."""

    def __init__(
        self, tokenizer: "PreTrainedTokenizerBase", paths: Sequence[Path], name: str | None = None
    ) -> None:
        self.name = name or ", ".join(path.resolve().name for path in paths)
        self._tokenizer = tokenizer
        # Samples of one document count as one: no text is read twice, and names are told apart.
        texts = {text.place: text for path in paths for text in _texts(path)}
        self._texts = list(texts.values())
        self._named = Counter(text.name for text in self._texts)
        if not self._texts:
            raise DataError(f"{self.name}: no text files; give files of UTF-8 text")

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, index: int) -> Document:
        """Read and encode one; raises `DataError` for what is not UTF-8."""
        text = self._texts[index]
        name = text.name if self._named[text.name] == 1 else text.place
        return NamedText(self._tokenizer, name, text.read())


def _texts(path: Path) -> Iterator[_Text]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if file.is_file() and "/." not in f"/{name}" and _is_text(file):
                yield _Text(name, str(file), lambda file=file: read_text(file))  # type: ignore[misc]
    elif path.suffix == ".jsonl":
        # JSON leaves U+2028 and its like in a string, so lines end at line feeds alone.
        for number, line in enumerate(read_text(path).split("\n"), 1):
            if line.strip():
                text = _field(line, f"{path}, line {number}")
                place = f":{number}"
                yield _Text(path.name + place, str(path) + place, lambda text=text: text)  # type: ignore[misc]
    else:
        if not read_text(path).strip():
            raise DataError(f"{path}: is empty; give a file with text in it")
        yield _Text(path.name, str(path), lambda: read_text(path))


def _is_text(path: Path) -> bool:
    """Whether a file in a folder starts as text does."""
    with path.open("rb") as file:
        start = file.read(4096)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # which may end within a character
    except UnicodeDecodeError:
        return False
    return b"\0" not in start


def _field(line: str, where: str) -> str:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    text = values.get("text") if isinstance(values, dict) else None
    if not isinstance(text, str):
        raise DataError(f'{where}: no "text" field; each line must be an object with one')
    return text


@dataclass
class _ShardDocument:
    name: str
    shards: TokenShards
    first: int
    tokens: int

    def __len__(self) -> int:
        return self.tokens

    def window(self, first: int, length: int) -> TextWindow:
        """`length` tokens from `first`."""
        ids = self.shards.window(self.first + first, length)
        return TextWindow(token_ids=ids.tolist(), bytes=self.shards.bytes_of(ids[1:]))


class HeldoutDocuments:
    """`Documents` of the held-out split that `loopcoder data build` made."""

    def __init__(self, folder: Path) -> None:
        self._shards = TokenShards(folder, "heldout")
        self.name = f"{folder.resolve().name}, held out"
        ids = self._shards.window(0, len(self._shards))
        self._starts = [*np.flatnonzero(ids == self._shards.bos_id).tolist(), len(ids)]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Document:
        """One document, its bos and eos included."""
        first, end = self._starts[index : index + 2]
        return _ShardDocument(f"heldout-{index}", self._shards, first, end - first)


@file_errors(DataError, "give text files or a corpus that can be read")
def find_documents(
    data: Sequence[Path], tokenizer: "PreTrainedTokenizerBase | None", where: Path
) -> Documents:
    """The documents in `data`: a corpus directory, or any number of files and folders of text.

    Without data, Python's standard library, which every machine has. `where` is the checkpoint,
    for messages. Raises `DataError` for what cannot be read as either.
    """
    if any((path / MANIFEST).is_file() for path in data):
        if len(data) > 1:
            raise DataError("a corpus directory stands alone; give it as the only --data")
        return HeldoutDocuments(data[0])
    if tokenizer is None:
        raise DataError(
            f"{where} has no tokenizer, so text cannot be read; give --data a directory that "
            "`loopcoder data build` made for it"
        )
    if not data:
        library = Path(sysconfig.get_path("stdlib"))
        modules = [path for path in sorted(library.glob("*.py")) if path.stat().st_size]
        return TextDocuments(tokenizer, modules, STANDARD_LIBRARY)
    missing = [path for path in data if not path.exists()]
    if missing:
        raise DataError(f"{missing[0]}: no such file or directory; give text files or a corpus")
    return TextDocuments(tokenizer, data)
