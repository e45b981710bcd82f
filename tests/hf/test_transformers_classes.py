"""Stock transformers on a PLT: Auto classes, `generate`, beams, batches, save, pipeline."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, pipeline

import loopcoder.hf
from loopcoder.checkpoint.load import load_model
from loopcoder.errors import CheckpointError, ConfigError, LoopCoderError, RequestError
from loopcoder.hf import IQuestPLTCoderForCausalLM, PLTCoderConfig
from loopcoder.hf.cache import CACHE_NAME
from loopcoder.model.plt import PLT
from tests.small import byte_tokenizer, small_config, small_model

TOKENIZER = byte_tokenizer()


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    small_model().save_pretrained(tmp_path / "model")
    TOKENIZER.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def _tokens(*lengths: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, 256, (length,), generator=generator) for length in lengths]


def _left_padded(rows: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    width = max(len(row) for row in rows)
    pad = [torch.zeros(width - len(row), dtype=torch.long) for row in rows]
    return {
        "input_ids": torch.stack([torch.cat(pair) for pair in zip(pad, rows, strict=True)]),
        "attention_mask": torch.stack(
            [torch.cat([p, torch.ones_like(row)]) for p, row in zip(pad, rows, strict=True)]
        ),
    }


def test_auto_classes_load_what_was_saved(checkpoint: Path) -> None:
    config = AutoConfig.from_pretrained(checkpoint)
    assert isinstance(config, PLTCoderConfig)
    assert config.shape() == small_config().shape()
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    tokens = _tokens(12)[0][None]
    torch.testing.assert_close(model(tokens).logits, small_model()(tokens).logits, rtol=0, atol=0)


def test_logits_and_states_are_the_models_own() -> None:
    """The class adds nothing to the mathematics of `PLT`."""
    model = small_model(plt_num_loops=3)
    plain = PLT(model.config.shape())
    plain.load_state_dict(model.state_dict())
    tokens = torch.stack(_tokens(12, 12))
    output = model(tokens, output_loop_states=True)
    expected = plain(tokens)
    torch.testing.assert_close(output.logits, expected.logits, rtol=0, atol=0)
    assert len(output.loop_hidden_states) == 3
    for state, other in zip(output.loop_hidden_states, expected.loop_states, strict=True):
        torch.testing.assert_close(state, other, rtol=0, atol=0)


def test_num_loops_argument() -> None:
    model, tokens = small_model(), _tokens(9)[0][None]
    assert not torch.allclose(model(tokens, num_loops=1).logits, model(tokens).logits)
    torch.testing.assert_close(
        model(tokens, num_loops=1).logits,
        model(tokens, num_loops=3, output_loop_states=True).loop_hidden_states[0]
        @ model.lm_head.weight.T,
    )
    with pytest.raises(RequestError, match="no gates"):
        small_model(plt_num_loops=1)(tokens, num_loops=2)


@pytest.mark.parametrize("loops", [1, 2, 3])
@pytest.mark.parametrize("beams", [1, 3])
def test_generate_with_cache_equals_without(loops: int, beams: int) -> None:
    model = small_model(plt_num_loops=loops).double()
    tokens = _tokens(7)[0][None]
    options = {"max_new_tokens": 20, "do_sample": False, "num_beams": beams, "eos_token_id": None}
    cached, slow = (model.generate(tokens, use_cache=use, **options) for use in (True, False))
    assert cached.tolist() == slow.tolist()
    assert cached.shape == (1, 27)


@pytest.mark.parametrize("beams", [1, 2])
def test_batched_generate_equals_one_by_one(beams: int) -> None:
    model, rows = small_model(plt_num_loops=3).double(), _tokens(3, 11, 7)
    options = {"max_new_tokens": 12, "do_sample": False, "num_beams": beams, "eos_token_id": None}
    batch = model.generate(**_left_padded(rows), **options)[:, 11:]
    alone = [model.generate(row[None], **options)[0, len(row) :] for row in rows]
    assert batch.tolist() == torch.stack(alone).tolist()


def test_sampling_and_several_sequences() -> None:
    torch.manual_seed(0)
    tokens = _tokens(5)[0][None]
    out = small_model().generate(tokens, max_new_tokens=8, do_sample=True, num_return_sequences=3)
    assert out.shape[0] == 3
    assert len({tuple(row) for row in out.tolist()}) > 1


def test_chunked_use_of_the_cache() -> None:
    """A caller may feed a cache in pieces of any size."""
    model, tokens = small_model(plt_num_loops=3).double(), torch.stack(_tokens(20, 20))
    whole = model(tokens).logits
    cache, parts = None, []
    for piece in tokens.split([6, 1, 1, 9, 3], dim=1):
        out = model(piece, cache=cache, use_cache=True)
        cache = out[CACHE_NAME]
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)


def test_a_packed_row_can_begin_a_new_document_while_decoding() -> None:
    model, tokens = small_model(plt_num_loops=3).double(), torch.stack(_tokens(12))
    positions = torch.tensor([[0, 1, 2, 3, 4, 0, 1, 0, 1, 2, 3, 4]])
    whole = model(tokens, position_ids=positions).logits
    cache, parts = None, []
    for at in range(12):
        out = model(
            tokens[:, at : at + 1],
            position_ids=positions[:, at : at + 1],
            cache=cache,
            use_cache=True,
        )
        cache = out[CACHE_NAME]
        parts.append(out.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=0, atol=1e-10)


def test_a_sequence_keeps_its_loop_count() -> None:
    model, tokens = small_model(), _tokens(4)[0][None]
    cache = model(tokens, use_cache=True)[CACHE_NAME]
    with pytest.raises(RequestError, match="keeps its loop count"):
        model(tokens[:, :1], cache=cache, num_loops=3)


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_both_names_of_the_cache(name: str) -> None:
    """transformers 5.24 renamed it; either is taken, whichever is installed."""
    model, tokens = small_model().double(), _tokens(9)[0][None]
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    cache = model(tokens[:, :5], use_cache=True)[CACHE_NAME]
    step = model(tokens[:, 5:7], **{name: cache})
    torch.testing.assert_close(step.logits, model(tokens[:, :7]).logits[:, 5:], rtol=0, atol=1e-10)
    text = model.generate(tokens, **{name: step[CACHE_NAME]}, **options)
    assert text.tolist() == model.generate(tokens, use_cache=False, **options).tolist()


def test_a_cache_under_both_names_is_refused() -> None:
    model, tokens = small_model(), _tokens(4)[0][None]
    cache = model(tokens, use_cache=True)[CACHE_NAME]
    for run in (model, model.generate):
        with pytest.raises(RequestError, match="not both"):
            run(tokens, cache=cache, past_key_values=cache)


def test_mask_with_a_hole_is_refused() -> None:
    mask = torch.tensor([[1, 1, 0, 1, 1]])
    with pytest.raises(RequestError, match="hole"):
        small_model()(_tokens(5)[0][None], attention_mask=mask)


def test_loss_is_cross_entropy_of_the_last_loop() -> None:
    model, tokens = small_model(plt_num_loops=3), torch.stack(_tokens(10, 10))
    labels = tokens.clone()
    labels[:, :3] = -100
    out = model(tokens, labels=labels)
    expected = torch.nn.functional.cross_entropy(
        out.logits[:, 2:-1].flatten(0, 1), tokens[:, 3:].flatten()
    )
    torch.testing.assert_close(out.loss, expected)


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    """Gradients flow through K^1, V^1 and E, recomputed or not (SPEC.md section 1)."""
    tokens = torch.stack(_tokens(30, 30))
    gradients = []
    for recompute in (False, True):
        model = small_model(plt_num_loops=3, tie_word_embeddings=True).double().train()
        if recompute:
            # transformers renamed it after 5.17.
            name = "activation_checkpointing_enable"
            (getattr(model, name, None) or model.gradient_checkpointing_enable)()
        model(tokens, labels=tokens).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradients[1][name], gradient, rtol=0, atol=1e-12)


def test_save_pretrained_writes_the_released_layout(tmp_path: Path) -> None:
    model = small_model().to(torch.bfloat16)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(model.state_dict())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "iquestpltcoder"
    assert config["architectures"] == ["IQuestPLTCoderForCausalLM"]
    assert config["plt_window_size"] == [4, 0]
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert again.dtype == torch.bfloat16
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name


def test_tied_head_stays_tied(tmp_path: Path) -> None:
    small_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_dtype_on_request(checkpoint: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}


def test_other_gate_spelling(checkpoint: Path) -> None:
    expected = load_file(checkpoint / "model.safetensors")
    renamed = {k.replace("plt_gate", "loop_gate_proj"): v for k, v in expected.items()}
    assert renamed.keys() != expected.keys()
    save_file(renamed, checkpoint / "model.safetensors", metadata={"format": "pt"})
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_pipeline(checkpoint: Path) -> None:
    generator = pipeline("text-generation", model=str(checkpoint), tokenizer=TOKENIZER)
    text = generator("def f(", max_new_tokens=4, do_sample=False)[0]["generated_text"]
    assert text.startswith("def f(")


def test_remote_code_is_neither_needed_nor_run(checkpoint: Path) -> None:
    """The public repository names remote code for AutoConfig only."""
    values = json.loads((checkpoint / "config.json").read_text())
    values["auto_map"] = {"AutoConfig": "configuration_evil.PLTCoderConfig"}
    (checkpoint / "config.json").write_text(json.dumps(values))
    (checkpoint / "configuration_evil.py").write_text("raise SystemExit('code was run')\n")
    assert isinstance(AutoConfig.from_pretrained(checkpoint), PLTCoderConfig)
    assert isinstance(AutoModelForCausalLM.from_pretrained(checkpoint), IQuestPLTCoderForCausalLM)


@pytest.mark.parametrize("damage", ["missing", "unexpected", "misshapen", "nan", "truncated"])
def test_damaged_checkpoints_are_one_error(checkpoint: Path, damage: str) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    if damage == "missing":
        del tensors[name]
    elif damage == "unexpected":
        tensors[f"{name}.extra"] = tensors[name].clone()
    elif damage == "misshapen":
        tensors[name] = tensors[name][:, :5].contiguous()
    elif damage == "nan":
        tensors[name][3, 4] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
        name = path.name
    with pytest.raises(CheckpointError, match=name):
        AutoModelForCausalLM.from_pretrained(checkpoint)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_attention_heads", 3),
        ("plt_window_size", [4, 1]),
        ("plt_num_loops", 0),
        ("head_dim", 7),
        ("vocab_size", "many"),
        ("attention_bias", True),
        ("hidden_act", "gelu"),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
    ],
)
def test_impossible_configs_name_the_field(checkpoint: Path, field: str, value: object) -> None:
    values = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**values, field: value}))
    with pytest.raises(ConfigError, match=field):
        AutoModelForCausalLM.from_pretrained(checkpoint)


def test_nested_rope_base_is_read_as_load_model_reads_it(checkpoint: Path) -> None:
    """transformers 5 writes `rope_parameters`; a base that goes unread gives wrong text."""
    values = json.loads((checkpoint / "config.json").read_text())
    del values["rope_theta"]
    values["rope_parameters"] = {"rope_type": "default", "rope_theta": 123.0}
    (checkpoint / "config.json").write_text(json.dumps(values))
    tokens = _tokens(12)[0][None]
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert model.config.rope_theta == 123.0
    expected = load_model(checkpoint)(tokens).logits
    torch.testing.assert_close(model(tokens).logits, expected, rtol=0, atol=0)


def test_tied_head_that_differs_is_refused(tmp_path: Path) -> None:
    small_model(tie_word_embeddings=True).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lm_head\.weight"):
        AutoModelForCausalLM.from_pretrained(tmp_path)


def test_pickles_are_refused(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / "model.safetensors")
    torch.save(tensors, checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(LoopCoderError, match="safetensors"):
        AutoModelForCausalLM.from_pretrained(checkpoint)


def test_light_imports() -> None:
    """`import loopcoder` loads no heavy package, and `loopcoder.hf` registers on its own."""
    heavy = ("torch", "transformers", "fastapi", "matplotlib", "datasets", "inspect_ai", "triton")
    code = f"import sys, loopcoder; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
    assert loopcoder.hf.PLTCoderConfig is PLTCoderConfig


def test_checkpoint_without_its_shard(checkpoint: Path) -> None:
    shutil.move(checkpoint / "model.safetensors", checkpoint / "elsewhere.safetensors")
    with pytest.raises(CheckpointError):
        AutoModelForCausalLM.from_pretrained(checkpoint)
