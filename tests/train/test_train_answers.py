"""Loss on answers only: what counts as one, and what comes of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from loopcoder.errors import DataError
from loopcoder.train.callbacks import Recorder
from loopcoder.train.data.folder import write_folder
from loopcoder.train.data.shards import Answers, TokenShards
from loopcoder.train.data.tokenizer import SPECIAL_TOKENS, train_tokenizer
from loopcoder.train.heldout import score
from loopcoder.train.plan import make_plan
from loopcoder.train.progress import Lines
from loopcoder.train.records import MetricsFile
from loopcoder.train.run import build_trainer
from loopcoder.train.windows import IGNORED, Collator
from tests.train.train_helpers import BOS, tiny_recipe, write_shards

OPEN, ASK, CLOSE = 10, 11, 12
MARKS = Answers(open=(OPEN, ASK), close=(CLOSE,))
NO = IGNORED


def labels(*windows: list[int]) -> list[list[int]]:
    batch = Collator(BOS, MARKS)([np.array(window) for window in windows])
    found: list[list[int]] = batch["labels"].tolist()
    return found


def test_an_answer_ends_with_its_close_mark() -> None:
    assert labels([1, 5, OPEN, 6, 7, CLOSE, 8, ASK, 9, CLOSE, 2, 0]) == [
        [NO, NO, NO, 6, 7, CLOSE, NO, NO, 9, CLOSE, NO, NO]
    ]


def test_an_answer_stays_within_document_and_window() -> None:
    assert labels(
        [6, CLOSE, 5, OPEN, 6, 7],  # one that began before, one that the window cuts off
        [1, OPEN, 6, 1, 7, CLOSE],  # one that its document cuts off
        [OPEN, CLOSE, CLOSE, OPEN, OPEN, 7],
    ) == [[NO, NO, NO, NO, 6, 7], [NO, NO, 6, NO, NO, NO], [NO, CLOSE, NO, NO, OPEN, 7]]


@given(st.lists(st.sampled_from([0, BOS, 5, 6, OPEN, ASK, CLOSE]), min_size=1, max_size=24))
def test_labels_are_those_of_reading_along(window: list[int]) -> None:
    expected, within = [], False
    for place, token in enumerate(window):
        if token == BOS or place == 0:
            within = False
            expected.append(NO)
        else:
            expected.append(token if within else NO)
        within = token != CLOSE and (within or token in MARKS.open)
    assert labels(window) == [expected]


def test_only_labels_change() -> None:
    windows = [np.array([1, 5, OPEN, 6, CLOSE, 2])]
    with_, without = Collator(BOS, MARKS)(windows), Collator(BOS)(windows)
    assert without["labels"].tolist() == [[NO, 5, OPEN, 6, CLOSE, 2]]
    for name in ("input_ids", "position_ids"):
        assert torch.equal(with_[name], without[name])


def document(rng: np.random.Generator) -> NDArray[np.int64]:
    """<bos>, a question, its answer, <eos>: bytes' tokens are the 9 special ones and up."""
    body = rng.integers(20, 30, 11)
    return np.array([1, *body, OPEN, *body[:3], CLOSE, 2])


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "answers"
    tokenizer = train_tokenizer([], 256 + len(SPECIAL_TOKENS))
    rng = np.random.default_rng(0)
    splits = {split: (document(rng) for _ in range(count)) for split, count in COUNTS.items()}
    write_folder(
        folder, tokenizer, splits, shard_tokens=1000, answers=MARKS, about={"origin": "test"}
    )
    return folder


COUNTS = {"train": 240, "heldout": 30}
DOCUMENT = 18  # tokens


def test_a_folder_of_any_ids(shards: Path, tmp_path: Path) -> None:
    opened = TokenShards(shards)
    opened.verify()
    assert opened.answers == MARKS
    assert (opened.vocab_size, opened.bos_id, opened.eos_id, opened.pad_id) == (265, 1, 2, 0)
    assert (len(opened), opened.documents) == (240 * DOCUMENT, 240)
    rng = np.random.default_rng(0)
    expected = np.concatenate([document(rng) for _ in range(240)])
    np.testing.assert_array_equal(opened.window(0, len(opened)), expected)
    assert len(list(shards.glob("train-*.npy"))) == 5
    assert opened.bytes_of(expected) == 240 * 17 - 240  # all but <bos> and <eos>
    tokenizer = train_tokenizer([], 265)
    with pytest.raises(DataError, match="exists and is not empty"):
        write_folder(shards, tokenizer, {}, shard_tokens=1000)
    with pytest.raises(DataError, match="the train split is empty"):
        write_folder(tmp_path / "none", tokenizer, {"train": []}, shard_tokens=1000)
    assert not (tmp_path / "none").exists()


def recipe_of(*assignments: str) -> Any:
    return tiny_recipe(
        "model.vocab_size=265", "data.sequence_length=36", "run.batch_tokens=288", *assignments
    )


def test_training_and_scoring_count_answers(shards: Path, tmp_path: Path) -> None:
    plan = make_plan(recipe_of(), shards)
    recorder = Recorder(MetricsFile(tmp_path, 0), Lines(12), batch_tokens=288)
    trainer = build_trainer(plan, tmp_path, recorder)
    collate: Any = trainer.data_collator
    batch = collate([plan.windows[i] for i in range(4)])
    assert int((batch["labels"] != NO).sum()) == 4 * 2 * 4  # three tokens and the close mark
    found = score(trainer.network, plan.heldout, batch=8, device=torch.device("cpu"), limit=None)
    assert (found.windows, found.tokens, found.bytes) == (15, 30 * 4, 30 * 4)


def test_a_step_without_answers_loses_nothing(shards: Path, tmp_path: Path) -> None:
    plan = make_plan(recipe_of("loops.loss=every"), shards)
    recorder = Recorder(MetricsFile(tmp_path, 0), Lines(12), batch_tokens=288)
    trainer = build_trainer(plan, tmp_path, recorder)
    batch = Collator(BOS, MARKS)([np.arange(36) + 20])
    _, items = trainer.get_batch_samples(iter([batch]), 1, torch.device("cpu"))
    loss = trainer.compute_loss(trainer.network, batch, num_items_in_batch=items)
    loss.backward()
    assert loss.item() == 0.0
    gradient = trainer.network.lm_head.weight.grad
    assert gradient is not None
    assert not gradient.any()


@pytest.mark.parametrize(
    "answers",
    [
        {"open": [10]},
        {"open": [], "close": [12]},
        {"open": [10], "close": [64]},
        {"open": [10], "close": [10]},
        {"open": [10], "close": [-1]},
        {"open": "10", "close": [12]},
        [10, 12],
    ],
)
def test_marks_that_cannot_be(answers: Any, tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "shards", answers=answers)
    with pytest.raises(DataError, match=r"manifest\.json: answers is .*; it must be open and "):
        TokenShards(folder)


def test_the_manifest_hash_covers_the_marks(tmp_path: Path) -> None:
    hashes = {
        TokenShards(
            write_shards(tmp_path / str(mark), answers={"open": [mark], "close": [12]})
        ).manifest_hash
        for mark in (10, 11)
    }
    assert len(hashes) == 2
