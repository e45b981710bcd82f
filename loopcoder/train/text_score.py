"""Bits per byte of text files: what a model, float or quantised, makes of them."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.quantization import Quantization
from loopcoder.errors import DataError
from loopcoder.kernels.linear import Product
from loopcoder.model.plt import PLT
from loopcoder.model.products import fuse, products, replace_products
from loopcoder.train.heldout import HeldoutScore
from loopcoder.train.text import EncodedText, TextWindow, read_text

if TYPE_CHECKING:
    from transformers.tokenization_utils_base import PreTrainedTokenizerBase


def read_windows(
    tokenizer: "PreTrainedTokenizerBase",
    files: Iterable[Path],
    *,
    length: int,
    limit: int | None = None,
) -> list[TextWindow]:
    """The texts in `files` as windows of at most `length` tokens, all or an even spread of `limit`.

    Each file is a document, encoded as a prompt is. A window begins with the last token of the one
    before, so that every token is predicted once. Raises `DataError` for what is not text, or if
    there is nothing to predict.
    """
    windows: list[TextWindow] = []
    for path in files:
        text = EncodedText(tokenizer, read_text(path))
        windows += [text.window(i, length) for i in range(0, len(text) - 1, length - 1)]
    if not windows:
        raise DataError("the text has fewer than two tokens, so nothing can be predicted")
    count = min(limit or len(windows), len(windows))
    return [windows[i * len(windows) // count] for i in range(count)]


def score_form(
    directory: Path,
    form: Quantization | None,
    windows: Sequence[TextWindow],
    *,
    dtype: str = "auto",
    loops: int | None = None,
    few_rows: int | None = None,
) -> dict[str, Any]:
    """How well the checkpoint, quantised as `form` says, predicts `windows`; one record.

    `few_rows` lets its products see at most that many rows at once, as decoding does: their
    kernels for few rows may round differently from those for many.
    """
    model = load_model(directory, dtype=dtype, quantization=form)
    fuse(model)
    if few_rows is not None:
        replace_products(model, lambda product: FewRowsProduct(product, few_rows))
    score = score_text(model, windows, loops=model.model.check_loops(loops))
    return {
        "quantization": None if form is None else f"int{form.linears.bits}",
        "group": None if form is None else form.linears.group,
        "bits_per_byte": score.bits_per_byte,
        "perplexity": math.exp(score.loss),
        "matrix_bytes": sum(product.nbytes for product in products(model).values()),
        "tokens": score.tokens,
        "bytes": score.bytes,
    }


@torch.inference_mode()
def score_text(
    model: PLT, windows: Sequence[TextWindow], *, loops: int | None = None
) -> HeldoutScore:
    """The nats that `model` needs for the predicted tokens of `windows`, all loops of each."""
    device = model.model.embed_tokens.weight.device
    nats = torch.zeros((), dtype=torch.float64)
    for window in windows:
        nats += _nats(model, torch.tensor([window.token_ids], device=device), loops).cpu()
    return HeldoutScore(
        nats=float(nats),
        tokens=sum(len(window.token_ids) - 1 for window in windows),
        bytes=sum(window.bytes for window in windows),
        windows=len(windows),
    )


def _nats(model: PLT, token_BT: Tensor, loops: int | None) -> Tensor:
    logits_BTV = model(token_BT, num_loops=loops).logits
    return cross_entropy(logits_BTV[0, :-1].float(), token_BT[0, 1:], reduction="sum")


class FewRowsProduct:
    """A `Product` a few rows at a time."""

    def __init__(self, product: Product, rows: int) -> None:
        self.name, self.shape, self.nbytes = product.name, product.shape, product.nbytes
        self._product, self._rows = product, rows

    def __call__(self, x: Tensor) -> Tensor:
        """See `Product`."""
        pieces = x.flatten(0, -2).split(self._rows)
        y_NM = torch.cat([self._product(piece) for piece in pieces])
        return y_NM.view(*x.shape[:-1], y_NM.shape[-1])
