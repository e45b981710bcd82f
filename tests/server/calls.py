"""Calls of tools as text, and how their reader reads them."""

from collections.abc import Iterable

from loopcoder.server.tools import ToolCall, ToolCallReader

CALL = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris", "days": 2}}\n</tool_call>'
)
NOW_CALL = '<tool_call>{"name":"now","arguments":{}}</tool_call>'


def read_all(
    text: str, sizes: Iterable[int] = ()
) -> tuple[str, list[tuple[str, str]], list[str | ToolCall]]:
    """Content, and name and arguments of each call, of a text that comes in pieces."""
    reader, pieces, at = ToolCallReader(), [], 0
    for size in sizes:
        pieces += reader.push(text[at : at + size])
        at += size
    pieces += reader.push(text[at:]) + reader.flush()
    content = "".join(piece for piece in pieces if isinstance(piece, str))
    calls = [piece for piece in pieces if isinstance(piece, ToolCall)]
    assert [call.index for call in calls] == list(range(reader.calls))
    return content, [(call.name, call.arguments) for call in calls], pieces
