"""Writing checkpoints: bit for bit, all at once or not at all."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.checkpoint.load import load_model, load_state
from loopcoder.checkpoint.save import save_model
from loopcoder.checkpoint.staging import staged_directory
from loopcoder.errors import CheckpointError, ConfigError
from tests.checkpoint.conftest import SMALL, edit_json, random_state

State = dict[str, torch.Tensor]


def weights(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("model*")}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shard_size", ["1GB", "20KB", 12_345])
def test_read_and_write_is_bit_for_bit(
    tmp_path: Path, dtype: torch.dtype, shard_size: int | str
) -> None:
    state = random_state(SMALL, dtype)
    state["model.norm.weight"][:3] = torch.tensor([0.0, -0.0, 1e-7]).to(dtype)
    first = save_model(state, SMALL, tmp_path / "first", shard_size=shard_size)
    second = save_model(load_model(first), SMALL, tmp_path / "second", shard_size=shard_size)
    assert weights(first) == weights(second)
    third = save_model(load_model(first), SMALL, tmp_path / "third", source=first)
    assert weights(first) == weights(third)
    found = load_state(open_checkpoint(third))
    for name, tensor in state.items():
        assert torch.equal(found[name].view(torch.uint8), tensor.view(torch.uint8)), name


def test_mixed_formats_survive(tmp_path: Path, state: State) -> None:
    state["model.norm.weight"] = state["model.norm.weight"].bfloat16()
    first = save_model(state, SMALL, tmp_path / "first")
    tensors = load_state(open_checkpoint(first))
    assert weights(save_model(tensors, SMALL, tmp_path / "second")) == weights(first)


def test_what_belongs_to_others_is_kept(tmp_path: Path, single: Path) -> None:
    auto_map = {"AutoConfig": "configuration_pltcoder--PLTConfig"}
    edit_json(single / "config.json", auto_map=auto_map, eos_token_id=[2, 75864], mystery=1)
    (single / "generation_config.json").write_text('{"eos_token_id": [2, 75869]}')
    (single / "chat_template.jinja").write_text("{{ messages }}")
    (single / "modeling.py").write_text("raise SystemExit")
    (single / "pytorch_model.bin").write_text("pickle")
    copy = save_model(load_model(single), SMALL, tmp_path / "copy", source=single)
    written = json.loads((copy / "config.json").read_text())
    assert written == json.loads((single / "config.json").read_text())
    assert written["auto_map"] == auto_map
    assert written["mystery"] == 1
    names = {path.name for path in copy.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "generation_config.json",
        "chat_template.jinja",
    }


def test_index_is_as_transformers_writes_it(sharded: Path, state: State) -> None:
    index = json.loads((sharded / "model.safetensors.index.json").read_text())
    total = sum(tensor.nbytes for tensor in state.values())
    count = sum(tensor.numel() for tensor in state.values())
    assert index["metadata"] == {"total_parameters": count, "total_size": total}
    assert index["weight_map"].keys() == state.keys()
    assert all(path.stat().st_size < 22_000 for path in sharded.glob("*.safetensors"))


def test_files_have_the_usual_permissions(sharded: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert sharded.stat().st_mode & 0o777 == 0o777 & ~mask
    assert {path.stat().st_mode & 0o777 for path in sharded.iterdir()} == {0o666 & ~mask}


class TestRefused:
    def test_a_model_that_does_not_fit(self, tmp_path: Path, state: State) -> None:
        target = tmp_path / "model"
        with pytest.raises(CheckpointError, match="does not belong"):
            save_model(state | {"extra": torch.zeros(1)}, SMALL, target)
        with pytest.raises(CheckpointError, match=r"model.norm.weight has the shape"):
            save_model(state | {"model.norm.weight": torch.zeros(1)}, SMALL, target)
        del state["model.norm.weight"]
        with pytest.raises(CheckpointError, match=r"model.norm.weight is missing"):
            save_model(state, SMALL, target)
        meta = {name: tensor.to("meta") for name, tensor in random_state(SMALL).items()}
        with pytest.raises(CheckpointError, match="no values"):
            save_model(meta, SMALL, target)
        assert not list(tmp_path.iterdir())

    def test_a_shard_size_that_is_none(self, tmp_path: Path, state: State) -> None:
        with pytest.raises(ConfigError, match="shard size is 'huge'"):
            save_model(state, SMALL, tmp_path / "model", shard_size="huge")

    def test_a_directory_in_use(self, single: Path, state: State) -> None:
        with pytest.raises(CheckpointError, match="not empty"):
            save_model(state, SMALL, single)
        (single / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"has no config.json"):
            save_model(state, SMALL, single, force=True)

    def test_a_file_in_the_way(self, tmp_path: Path, state: State) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(CheckpointError, match="is a file"):
            save_model(state, SMALL, tmp_path / "file", force=True)

    def test_a_full_disk(self, tmp_path: Path) -> None:
        with (
            pytest.raises(CheckpointError, match="GB free"),
            staged_directory(tmp_path / "big", nbytes=10**18),
        ):
            pass
        assert not list(tmp_path.iterdir())


def test_force_replaces_a_checkpoint_even_the_one_in_use(sharded: Path, state: State) -> None:
    model = load_model(sharded)
    save_model(model, SMALL, sharded, shard_size="1GB", source=sharded, force=True)
    assert [path.name for path in sharded.glob("*.safetensors")] == ["model.safetensors"]
    assert [path.name for path in sharded.parent.iterdir()] == [sharded.name]
    assert torch.equal(load_model(sharded).lm_head.weight, state["lm_head.weight"])
    assert torch.equal(model.lm_head.weight, state["lm_head.weight"])  # still mapped


def test_an_empty_directory_is_taken(tmp_path: Path, state: State) -> None:
    (tmp_path / "empty").mkdir()
    load_model(save_model(state, SMALL, tmp_path / "empty"))


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(staging: Path) -> None:
        (staging / "half").write_text("written")
        raise RuntimeError

    with pytest.raises(RuntimeError), staged_directory(tmp_path / "new") as staging:
        fail(staging)
    assert not list(tmp_path.iterdir())


def test_killed_while_writing_leaves_the_old_checkpoint(tmp_path: Path, single: Path) -> None:
    target = shutil.copytree(single, tmp_path / "target")
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from loopcoder.checkpoint.staging import staged_directory\n"
        "with staged_directory(Path(sys.argv[1]), force=True) as staging:\n"
        "    (staging / 'config.json').write_text('{}')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(target)], check=False)
    assert result.returncode < 0
    assert weights(target) == weights(single)
