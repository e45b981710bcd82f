"""Tokens are told with the text they belong to, and never those that a stop string hides."""

import pytest

from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.server.choice import Choice
from loopcoder.server.messages import Token
from loopcoder.types import Logprob
from tests.small import byte_tokenizer

TEXTS = TokenTexts(byte_tokenizer())
ID = {TEXTS.bytes(i): i for i in range(256)}


def _token(byte: bytes, text: str, reason: str | None = None, stop: str | None = None) -> Token:
    found = {ID[byte]: Logprob(-1.0, 1)}
    return Token("0", 0, ID[byte], text, reason, stop, found, None, None)


def _choice(**options: bool) -> Choice:
    return Choice(TEXTS, **{"detailed": True, "shows_special": False, **options})


def _bytes(entries: list) -> bytes:
    return b"".join(TEXTS.bytes(entry.token_id) for entry in entries)


def test_entries_wait_for_their_text() -> None:
    choice = _choice()
    pieces = [
        choice.push(_token(b"a", "a")),
        choice.push(_token(b"E", "")),  # may begin END
        choice.push(_token(b"N", "")),
        choice.push(_token(b"x", "ENx")),
    ]
    assert [_bytes(piece.entries) for piece in pieces] == [b"a", b"", b"", b"ENx"]


def test_a_stop_string_leaves_no_entries() -> None:
    choice = _choice()
    choice.push(_token(b"a", "a"))
    for byte in (b"E", b"N"):
        assert choice.push(_token(byte, "")).entries == []
    last = choice.push(_token(b"D", "", "stop", "END"))
    assert last.entries == []
    assert last.finish_reason == "stop"
    assert choice.tokens == 4


def test_half_characters_come_with_their_last_byte() -> None:
    choice = _choice()
    first, second = "é".encode()[:1], "é".encode()[1:]
    assert choice.push(_token(first, "")).entries == []
    assert _bytes(choice.push(_token(second, "é")).entries) == "é".encode()


def test_a_character_cut_short_is_still_told() -> None:
    """U+FFFD stands for it, and its byte is the entry's."""
    choice = _choice()
    last = choice.push(_token("é".encode()[:1], "\ufffd", "length"))
    assert _bytes(last.entries) == "é".encode()[:1]


def test_an_end_token_counts_and_is_no_text() -> None:
    choice = _choice()
    choice.push(_token(b"a", "a"))
    assert choice.push(_token(b"\x00", "", "stop")).entries == []
    assert choice.tokens == 2


def test_a_stop_token_that_frees_held_text_is_no_entry() -> None:
    choice = _choice()
    choice.push(_token(b"E", ""))
    last = choice.push(_token(b"\x00", "E", "stop"))
    assert _bytes(last.entries) == b"E"


@pytest.mark.parametrize("texts", [None, TEXTS])
def test_nothing_is_kept_that_nobody_asked_for(texts: TokenTexts | None) -> None:
    choice = Choice(texts, detailed=False, shows_special=False)
    assert choice.push(_token(b"a", "a")).entries == []
    assert choice.tokens == 1
