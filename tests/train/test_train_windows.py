"""The order of the data, and the batches made of it."""

import numpy as np
import pytest
import torch

from loopcoder.errors import DataError
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.windows import IGNORED, Collator, TrainWindows, window_order
from tests.train.train_helpers import BOS, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> TokenShards:
    return TokenShards(write_shards(tmp_path_factory.mktemp("data") / "shards"))


def test_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    orders = [window_order(100, seed, epoch).tolist() for seed in (0, 1) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(100)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    # Pinned: a run must see the same order on another machine and after an upgrade.
    assert window_order(8, 0, 0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


def test_an_epoch_has_each_window_once(shards: TokenShards) -> None:
    windows = len(shards) // 48
    data = TrainWindows(shards, length=48, total=2 * windows, seed=0)
    starts = np.arange(windows) * 48
    expected = sorted(shards.window(int(start), 48).tolist() for start in starts)
    first = [data[i].tolist() for i in range(windows)]
    second = [data[i].tolist() for i in range(windows, 2 * windows)]
    assert sorted(first) == sorted(second) == expected
    assert first != second


def test_items_end_with_the_run(shards: TokenShards) -> None:
    data = TrainWindows(shards, length=48, total=5, seed=0)
    assert len(data) == 5
    for index in (-1, 5):
        with pytest.raises(IndexError):
            data[index]


def test_too_little_data_is_an_error(shards: TokenShards) -> None:
    with pytest.raises(DataError, match="less than one window of 7000"):
        TrainWindows(shards, length=7000, total=1, seed=0)


def test_documents_are_kept_apart() -> None:
    batch = Collator(BOS)([np.array([9, 8, 2, 1, 5, 6]), np.array([1, 7, 2, 1, 2, 1])])
    assert batch["input_ids"].tolist() == [[9, 8, 2, 1, 5, 6], [1, 7, 2, 1, 2, 1]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 0, 1, 2], [0, 1, 2, 0, 1, 0]]
    no = IGNORED
    assert batch["labels"].tolist() == [[no, 8, 2, no, 5, 6], [no, 7, 2, no, 2, no]]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}
