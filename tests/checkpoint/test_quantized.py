"""Quantised checkpoints: made while loading, written, read back, and refused when wrong."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from loopcoder.checkpoint.check import EMBEDDING
from loopcoder.checkpoint.config_file import read_config, read_config_json
from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.packing import pack, unpack
from loopcoder.checkpoint.quantization import Quantization
from loopcoder.checkpoint.quantize import quantize_checkpoint
from loopcoder.checkpoint.quantized import dequantized_state, open_float, open_packed
from loopcoder.checkpoint.save import save_model
from loopcoder.errors import CheckpointError, ConfigError, LoopCoderError
from loopcoder.kernels.grouped import GroupedWeight, quantize
from loopcoder.kernels.linear import prepare
from loopcoder.model.config import ModelConfig
from loopcoder.model.plt import PLT
from loopcoder.model.products import products
from tests.checkpoint.conftest import SMALL, edit_json, edit_tensors, random_state
from tests.checkpoint.test_commands import run, run_json

INT4 = Quantization.of("int4", 16)
INT8 = Quantization.of("int8", 16)
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"


def logits(model: PLT) -> Tensor:
    with torch.inference_mode():
        found: Tensor = model(torch.arange(40).view(2, 20)).logits
    return found


def tame_state(config: ModelConfig, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Random weights under which activations stay around 1, so that errors do not multiply."""
    state = random_state(config)
    for name, weight in state.items():
        if weight.dim() == 2 and name != EMBEDDING:
            weight.div_(weight.shape[1] ** 0.5)
    return {name: weight.to(dtype) for name, weight in state.items()}


@pytest.fixture(autouse=True)
def _one_thread(_two_threads: None) -> None:
    """Matrices this small gain nothing from a second thread, and wait for it on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture
def state() -> dict[str, Tensor]:
    return tame_state(SMALL)


@pytest.fixture
def int4(single: Path, tmp_path: Path) -> Path:
    return quantize_checkpoint(single, tmp_path / "int4", INT4)


class TestLoading:
    @pytest.mark.parametrize("name", ["int8", "int4"])
    @pytest.mark.parametrize(
        ("dtype", "kernel", "tolerance"),
        [("float32", "torch", 1e-4), ("float32", None, 5e-2), ("bfloat16", None, 5e-2)],
    )
    def test_it_is_the_model_of_the_dequantised_weights(
        self,
        single: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        dtype: str,
        kernel: str | None,
        tolerance: float,
    ) -> None:
        """Native kernels round their inputs to 8 bits too, 0.55 % of each product's norm."""
        monkeypatch.setattr("loopcoder.model.products.prepare", partial(prepare, name=kernel))
        model = load_model(single, dtype=dtype, quantization=name)
        written = quantize_checkpoint(single, tmp_path / "m", Quantization.of(name))
        state = dequantized_state(written, read_config_json(written))
        plain = load_model(save_model(state, SMALL, tmp_path / "plain"), dtype="float32")
        expected = logits(plain)
        assert (logits(model).float() - expected).norm() <= tolerance * expected.norm()

    def test_only_matrices_lose_their_floats(self, sharded: Path) -> None:
        model = load_model(sharded, quantization="int4")
        whole = load_model(sharded)
        kept = dict(model.named_parameters())
        assert set(products(model)) >= {"model.layers.1.mlp.gate_up", "lm_head"}
        assert len(products(model)) == 4 * SMALL.num_hidden_layers + 1
        assert not [name for name in kept if name.endswith("_proj.weight")]
        for name, parameter in kept.items():
            assert torch.equal(parameter, whole.get_parameter(name)), name
        assert not any(parameter.is_meta for parameter in kept.values())

    def test_a_tied_head_becomes_a_matrix_of_its_own(self, tmp_path: Path) -> None:
        config = SMALL.with_(tie_word_embeddings=True)
        directory = save_model(tame_state(config), config, tmp_path / "tied")
        model = load_model(directory, quantization="int8")
        embedding = load_model(directory).model.embed_tokens.weight
        assert torch.equal(model.model.embed_tokens.weight, embedding)
        expected = logits(load_model(directory))
        assert (logits(model) - expected).norm() <= 5e-2 * expected.norm()
        written = quantize_checkpoint(directory, tmp_path / "q", Quantization.of("int8"))
        assert not read_config_json(written)["tie_word_embeddings"]
        assert torch.equal(logits(load_model(written)), logits(model))

    def test_what_is_asked_for_must_exist(self, single: Path) -> None:
        with pytest.raises(ConfigError, match="quantization is 'int3'; it must be int8 or int4"):
            load_model(single, quantization="int3")
        with pytest.raises(ConfigError, match="group is 0"):
            Quantization.of("int8", 0)

    def test_a_width_that_no_group_divides(self, tmp_path: Path) -> None:
        config = SMALL.with_(intermediate_size=44)
        directory = save_model(random_state(config), config, tmp_path / "odd")
        with pytest.raises(CheckpointError, match=r"down_proj.weight: 44 inputs cannot"):
            load_model(directory, quantization="int4")

    def test_a_weight_that_is_not_finite(self, single: Path) -> None:
        edit_tensors(single, **{Q_PROJ: torch.full((32, 32), torch.nan)})
        with pytest.raises(CheckpointError, match=f"{Q_PROJ} holds NaN"):
            load_model(single, quantization="int4")


class TestSaving:
    @pytest.mark.parametrize("recipe", [INT4, INT8], ids=["int4", "int8"])
    @pytest.mark.parametrize("shard_size", ["2GB", "3KB"])
    def test_the_same_bits_come_back(
        self, sharded: Path, tmp_path: Path, recipe: Quantization, shard_size: str
    ) -> None:
        directory = quantize_checkpoint(sharded, tmp_path / "q", recipe, shard_size=shard_size)
        assert (len(list(directory.glob("*.safetensors"))) > 2) == (shard_size == "3KB")
        made = open_float(sharded, read_config_json(sharded), recipe)
        read = open_packed(directory, read_config_json(directory))
        assert read.schemes == made.schemes
        for name in made.schemes:
            assert_same(read.weight(name), made.weight(name))
        assert torch.equal(
            logits(load_model(directory)), logits(load_model(sharded, quantization=recipe))
        )

    def test_companions_and_other_fields_stay(self, single: Path, tmp_path: Path) -> None:
        (single / "tokenizer.json").write_text("{}")
        edit_json(single / "config.json", eos_token_id=[5, 6])
        directory = quantize_checkpoint(single, tmp_path / "q", INT4)
        values = read_config_json(directory)
        assert (values["eos_token_id"], values["dtype"]) == ([5, 6], "float32")
        assert (directory / "tokenizer.json").read_text() == "{}"

    def test_what_is_saved_from_it_says_nothing_of_quantisation(
        self, int4: Path, tmp_path: Path
    ) -> None:
        again = save_model(random_state(SMALL), SMALL, tmp_path / "again", source=int4)
        assert read_config(again) == SMALL
        load_model(again)

    def test_other_programs_read_it(self, single: Path, tmp_path: Path) -> None:
        for recipe in (INT4, INT8):
            directory = quantize_checkpoint(single, tmp_path / f"q{recipe.linears.bits}", recipe)
            decompressed = _decompress(directory)
            ours = dequantized_state(directory, read_config_json(directory), torch.bfloat16)
            assert len(decompressed) == 7 * SMALL.num_hidden_layers + 1
            for name, weight in decompressed.items():
                assert torch.equal(weight, ours[name]), name

    def test_transformers_reads_it_as_floats(self, int4: Path) -> None:
        import loopcoder.hf  # noqa: F401  # registers the architecture

        model = AutoModelForCausalLM.from_pretrained(int4)
        state = dequantized_state(int4, read_config_json(int4))
        assert all(torch.equal(tensor, state[n]) for n, tensor in model.state_dict().items())
        assert getattr(model.config, "quantization_config", None) is None


def _decompress(directory: Path) -> dict[str, Tensor]:
    """Every quantised weight of a checkpoint, as the compressed-tensors package decodes it."""
    why = "pip install compressed-tensors"
    packed = pytest.importorskip("compressed_tensors.compressors.pack_quantized", reason=why)
    quantization = pytest.importorskip("compressed_tensors.quantization", reason=why)
    match = pytest.importorskip("compressed_tensors.utils.match", reason=why)
    config = quantization.QuantizationConfig(**read_config_json(directory)["quantization_config"])
    tensors = load_file(directory / "model.safetensors")
    found: dict[str, Tensor] = {}
    for name in tensors:
        if name.endswith(".weight_packed"):
            module = name.removesuffix(".weight_packed")
            schemes = config.config_groups.values()
            named = [s for s in schemes if any(match.match_name(module, t) for t in s.targets)]
            (scheme,) = named or [s for s in schemes if "Linear" in s.targets]
            parts = ("weight_packed", "weight_scale", "weight_shape")
            own = {part: tensors[f"{module}.{part}"] for part in parts}
            weight = packed.PackedQuantizationCompressor.decompress(own, scheme)["weight"]
            found[f"{module}.weight"] = weight
    return found


@given(
    rows=st.integers(1, 3),
    groups=st.integers(1, 3),
    group=st.sampled_from([2, 6, 8, 10]),
    bits=st.sampled_from([4, 8]),
)
def test_packing_any_width_and_back(rows: int, groups: int, group: int, bits: int) -> None:
    generator = torch.Generator().manual_seed(rows + groups)
    weight = quantize(torch.randn(rows, groups * group, generator=generator), bits, group)
    packed = pack(weight)
    assert packed.shape == (rows, -(-groups * group * bits // 32))
    assert_same(unpack(packed, weight.scale, groups * group, bits), weight)


def assert_same(found: GroupedWeight, expected: GroupedWeight) -> None:
    assert (found.bits, found.group) == (expected.bits, expected.group)
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.scale, expected.scale)


def _field(**changes: Any) -> Callable[[Path], None]:
    """Changes fields of the quantisation, or with `weights__` in front of its first group."""

    def damage(directory: Path) -> None:
        config = read_config_json(directory)["quantization_config"]
        for name, value in changes.items():
            group = config["config_groups"]["group_0"]
            if name.startswith("weights__"):
                group["weights"][name.removeprefix("weights__")] = value
            elif name == "input_activations":
                group[name] = value
            else:
                config[name] = value
        edit_json(directory / "config.json", quantization_config=config)

    return damage


def _tensor(name: str, value: Tensor | None) -> Callable[[Path], None]:
    return lambda directory: edit_tensors(directory, **{name: value})


DAMAGE = {
    "another method": (_field(quant_method="gptq"), "quant_method is 'gptq'"),
    "another format": (_field(format="float-quantized"), "format is 'float-quantized'"),
    "no groups": (_field(config_groups={}), "config_groups must"),
    "not a group": (_field(config_groups={"W4A16": ["Linear"]}), "W4A16 has no weights"),
    "two bits": (_field(weights__num_bits=2), "num_bits is 2; only 4 and 8"),
    "floats": (_field(weights__type="float"), "type is 'float'"),
    "zero points": (_field(weights__symmetric=False), "symmetric is false"),
    "activations": (_field(input_activations={"num_bits": 8}), "input_activations is set"),
    "cache": (_field(kv_cache_scheme={"num_bits": 8}), "kv_cache_scheme is set"),
    "no scale": (_tensor(f"{Q_PROJ}_scale", None), f"safetensors: {Q_PROJ}_scale is missing"),
    "no shape": (_tensor(f"{Q_PROJ}_shape", None), f"safetensors: {Q_PROJ}_shape is missing"),
    "neither": (_tensor(f"{Q_PROJ}_packed", None), f"{Q_PROJ} is missing"),
    "too narrow": (
        _tensor(f"{Q_PROJ}_packed", torch.zeros(32, 3, dtype=torch.int32)),
        rf"{Q_PROJ}_packed has I32 \[32, 3\]; it must be I32 \[32, 4 \(4 bits\) or 8",
    ),
    "bad groups": (
        _tensor(f"{Q_PROJ}_scale", torch.ones(32, 5)),
        rf"{Q_PROJ}_scale has the shape \[32, 5\]; it must be \[32, a divisor of 32\]",
    ),
    "scale format": (
        _tensor(f"{Q_PROJ}_scale", torch.ones(32, 2, dtype=torch.int32)),
        f"{Q_PROJ}_scale has the format I32",
    ),
    "scale not finite": (
        _tensor(f"{Q_PROJ}_scale", torch.full((32, 2), torch.inf)),
        f"{Q_PROJ}_scale holds NaN or infinity",
    ),
    "another shape": (
        _tensor(f"{Q_PROJ}_shape", torch.tensor([32, 31])),
        rf"safetensors: {Q_PROJ}_shape is \[32, 31\]; config.json asks for \[32, 32\]",
    ),
    "shape format": (_tensor(f"{Q_PROJ}_shape", torch.ones(2)), f"{Q_PROJ}_shape has F32"),
    "uneven": (
        _tensor(f"{Q_PROJ}_scale", torch.ones(32, 1)),
        r"q_proj.weight \(int4 in groups of 32\).* must be quantised alike",
    ),
    "extra": (_tensor("model.layers.0.mlp.bias", torch.ones(1)), "unexpected model.layers.0"),
    "a float missing": (_tensor("model.norm.weight", None), "model.norm.weight is missing"),
}


class TestErrors:
    @pytest.mark.parametrize("name", DAMAGE)
    def test_a_damaged_checkpoint_is_one_line(self, int4: Path, name: str) -> None:
        damage, message = DAMAGE[name]
        damage(int4)
        with pytest.raises((ConfigError, CheckpointError), match=message) as caught:
            load_model(int4)
        assert "\n" not in str(caught.value)

    def test_no_second_quantisation(self, int4: Path, tmp_path: Path) -> None:
        load_model(int4, quantization="int4")  # what it is already
        with pytest.raises(ConfigError, match="saved as int4; to have int8, quantise the float"):
            load_model(int4, quantization="int8")
        with pytest.raises(ConfigError, match="quantised already; give the float checkpoint"):
            quantize_checkpoint(int4, tmp_path / "again", INT8)

    def test_packed_tensors_need_a_config_that_says_so(self, int4: Path) -> None:
        edit_json(int4 / "config.json", quantization_config=None)
        with pytest.raises(CheckpointError, match=r"q_proj.weight \(and 14 more\) is missing"):
            load_model(int4)


class TestCommands:
    def test_quantize_and_info(self, single: Path, tmp_path: Path) -> None:
        target = tmp_path / "q"
        record = run_json("quantize", single, target, "--bits", 4, "--group", 16)
        assert record["quantized_matrices"] == {
            "int4 in groups of 16": 7 * SMALL.num_hidden_layers,
            "int8 in groups of 32": 1,
        }
        assert record["files"] == ["model.safetensors"]
        info = run_json("info", target)
        assert info["dtype"] == "float32"
        assert info["bytes"] == record["bytes"]
        assert info["parameters"] == run_json("info", single)["parameters"]
        assert "int4 in groups of 16" in run("info", target)
        assert "int8 in groups of 16" in run(
            "quantize", single, target, "--force", "--bits", 8, "--group=16"
        )

    def test_wrong_use(self, single: Path, int4: Path, tmp_path: Path) -> None:
        with pytest.raises(LoopCoderError, match="--bits is 3; it must be 4 or 8"):
            run("quantize", single, tmp_path / "q", "--bits", 3)
        with pytest.raises(LoopCoderError, match="group is -1"):
            run("quantize", single, tmp_path / "q", "--group", -1)
        with pytest.raises(LoopCoderError, match="not empty"):
            run("quantize", single, int4)
        with pytest.raises(LoopCoderError, match="no-such-model"):
            run("quantize", "no-such-model", tmp_path / "q")
        assert not (tmp_path / "q").exists()

    def test_init_takes_the_shape_alone(self, int4: Path, tmp_path: Path) -> None:
        run("init", tmp_path / "m", "--like", int4)
        assert read_config(tmp_path / "m") == SMALL

    def test_perplexity_compares_forms(self, tmp_path: Path) -> None:
        text = tmp_path / "text.py"
        text.write_text("def f(x):\n    return x + 1  # naïve\n" * 20)
        command = ["perplexity", "loopcoder-nano", text, "--threads=1", "--length=64"]
        record = run_json(*command, "--quantization=none,int8,int4", "--group=32,64")
        rows = record["rows"]
        assert [(row["quantization"], row["group"]) for row in rows] == [
            (None, None),
            ("int8", 32),
            ("int8", 64),
            ("int4", 32),
            ("int4", 64),
        ]
        first = len("def")  # has nothing before it, so it is not predicted
        assert {row["bytes"] for row in rows} == {len(text.read_bytes()) - first}
        for row in rows[1:]:
            assert 0 < abs(row["change_percent"]) < 5
            assert row["matrix_bytes"] < 0.6 * rows[0]["matrix_bytes"]
        few = run_json(*command, "--quantization=int4", "--few-rows")
        assert abs(few["rows"][0]["bits_per_byte"] / rows[-1]["bits_per_byte"] - 1) < 0.05
        assert "bits/byte" in run(*command, "--limit=1")
        default = run_json("perplexity", "loopcoder-nano", "--limit=1", "--threads=1")
        assert default["rows"][0]["bytes"] > 500

    def test_perplexity_refuses(self, single: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").write_text("")
        (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
        for arguments, message in (
            (["loopcoder-nano", tmp_path / "empty"], "nothing can be predicted"),
            (["loopcoder-nano", tmp_path / "binary"], "is not UTF-8"),
            (["loopcoder-nano", tmp_path / "absent"], "absent"),
            (["loopcoder-nano", __file__, "--quantization=int5"], "quantization is 'int5'"),
            (["loopcoder-nano", __file__, "--group=a"], "--group is 'a'"),
            (["loopcoder-nano", __file__, "--length=1"], "--length is 1"),
            ([single, __file__], "has no tokenizer"),
        ):
            with pytest.raises(LoopCoderError, match=message):
                run("perplexity", *arguments)
