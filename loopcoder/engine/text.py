"""Tokens to text as they come: whole characters only, and stop strings across token borders."""

import codecs
from collections.abc import Sequence
from typing import Any, Protocol

from loopcoder.engine.vocabulary import TokenTexts

_REPLACEMENT = "\ufffd"


class TextStream:
    """The text of one sequence, piece by piece.

    The pieces together are what `decode` adds to the prompt's whole characters. What could begin a
    stop string is held back until later tokens decide. The stop string that is complete first
    wins, of two that end together the longer; the text ends before it, or behind it with
    `include_stop`. One that is complete within the first `min_tokens` tokens does not count.

    `tokenizer` is best a `TokenTexts` shared by all streams. `stop_reason` is the stop string
    found. Only the last few tokens of the prompt are read.
    """

    def __init__(
        self,
        tokenizer: Any,
        prompt_token_ids: Sequence[int],
        stop: Sequence[str] = (),
        *,
        include_stop: bool = False,
        skip_special_tokens: bool = True,
        min_tokens: int = 0,
    ) -> None:
        texts = tokenizer if isinstance(tokenizer, TokenTexts) else TokenTexts(tokenizer)
        kind = _ByteDecoder if texts.exact else _WindowDecoder
        self._skipped = texts.special if skip_special_tokens else frozenset()
        self._decoder: _Decoder = kind(texts, prompt_token_ids, self._skipped)
        self._stop = tuple(stop)
        self._include_stop = include_stop
        self._unchecked = min_tokens
        self._held = ""
        self.stop_reason: str | None = None

    @property
    def stopped(self) -> bool:
        """Whether a stop string is complete; what follows it is not part of the text."""
        return self.stop_reason is not None

    def push(self, token_id: int) -> str:
        """Text that is certain after `token_id`."""
        assert not self.stopped
        piece = "" if token_id in self._skipped else self._decoder.push(token_id)
        self._unchecked -= 1
        return self._add(piece)

    def flush(self) -> str:
        """What was held back, once no more tokens come: U+FFFD for half a character."""
        if self.stopped:
            return ""
        text = self._add(self._decoder.flush())
        return text if self.stopped else text + self._release(len(self._held))

    def _add(self, piece: str) -> str:
        searched = len(self._held)
        self._held += piece
        if piece and self._stop and self._unchecked < 0:
            found = [
                (at + len(stop), at, stop)
                for stop in self._stop
                if (at := self._held.find(stop, max(0, searched - len(stop) + 1))) >= 0
            ]
            if found:
                end, start, self.stop_reason = min(found)
                return self._release(end if self._include_stop else start)
        return self._release(len(self._held) - self._pending())

    def _release(self, length: int) -> str:
        text, self._held = self._held[:length], self._held[length:]
        return text

    def _pending(self) -> int:
        """Length of the longest tail of the held text that begins some stop string."""
        longest = min(len(self._held), max((len(stop) - 1 for stop in self._stop), default=0))
        for length in range(longest, 0, -1):
            if any(stop.startswith(self._held[-length:]) for stop in self._stop):
                return length
        return 0


class _Decoder(Protocol):
    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


class _ByteDecoder:
    """For byte-level BPE: UTF-8 decoded byte by byte, with the work of one token for one token."""

    def __init__(self, texts: TokenTexts, context: Sequence[int], skipped: frozenset[int]) -> None:
        self._texts = texts
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._utf8.decode(_tail(texts, context, skipped))

    def push(self, token_id: int) -> str:
        return self._utf8.decode(self._texts.bytes(token_id))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


def _tail(texts: TokenTexts, context: Sequence[int], skipped: frozenset[int]) -> bytes:
    """The last 4 bytes or more of a prompt: enough to hold a character that it leaves open."""
    tail = b""
    for token_id in reversed(context):
        tail = (b"" if token_id in skipped else texts.bytes(token_id)) + tail
        if len(tail) >= 4:
            break
    return tail


class _WindowDecoder:
    """For any other tokenizer: decode the newest tokens with those before them as context.

    Text that ends in U+FFFD waits, because the next byte token may complete the character.
    """

    _CONTEXT = 8

    def __init__(self, texts: TokenTexts, context: Sequence[int], skipped: frozenset[int]) -> None:
        self._texts = texts
        shown = [t for t in context[-4 * self._CONTEXT :] if t not in skipped]
        self._ids = shown[-self._CONTEXT :]
        self._read = len(self._ids)
        self._trim()
        self._seen = self._decode(self._read)

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        text = self._decode()
        if len(text) <= len(self._seen) or text.endswith(_REPLACEMENT):
            return ""
        piece = text[len(self._seen) :]
        # These tokens have been given out: they are the context of the next.
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        self._seen = self._decode()
        return piece

    def flush(self) -> str:
        return self._decode()[len(self._seen) :]

    def _trim(self) -> None:
        """Let the context begin and end at a character's border, which 3 bytes may hide."""
        borders = ((stop, start) for start in range(4) for stop in range(4))
        for stop, start in borders:
            ids = self._ids[start : len(self._ids) - stop]
            if not self._texts.decode(ids, skip_special_tokens=False).endswith(_REPLACEMENT):
                self._ids, self._read = self._ids[start:], len(ids)
                return

    def _decode(self, stop: int | None = None) -> str:
        return self._texts.decode(self._ids[:stop], skip_special_tokens=False)
