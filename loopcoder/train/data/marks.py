"""The tokens around each document, of a tokenizer learned here or of a trained model's own."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopcoder.errors import DataError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

CONFIG = "tokenizer_config.json"
_OLDER_CONFIG = "special_tokens_map.json"
# What GPT-2's heirs put between the documents of their pretraining, whatever their chat says.
SEPARATOR = "<|endoftext|>"


@dataclass(frozen=True, kw_only=True)
class Marks:
    """Ids of the tokens that a document begins (bos) and ends with (eos), and of padding.

    Where one token separates documents, bos and eos are that token, and a document only begins
    with it: the next document's bos is its end.
    """

    bos_id: int
    eos_id: int
    pad_id: int

    def around(self, ids: Iterable[int]) -> list[int]:
        """The ids of a whole document. Raises `DataError` if bos is among those of its text."""
        inner = list(ids)
        if self.bos_id in inner:
            raise DataError(
                f"a text holds the token {self.bos_id}, with which documents begin, so their "
                "starts could not be found; give a tokenizer that writes it for no text"
            )
        end = [] if self.eos_id == self.bos_id else [self.eos_id]
        return [self.bos_id, *inner, *end]

    def record(self) -> dict[str, int]:
        """As the manifest has it, under `tokenizer`."""
        return asdict(self)


def special_ids(tokenizer: "Tokenizer") -> dict[str, int]:
    """The special tokens and their ids, by id: what stands for no text."""
    added = sorted(tokenizer.get_added_tokens_decoder().items())
    return {token.content: index for index, token in added if token.special}


def read_marks(folder: Path, tokenizer: "Tokenizer") -> Marks:
    """The marks of the tokenizer in `folder`.

    `<|endoftext|>` separates documents where it is a special token: models that have it saw it
    there in pretraining, also those whose settings name a chat's marks instead. Else bos and eos
    are those of the settings, or the one that they name is both. Padding is the settings' pad or
    else another special token; only if there is none it is eos.

    Raises `DataError` if the settings are damaged or name no special token of the vocabulary.
    """
    special = special_ids(tokenizer)
    named = {role: special[token] for role, token in _settings(folder).items() if token in special}
    separator = special.get(SEPARATOR)
    bos = named.get("bos_token", named.get("eos_token")) if separator is None else separator
    eos = named.get("eos_token", bos) if separator is None else separator
    if bos is None or eos is None:
        raise DataError(
            f"{folder}: no token for the start of a document; {CONFIG} must name a bos_token or "
            f"eos_token that is a special token of tokenizer.json, or this must have {SEPARATOR}"
        )
    pads = [named.get("pad_token", eos), *special.values()]
    pad = next((index for index in pads if index not in (bos, eos)), eos)
    return Marks(bos_id=bos, eos_id=eos, pad_id=pad)


def _settings(folder: Path) -> dict[str, str]:
    """`bos_token`, `eos_token`, `pad_token` as far as the settings name them."""
    found: dict[str, str] = {}
    for name in (_OLDER_CONFIG, CONFIG):  # the newer one is read last, so it decides
        values = _read_object(folder / name) if (folder / name).is_file() else {}
        for role in ("bos_token", "eos_token", "pad_token"):
            token = values.get(role)
            content = token.get("content") if isinstance(token, dict) else token
            if isinstance(content, str):
                found[role] = content
    return found


def _read_object(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON ({error}); save the tokenizer again") from error
    if not isinstance(values, dict):
        raise DataError(f"{path}: holds no JSON object; save the tokenizer again")
    return values
