"""Held-out bits per byte: the measure that does not depend on the tokenizer."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from loopcoder.errors import DataError
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.windows import IGNORED, Collator


@dataclass(frozen=True, kw_only=True)
class HeldoutScore:
    """Total nats of `tokens` predicted tokens, which stand for `bytes` bytes of text."""

    nats: float
    tokens: int
    bytes: int
    windows: int

    @property
    def bits_per_byte(self) -> float:
        """Special tokens cost bits and stand for no bytes."""
        return self.nats / math.log(2) / self.bytes

    @property
    def loss(self) -> float:
        """Nats per token, comparable with the training loss."""
        return self.nats / self.tokens

    def record(self) -> dict[str, float]:
        """As `run.json` has it."""
        return {**asdict(self), "loss": self.loss}


class Heldout:
    """Windows of the held-out split, cut as in training; a last part of a window is left out.

    Raises `DataError` if there is nothing to predict.
    """

    def __init__(self, shards: TokenShards, *, length: int) -> None:
        self.shards = shards
        self.length = min(length, len(shards))
        self.windows = len(shards) // self.length if self.length >= 2 else 0
        self.collate = Collator(shards.bos_id, shards.answers)
        if not self.windows:
            raise DataError(
                f"{shards.folder}: the heldout split has {len(shards)} tokens, so nothing can be "
                "measured; raise heldout.fraction in the data recipe and build again"
            )

    def batches(self, batch: int, limit: int | None) -> Iterator[dict[str, Tensor]]:
        """`limit` windows spread evenly over the split, or all of them."""
        count = min(limit or self.windows, self.windows)
        starts = (np.arange(count) * self.windows // count * self.length).tolist()
        for i in range(0, count, batch):
            windows = [self.shards.window(start, self.length) for start in starts[i : i + batch]]
            yield self.collate(windows)

    def labels_and_bytes(self, batch: dict[str, Tensor]) -> tuple[int, int]:
        """Predicted tokens of a batch, and the bytes of text they stand for."""
        labels = batch["labels"]
        predicted = labels[labels != IGNORED].numpy()
        return len(predicted), self.shards.bytes_of(predicted)


@torch.no_grad()
def score(
    model: nn.Module,
    heldout: Heldout,
    *,
    batch: int,
    device: torch.device,
    limit: int | None,
    num_loops: int | None = None,
) -> HeldoutScore:
    """Score `limit` windows (None: all) with a model that maps ids to `.logits` [B, T, V].

    `num_loops` is passed on to a model that can run several counts. Raises `DataError` if the
    predicted tokens stand for no text at all.
    """
    loops = {} if num_loops is None else {"num_loops": num_loops}
    nats = torch.zeros((), device=device, dtype=torch.float64)
    tokens = nbytes = windows = 0
    was_training = model.training
    model.eval()
    for inputs in heldout.batches(batch, limit):
        nats += _nats(model, {name: x.to(device) for name, x in inputs.items()}, loops)
        predicted, text = heldout.labels_and_bytes(inputs)
        tokens, nbytes, windows = tokens + predicted, nbytes + text, windows + len(inputs["labels"])
    model.train(was_training)
    if not nbytes:
        raise DataError(
            f"{heldout.shards.folder}: the held-out windows hold no text; use longer windows"
        )
    return HeldoutScore(nats=float(nats), tokens=tokens, bytes=nbytes, windows=windows)


def _nats(model: nn.Module, inputs: dict[str, Tensor], loops: dict[str, int]) -> Tensor:
    logits_BTV = model(
        input_ids=inputs["input_ids"],
        position_ids=inputs["position_ids"],
        use_cache=False,
        **loops,
    ).logits
    return cross_entropy(
        logits_BTV[:, :-1].flatten(0, 1).float(),
        inputs["labels"][:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
