"""Bits per byte of the documents in files, folders or a corpus."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from loopcoder.errors import RequestError
from loopcoder.eval.heldout.scores import DocumentScore, HeldoutResult, Settled
from loopcoder.eval.heldout.texts import Texts


class Scorer(Protocol):
    """Who scores: `Local` or `Endpoint`."""

    async def score(
        self, texts: Texts, numbers: Sequence[int], length: int, settled: Settled
    ) -> None:
        """Score these documents in windows of `length` tokens; `settled` hears of each, once."""
        ...


async def bits_per_byte(
    scorer: Scorer,
    data: Sequence[Path] = (),
    *,
    length: int = 512,
    limit: int | None = None,
    known: Sequence[DocumentScore] = (),
    settled: Settled = lambda score: None,
) -> HeldoutResult:
    """Score the documents in `data`, all or an even spread of `limit`.

    `data` are files of UTF-8 text, folders of them (what is not text in a folder is passed over),
    JSONL with a "text" field, or one corpus that `loopcoder data build` made, whose held-out part
    is read; without any it is Python's standard library. Documents that have a score among
    `known` are not scored again; `settled` hears of every other one.

    Raises `DataError` for text that cannot be read, `RequestError` for a model or length that
    cannot be used, `EvaluationError` for an endpoint that does not say which model it has.
    """
    if length < 2 or (limit is not None and limit < 1):
        raise RequestError(f"length is {length} and limit {limit}; at least 2 and 1 are needed")
    texts = Texts(data, limit)
    scores = {score.document: score for score in known if score.nats is not None}

    def note(score: DocumentScore) -> None:
        scores[score.document] = score
        settled(score)

    numbers = [number for number, name in enumerate(texts.names) if name not in scores]
    if numbers:
        await scorer.score(texts, numbers, length, note)
    return HeldoutResult(
        tuple(scores[name] for name in texts.names), texts.name, texts.hash, length
    )
