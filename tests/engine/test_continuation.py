"""One continuation: which rule ends it, and what it reports."""

import pytest

from loopcoder.engine.continuation import Continuation
from loopcoder.engine.sampling import Choice
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.types import Logprob
from tests.engine.helpers import ask
from tests.small import byte_tokenizer

TOKENIZER = byte_tokenizer()
END = TOKENIZER("!")["input_ids"][0]


def _write(text: str, **params: object) -> tuple[Continuation, list[str]]:
    """Feed the bytes of `text` until something stops it."""
    asked = ask(0, [1], **{"max_tokens": 20, "ignore_eos": False, "logprobs": None, **params})
    written = Continuation(asked, 0, [END], TokenTexts(TOKENIZER))
    pieces = []
    for token in TOKENIZER(text)["input_ids"]:
        pieces.append(written.accept(Choice(token)).text)
        if written.finish_reason:
            break
    return written, pieces


@pytest.mark.parametrize(
    ("params", "text", "reason", "cause"),
    [
        ({}, "abc", "stop", None),
        ({"ignore_eos": True}, "abc!def", None, None),
        ({"max_tokens": 2}, "ab", "length", None),
        ({"max_tokens": 4}, "abc", "stop", None),  # the end token is the fourth
        ({"stop": ["bc"]}, "a", "stop", "bc"),
        ({"stop": ["bc"], "include_stop_str_in_output": True}, "abc", "stop", "bc"),
        ({"stop": ["bx", "c!d"], "ignore_eos": True}, "ab", "stop", "c!d"),
        ({"stop": ["b"], "min_tokens": 2, "ignore_eos": True}, "abc!def", None, None),
        ({"min_tokens": 4, "max_tokens": 7}, "abc!def", "length", None),
    ],
    ids=str,
)
def test_what_ends_a_text(
    params: dict[str, object], text: str, reason: str | None, cause: object
) -> None:
    written, pieces = _write("abc!def", **params)
    output = written.output()
    assert (output.text, output.finish_reason, output.stop_reason) == (text, reason, cause)
    assert "".join(pieces) == text


def test_a_stop_token_has_no_text_and_is_named() -> None:
    token = TOKENIZER("b")["input_ids"][0]
    written, _ = _write("abc", stop_token_ids=[token])
    output = written.output()
    assert (output.text, output.stop_reason, len(output.token_ids)) == ("a", token, 2)


def test_logprobs_are_summed_over_the_chosen_tokens() -> None:
    written = Continuation(ask(0, [1], max_tokens=3), 2, [], None)
    for token in (5, 6):
        seen = {token: Logprob(-0.5 * token, 1), 9: Logprob(-9.0, 2)}
        written.accept(Choice(token, seen))
    output = written.output()
    assert (output.index, output.text, output.token_ids) == (2, None, [5, 6])
    assert output.cumulative_logprob == -5.5
    assert [list(seen) for seen in output.logprobs] == [[5, 9], [6, 9]]
