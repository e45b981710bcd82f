"""Token shards of the tasks that need depth."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loopcoder.depth.question import DIRECT, END, STEPS
from loopcoder.errors import ConfigError, DataError
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.depth import DepthMix, byte_ids, byte_tokenizer, texts, write_depth
from loopcoder.train.windows import IGNORED, Collator

MIX = DepthMix(hops=4, tokens=30_000, heldout=300, seed=3)
CHARACTER = {index: character for character, index in byte_ids(byte_tokenizer()).items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("data") / "depth"
    write_depth(out, MIX)
    return out


def documents(folder: Path, split: Any) -> list[str]:
    """The split read back: a string for each document."""
    shards = TokenShards(folder, split)
    ids = shards.window(0, len(shards))
    starts = np.flatnonzero(ids == shards.bos_id)
    found = []
    for piece in np.split(ids, starts)[1:]:
        assert piece[-1] == shards.eos_id
        found.append("".join(CHARACTER[index] for index in piece[1:-1].tolist()))
    assert len(found) == shards.documents
    return found


def test_the_manifest(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["depth"] == {
        "tasks": ["chains", "brackets", "programs", "arithmetic", "induction"],
        "modes": ["direct", "steps"],
        "hops": 4,
        "tokens": 30_000,
        "heldout": 300,
        "seed": 3,
    }
    ids = byte_ids(byte_tokenizer())
    assert manifest["answers"] == {"open": [ids[DIRECT], ids[STEPS]], "close": [ids[END]]}
    assert manifest["tokenizer"]["vocab_size"] == 265
    TokenShards(folder).verify()


def test_the_shards_are_the_texts(folder: Path) -> None:
    train, heldout = documents(folder, "train"), documents(folder, "heldout")
    for found, split in ((train, "train"), (heldout, "test")):
        stream = texts(MIX, split)  # type: ignore[arg-type]
        assert [next(stream) for _ in found] == found
    assert len(heldout) == 300
    tokens = len(TokenShards(folder))
    assert 30_000 <= tokens < 30_000 + len(train[-1]) + 2


def test_nothing_held_out_was_trained_on(folder: Path) -> None:
    def asked(split: str) -> set[str]:
        return {text.replace(STEPS, DIRECT).split(DIRECT)[0] for text in documents(folder, split)}

    assert not asked("train") & asked("heldout")


def test_labels_are_the_answers(folder: Path) -> None:
    """Whole documents as windows: between mark and end, the end included, and nothing else."""
    shards = TokenShards(folder, "heldout")
    ids = shards.window(0, len(shards))
    collate = Collator(shards.bos_id, shards.answers)
    for window in np.split(ids, np.flatnonzero(ids == shards.bos_id))[1:]:
        labels = collate([window])["labels"][0].tolist()
        text = "".join(CHARACTER[index] for index in window[1:-1].tolist())
        marked = "".join("." if label == IGNORED else CHARACTER[label] for label in labels[1:-1])
        assert labels[0] == labels[-1] == IGNORED
        expected, within = "", False
        for character in text:
            expected += character if within else "."
            within = character in (DIRECT, STEPS) or (within and character != END)
        assert marked == expected
        assert marked.count(END) == text.count(END) > 0


def test_equal_mixes_are_equal_files(folder: Path, tmp_path: Path) -> None:
    hashes = [TokenShards(folder).manifest_hash]
    for name, mix in (
        ("same", MIX),
        ("seed", DepthMix(hops=4, tokens=30_000, heldout=300, seed=4)),
    ):
        write_depth(tmp_path / name, mix)
        hashes.append(TokenShards(tmp_path / name).manifest_hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_questions_stay_what_they_are() -> None:
    """Data that was written once can be written again: these texts are part of the contract."""
    found = {}
    for split in ("train", "test"):
        stream = texts(DepthMix(hops=16, tokens=1, seed=0), split)
        text = "\n".join(next(stream) for _ in range(300))
        found[split] = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert found == {"train": "aa9ec21d7c0c97a3", "test": "011b33225a4ea864"}


@pytest.mark.parametrize(
    ("tasks", "modes", "marks"),
    [
        (("arithmetic",), ("direct",), {DIRECT}),
        (("induction", "brackets"), ("steps",), {STEPS}),
    ],
)
def test_some_tasks_in_some_modes(tasks: Any, modes: Any, marks: set[str], tmp_path: Path) -> None:
    mix = DepthMix(tasks=tasks, modes=modes, hops=3, tokens=2000, heldout=20)
    write_depth(tmp_path / "some", mix)
    found = documents(tmp_path / "some", "train") + documents(tmp_path / "some", "heldout")
    assert {character for text in found for character in text if character in "?>"} == marks
    kinds = {"induction" if "|" in text else "brackets" for text in found}
    if tasks == ("arithmetic",):
        assert all(len(text.split(DIRECT)[0]) in (3, 5, 7) for text in found)
    else:
        assert kinds == set(tasks)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"tasks": ("chains", "sums")}, r"depth\.tasks is \['chains', 'sums'\]"),
        ({"modes": ()}, r"depth\.modes is \[\]"),
        ({"hops": 0}, "depth.hops is 0; it must be from 1 to 16"),
        ({"hops": 17}, "depth.hops is 17"),
        ({"tokens": 0}, "depth.tokens is 0; it must be at least 1"),
        ({"heldout": 0}, "depth.heldout is 0"),
    ],
)
def test_mixes_that_cannot_be(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        DepthMix(**{"tokens": 100, **fields})


def test_what_is_in_the_way_stays(folder: Path) -> None:
    with pytest.raises(DataError, match="exists and is not empty"):
        write_depth(folder, MIX)
