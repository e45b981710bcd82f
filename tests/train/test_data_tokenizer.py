import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from loopcoder.errors import DataError
from loopcoder.train.data.encode import write_shards
from loopcoder.train.data.marks import Marks, read_marks
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
    marks = Marks(bos_id=1, eos_id=2, pad_id=0)
    write_shards(tmp_path, "train", ["a <|end_of_text|> b"], tokenizer, marks, 1000)
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


# --- a trained model's own tokenizer ------------------------------------------------------------


def base_tokenizer(folder: Path, special: list[str], **settings: object) -> Tokenizer:
    """Byte-level BPE with other special tokens than ours, saved as a checkpoint has it."""
    from tokenizers import decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300 + len(special),
        special_tokens=special,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer=trainer)
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


CHAT = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<file_sep>"]
PLAIN = ["<unk>", "<s>", "</s>"]


@pytest.mark.parametrize(
    ("special", "settings", "expected"),
    [
        # The separator of pretraining, and the chat's end for padding, as it occurs in no shard.
        (CHAT, {"bos_token": CHAT[1], "eos_token": CHAT[2], "pad_token": CHAT[2]}, (0, 0, 2)),
        (CHAT, {}, (0, 0, 1)),
        (PLAIN, {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<unk>"}, (1, 2, 0)),
        (PLAIN, {"bos_token": {"content": "<s>"}, "eos_token": "</s>"}, (1, 2, 0)),
        (PLAIN, {"bos_token": None, "eos_token": "</s>", "pad_token": "</s>"}, (2, 2, 0)),
        (["<s>"], {"bos_token": "<s>"}, (0, 0, 0)),
    ],
)
def test_the_marks_are_those_of_the_settings_or_of_pretraining(
    tmp_path: Path, special: list[str], settings: dict[str, object], expected: tuple[int, int, int]
) -> None:
    tokenizer = base_tokenizer(tmp_path, special, **settings)
    marks = read_marks(tmp_path, tokenizer)
    assert (marks.bos_id, marks.eos_id, marks.pad_id) == expected


def test_our_own_marks_are_read_from_the_settings(tmp_path: Path) -> None:
    save_tokenizer(LEARNED, tmp_path)
    assert read_marks(tmp_path, load_tokenizer(tmp_path)) == Marks(bos_id=1, eos_id=2, pad_id=0)


def test_older_settings_are_read_too(tmp_path: Path) -> None:
    tokenizer = base_tokenizer(tmp_path, PLAIN)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "special_tokens_map.json").write_text('{"bos_token": "<s>", "eos_token": "</s>"}')
    assert read_marks(tmp_path, tokenizer) == Marks(bos_id=1, eos_id=2, pad_id=0)


@pytest.mark.parametrize("settings", [{}, {"bos_token": "alpha"}, {"bos_token": "<none>"}])
def test_a_tokenizer_without_a_start_is_refused(
    tmp_path: Path, settings: dict[str, object]
) -> None:
    tokenizer = base_tokenizer(tmp_path, PLAIN, **settings)
    with pytest.raises(DataError, match="must name a bos_token or eos_token"):
        read_marks(tmp_path, tokenizer)


@pytest.mark.parametrize("content", ["[]", "{"])
def test_damaged_settings_are_one_error(tmp_path: Path, content: str) -> None:
    tokenizer = base_tokenizer(tmp_path, PLAIN)
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(DataError, match=r"tokenizer_config\.json: .*save the tokenizer again"):
        read_marks(tmp_path, tokenizer)


def test_one_token_between_documents_is_written_once() -> None:
    assert Marks(bos_id=0, eos_id=0, pad_id=2).around([5, 6]) == [0, 5, 6]
    assert Marks(bos_id=1, eos_id=2, pad_id=0).around([5, 6]) == [1, 5, 6, 2]
    with pytest.raises(DataError, match="with which documents begin"):
        Marks(bos_id=1, eos_id=2, pad_id=0).around([5, 1])


def test_byte_lengths_of_another_tokenizer(tmp_path: Path) -> None:
    tokenizer = base_tokenizer(tmp_path, CHAT)
    tokenizer.add_tokens(["naïve"])  # found in the text as it stands, so it has its own bytes
    pieces, lengths = token_pieces(tokenizer), token_byte_lengths(tokenizer)
    assert lengths[:4].tolist() == [0] * 4
    assert (lengths[4:] > 0).all()
    text = "def f(x):\n    return naïve(x, 12345)  # ✓ <|endoftext|>\n"
    tokenizer.encode_special_tokens = True
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert b"".join(pieces[index] for index in ids) == text.encode()
    assert lengths[ids].sum() == len(text.encode())
    assert min(ids) >= 4


def test_a_limit_on_length_does_not_cut_documents(tmp_path: Path) -> None:
    tokenizer = base_tokenizer(tmp_path, CHAT)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=4)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert len(load_tokenizer(tmp_path).encode(TEXTS[0]).ids) > 100


def test_a_tokenizer_that_is_not_of_bytes_is_refused(tmp_path: Path) -> None:
    from tokenizers import models

    Tokenizer(models.BPE({"▁the": 0, "a": 1}, [])).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="not byte-level BPE, as the token '▁the'"):
        load_tokenizer(tmp_path)
