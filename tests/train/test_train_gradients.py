"""The gradients of one step: with recomputation, over packed documents, and compiled."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from loopcoder.hf.modeling import IQuestPLTCoderForCausalLM
from loopcoder.train.plan import make_plan
from loopcoder.train.run import build_model
from loopcoder.train.windows import Collator
from tests.train.train_helpers import BOS, VOCAB, tiny_recipe, write_shards

Gradients = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


def network(shards: Path, *assignments: str) -> IQuestPLTCoderForCausalLM:
    """In float64, with gates that are not at their symmetric start."""
    model = build_model(make_plan(tiny_recipe(*assignments), shards)).double().train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise, alpha=0.2)
    return model


def batch(shards: Path) -> dict[str, torch.Tensor]:
    windows = make_plan(tiny_recipe(), shards).windows
    return Collator(BOS)([windows[i] for i in range(4)])


def gradients(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> tuple[float, Gradients]:
    model.zero_grad()
    loss = model(**inputs).loss
    loss.backward()
    named = {name.removeprefix("_orig_mod."): p for name, p in model.named_parameters()}
    assert all(p.grad is not None for p in named.values())
    return loss.item(), {name: p.grad.clone() for name, p in named.items() if p.grad is not None}


@pytest.mark.parametrize("loops", [1, 2, 3])
def test_recomputation_changes_no_gradient(shards: Path, loops: int) -> None:
    assignment = f"model.plt_num_loops={loops}"
    plain = network(shards, assignment)
    recomputing = network(shards, assignment, "run.gradient_checkpointing=true")
    calls = 0

    def counting(function: object, *args: object) -> object:
        nonlocal calls
        calls += 1
        return checkpoint(function, *args, use_reentrant=False)  # type: ignore[arg-type]

    inner = recomputing.model
    assert isinstance(inner._gradient_checkpointing_func, partial)
    inner._gradient_checkpointing_func = counting  # type: ignore[assignment]
    loss, expected = gradients(plain, batch(shards))
    again, found = gradients(recomputing, batch(shards))
    assert calls == loops * 2  # two layers
    assert again == pytest.approx(loss, rel=1e-12)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-10, atol=1e-12)


def nats(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The sum over a batch in float64; the model's own loss goes through float32."""
    logits = model(inputs["input_ids"], position_ids=inputs["position_ids"]).logits
    labels = inputs["labels"][:, 1:].flatten()
    return cross_entropy(logits[:, :-1].flatten(0, 1), labels, reduction="sum")


def test_packed_documents_are_strangers(shards: Path) -> None:
    """The packed loss is the sum over documents taken alone, and so are its gradients."""
    model = network(shards)
    generator = np.random.default_rng(0)
    documents = [
        np.concatenate([[BOS], generator.integers(3, VOCAB, length)]) for length in (20, 9, 16)
    ]
    packed = Collator(BOS)([np.concatenate(documents)])
    together = nats(model, packed)
    alone = torch.stack([nats(model, Collator(BOS)([document])) for document in documents]).sum()
    assert together.item() == pytest.approx(alone.item(), rel=1e-12)
    predicted = sum(len(document) - 1 for document in documents)
    assert model(**packed).loss.item() == pytest.approx(together.item() / predicted, rel=1e-6)
    parameters = list(model.parameters())
    pairs = zip(
        torch.autograd.grad(together, parameters),
        torch.autograd.grad(alone, parameters),
        strict=True,
    )
    for first, second in pairs:
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-11)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_training_is_one_graph(shards: Path) -> None:
    model = network(shards).float()
    inputs = {**batch(shards), "num_items_in_batch": torch.tensor(150.0)}
    explained = torch._dynamo.explain(model)(**inputs)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)
    loss, expected = gradients(model, inputs)
    again, found = gradients(torch.compile(model, fullgraph=True), inputs)  # type: ignore[arg-type]
    assert again == pytest.approx(loss, rel=1e-5)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-5)
