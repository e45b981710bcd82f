"""Each engine does what its numbers claim: tokens, shapes, bytes."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from loopcoder.bench import prompts
from loopcoder.bench.engines import add_all, describe_place, measured_model, new_engine
from loopcoder.bench.ours import OurRunner
from loopcoder.bench.peers.dense import matrix_values
from loopcoder.bench.peers.transformers import TransformersRunner, new_runner
from loopcoder.bench.plan import OURS, PEER_FORMATS, Case, Job, Subject
from loopcoder.bench.process import Worker
from loopcoder.bench.random_model import random_model
from loopcoder.model.products import products
from tests.bench.shapes import CONFIG, WORKLOADS, job, message


def our_message(scratch: Path, quantization: str | None = None) -> dict[str, Any]:
    return message(Subject(engine=OURS, quantization=quantization, cases=()), scratch)


@pytest.mark.parametrize("quantization", [None, "int8", "int4"])
def test_a_random_model_has_the_shape_and_finite_outputs(quantization: str | None) -> None:
    model = random_model(
        CONFIG, dtype=torch.float32, device=torch.device("cpu"), quantization=quantization
    )
    with torch.inference_mode():
        logits = model(torch.arange(12)[None], num_loops=3).logits
    assert logits.isfinite().all()
    assert logits.std() > 1e-3
    bits = {None: 32, "int8": 8, "int4": 4}[quantization]
    layers = [p for name, p in products(model).items() if name != "lm_head"]
    if quantization is not None:
        values = sum(product.shape[0] * product.shape[1] for product in layers)
        nbytes = sum(product.nbytes for product in layers)
        assert values * bits / 8 < nbytes < values * (bits + 1) / 8


@pytest.mark.parametrize("case", [Case(loops=1), Case(loops=3), Case(loops=2, schedule="serial")])
def test_a_decode_measurement_is_one_token_for_each_sequence(case: Case, tmp_path: Path) -> None:
    from dataclasses import asdict

    runner = OurRunner()
    facts = runner.load(our_message(tmp_path))
    assert facts["weight_bytes"] == 2 * matrix_values(vars(CONFIG))
    runner.prepare("a", asdict(case), asdict(WORKLOADS["decode"]))
    engine = runner.cases["a"][0]
    before = engine.stats()["generated_tokens"]
    assert runner.measure("a", 0) > 0
    assert engine.stats()["generated_tokens"] == before + 2


@pytest.mark.parametrize("kind", ["prefill", "throughput"])
def test_a_measurement_answers_all_prompts_from_nothing(kind: str, tmp_path: Path) -> None:
    from dataclasses import asdict

    work = WORKLOADS[kind]
    runner = OurRunner()
    runner.load(our_message(tmp_path))
    runner.prepare("a", asdict(Case(loops=2)), asdict(work))
    engine = runner.cases["a"][0]
    before = engine.stats()
    runner.measure("a", 0)
    runner.measure("a", 1)
    after = engine.stats()
    assert (
        after["generated_tokens"] - before["generated_tokens"] == 2 * work.sequences * work.output
    )
    assert after["prefix_tokens_hit"] == 0
    assert not engine.busy


def test_prompts_are_the_same_for_all_and_new_each_time() -> None:
    work = {"prompt": 50, "sequences": 2}
    message = {"config": {"vocab_size": 512}}
    first = prompts.draw_prompts(message, work, 3)
    assert first == prompts.draw_prompts(message, work, 3)
    assert first != prompts.draw_prompts(message, work, 4)
    assert first[0] != first[1]
    assert all(len(prompt) == 50 for prompt in first)


def test_transformers_runs_the_same_shape_and_number_of_tokens(tmp_path: Path) -> None:
    from dataclasses import asdict

    runner = new_runner()
    assert isinstance(runner, TransformersRunner)
    facts = runner.load(our_message(tmp_path))
    torch.set_grad_enabled(True)
    model = runner.model
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    assert facts["weight_bytes"] == sum(p.nbytes for p in matrices)
    angles = model.model.rotary_emb.inv_freq
    assert angles[-1] == pytest.approx(CONFIG.rope_theta ** -(62 / 64))
    work = asdict(WORKLOADS["decode"])
    with torch.no_grad():
        runner.prepare("a", {}, work)
        runner.measure("a", 0)
        (cache,) = runner.cases["a"].past.values()
        assert cache.get_seq_length() == 21
        for kind in ("prefill", "throughput"):
            runner.prepare(kind, {}, asdict(WORKLOADS[kind]))
            assert runner.measure(kind, 1) > 0


@pytest.mark.parametrize("peer", ["vllm", "llama.cpp"])
def test_other_peers_run_every_workload_and_format(peer: str, tmp_path: Path) -> None:
    from dataclasses import asdict

    variable = f"LOOPCODER_PEER_PYTHON_{peer.upper().replace('.', '_')}"
    python = os.environ.get(variable)
    if (
        python is None
        and importlib.util.find_spec({"llama.cpp": "llama_cpp"}.get(peer, peer)) is None
    ):
        pytest.skip(f"{peer} is not installed; give the Python that has it in {variable}")
    for quantization in PEER_FORMATS[peer]:
        subject = Subject(engine=peer, quantization=quantization, cases=())
        with Worker(peer, python=python, threads=1) as worker:
            facts = worker.ask("load", job=message(subject, tmp_path))
            bits = 8 * facts["weight_bytes"] / matrix_values(vars(CONFIG))
            assert bits == pytest.approx(
                {None: 16, "int8": 8.5, "int4": 5.4}[quantization], rel=0.1
            )
            case = asdict(Case(engine=peer, quantization=quantization, schedule=None))
            for kind in ("prefill", "throughput", "decode"):
                worker.ask("prepare", key=kind, case=case, work=asdict(WORKLOADS[kind]))
                assert worker.ask("measure", key=kind, number=1) > 0


def test_an_engine_of_the_bench_has_room_for_what_it_was_made_for() -> None:
    model = measured_model(our_message(Path()))
    assert describe_place(model).dtype == "bfloat16"
    engine = new_engine(model, sequences=2, positions=40, loops=3)
    add_all(engine, [[1] * 39, [2] * 39], loops=3, tokens=1)
    while engine.busy:
        engine.step()
        engine.scheduler.check_integrity()
    assert engine.stats()["preemptions"] == 0


def test_jobs_are_json() -> None:
    import json

    made: Job = job()
    subject = Subject(engine=OURS, quantization="int8", cases=())
    assert json.loads(json.dumps(made.message(subject)))["quantization"] == "int8"
