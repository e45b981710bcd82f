"""Text as tokens, and what stretch of it a window of tokens stands for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loopcoder.errors import DataError, file_errors

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TextWindow:
    """Tokens of which all but the first are predicted; those stand for `bytes` bytes of text."""

    token_ids: Sequence[int]
    bytes: int


class EncodedText:
    """One text, encoded as a prompt is; its length is in tokens."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", text: str) -> None:
        encoded = tokenizer(text, return_offsets_mapping=True, verbose=False)
        self._text = text
        self._ids: list[int] = encoded["input_ids"]
        self._ends = [end for _, end in encoded["offset_mapping"]]

    def __len__(self) -> int:
        return len(self._ids)

    def window(self, first: int, length: int) -> TextWindow:
        """At most `length` tokens from `first`, of which the text has at least one."""
        ids = self._ids[first : first + length]
        spanned = self._text[self._ends[first] : self._ends[first + len(ids) - 1]]
        return TextWindow(token_ids=ids, bytes=len(spanned.encode()))


def read_text(path: Path) -> str:
    """The text of a file. Raises `DataError` for what is not UTF-8 or cannot be read."""
    with file_errors(DataError, "give a text file that can be read"):
        raw = path.read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from error
