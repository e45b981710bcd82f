"""Reading an echoed prompt: which tokens its text became, and what each of them cost."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_SPARE = 8  # tokens before a cut in the text that the cut may have made different


class EchoError(Exception):
    """An answer from which a text cannot be scored; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Echo:
    """The tokens of `text`: `costs` in nats (the first has none), `offsets` in characters.

    `begin` is 1 where the endpoint put a token of its own (bos) before the text, else 0.
    """

    text: str
    tokens: Sequence[str]
    costs: Sequence[float]
    offsets: Sequence[int]
    begin: int

    def border(self, length: int, *, first: bool, final: bool) -> int | None:
        """The last token of a window of `length`, the next window's first; None if all fit.

        Only of a text's `first` window a bos is part, as it is in process. `final` says that the
        text does not go on. The token is one that stands in the text as it is spelled.
        """
        at = length - 1 if first else length - 1 + self.begin
        if at + (1 if final else _SPARE) >= len(self.tokens):
            return None
        self._check(at + 1)
        while at > self.begin and self.offsets[at]:
            spelled, length = self.tokens[at], self.offsets[at + 1] - self.offsets[at]
            if spelled and not _opaque(spelled) and length == len(spelled):
                return at
            at -= 1
        raise EchoError("no token of a window is a piece of its text")

    def _check(self, last: int) -> None:
        """Offsets go wrong where an endpoint counts parts of a character as characters."""
        for at in range(self.begin, last):
            token, offset = self.tokens[at], self.offsets[at]
            if not _opaque(token) and not self.text.startswith(token, offset):
                raise EchoError(
                    f"text_offset {offset} does not lead to the token {token!r}; use a length "
                    "that holds the whole document"
                )

    def cost(self, border: int | None, *, known: int) -> tuple[float, int, int]:
        """Nats, bytes and tokens predicted behind `known` characters, up to `border` or the end.

        Of a text's first window, where none are known, that is all but the first token, which may
        be a bos. The text may have become other tokens than in the window before.
        """
        stop = len(self.tokens) if border is None else border + 1
        begin = 1
        if known:
            new = (at for at in range(self.begin + 1, stop) if self.offsets[at] >= known)
            begin = next(new, stop)
        if begin >= stop:
            return 0.0, 0, 0
        end = len(self.text) if border is None else self.offsets[stop]
        stretch = self.text[self.offsets[begin] : end]
        return math.fsum(self.costs[begin:stop]), len(stretch.encode()), stop - begin


def _opaque(token: str) -> bool:
    """Whether this is how endpoints spell a part of a character."""
    return token.startswith("bytes:") or "\ufffd" in token


def read_echo(text: str, answer: Any) -> Echo:
    """The prompt's part of an answer to `text`. Raises `EchoError` for what is no such answer."""
    try:
        count = answer["usage"]["prompt_tokens"]
        report = answer["choices"][0]["logprobs"]
        lists = [report[name] for name in ("tokens", "token_logprobs", "text_offset")]
        tokens, logprobs, offsets = (each[:count] for each in lists)
        costs = [0.0, *(-float(logprob) for logprob in logprobs[1:])]
        offsets = [int(offset) for offset in offsets]
        begin = 0 if _opaque(tokens[0]) or text.startswith(tokens[0]) else 1
        shift = offsets[begin]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise EchoError(
            "the answer has no log-probabilities of its prompt (echo, logprobs and usage)"
        ) from error
    if not all(isinstance(token, str) for token in tokens):
        raise EchoError("the tokens of the answer's prompt are not text")
    if not len(tokens) == len(costs) == len(offsets) == count:
        raise EchoError(f"the prompt has {count} tokens, and the answer reports {len(tokens)}")
    if not all(map(math.isfinite, costs)):
        raise EchoError("a log-probability is not a number")
    return Echo(
        text=text,
        tokens=tokens,
        costs=costs,
        offsets=[max(0, offset - shift) for offset in offsets],
        begin=begin,
    )
