"""Calls and content out of a text that comes in pieces of any size."""

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.server.tools import ToolCall, ToolCallReader
from tests.server.calls import CALL, NOW_CALL, read_all

TWO = f"{CALL}\n{NOW_CALL}"
WEATHER_CALL = ("get_weather", '{"city": "Paris", "days": 2}')
LONG = "1" * 5000  # digits, more than Python reads


def _called(arguments: str) -> str:
    return f'<tool_call>{{"name": "f", "arguments": {arguments}}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        ("Hi there.\n", "Hi there.\n", []),
        (CALL, "", [WEATHER_CALL]),
        (f"Well.\n\n{TWO}\n", "Well.", [WEATHER_CALL, ("now", "{}")]),
        (f"{NOW_CALL} Done.", " Done.", [("now", "{}")]),
        ("a < b <tool", "a < b <tool", []),
        # A closing tag within a string closes nothing; numbers need not fit Python's.
        (_called('{"a": "</tool_call>\\""}'), "", [("f", '{"a": "</tool_call>\\""}')]),
        (_called('{"a": 1e999}'), "", [("f", '{"a": 1e999}')]),
        (_called(f'{{"a": {LONG}}}'), "", [("f", f'{{"a": {LONG}}}')]),
        ('<tool_call>{"name": "a\\u00e9\\"", "arguments": {}}</tool_call>', "", [('aé"', "{}")]),
        # What is no call is content as it stands: cut off, not JSON, no object, no name.
        (CALL[:-3], CALL[:-3], []),
        (f"x \n{CALL[:30]}", None, []),
        ("<tool_call>call()</tool_call> so", "<tool_call>call()</tool_call> so", []),
        (_called("[1]"), None, []),
        (_called('{"a": nope}'), None, []),
        ('<tool_call>{"arguments": {}, "name": "f"}</tool_call>', None, []),
        ('<tool_call>{"name": "f", "arguments": {}} {}</tool_call>', None, []),
        (f"{NOW_CALL}\n{CALL[:40]}", f"\n{CALL[:40]}", [("now", "{}")]),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_content_and_calls(text: str, content: str | None, calls: list[tuple[str, str]]) -> None:
    expected = text if content is None else content
    assert read_all(text)[:2] == (expected, calls)
    assert read_all(text, [1] * len(text))[:2] == (expected, calls)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["Hi", " ", "\n", "<", "<tool_", "</tool_call>", "é", NOW_CALL, CALL]),
        max_size=8,
    ),
    st.lists(st.integers(1, 30), max_size=40),
)
def test_how_the_text_is_cut_changes_nothing(parts: list[str], sizes: list[int]) -> None:
    text = "".join(parts)
    content, calls, _ = read_all(text)
    assert read_all(text, sizes)[:2] == (content, calls)
    if "<tool_<tool_call>" not in text:
        assert len(calls) == text.count("</tool_call>") - parts.count("</tool_call>")
    kept = text
    for call in (CALL, NOW_CALL):
        kept = kept.replace(call, "")
    assert content.split() == kept.split() or "".join(content.split()) == "".join(kept.split())


def test_content_comes_as_soon_as_it_is_certain() -> None:
    reader = ToolCallReader()
    said = [reader.push(piece) for piece in ("Hi", " you", " ", "<b>", " <tool", "s>", "\n\n")]
    assert said == [["Hi"], [" you"], [], [" <b>"], [], [" <tools>"], []]
    assert reader.push("<tool_call>") == []
    (call,) = reader.push('{"name":"now","arguments":{}}</tool_call>')
    assert isinstance(call, ToolCall)
    assert re.fullmatch(r"call_[0-9a-f]{24}", call.id)
    assert reader.flush() == []
    assert len({ToolCallReader().push(NOW_CALL)[0].id for _ in range(50)}) == 50  # type: ignore[union-attr]


def test_a_flood_of_closing_tags_is_read_in_time() -> None:
    """Each closing tag is tried once: a text of 20,000 within a string, byte by byte."""
    text = '<tool_call>{"name":"f","arguments":{"a":"' + "</tool_call>" * 2000
    reader = ToolCallReader()
    for at in range(0, len(text), 4):
        assert reader.push(text[at : at + 4]) == []
    (call,) = reader.push('"}}</tool_call>')
    assert isinstance(call, ToolCall)
    assert json.loads(call.arguments)["a"] == "</tool_call>" * 2000
