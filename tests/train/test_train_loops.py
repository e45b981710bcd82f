"""Training with several loop counts, and with a loss on every loop."""

import json
from collections import Counter
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import loopcoder.hf  # noqa: F401  # registers the architecture
from loopcoder.train.callbacks import Recorder
from loopcoder.train.cost import training_cost
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.heldout import Heldout, score
from loopcoder.train.loops import LoopTally, of_loops, step_loops
from loopcoder.train.plan import make_plan
from loopcoder.train.progress import Lines
from loopcoder.train.recipe import Loops, TrainRecipe
from loopcoder.train.records import MetricsFile, read_metrics
from loopcoder.train.run import build_trainer, train
from loopcoder.train.trainer import PLTTrainer
from loopcoder.train.windows import IGNORED
from tests.train.train_helpers import tiny_recipe, write_shards

THREE = "model.plt_num_loops=3"
EVERY = "loops.loss=every"


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards", heldout=300)


def trainer_of(recipe: TrainRecipe, shards: Path, out: Path) -> PLTTrainer:
    """A trainer before its first step; gates are not at their symmetric start."""
    recorder = Recorder(MetricsFile(out, 0), Lines(12), batch_tokens=384)
    trainer = build_trainer(make_plan(recipe, shards), out, recorder)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainer.network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    trainer.network.train()
    return trainer


def batches(trainer: PLTTrainer) -> list[dict[str, torch.Tensor]]:
    """A step's two micro-batches."""
    windows = trainer.plan.windows
    collate: Any = trainer.data_collator
    return [collate([windows[i] for i in range(start, start + 4)]) for start in (0, 4)]


def items(step: list[dict[str, torch.Tensor]]) -> torch.Tensor:
    return torch.stack([(batch["labels"][:, 1:] != IGNORED).sum() for batch in step]).sum()


def test_the_draw_depends_on_seed_and_step_alone() -> None:
    # Pinned: a resumed run must draw the same on another machine and after an upgrade.
    drawn = [step_loops((1, 2, 4), seed=0, step=step) for step in range(1, 13)]
    assert drawn == [2, 1, 1, 1, 2, 2, 2, 1, 4, 1, 2, 4]
    counts = Counter(step_loops((1, 2, 4), seed=7, step=step) for step in range(1, 3001))
    assert all(900 < counts[loops] < 1100 for loops in (1, 2, 4))
    assert step_loops((3,), seed=0, step=1) == 3


def test_every_loop_learns_from_the_same_labels(shards: Path, tmp_path: Path) -> None:
    """Against autograd of one forward pass for each loop count, whose last state is h^r."""
    trainer = trainer_of(tiny_recipe(THREE, EVERY), shards, tmp_path)
    network, step = trainer.network.double(), batches(trainer)
    count = items(step)
    found = [trainer.compute_loss(network, dict(x), num_items_in_batch=count) for x in step]
    torch.stack(found).sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters()}
    network.zero_grad()
    alone = [
        torch.stack([network(**x, num_loops=r, num_items_in_batch=count).loss for x in step]).sum()
        for r in (1, 2, 3)
    ]
    expected = torch.stack(alone).mean()
    expected.backward()
    assert torch.stack(found).sum().item() == pytest.approx(expected.item(), rel=1e-6)
    for name, parameter in network.named_parameters():
        # The cross-entropy itself is computed in float32.
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-7)
    logged = trainer._tally.take()
    assert logged["objective"] == pytest.approx(expected.item(), rel=1e-6)
    for loop, loss in enumerate(alone, 1):
        assert logged[f"loss_of_loop_{loop}"] == pytest.approx(loss.item(), rel=1e-6)


def test_a_drawn_count_is_what_runs(shards: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(THREE, "loops.sample=[1, 3]")
    trainer = trainer_of(recipe, shards, tmp_path)
    batch = batches(trainer)[0]
    ran = set()
    for step in range(6):
        trainer.state.global_step = step
        loops = step_loops((1, 3), seed=0, step=step + 1)
        found = trainer.compute_loss(trainer.network, batch, num_items_in_batch=items([batch]))
        assert found.item() == trainer.network(**batch, num_loops=loops).loss.item()
        ran.add(loops)
    assert ran == {1, 3}


def test_bfloat16_is_that_of_the_model(shards: Path, tmp_path: Path) -> None:
    """A state's loss outside the model is the one that the model computes inside, to the bit."""
    trainer = trainer_of(tiny_recipe(EVERY, "run.bf16=true"), shards, tmp_path)
    batch = batches(trainer)[0]
    count = items([batch])
    prepared = trainer.accelerator.prepare_model(trainer.network)
    trainer.compute_loss(prepared, batch, num_items_in_batch=count)
    inside = prepared(**batch, num_loops=1, num_items_in_batch=count).loss.item()
    assert trainer._tally.take()["loss_of_loop_1"] == inside
    exact = tmp_path / "exact"
    exact.mkdir()
    plain = trainer_of(tiny_recipe(EVERY), shards, exact)
    plain.compute_loss(plain.network, batch, num_items_in_batch=count)
    assert plain._tally.take()["loss_of_loop_1"] not in (inside, pytest.approx(inside, rel=1e-6))


def test_rows_are_means_over_their_steps() -> None:
    tally = LoopTally(Loops(sample=(1, 2), loss="every"))
    assert tally.take() == {}
    halves = [(1, 1, [3.0]), (1, 1, [1.0]), (2, 2, [4.0, 2.0]), (3, 2, [2.0, 1.0])]
    for step, loops, losses in halves:
        tally.add(step, loops, [torch.tensor(loss) for loss in losses])
    expected = {
        "loops": 5 / 3,
        "loss_with_1_loops": 4.0,
        "loss_with_2_loops": 1.5,
        "objective": pytest.approx((4 + 3 + 1.5) / 3),
        "loss_of_loop_1": pytest.approx(10 / 3),
        "loss_of_loop_2": 1.5,
    }
    row = tally.take()
    assert row == expected
    assert of_loops({**row, "loss": 1.0, "loss_of_all": 2.0}) == expected
    assert tally.take() == {}


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory, shards: Path) -> Path:
    """A run, and what it said in `said.txt`."""
    out = tmp_path_factory.mktemp("runs") / "run"
    said = StringIO()
    with redirect_stderr(said):
        train(tiny_recipe("loops.sample=[1, 2]", EVERY, "run.bf16=true"), out=out, data=shards)
    (out / "said.txt").write_text(said.getvalue())
    return out


def test_metrics_tell_the_loops(elastic: Path) -> None:
    rows = [row for row in read_metrics(elastic / "metrics.jsonl") if row["kind"] == "train"]
    counts = [step_loops((1, 2), seed=0, step=step) for step in range(1, 13)]
    assert [row["loops"] for row in rows] == counts
    assert set(counts) == {1, 2}
    for row, loops in zip(rows, counts, strict=True):
        assert row["loss"] == pytest.approx(row[f"loss_of_loop_{loops}"], rel=1e-6)
        assert row["loss"] == pytest.approx(row[f"loss_with_{loops}_loops"], rel=1e-6)
        mean = sum(row[f"loss_of_loop_{loop}"] for loop in range(1, loops + 1)) / loops
        assert row["objective"] == pytest.approx(mean, rel=1e-6)
        assert (f"loss_of_loop_{loops + 1}" in row) is False
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_summary_scores_each_count(elastic: Path, shards: Path) -> None:
    from transformers import AutoModelForCausalLM

    summary = json.loads((elastic / "run.json").read_text())
    by_loops = summary["heldout_by_loops"]
    assert list(by_loops) == ["1", "2"]
    assert by_loops["2"]["bits_per_byte"] == summary["bits_per_byte"]
    assert by_loops["1"]["nats"] != by_loops["2"]["nats"]
    *_, one, two, last = (elastic / "said.txt").read_text().splitlines()
    assert one == f"R = 1: {by_loops['1']['bits_per_byte']:.4f} bits per byte held out"
    assert two.startswith("R = 2: ")
    assert last.startswith("done: ")
    model = AutoModelForCausalLM.from_pretrained(elastic / "final")
    heldout = Heldout(TokenShards(shards, "heldout"), length=48)
    cpu = torch.device("cpu")
    for loops in (1, 2):
        again = score(model, heldout, batch=4, device=cpu, limit=None, num_loops=loops)
        # The run scores under bfloat16.
        assert again.loss == pytest.approx(by_loops[str(loops)]["loss"], rel=2e-2)


def counted(recipe: TrainRecipe, shards: Path, out: Path) -> int:
    """FLOPs that torch counts in a micro-batch, forward and backward."""
    out.mkdir()
    trainer = trainer_of(recipe, shards, out)
    batch = batches(trainer)[0]
    with FlopCounterMode(display=False) as counter:
        trainer.compute_loss(trainer.network, batch, num_items_in_batch=items([batch])).backward()
    return int(counter.get_total_flops())


def test_cost_of_a_loss_on_every_loop(shards: Path, tmp_path: Path) -> None:
    """Attention aside, which the counter counts as full squares in either."""
    costs: dict[str, Any] = {}
    for loss in ("last", "every"):
        recipe = tiny_recipe(THREE, f"loops.loss={loss}")
        cost = training_cost(recipe, make_plan(recipe, shards).shape)
        assert cost.tokens == 12 * 384
        costs[loss] = (cost.flops, counted(recipe, shards, tmp_path / loss))
    micro_batches = 24
    more = (costs["every"][0] - costs["last"][0]) / micro_batches
    assert more == costs["every"][1] - costs["last"][1] > 0


def test_cost_of_sampling_is_the_mean(shards: Path) -> None:
    shape = make_plan(tiny_recipe(THREE), shards).shape
    one, three = (
        training_cost(tiny_recipe(THREE), shape.with_(plt_num_loops=loops)).flops
        for loops in (1, 3)
    )
    both = training_cost(tiny_recipe(THREE, "loops.sample=[1, 3]"), shape).flops
    assert both == pytest.approx((one + three) / 2)
    assert one < both < three
