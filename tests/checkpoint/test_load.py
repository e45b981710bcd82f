"""Reading checkpoints: whole ones load exactly, each kind of damage is one error that names it."""

import json
import shutil
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from loopcoder.checkpoint.check import check_header
from loopcoder.checkpoint.config_file import read_config
from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.checkpoint.load import load_model, load_state
from loopcoder.checkpoint.save import save_model
from loopcoder.errors import CheckpointError, ConfigError
from loopcoder.model.shapes import tensor_shapes
from tests.checkpoint.conftest import SMALL, edit_json, edit_tensors, random_state

State = dict[str, torch.Tensor]


def test_a_whole_checkpoint_loads_exactly(sharded: Path, single: Path, state: State) -> None:
    for directory in (sharded, single):
        model = load_model(directory)
        assert not model.training
        loaded = model.state_dict()
        assert loaded.keys() == tensor_shapes(SMALL).keys()
        assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_loaded_weights_can_be_trained_without_touching_the_file(single: Path) -> None:
    before = (single / "model.safetensors").read_bytes()
    model = load_model(single)
    model(torch.arange(8).view(1, 8)).logits.sum().backward()
    with torch.no_grad():
        for weight in model.parameters():
            assert weight.grad is not None
            weight.add_(1.0)
    assert (single / "model.safetensors").read_bytes() == before


def test_the_header_needs_no_tensor(sharded: Path) -> None:
    header = open_checkpoint(sharded)
    assert {name: info.shape for name, info in header.tensors.items()} == tensor_shapes(SMALL)
    assert header.bytes_by_dtype() == {"float32": header.nbytes}
    assert header.files == sorted(sharded.glob("*.safetensors"))


@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", ["float32", "bf16", torch.float16, "auto"])
def test_dtype_conversion_is_torchs(tmp_path: Path, stored: torch.dtype, wanted: Any) -> None:
    state = random_state(SMALL, stored)
    directory = save_model(state, SMALL, tmp_path / "model")
    names = {"float32": torch.float32, "bf16": torch.bfloat16, "auto": stored}
    target = names.get(wanted, wanted)
    for name, tensor in load_model(directory, dtype=wanted).state_dict().items():
        assert tensor.dtype == target
        assert torch.equal(tensor, state[name].to(target))


def test_large_tensors_are_converted_piece_by_piece(
    single: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loopcoder.checkpoint.load._CHUNK", 64)
    for name, tensor in load_model(single, dtype="bf16").state_dict().items():
        assert torch.equal(tensor, state[name].bfloat16())


def test_a_mixed_checkpoint_takes_the_dtype_of_its_config(tmp_path: Path, state: State) -> None:
    state["model.norm.weight"] = state["model.norm.weight"].double()
    directory = save_model(state, SMALL, tmp_path / "mixed")
    assert load_model(directory).model.norm.weight.dtype == torch.float32
    edit_json(directory / "config.json", dtype="bfloat16")
    assert load_model(directory).model.norm.weight.dtype == torch.bfloat16


def test_an_unknown_dtype_is_an_error(single: Path) -> None:
    with pytest.raises(ConfigError, match="int4"):
        load_model(single, dtype="int4")


def test_the_other_gate_spelling_is_read(single: Path, state: State) -> None:
    path = single / "model.safetensors"
    tensors = {k.replace("plt_gate", "loop_gate_proj"): v.clone() for k, v in state.items()}
    save_file(tensors, path, metadata={"format": "pt"})
    loaded = load_model(single).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)
    both = tensors | {"model.layers.0.self_attn.plt_gate.bias": torch.zeros(4)}
    save_file(both, path)
    with pytest.raises(CheckpointError, match=r"layers.0.self_attn.plt_gate.bias occurs twice"):
        load_model(single)


def test_one_loop_has_no_gates(tmp_path: Path, single: Path) -> None:
    config = SMALL.with_(plt_num_loops=1)
    directory = save_model(random_state(config), config, tmp_path / "one")
    assert "plt_gate" not in str(list(load_model(directory).state_dict()))
    edit_json(single / "config.json", plt_num_loops=1)
    with pytest.raises(CheckpointError, match=r"unexpected .*plt_gate.*plt_num_loops is 1"):
        load_model(single)
    edit_json(directory / "config.json", plt_num_loops=2)
    with pytest.raises(CheckpointError, match=r"plt_gate.* is missing.*plt_num_loops is 2"):
        load_model(directory)


class TestTiedHead:
    @pytest.fixture
    def tied(self, tmp_path: Path) -> Path:
        config = SMALL.with_(tie_word_embeddings=True)
        return save_model(random_state(config), config, tmp_path / "tied")

    def test_shares_the_embedding(self, tied: Path) -> None:
        model = load_model(tied)
        assert model.lm_head.weight is model.model.embed_tokens.weight

    def test_may_be_in_the_file_if_it_is_the_same(self, tied: Path) -> None:
        embedding = load_file(tied / "model.safetensors")["model.embed_tokens.weight"].clone()
        edit_tensors(tied, lm_head__weight=embedding)
        model = load_model(tied, dtype="bf16")
        assert model.lm_head.weight is model.model.embed_tokens.weight
        edit_tensors(tied, lm_head__weight=embedding + 1)
        with pytest.raises(CheckpointError, match=r"lm_head.weight differs"):
            load_model(tied)

    def test_must_be_there_when_not_tied(self, tied: Path) -> None:
        edit_json(tied / "config.json", tie_word_embeddings=False)
        with pytest.raises(CheckpointError, match=r"lm_head.weight is missing"):
            load_model(tied)


class TestDamagedTensors:
    def test_missing(self, single: Path) -> None:
        edit_tensors(single, model__layers__1__mlp__up_proj__weight=None)
        with pytest.raises(CheckpointError, match=r"layers.1.mlp.up_proj.weight is missing"):
            load_model(single)

    def test_unexpected(self, single: Path) -> None:
        edit_tensors(single, model__layers__7__mlp__up_proj__weight=torch.zeros(2))
        with pytest.raises(CheckpointError, match=r"unexpected model.layers.7.mlp.up_proj.weight"):
            load_model(single)

    def test_misshapen(self, single: Path) -> None:
        edit_tensors(single, model__norm__weight=torch.zeros(31))
        with pytest.raises(
            CheckpointError, match=r"model.norm.weight has the shape \[31\].*\[32\]"
        ):
            load_model(single)

    @pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
    def test_of_a_format_that_weights_cannot_have(self, single: Path, dtype: torch.dtype) -> None:
        edit_tensors(single, model__norm__weight=torch.ones(32).to(dtype))
        with pytest.raises(CheckpointError, match=r"model.norm.weight has the format (I8|F8)"):
            load_model(single)

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
    @pytest.mark.parametrize("dtype", ["auto", "bf16"])
    def test_not_finite(self, single: Path, state: State, value: float, dtype: str) -> None:
        weights = state["model.layers.1.mlp.down_proj.weight"].clone()
        weights[5, 7] = value
        edit_tensors(single, model__layers__1__mlp__down_proj__weight=weights)
        with pytest.raises(CheckpointError, match=r"layers.1.mlp.down_proj.weight holds NaN"):
            load_model(single, dtype=dtype)
        load_model(single, dtype=dtype, check_values=False)

    def test_too_large_for_the_format_asked_for(self, single: Path) -> None:
        edit_tensors(single, model__norm__weight=torch.full((32,), 1e6))
        load_model(single)
        with pytest.raises(CheckpointError, match=r"norm.weight .* float16 \(stored as float32\)"):
            load_model(single, dtype="float16")


class TestDamagedFiles:
    def test_truncated_shard(self, sharded: Path) -> None:
        path = sorted(sharded.glob("*.safetensors"))[1]
        content = path.read_bytes()
        for size in (len(content) - 1, len(content) // 2, 100, 7, 0):
            path.write_bytes(content[:size])
            with pytest.raises(CheckpointError, match=path.name):
                load_model(sharded)

    def test_shard_with_a_tail(self, single: Path) -> None:
        path = single / "model.safetensors"
        path.write_bytes(path.read_bytes() + b"x")
        with pytest.raises(CheckpointError, match="too long"):
            load_model(single)

    def test_missing_shard(self, sharded: Path) -> None:
        path = sorted(sharded.glob("*.safetensors"))[1]
        path.unlink()
        with pytest.raises(CheckpointError, match=f"{path.name} is missing"):
            load_model(sharded)

    def test_missing_index(self, sharded: Path) -> None:
        (sharded / "model.safetensors.index.json").unlink()
        with pytest.raises(CheckpointError, match="the index belongs to the shards"):
            load_model(sharded)

    def test_index_that_promises_more(self, sharded: Path) -> None:
        index = sharded / "model.safetensors.index.json"
        weight_map = json.loads(index.read_text())["weight_map"]
        edit_json(index, weight_map=weight_map | {"extra": weight_map["model.norm.weight"]})
        with pytest.raises(CheckpointError, match=r"extra should be in model-.* not there"):
            load_model(sharded)
        del weight_map["model.norm.weight"]
        edit_json(index, weight_map=weight_map)
        with pytest.raises(CheckpointError, match=r"unexpected model.norm.weight"):
            load_model(sharded)

    def test_tensor_in_two_shards(self, sharded: Path) -> None:
        first, second = sorted(sharded.glob("*.safetensors"))[:2]
        tensors = {name: value.clone() for name, value in load_file(first).items()}
        tensors.update({name: value.clone() for name, value in load_file(second).items()})
        save_file(tensors, second)
        with pytest.raises(CheckpointError, match=f"{first.name} and in {second.name}"):
            load_model(sharded)

    @pytest.mark.parametrize("file", ["../model.safetensors", "/etc/passwd", "pytorch.bin", 3])
    def test_index_that_leads_elsewhere(self, sharded: Path, file: Any) -> None:
        edit_json(sharded / "model.safetensors.index.json", weight_map={"a": file})
        with pytest.raises(CheckpointError, match=r"not the name of a .safetensors file"):
            load_model(sharded)

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"weight_map": []}', "{}"])
    def test_damaged_index(self, sharded: Path, text: str) -> None:
        (sharded / "model.safetensors.index.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"model.safetensors.index.json"):
            load_model(sharded)

    @pytest.mark.parametrize(
        "header",
        [
            b"not json",
            b"[]",
            b'{"a": {"dtype": "F32"}}',
            b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
            b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}',
            b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}',
            b'{"a": 1, "a": 2}',
            b"\xff\xfe",
            b"[" * 100_000,
        ],
    )
    def test_damaged_header(self, single: Path, header: bytes) -> None:
        path = single / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 8)
        with pytest.raises(CheckpointError, match=r"model.safetensors"):
            load_model(single)

    def test_pickles_are_explained_and_never_opened(self, single: Path) -> None:
        (single / "model.safetensors").unlink()
        with pytest.raises(CheckpointError, match="holds no weights"):
            load_model(single)
        (single / "pytorch_model.bin").write_bytes(b"\x80\x04")
        with pytest.raises(CheckpointError, match=r"pytorch_model.bin is a pickle"):
            load_model(single)

    def test_no_directory(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"config.json does not exist"):
            load_model(tmp_path / "nowhere")


def test_code_in_the_repository_is_never_run(single: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"open({str(mark)!r}, 'w')\n"
    for name in ("configuration_pltcoder.py", "modeling_pltcoder.py", "tokenization_pltcoder.py"):
        (single / name).write_text(code)
    edit_json(
        single / "config.json",
        auto_map={"AutoConfig": "configuration_pltcoder.PLTConfig"},
        an_unknown_field={"of": ["another", "program"]},
    )
    assert read_config(single) == SMALL
    load_model(single)
    assert not mark.exists()


def test_check_header_accepts_what_it_should(sharded: Path, tmp_path: Path) -> None:
    check_header(open_checkpoint(sharded), SMALL)
    moved = shutil.copytree(sharded, tmp_path / "elsewhere")
    assert load_state(open_checkpoint(moved)).keys() == tensor_shapes(SMALL).keys()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_damage_goes_unnoticed_or_escapes_the_error_tree(data: st.DataObject) -> None:
    """Any change to the length or header bytes of a file: an error of ours, or the same tensors."""
    with tempfile.TemporaryDirectory() as root:
        directory = save_model(random_state(SMALL), SMALL, Path(root) / "model")
        path = directory / "model.safetensors"
        content = bytearray(path.read_bytes())
        header_end = 8 + int.from_bytes(content[:8], "little")
        for _ in range(data.draw(st.integers(1, 3))):
            place = data.draw(st.integers(0, header_end - 1))
            content[place] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            loaded = load_model(directory).state_dict()
        except CheckpointError:
            return
        assert loaded.keys() == tensor_shapes(SMALL).keys()
