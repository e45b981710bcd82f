"""Grammars tried in a process of their own: good ones pass, endless ones are stopped."""

import os
from collections.abc import Iterator
from typing import Any

import pytest

from loopcoder.errors import RequestError
from loopcoder.server.grammar_check import GrammarCheck
from loopcoder.types import StructuredOutputsParams
from tests.small import byte_tokenizer

GOOD = StructuredOutputsParams(json={"type": "object"})
# Minutes in the library, and nothing there bounds it.
ENDLESS = StructuredOutputsParams(json={"type": "integer", "multipleOf": 9999991})


@pytest.fixture(scope="module")
def check() -> Iterator[GrammarCheck]:
    made = GrammarCheck(byte_tokenizer().backend_tokenizer.to_str(), frozenset([2]), seconds=1)
    yield made
    made.close()


def _pid(check: GrammarCheck) -> int | None:
    return None if check._process is None else check._process.pid


def test_good_grammars_pass(check: GrammarCheck) -> None:
    for wanted in (
        GOOD,
        StructuredOutputsParams(regex="[a-z]+"),
        StructuredOutputsParams(choice=("a", "b")),
        StructuredOutputsParams(json={"enum": [f"value {i}" for i in range(2000)]}),
    ):
        check.check(wanted)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"json": {"not": {}}}, "Unimplemented keys"),
        ({"regex": "("}, "unclosed group"),
        ({"json": "nope"}, "cannot be read"),
        (  # all optional, so that any of them may come next
            {"json": {"properties": {f"p{i}": {} for i in range(1500)}, "type": "object"}},
            "optional properties",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_grammars_are_refused(wanted: Any, message: str, check: GrammarCheck) -> None:
    for _ in range(2):  # the second time from memory
        with pytest.raises(RequestError, match=message):
            check.check(StructuredOutputsParams(**wanted))
    check.check(GOOD)


def test_an_endless_one_is_stopped_and_remembered(check: GrammarCheck) -> None:
    check.check(StructuredOutputsParams(regex="a"))
    before = _pid(check)
    with pytest.raises(RequestError, match="takes more than 1 s"):
        check.check(ENDLESS)
    assert _pid(check) is None
    assert before is not None
    with pytest.raises(ProcessLookupError):
        os.kill(before, 0)
    with pytest.raises(RequestError, match="takes more than 1 s"):
        check.check(ENDLESS)
    assert _pid(check) is None, "it was not tried again"
    check.check(StructuredOutputsParams(regex="b"))
    assert _pid(check) not in (None, before)


def test_memory_of_verdicts_is_bounded(
    check: GrammarCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopcoder.server.grammar_check._REMEMBERED", 3)
    check._refusals.clear()
    for number in range(8):
        check.check(StructuredOutputsParams(regex=f"a{{{number}}}"))
    assert len(check._refusals) == 3


def test_closing_ends_the_process() -> None:
    made = GrammarCheck(byte_tokenizer().backend_tokenizer.to_str(), frozenset())
    made.close()
    made.check(GOOD)
    pid = _pid(made)
    assert pid is not None
    made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
