"""Calls of tools out of an answer's text, as it comes."""

import re
import secrets
from dataclasses import dataclass
from json import JSONDecoder

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"arguments"\s*:\s*')
_TAIL = re.compile(r"\s*\}\s*")
# Where a call's JSON ends is all that is asked of numbers: some are too large for Python's.
_JSON = JSONDecoder(parse_float=str, parse_int=str, parse_constant=str)


@dataclass(frozen=True, kw_only=True)
class ToolCall:
    """One finished call; `arguments` is JSON text as the model wrote it. `index` counts from 0."""

    index: int
    id: str
    name: str
    arguments: str


class ToolCallReader:
    """Splits the text of one choice into content and calls.

    Text that may begin `<tool_call>`, and blanks before it, are held back until it is clear; the
    blanks around a call are dropped. A call counts once it is closed. What is no call (cut off by
    `max_tokens`, or not JSON) comes back with the flush as content, tag and all, as vLLM has it.
    """

    def __init__(self) -> None:
        self.calls = 0
        self._blanks = self._held = ""
        self._searched = 0

    def push(self, text: str) -> list[str | ToolCall]:
        """What is certain with `text`: pieces of content, and calls."""
        self._held += text
        pieces: list[str | ToolCall] = []
        while True:
            content = self._content()
            if content:
                pieces.append(content)
            call = self._call()
            if call is None:
                return pieces
            pieces.append(call)

    def flush(self) -> list[str | ToolCall]:
        """What was held back, once no more text comes."""
        text = self._blanks + self._held
        self._blanks, self._held, self._searched = "", "", 0
        return [text] if text and not (self.calls and text.isspace()) else []

    def _content(self) -> str:
        """Take out the text before a call, or before what may become one."""
        at = self._held.find(OPEN)
        if at > 0:
            text = self._held[:at].rstrip()
            self._blanks, self._held = self._held[len(text) : at], self._held[at:]
            return text
        if at == 0:
            return ""
        tails = (n for n in range(len(OPEN) - 1, 0, -1) if self._held.endswith(OPEN[:n]))
        certain = self._held[: len(self._held) - next(tails, 0)].rstrip()
        self._held = self._held[len(certain) :]
        return certain

    def _call(self) -> ToolCall | None:
        """Take out a whole call from the front. The closing tag may also stand in a string."""
        if not self._held.startswith(OPEN):
            return None
        while (end := self._held.find(CLOSE, self._searched)) >= 0:
            found = read_call(self._held[len(OPEN) : end])
            if found is not None:
                self._held = self._held[end + len(CLOSE) :]
                self._blanks, self._searched = "", 0
                self.calls += 1
                name, arguments = found
                return ToolCall(
                    index=self.calls - 1,
                    id=f"call_{secrets.token_hex(12)}",
                    name=name,
                    arguments=arguments,
                )
            self._searched = end + 1
        self._searched = max(self._searched, len(self._held) - len(CLOSE) + 1)
        return None


def read_call(body: str) -> tuple[str, str] | None:
    """Name and arguments of what stands between two tags, None where it is no call."""
    head = _HEAD.match(body)
    if head is None:
        return None
    try:
        name = _JSON.decode(head[1])
        arguments, end = _JSON.raw_decode(body, head.end())
    except (ValueError, RecursionError):
        return None
    if not isinstance(arguments, dict) or not _TAIL.fullmatch(body, end):
        return None
    return name, body[head.end() : end]
