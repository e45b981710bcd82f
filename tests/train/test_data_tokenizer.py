import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from loopcoder.errors import DataError
from loopcoder.train.data.encode import write_shards
from loopcoder.train.data.tokenizer import (
    SPECIAL_TOKENS,
    load_tokenizer,
    sample,
    save_tokenizer,
    token_byte_lengths,
    token_pieces,
    train_tokenizer,
)

from .data_helpers import code_file, text_file

TEXTS = [make(random.Random(seed)) for seed in range(30) for make in (code_file, text_file)]
LEARNED = train_tokenizer(TEXTS, 520)
PIECES = token_pieces(LEARNED)


def cut(text: str) -> list[str]:
    return [piece for piece, _ in LEARNED.pre_tokenizer.pre_tokenize_str(text)]


def tokens(text: str) -> list[bytes]:
    return [PIECES[index] for index in LEARNED.encode(text).ids]


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    if any(token in text for token in SPECIAL_TOKENS):
        return
    ids = LEARNED.encode(text).ids
    assert LEARNED.decode(ids) == text
    assert b"".join(PIECES[index] for index in ids) == text.encode()


def test_every_byte_has_a_token_and_lengths_are_those_of_the_bytes() -> None:
    assert {bytes([byte]) for byte in range(256)} <= set(PIECES)
    lengths = token_byte_lengths(LEARNED)
    assert lengths.tolist() == [len(piece) for piece in PIECES]
    assert lengths[: len(SPECIAL_TOKENS)].tolist() == [0] * len(SPECIAL_TOKENS)
    assert (lengths[len(SPECIAL_TOKENS) :] > 0).all()


def test_special_tokens_come_first_and_survive_as_one_token() -> None:
    for index, token in enumerate(SPECIAL_TOKENS):
        assert LEARNED.encode(token).ids == [index]


def test_digits_stand_alone() -> None:
    assert tokens("x = 12345")[-5:] == [b"1", b"2", b"3", b"4", b"5"]
    assert not [
        piece for piece in PIECES if any(c in b"0123456789" for c in piece) and len(piece) > 1
    ]


def test_an_indentation_is_one_token() -> None:
    assert tokens("    return alpha")[:2] == [b"    ", b"return"]
    assert tokens("if x:\n        return")[-3:] == [b"\n", b"        ", b"return"]


@pytest.mark.parametrize("end", ["", "\n", "\n    ", "\n    return"])
def test_a_prompt_is_cut_as_the_text_that_goes_on_from_it(end: str) -> None:
    whole = cut("def f(x):\n    return x\n")
    prompt = cut("def f(x):" + end)
    assert whole[: len(prompt)] == prompt


def test_learning_twice_gives_the_same_tokenizer() -> None:
    assert train_tokenizer(TEXTS, 520).to_str() == LEARNED.to_str()


def test_too_little_text_for_the_vocabulary() -> None:
    with pytest.raises(DataError, match="vocab_size is 5000, but the train split yields only"):
        train_tokenizer(["a b c"], 5000)


def test_the_sample_stops_at_its_limit() -> None:
    assert list(sample(["aaa", "bbb", "ccc"], 4)) == ["aaa", "bbb"]


def test_transformers_loads_what_is_saved(tmp_path: Path) -> None:
    save_tokenizer(LEARNED, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.pad_token_id, loaded.bos_token_id, loaded.eos_token_id) == (0, 1, 2)
    assert len(loaded) == 520
    text = "def f(x):\n    return naïve(x)  # ✓\n"
    assert loaded.encode(text) == LEARNED.encode(text).ids
    assert loaded.decode(loaded.encode(text)) == text
    assert loaded.encode(text, add_special_tokens=True)[0] != loaded.bos_token_id


def test_the_chat_template_is_chatml(tmp_path: Path) -> None:
    save_tokenizer(LEARNED, tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "hi"}]
    text = loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"


def test_a_corpus_text_cannot_forge_a_special_token(tmp_path: Path) -> None:
    import numpy as np

    tokenizer = Tokenizer.from_str(LEARNED.to_str())
    write_shards(tmp_path, "train", ["a <|end_of_text|> b"], tokenizer, 1000)
    ids = np.load(tmp_path / "train-00000.npy").tolist()
    assert (ids[0], ids[-1]) == (1, 2)
    assert min(ids[1:-1]) >= len(SPECIAL_TOKENS)
    assert b"".join(PIECES[index] for index in ids) == b"a <|end_of_text|> b"


def test_a_folder_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tokenizer\.json: missing"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="not a tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(LEARNED.to_str().replace("<|file_sep|>", "<|other|>"))
    with pytest.raises(DataError, match=r"lacks the special tokens <\|file_sep\|>"):
        load_tokenizer(tmp_path)
