"""Text as it streams: whole characters, and stop strings that span tokens."""

import random

import pytest

from loopcoder.engine.text import TextStream
from tests.small import byte_tokenizer

TEXT = "def naïve(x):\n    return '日本語 👩‍💻' + x  # ünïcode\n"


TOKENIZER = byte_tokenizer()
TOKENS = TOKENIZER(TEXT)["input_ids"]


def _pieces(stop: tuple[str, ...] = ()) -> list[str]:
    stream = TextStream(TOKENIZER, [], stop)
    pieces = []
    for token in TOKENS:
        pieces.append(stream.push(token))
        if stream.stopped:
            return pieces
    return [*pieces, stream.flush()]


def test_only_whole_characters_come_out() -> None:
    pieces = _pieces()
    assert "".join(pieces) == TEXT
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(TOKENS) > len(TEXT)  # otherwise no character spanned tokens


@pytest.mark.parametrize("stop", [("return",), ("'日本",), ("\n    ", "return"), ("x", "(x")])
def test_text_ends_before_the_first_stop_string(stop: tuple[str, ...]) -> None:
    end = min(at for at in (TEXT.find(s) for s in stop) if at >= 0)
    assert "".join(_pieces(stop)) == TEXT[:end]


def test_beginning_of_a_stop_string_is_held_then_released() -> None:
    stream = TextStream(TOKENIZER, [], ("abX",))
    pieces = [stream.push(token) for token in TOKENIZER("abab")["input_ids"]]
    assert pieces == ["", "", "ab", ""]
    assert stream.flush() == "ab"


def test_random_stops_never_leak() -> None:
    """Against the definition: the text before the stop string that is complete first."""
    rng = random.Random(0)
    for _ in range(200):
        at = [rng.randrange(len(TEXT) - 4) for _ in range(2)]
        stop = tuple(TEXT[a : a + rng.randint(1, 4)] for a in at)
        first = min(stop, key=lambda s: (TEXT.find(s) + len(s), -len(s)))
        assert "".join(_pieces(stop)) == TEXT[: TEXT.find(first)]
