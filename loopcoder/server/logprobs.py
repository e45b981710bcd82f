"""Log-probabilities and loop lenses in the shapes that clients read."""

import codecs
import math
from collections.abc import Sequence
from typing import Any

from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.server.choice import Entry
from loopcoder.types import Logprob

_LEAST = -9999.0  # OpenAI's number for a probability of 0, which JSON's numbers cannot say


def spelled(texts: TokenTexts, token_id: int) -> str:
    r"""A token as text; `bytes:\xe2\x80`, as OpenAI writes it, where it is no whole character."""
    raw = texts.bytes(token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _number(value: float) -> float:
    return max(value, _LEAST)


class CompletionLogprobs:
    """`logprobs` of /v1/completions; offsets go on from piece to piece of one choice."""

    def __init__(self, texts: TokenTexts, top: int, offset: int = 0) -> None:
        self._texts = texts
        self._top = top
        self._offset = offset
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def of(self, entries: Sequence[tuple[int, dict[int, Logprob] | None]]) -> dict[str, Any]:
        """Four lists, an item a token; a prompt's first token has no probability."""
        tokens, logprobs, tops, offsets = [], [], [], []
        for token_id, found in entries:
            tokens.append(spelled(self._texts, token_id))
            logprobs.append(None if found is None else _number(found[token_id].logprob))
            tops.append(None if found is None else self._likely(found, token_id))
            offsets.append(self._offset)
            self._offset += len(self._utf8.decode(self._texts.bytes(token_id)))
        return {
            "tokens": tokens,
            "token_logprobs": logprobs,
            "top_logprobs": tops,
            "text_offset": offsets,
        }

    def _likely(self, found: dict[int, Logprob], token_id: int) -> dict[str, float]:
        likely = [i for i, each in found.items() if each.rank <= self._top or i == token_id]
        return {spelled(self._texts, i): _number(found[i].logprob) for i in likely}


def chat_logprobs(texts: TokenTexts, entries: Sequence[Entry], top: int) -> dict[str, Any]:
    """`logprobs` of /v1/chat/completions."""
    content = []
    for entry in entries:
        assert entry.logprobs is not None
        ranked = sorted(entry.logprobs.items(), key=lambda item: item[1].rank)
        content.append(
            {
                **_chat_token(texts, entry.token_id, entry.logprobs[entry.token_id]),
                "top_logprobs": [_chat_token(texts, i, each) for i, each in ranked[:top]],
            }
        )
    return {"content": content, "refusal": None}


def _chat_token(texts: TokenTexts, token_id: int, found: Logprob) -> dict[str, Any]:
    return {
        "token": texts.text(token_id),
        "logprob": _number(found.logprob),
        "bytes": list(texts.bytes(token_id)),
    }


def token_details(
    texts: TokenTexts | None, entries: Sequence[Entry], *, ids: bool, lens: int | None
) -> dict[str, Any]:
    """What OpenAI's answers have no place for, where it is asked for.

    `token_ids` (vLLM's) of the text, and `loop_lens`, what each loop would have written in each
    token's place, with `lens` candidates (`LoopLens`).
    """
    details: dict[str, Any] = {}
    if ids:
        details["token_ids"] = [entry.token_id for entry in entries]
    if lens is not None:
        details["loop_lens"] = [_lens(texts, entry, lens) for entry in entries if entry.loop_lens]
    return details


def _lens(texts: TokenTexts | None, entry: Entry, top: int) -> dict[str, Any]:
    token_id, lens = entry.token_id, entry.loop_lens
    assert lens is not None
    chosen = [loop[token_id] for loop in lens.candidates]
    return {
        **_named(texts, token_id),
        "bytes": None if texts is None else list(texts.bytes(token_id)),
        "logprob": [_rounded(each.logprob) for each in chosen],
        "rank": [each.rank for each in chosen],
        "entropy": [_rounded(value) for value in lens.entropy],
        "shift": [_rounded(value) for value in lens.shift],
        "candidates": [
            [
                {**_named(texts, i), "logprob": _rounded(each.logprob)}
                for i, each in sorted(loop.items(), key=lambda item: item[1].rank)[:top]
            ]
            for loop in lens.candidates
        ],
        "gate": [[_rounded(value) for value in layers] for layers in lens.gate],
    }


def _named(texts: TokenTexts | None, token_id: int) -> dict[str, Any]:
    return {"token": None if texts is None else texts.text(token_id), "token_id": token_id}


def _rounded(value: float) -> float | None:
    """Five digits are what a page can show; JSON has no NaN (a gate that is not known)."""
    return round(max(value, _LEAST), 5) if not math.isnan(value) else None
