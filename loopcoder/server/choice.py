"""One continuation as a client sees it: text, and the tokens that belong to text already sent."""

from collections import deque
from typing import NamedTuple

from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.server.messages import Token
from loopcoder.types import Logprob, LoopLens


class Entry(NamedTuple):
    """A token of the text and what was asked about it."""

    token_id: int
    logprobs: dict[int, Logprob] | None
    loop_lens: LoopLens | None


class Piece(NamedTuple):
    """What one token added for the client; `finish_reason` with the last."""

    text: str
    entries: list[Entry]
    finish_reason: str | None


class Choice:
    """Turns an engine's tokens into pieces.

    Text that may begin a stop string is held back by the engine, and here the tokens with it: a
    log-probability would give away what `stop` is to hide. End tokens, whose text is empty, count
    as tokens but are no part of the text. What a choice sends as entries, joined as bytes, is its
    text.
    """

    def __init__(self, texts: TokenTexts | None, *, detailed: bool, shows_special: bool) -> None:
        self.tokens = 0
        self.finish_reason: str | None = None
        self._texts = texts
        self._detailed = detailed
        self._shows_special = shows_special
        self._held: deque[tuple[int, int, Entry]] = deque()  # bytes from, to
        self._said = self._read = 0

    def push(self, token: Token) -> Piece:
        """The piece of the next token."""
        self.finish_reason = token.finish_reason
        self.tokens += token.token_id is not None
        self._said += len(token.text.encode())
        if self._detailed and token.token_id is not None:
            self._hold(token, token.token_id)
        return Piece(token.text, self._release(), token.finish_reason)

    def _hold(self, token: Token, token_id: int) -> None:
        texts = self._texts
        ended = token.finish_reason == "stop" and not isinstance(token.stop_reason, str)
        if ended and (texts is None or not token.text):
            return
        if texts is not None and token_id in texts.special and not self._shows_special:
            return
        begin = self._read
        self._read += 0 if texts is None else len(texts.bytes(token_id))
        entry = Entry(token_id, token.logprobs, token.loop_lens)
        self._held.append((begin, self._read, entry))

    def _release(self) -> list[Entry]:
        """Tokens all of whose bytes are out; at the end also one that a stop string cut short."""
        released: list[Entry] = []
        over = self.finish_reason is not None
        while self._held:
            begin, end, entry = self._held[0]
            if end > self._said and not (over and begin < self._said):
                break
            released.append(entry)
            self._held.popleft()
        return released
