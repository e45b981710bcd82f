"""Documents scored by a model in this process."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from loopcoder.errors import DataError, RequestError
from loopcoder.eval.heldout.scores import DocumentScore, Settled
from loopcoder.eval.heldout.texts import Texts

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase

    from loopcoder.model.plt import PLT
    from loopcoder.train.text import TextWindow


@dataclass(frozen=True, kw_only=True)
class Local:
    """A checkpoint; the fields are those of `LLM`."""

    model: str
    loops: int | None = None
    dtype: str = "auto"
    quantization: str | None = None
    device: str = "auto"

    async def score(
        self, texts: Texts, numbers: Sequence[int], length: int, settled: Settled
    ) -> None:
        """Score documents one after another, in a thread; `settled` hears of each.

        Raises `RequestError` for a model or `length` that cannot be used.
        """
        await asyncio.to_thread(self._score, texts, numbers, length, settled)

    def _score(self, texts: Texts, numbers: Sequence[int], length: int, settled: Settled) -> None:
        from loopcoder.checkpoint.locate import locate
        from loopcoder.checkpoint.tokenizer import load_tokenizer
        from loopcoder.train.text_score import score_text

        directory = locate(self.model)
        tokenizer = load_tokenizer(directory)
        if tokenizer is None and not texts.corpus:
            raise RequestError(f"{directory} has no tokenizer, so text cannot be read")
        model = self._load(directory)
        loops = model.model.check_loops(self.loops)
        positions = model.config.max_position_embeddings
        if length > positions:
            raise RequestError(f"length is {length}; the model has {positions} positions")
        for number in numbers:
            windows = _windows(texts, number, tokenizer, length)
            _check(windows, model, texts)
            score = score_text(model, windows, loops=loops) if windows else None
            name = texts.names[number]
            if score is None:
                settled(DocumentScore(document=name, unscored="fewer than two tokens"))
            elif not math.isfinite(score.nats):
                settled(DocumentScore(document=name, unscored="logits that are not numbers"))
            else:
                settled(
                    DocumentScore(
                        document=name,
                        nats=score.nats,
                        bytes=score.bytes,
                        tokens=score.tokens,
                        windows=score.windows,
                    )
                )

    def _load(self, directory: Any) -> "PLT":
        from loopcoder.checkpoint.load import load_model
        from loopcoder.engine.device import usable_device
        from loopcoder.model.products import fuse

        model = load_model(
            directory,
            dtype=self.dtype,
            device=usable_device(self.device),
            quantization=self.quantization,
        )
        fuse(model)
        return model


def _windows(
    texts: Texts, number: int, tokenizer: "PreTrainedTokenizerBase | None", length: int
) -> "list[TextWindow]":
    """Cut as `train.text_score.read_windows` cuts a file."""
    from loopcoder.train.text import EncodedText

    document: Any = texts.document(number)
    if not texts.corpus:
        assert tokenizer is not None
        document = EncodedText(tokenizer, texts.text(number))
    total = len(document)
    return [
        document.window(start, min(length, total - start))
        for start in range(0, total - 1, length - 1)
    ]


def _check(windows: "list[TextWindow]", model: "PLT", texts: Texts) -> None:
    largest = max((max(window.token_ids) for window in windows), default=0)
    if largest >= model.config.vocab_size:
        raise DataError(
            f"{texts.name}: holds token {largest}, the model knows {model.config.vocab_size}; give "
            "the corpus that was built with its tokenizer, or files of text"
        )
