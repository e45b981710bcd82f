import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopcoder.errors import DataError
from loopcoder.train.data.build import BuildOptions, build
from loopcoder.train.data.encode import _regroup
from loopcoder.train.data.shards import TokenShards

from .data_helpers import write_recipe


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    build(write_recipe(folder), BuildOptions(out=folder / "out", quiet=True))
    return folder / "out"


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    for path in built.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(built)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def test_windows_are_slices_of_all_shards_in_a_row(built: Path) -> None:
    shards = TokenShards(built)
    files = sorted(built.glob("train-*.npy"))
    assert len(files) >= 3
    assert all(len(np.load(path)) == 5000 for path in files[:-1])
    everything = np.concatenate([np.load(path) for path in files]).astype(np.int64)
    assert len(shards) == len(everything)
    for start, length in ((0, 0), (0, 7), (4990, 20), (4999, 5002), (5000, 10), (100, 10_500)):
        window = shards.window(start, length)
        assert window.dtype == np.int64
        np.testing.assert_array_equal(window, everything[start : start + length])
    np.testing.assert_array_equal(shards.window(0, len(shards)), everything)
    assert shards.window(len(shards), 0).shape == (0,)


@pytest.mark.parametrize(("start", "length"), [(-1, 5), (0, 10**9), (10**9, 1), (0, -1)])
def test_a_window_outside_is_an_error(built: Path, start: int, length: int) -> None:
    with pytest.raises(IndexError, match="is not within"):
        TokenShards(built).window(start, length)


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_documents_lie_between_bos_and_eos(built: Path, split: str) -> None:
    shards = TokenShards(built, split)  # type: ignore[arg-type]
    tokens = shards.window(0, len(shards))
    starts = np.flatnonzero(tokens == shards.bos_id)
    ends = np.flatnonzero(tokens == shards.eos_id)
    assert len(starts) == len(ends) == shards.documents
    assert starts[0] == 0
    np.testing.assert_array_equal(ends[:-1] + 1, starts[1:])
    assert ends[-1] == len(shards) - 1
    assert tokens.max() < shards.vocab_size
    assert not (tokens == shards.pad_id).any()


def test_bytes_of_all_tokens_are_the_bytes_of_the_text(built: Path) -> None:
    manifest = json.loads((built / "manifest.json").read_text())
    for split in ("train", "heldout"):
        shards = TokenShards(built, split)  # type: ignore[arg-type]
        assert shards.bytes_of(shards.window(0, len(shards))) == manifest["splits"][split]["bytes"]


def test_the_reader_tells_what_training_needs(built: Path) -> None:
    shards = TokenShards(built)
    assert (shards.vocab_size, shards.bos_id, shards.eos_id) == (512, 1, 2)
    assert shards.token_bytes.shape == (512,)
    assert (shards.tokenizer_dir / "tokenizer.json").is_file()
    assert len(shards.manifest_hash) == 64
    shards.verify()


def test_a_missing_directory_or_split(built: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.json: cannot be read"):
        TokenShards(tmp_path / "absent")
    with pytest.raises(DataError, match="no split 'test'"):
        TokenShards(built, "test")  # type: ignore[arg-type]


def test_a_missing_or_truncated_shard(copy: Path) -> None:
    path = copy / "train-00001.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-2])
    with pytest.raises(DataError, match=r"train-00001\.npy: \d+ bytes, the manifest says"):
        TokenShards(copy)
    path.unlink()
    with pytest.raises(DataError, match=r"train-00001\.npy: missing"):
        TokenShards(copy)


def test_a_changed_byte_is_found_by_verify(copy: Path) -> None:
    path = copy / "train-00000.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"train-00000\.npy: sha256 is"):
        TokenShards(copy).verify()


def test_a_damaged_manifest_or_header(copy: Path) -> None:
    path = copy / "train-00000.npy"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(DataError, match=r"train-00000\.npy: not a \.npy file"):
        TokenShards(copy)
    (copy / "manifest.json").write_text('{"files": {}}')
    with pytest.raises(DataError, match="lacks splits, tokenizer"):
        TokenShards(copy)
    (copy / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        TokenShards(copy)


@given(st.lists(st.integers(0, 30), max_size=20), st.integers(1, 25))
def test_regrouping_keeps_every_number_in_order(lengths: list[int], size: int) -> None:
    flat = np.arange(sum(lengths))
    pieces = np.split(flat, np.cumsum(lengths)[:-1]) if lengths else []
    groups = list(_regroup(pieces, size))
    assert all(len(group) == size for group in groups[:-1])
    assert all(0 < len(group) <= size for group in groups)
    assert np.concatenate([*groups, flat[:0]]).tolist() == flat.tolist()
