"""Windows of the flat token stream, their order, and the batches made of them.

A window is `length` tokens; documents begin with `<bos>` and do not see each other: positions
restart at 0 at each `<bos>` and at the window's start, and no document's first token is a label.
"""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from loopcoder.errors import DataError
from loopcoder.train.data.shards import TokenShards

IGNORED = -100  # a label that the loss leaves out, as in torch and transformers

Window = NDArray[np.int64]


@lru_cache(maxsize=2)
def window_order(windows: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """A permutation of `windows` windows, the same on every machine and numpy version."""
    # Raw bits and a stable sort: numpy promises these streams, and not those of `permutation`.
    raw = np.random.PCG64(np.random.SeedSequence([seed, epoch])).random_raw(windows)
    return np.argsort(raw, kind="stable")


class TrainWindows(Dataset[Window]):
    """The windows of a whole run in order: epoch after epoch, each shuffled by `seed`.

    Item i is the run's i-th window, so a resumed run only has to know how many it has used.
    Raises `DataError` if the shards hold less than one window.
    """

    def __init__(self, shards: TokenShards, *, length: int, total: int, seed: int) -> None:
        self.shards, self.length, self.total, self.seed = shards, length, total, seed
        self.windows = len(shards) // length
        if not self.windows:
            raise DataError(
                f"{shards.folder}: {len(shards)} training tokens are less than one window of "
                f"{length}; take more data or a smaller data.sequence_length"
            )

    def __len__(self) -> int:
        return self.total

    def __getitem__(self, index: int) -> Window:
        if not 0 <= index < self.total:
            raise IndexError(f"window {index} of {self.total}")
        epoch, place = divmod(index, self.windows)
        window = int(window_order(self.windows, self.seed, epoch)[place])
        return self.shards.window(window * self.length, self.length)


class Collator:
    """Stacks windows into a batch of `input_ids`, `position_ids` and `labels`, each [B, T]."""

    def __init__(self, bos_id: int) -> None:
        self.bos_id = bos_id

    def __call__(self, windows: list[Window]) -> dict[str, Tensor]:
        """Labels stand beside their own token; the model shifts them."""
        token_BT = np.stack(windows)
        first_BT = token_BT == self.bos_id
        first_BT[:, 0] = True
        label_BT = np.where(first_BT, IGNORED, token_BT)
        return {
            "input_ids": torch.from_numpy(token_BT),
            "position_ids": torch.from_numpy(document_positions(first_BT)),
            "labels": torch.from_numpy(label_BT),
        }


def document_positions(first_BT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Distance of each token to the latest True at or before it: [B, T]."""
    column_T = np.arange(first_BT.shape[1])
    positions: NDArray[np.int64] = column_T - np.maximum.accumulate(
        np.where(first_BT, column_T, 0), axis=1
    )
    return positions
