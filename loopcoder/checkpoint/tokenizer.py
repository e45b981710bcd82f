"""A checkpoint's tokenizer, chat template and end tokens; none of its code is run."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loopcoder.checkpoint.config_file import CONFIG_FILE, read_json
from loopcoder.errors import CheckpointError

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

_TOKENIZER_JSON = "tokenizer.json"
_OLDER_FILES = ("tokenizer.model", "vocab.json")
_ANSWER = "loopcoder answer"  # stands for an assistant's message when the template is examined


def load_tokenizer(directory: Path | str) -> "PreTrainedTokenizerBase | None":
    """The tokenizer in `directory`, or None where there is none (token ids then do the work).

    `tokenizer.json` is taken as it stands, whatever class `tokenizer_config.json` names.
    Raises `CheckpointError` when the files are damaged or need code from the checkpoint.
    """
    directory = Path(directory)
    names = [n for n in (_TOKENIZER_JSON, *_OLDER_FILES) if (directory / n).is_file()]
    if not names:
        return None
    from transformers import AutoTokenizer, PreTrainedTokenizerFast  # seconds; not all need it

    loader: Any = PreTrainedTokenizerFast if names[0] == _TOKENIZER_JSON else AutoTokenizer
    try:
        tokenizer: PreTrainedTokenizerBase = loader.from_pretrained(
            str(directory), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:  # tokenizers raises bare Exception for a damaged file
        raise CheckpointError(
            f"{directory / names[0]} cannot be read as a tokenizer: {_one_line(error)}; "
            "save it as tokenizer.json"
        ) from error
    return tokenizer


def _one_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def end_token_ids(
    directory: Path | str,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
    config: Mapping[str, Any] | None = None,
) -> frozenset[int]:
    """Every token that ends a text (SPEC.md section 1).

    The union of `eos_token_id` (a number or a list) in `generation_config.json`, the same in
    `config.json` (`config`, if it has been read already), the tokenizer's own, and the token with
    which the chat template closes an assistant's message.
    """
    directory = Path(directory)
    sources = [config] if config is not None else [_optional_json(directory / CONFIG_FILE)]
    sources.append(_optional_json(directory / "generation_config.json"))
    found: set[int] = set()
    for source in sources:
        found.update(_as_ids(source.get("eos_token_id")))
    if tokenizer is not None:
        found.update(_as_ids(tokenizer.eos_token_id))
        found.update(_as_ids(chat_end_token_id(tokenizer)))
    return frozenset(found)


def _optional_json(path: Path) -> Mapping[str, Any]:
    return read_json(path) if path.is_file() else {}


def _as_ids(value: Any) -> list[int]:
    values = value if isinstance(value, list | tuple) else [value]
    return [one for one in values if isinstance(one, int) and not isinstance(one, bool)]


def chat_end_token_id(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The special token right behind an assistant's message, or None if there is none.

    Found by writing a conversation with the template and looking, so that any template will do.
    """
    if not tokenizer.chat_template:
        return None
    conversation = [{"role": "user", "content": "?"}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(conversation, tokenize=False))
    except Exception:  # a template may refuse this conversation, or fail in any way it likes
        return None
    _, found, rest = text.rpartition(_ANSWER)
    ids = tokenizer.encode(rest.lstrip(), add_special_tokens=False) if found else []
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return ids[0] if ids and ids[0] in special else None
