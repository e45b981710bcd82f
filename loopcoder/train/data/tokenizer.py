"""The byte-level BPE tokenizer: how text is cut, its special tokens, training, files.

A trained model's own tokenizer, if it is byte-level BPE too, is read and copied as it stands.
Cuts of what is learned here: every digit alone; the indentation of a line is one piece of its own,
and so is each run of line breaks, so a prompt that ends before, inside or after an indentation is
cut as in training.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopcoder.errors import DataError
from loopcoder.train.data.corpus import write_json
from loopcoder.train.data.marks import special_ids

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, BOS, EOS = "<|pad|>", "<|begin_of_text|>", "<|end_of_text|>"
SPECIAL_TOKENS = (
    PAD,
    BOS,
    EOS,
    "<|im_start|>",
    "<|im_end|>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|file_sep|>",
)

CUT = "|".join(
    (
        r"(?<![^\n])[ \t]+(?=\S|\z)",  # indentation
        r"[^\S\r\n]*[\r\n]+",  # line breaks, with the blanks before them
        r"'(?i:s|t|re|ve|m|ll|d)(?!\p{L})",
        r"[^\r\n\p{L}\p{N}]?\p{L}+",  # a word with the blank or sign before it
        r"\p{N}",
        r" ?[^\s\p{L}\p{N}]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> "Tokenizer":
    """Learn merges from `texts`. The special tokens have the first ids, in the order above.

    Raises `DataError` if the texts are too few for `vocab_size` tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    cut = pre_tokenizers.Split(Regex(CUT), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([cut, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=32,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer=trainer)
    found = tokenizer.get_vocab_size()
    if found != vocab_size:
        raise DataError(
            f"tokenizer.vocab_size is {vocab_size}, but the train split yields only {found} "
            "tokens; lower it or add sources"
        )
    return tokenizer


def sample(texts: Iterable[str], limit: int) -> Iterator[str]:
    """Texts from the front until `limit` bytes are reached."""
    used = 0
    for text in texts:
        if used >= limit:
            return
        used += len(text.encode())
        yield text


def save_tokenizer(tokenizer: "Tokenizer", folder: Path) -> None:
    """Write what `transformers.AutoTokenizer.from_pretrained(folder)` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    text = tokenizer.to_str(pretty=True) + "\n"
    (folder / "tokenizer.json").write_text(text, encoding="utf-8", newline="\n")
    write_json(folder / "tokenizer_config.json", _tokenizer_config())


def _tokenizer_config() -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": EOS,
        "pad_token": PAD,
        "add_bos_token": False,
        "additional_special_tokens": [
            token for token in SPECIAL_TOKENS if token not in (PAD, BOS, EOS)
        ],
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 131072,
    }


_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the tokenizer in `source`, a folder of its own or a checkpoint, as it stands."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def is_ours(tokenizer: "Tokenizer") -> bool:
    """Whether it has the special tokens of those that are learned here."""
    return special_ids(tokenizer).keys() >= set(SPECIAL_TOKENS)


def load_tokenizer(folder: Path) -> "Tokenizer":
    """Read `folder`/tokenizer.json: one that was learned here, or a trained model's own.

    Raises `DataError` if it is missing, damaged or not byte-level BPE.
    """
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(
            f"{path}: missing; give the tokenizer folder of an earlier `loopcoder data build`, or "
            "a checkpoint directory with a tokenizer.json"
        )
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises the base class itself
        raise DataError(f"{path}: not a tokenizer ({error})") from error
    tokenizer.no_truncation()  # a document is one, however long
    tokenizer.no_padding()
    _check_byte_level(tokenizer, path)
    return tokenizer


def _check_byte_level(tokenizer: "Tokenizer", path: Path) -> None:
    alphabet = set(_byte_alphabet())
    tokens = tokenizer.get_vocab(with_added_tokens=False).keys() - special_ids(tokenizer).keys()
    odd = min((token for token in tokens if not alphabet.issuperset(token)), default=None)
    if odd is not None:
        raise DataError(
            f"{path}: not byte-level BPE, as the token {odd!r} does not stand for bytes, so bits "
            "per byte cannot be counted; leave --tokenizer out to learn one"
        )


def vocabulary_size(tokenizer: "Tokenizer") -> int:
    """V: every id is below it."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenizer_hash(folder: Path) -> str:
    """sha256 of tokenizer.json."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()


def token_pieces(tokenizer: "Tokenizer") -> list[bytes]:
    """The bytes of each token, by id; empty for special tokens, and for ids without a token."""
    byte_of = {char: byte for byte, char in enumerate(_byte_alphabet())}
    vocabulary = tokenizer.get_vocab()
    added = tokenizer.get_added_tokens_decoder()
    pieces = [b""] * vocabulary_size(tokenizer)
    for token, index in vocabulary.items():
        if index not in added:
            pieces[index] = bytes(byte_of[char] for char in token)
        elif not added[index].special:
            pieces[index] = token.encode()  # it is looked for in the text as it is written
    return pieces


def token_byte_lengths(tokenizer: "Tokenizer") -> NDArray[np.int32]:
    """[V] bytes that each token stands for; 0 for special tokens."""
    return np.array([len(piece) for piece in token_pieces(tokenizer)], dtype=np.int32)


def _byte_alphabet() -> list[str]:
    """The character that byte-level BPE writes for each byte: itself, or moved up if invisible."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(moved)) for byte in range(256)]
