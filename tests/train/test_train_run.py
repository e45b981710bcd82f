"""Whole runs of a tiny model on the CPU: what they write, and what they refuse."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from loopcoder.checkpoint.load import load_model
from loopcoder.errors import ConfigError, DataError, TrainingError
from loopcoder.train.callbacks import Recorder
from loopcoder.train.checkpoints import complete_checkpoints
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.heldout import Heldout, score
from loopcoder.train.plan import make_plan
from loopcoder.train.progress import Lines
from loopcoder.train.records import MetricsFile, read_metrics
from loopcoder.train.run import build_trainer, train
from tests.train.train_helpers import BOS, EOS, tiny_recipe, write_shards


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    train(tiny_recipe("run.tensorboard=true"), out=out, data=shards)
    return out


def final_weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "final" / "model.safetensors")


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_what_a_run_leaves(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "checkpoint-12",
        "checkpoint-8",
        "final",
        "metrics.jsonl",
        "recipe.json",
        "run.json",
        "tensorboard",
    ]
    assert list((finished / "tensorboard").glob("events*"))


def test_metrics_are_a_loss_curve(finished: Path) -> None:
    rows = read_metrics(finished / "metrics.jsonl")
    steps = [row for row in rows if row["kind"] == "train"]
    assert [row["step"] for row in steps] == list(range(1, 13))
    assert [row["tokens"] for row in steps] == [384 * step for step in range(1, 13)]
    assert steps[0]["loss"] == pytest.approx(math.log(64), rel=0.1)
    assert steps[-1]["loss"] < 0.8 * steps[0]["loss"]
    assert [row["step"] for row in rows if row["kind"] == "heldout"] == [6, 12]
    assert set(steps[0]) == {
        *("kind", "step", "tokens", "loss", "lr", "grad_norm", "tokens_per_s", "seconds")
    }
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(seconds)


def test_the_rate_warms_up_and_falls_to_its_floor(finished: Path) -> None:
    rates = [
        row["lr"] for row in read_metrics(finished / "metrics.jsonl") if row["kind"] == "train"
    ]
    assert rates[0] == pytest.approx(0.01)  # one step of warm-up, 5 % of 12 rounded up
    assert rates[-1] == pytest.approx(0.001)
    assert rates[1:] == sorted(rates[1:], reverse=True)


def test_the_summary(finished: Path, shards: Path) -> None:
    summary = json.loads((finished / "run.json").read_text())
    assert (summary["steps"], summary["tokens"], summary["finished"]) == (12, 4608, True)
    assert summary["parameters"] == sum(t.numel() for t in final_weights(finished).values())
    assert summary["manifest_hash"] == TokenShards(shards).manifest_hash
    assert summary["recipe"]["optim"]["peak_lr"] == 0.01
    assert {"torch", "transformers", "loopcoder"} <= summary["versions"].keys()
    assert "heldout_by_loops" not in summary


def test_the_final_model_scores_what_the_summary_says(finished: Path, shards: Path) -> None:
    summary = json.loads((finished / "run.json").read_text())
    heldout = Heldout(TokenShards(shards, "heldout"), length=48)
    again = score(_Plain(finished), heldout, batch=4, device=torch.device("cpu"), limit=None)
    assert again.bits_per_byte == pytest.approx(summary["bits_per_byte"], rel=1e-5)


class _Plain(torch.nn.Module):
    def __init__(self, out: Path) -> None:
        super().__init__()
        self.plt = load_model(out / "final")

    def forward(self, input_ids: Any, position_ids: Any, use_cache: bool) -> Any:
        return self.plt(input_ids, position_ids=position_ids)


def test_the_final_checkpoint_is_complete(finished: Path) -> None:
    config = json.loads((finished / "final" / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (BOS, EOS)
    assert config["dtype"] == "float32"
    assert (finished / "final" / "tokenizer.json").is_file()
    assert not list(finished.rglob("*.bin")), "a pickle beside the weights"


def test_transformers_loads_it(finished: Path) -> None:
    from transformers import AutoModelForCausalLM

    import loopcoder.hf  # noqa: F401  # registers the architecture

    model = AutoModelForCausalLM.from_pretrained(finished / "final")
    assert same(
        {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"},
        final_weights(finished),
    )


def test_micro_batches_add_up(tmp_path: Path, shards: Path, finished: Path) -> None:
    out = tmp_path / "run"
    train(tiny_recipe("run.micro_batch=2", "run.steps=12"), out=out, data=shards)
    for name, tensor in final_weights(out).items():
        torch.testing.assert_close(tensor, final_weights(finished)[name], rtol=0, atol=2e-4)


def test_data_order_is_the_same_for_any_loop_count(tmp_path: Path, shards: Path) -> None:
    batches: dict[int, list[torch.Tensor]] = {}
    for loops in (1, 2):
        seen: list[torch.Tensor] = []
        with _watch(seen):
            recipe = tiny_recipe(f"model.plt_num_loops={loops}", "run.steps=3")
            train(recipe, out=tmp_path / str(loops), data=shards)
        batches[loops] = seen
    assert len(batches[1]) == 6  # three steps of two micro-batches
    assert all(torch.equal(a, b) for a, b in zip(batches[1], batches[2], strict=True))


def _watch(seen: list[torch.Tensor]) -> Any:
    """Record the ids of every training batch on its way to the embedding."""
    from contextlib import contextmanager

    from torch.nn.modules.module import register_module_forward_pre_hook

    def hook(module: torch.nn.Module, inputs: Any) -> None:
        if isinstance(module, torch.nn.Embedding) and torch.is_grad_enabled():
            seen.append(inputs[0].clone())

    @contextmanager
    def watching() -> Any:
        handle = register_module_forward_pre_hook(hook)
        try:
            yield
        finally:
            handle.remove()

    return watching()


def test_bfloat16_and_workers(tmp_path: Path, shards: Path) -> None:
    out = tmp_path / "run"
    recipe = tiny_recipe(
        "run.bf16=true", "run.workers=1", "run.steps=3", "run.final_dtype=bfloat16"
    )
    train(recipe, out=out, data=shards)
    assert {tensor.dtype for tensor in final_weights(out).values()} == {torch.bfloat16}
    checkpoint = load_file(complete_checkpoints(out)[-1] / "model.safetensors")
    assert {tensor.dtype for tensor in checkpoint.values()} == {torch.float32}


def test_going_on_from_a_checkpoint(tmp_path: Path, shards: Path, finished: Path) -> None:
    path = tmp_path / "more.toml"
    path.write_text(_recipe_text(finished / "final"))
    from loopcoder.train.recipe import load_recipe

    train(load_recipe(path), out=tmp_path / "run", data=shards)
    first = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]
    before = read_metrics(finished / "metrics.jsonl")[-2]
    assert first["loss"] == pytest.approx(before["loss"], rel=0.1)


def _recipe_text(start: Path) -> str:
    return f"""
        [model]
        start_from = "{start}"
        [data]
        sequence_length = 48
        [optim]
        peak_lr = 1e-9
        [run]
        steps = 1
        batch_tokens = 384
        micro_batch = 4
        bf16 = false
        device = "cpu"
        log_every = 1
        tensorboard = false
        """


@pytest.mark.parametrize(
    ("assignments", "error", "expected"),
    [
        (
            ["model.vocab_size=65"],
            DataError,
            "tokenizer has 64 tokens, the model's vocab_size is 65",
        ),
        (
            ["model.max_position_embeddings=47"],
            ConfigError,
            r"data\.sequence_length is 48, but the model has 47 positions",
        ),
        (["run.device=cuda"], ConfigError, r"run\.device is cuda"),
        (["model.start_from=nowhere"], ConfigError, r"unknown key model\."),
    ],
)
def test_what_cannot_be_trained(
    tmp_path: Path, shards: Path, assignments: list[str], error: type[Exception], expected: str
) -> None:
    if assignments == ["run.device=cuda"] and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(error, match=expected):
        train(tiny_recipe(*assignments), out=tmp_path / "run", data=shards)
    assert not (tmp_path / "run").exists()


def test_missing_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.shards is not set; give --data DIR"):
        train(tiny_recipe(), out=tmp_path / "run")
    with pytest.raises(DataError, match="nowhere: there is no such data directory"):
        train(tiny_recipe(), out=tmp_path / "run", data=tmp_path / "nowhere")


def test_a_directory_in_use_is_refused(finished: Path, shards: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="is not empty; --resume goes on"):
        train(tiny_recipe(), out=finished, data=shards)
    with pytest.raises(TrainingError, match="this run is finished; its model is"):
        train(tiny_recipe("run.tensorboard=true"), out=finished, data=shards, resume=True)
    with pytest.raises(TrainingError, match="no run began here"):
        train(tiny_recipe(), out=tmp_path, data=shards, resume=True)


def test_an_absurd_rate_stops_the_run(tmp_path: Path, shards: Path) -> None:
    out = tmp_path / "run"
    recipe = tiny_recipe("optim.peak_lr=1e30", "run.save_every=1", "run.keep=1")
    with pytest.raises(TrainingError, match=r"step 2: the loss is .*nan.*checkpoint-1\. Lower"):
        train(recipe, out=out, data=shards)
    assert [path.name for path in complete_checkpoints(out)] == ["checkpoint-1"]
    assert not (out / "final").exists()


def test_no_weight_is_touched_by_an_infinity(tmp_path: Path, shards: Path) -> None:
    plan = make_plan(tiny_recipe(), shards)
    recorder = Recorder(MetricsFile(tmp_path, 0), Lines(12), batch_tokens=384)
    trainer = build_trainer(plan, tmp_path, recorder)
    with torch.no_grad():
        trainer.network.model.norm.weight[3] = float("inf")
    before = {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}
    with pytest.raises(TrainingError, match=r"step 1: the loss is .*there is no checkpoint yet"):
        trainer.train()
    assert same(before, trainer.network.state_dict())
