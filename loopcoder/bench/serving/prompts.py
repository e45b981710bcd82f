"""Prompts as text, of an exact number of tokens, new ones for every measurement."""

import json
from pathlib import Path
from random import Random

from tokenizers import Tokenizer

from loopcoder.errors import RequestError

_TRIES = 50


def write_prompts(
    path: Path, tokenizer: Path, *, number: str, count: int, length: int, tokens: int
) -> None:
    """A JSON line for each of `count` prompts, in the words of both load generators.

    The same `number` gives the same prompts. Raises `RequestError` where the tokenizer of
    directory `tokenizer` cannot make texts of `length` tokens.
    """
    words = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    random = Random(f"prompts of measurement {number}")
    lines = (
        {"prompt": _text(words, random, length), "output_tokens_count": tokens}
        for _ in range(count)
    )
    text = "".join(json.dumps({**line, "output_tokens": tokens}) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


def _text(words: Tokenizer, random: Random, length: int) -> str:
    """Random tokens as text, cut until what the text is read as has the length.

    A text of random tokens is read as other tokens than it was made of, usually more.
    """
    vocabulary = range(words.get_vocab_size(with_added_tokens=False))
    for _ in range(_TRIES):
        ids = random.choices(vocabulary, k=length)
        for _ in range(_TRIES):
            text = words.decode(ids)
            ids = words.encode(text, add_special_tokens=False).ids
            if len(ids) == length:
                return text
            if len(ids) < length:
                ids += random.choices(vocabulary, k=length - len(ids))
            ids = ids[:length]
    raise RequestError(f"--prompt {length}: no text of so many tokens was found")
