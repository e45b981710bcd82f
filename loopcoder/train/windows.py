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
from loopcoder.train.data.shards import Answers, TokenShards

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
    """Stacks windows into a batch of `input_ids`, `position_ids` and `labels`, each [B, T].

    With `answers`, only tokens of answers are labels.
    """

    def __init__(self, bos_id: int, answers: Answers | None = None) -> None:
        self.bos_id, self.answers = bos_id, answers

    def __call__(self, windows: list[Window]) -> dict[str, Tensor]:
        """Labels stand beside their own token; the model shifts them."""
        token_BT = np.stack(windows)
        first_BT = token_BT == self.bos_id
        first_BT[:, 0] = True
        left_out_BT = first_BT
        if self.answers is not None:
            left_out_BT = first_BT | ~within_answers(token_BT, first_BT, self.answers)
        label_BT = np.where(left_out_BT, IGNORED, token_BT)
        return {
            "input_ids": torch.from_numpy(token_BT),
            "position_ids": torch.from_numpy(document_positions(first_BT)),
            "labels": torch.from_numpy(label_BT),
        }


def within_answers(
    token_BT: Window, first_BT: NDArray[np.bool_], answers: Answers
) -> NDArray[np.bool_]:
    """Which tokens lie after an open mark of their own document, to its close mark: [B, T].

    An answer that the window cuts off counts as far as it goes; one that began before the window
    does not, as nothing tells that it is one.
    """
    opened_BT = _latest_before(np.isin(token_BT, answers.open))
    closed_BT = _latest_before(np.isin(token_BT, answers.close))
    within: NDArray[np.bool_] = (opened_BT >= _latest(first_BT)) & (opened_BT > closed_BT)
    return within


def _latest(mark_BT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Column of the latest True at or before each place, -1 if there is none: [B, T]."""
    latest: NDArray[np.int64] = np.maximum.accumulate(
        np.where(mark_BT, np.arange(mark_BT.shape[1]), -1), axis=1
    )
    return latest


def _latest_before(mark_BT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """As `_latest`, of the places before."""
    return np.pad(_latest(mark_BT)[:, :-1], ((0, 0), (1, 0)), constant_values=-1)


def document_positions(first_BT: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Distance of each token to the latest True at or before it: [B, T]."""
    return np.arange(first_BT.shape[1]) - _latest(first_BT)
