"""`loopcoder bench serve`: prompts, checkpoints, what load generators leave, turns, mistakes.

The generators themselves run only where they are installed (LOOPCODER_CLIENT_PYTHON); the turns
are tested with real servers and a small client of the test's own.
"""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from loopcoder.bench.process import WorkerError
from loopcoder.bench.serving.checkpoints import dense_checkpoint, served_checkpoint
from loopcoder.bench.serving.clients import CLIENTS
from loopcoder.bench.serving.plan import Case, Load, Outcome, Plan
from loopcoder.bench.serving.prompts import write_prompts
from loopcoder.bench.serving.rounds import Measured
from loopcoder.bench.serving.run import measure_serving
from loopcoder.bench.serving.servers import Server, our_server
from loopcoder.bench.serving.summary import ratios, rows
from loopcoder.bench.serving.tables import show
from loopcoder.bench.target import find_target
from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import locate
from loopcoder.errors import RequestError
from loopcoder.home import cache_home
from tests.cli.run import loopcoder

NANO = locate("loopcoder-nano")
SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 8192,
}
PLAN = Plan(clients=(2,), streams=(True, False), requests=4, prompt=12, tokens=6, rounds=1)


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_prompts_are_of_an_exact_length_and_the_same_for_all(tmp_path: Path) -> None:
    def drawn(number: str) -> list[dict[str, Any]]:
        path = tmp_path / "prompts.jsonl"
        write_prompts(path, NANO, number=number, count=20, length=64, tokens=5)
        return read_lines(path)

    words = Tokenizer.from_file(str(NANO / "tokenizer.json"))
    texts = [line["prompt"] for line in drawn("1")]
    assert [len(words.encode(text).ids) for text in texts] == [64] * 20
    assert texts == [line["prompt"] for line in drawn("1")]
    assert not set(texts) & {line["prompt"] for line in drawn("2")}
    assert len({text[:20] for text in texts}) == 20, "no common prefix to be reused"
    assert {(x["output_tokens_count"], x["output_tokens"]) for x in drawn("1")} == {(5, 5)}


def test_the_dense_checkpoint_is_the_plt_at_one_loop(tmp_path: Path) -> None:
    target = find_target("loopcoder-nano", None, None)
    directory = served_checkpoint(target, tmp_path)
    assert directory == NANO
    dense = dense_checkpoint(directory, target, tmp_path)
    llama = AutoModelForCausalLM.from_pretrained(dense, dtype=torch.float32)
    assert llama.generation_config.eos_token_id is None
    plt = load_model(NANO, dtype="float32")
    tokens_BT = torch.tensor([[5, 600, 7000, 80, 9]])
    with torch.inference_mode():
        expected = llama(tokens_BT).logits
        got = plt(tokens_BT, num_loops=1).logits
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_a_shape_is_written_with_the_bundled_tokenizer(tmp_path: Path) -> None:
    changes = [f"{name}={value}" for name, value in SIZES.items()]
    target = find_target(None, "loopcoder-v2", 2, changes)
    directory = served_checkpoint(target, tmp_path)
    assert load_model(directory).config == target.config
    assert (directory / "tokenizer.json").read_bytes() == (NANO / "tokenizer.json").read_bytes()


def test_a_checkpoint_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    target = replace(find_target("loopcoder-nano", None, None), model=str(tmp_path))
    with pytest.raises(RequestError, match=r"no tokenizer\.json"):
        served_checkpoint(target, tmp_path)


# What guidellm 0.8.1 and vllm 0.32.0 wrote of a run against vLLM's server, less what is not read.
GUIDELLM = {
    "benchmarks": [
        {
            "config": {"backend": {"stream": True}},
            "duration": 9.242094278335571,
            "metrics": {
                "request_totals": {"successful": 198, "errored": 1, "incomplete": 1, "total": 200},
                "output_token_count": {"successful": {"total_sum": 12672.0}},
                "time_to_first_token_ms": {
                    "successful": {"median": 93.98865, "percentiles": {"p90": 207.49497}}
                },
                "inter_token_latency_ms": {"successful": {"median": 8.56376}},
                "request_latency": {"successful": {"median": 0.66855}},
            },
        }
    ]
}
VLLM = {
    "completed": 200,
    "failed": 0,
    "duration": 9.032843766995938,
    "total_output_tokens": 12800,
    "median_ttft_ms": 117.0980737,
    "p90_ttft_ms": 225.44733,
    "median_tpot_ms": 9.26389,
    "median_e2el_ms": 675.7693,
}


def test_results_of_load_generators_are_read_in_seconds(tmp_path: Path) -> None:
    (tmp_path / "load.json").write_text(json.dumps(GUIDELLM), encoding="utf-8")
    assert CLIENTS["guidellm"].read(tmp_path) == Outcome(
        requests=198,
        errors=2,
        tokens=12672,
        seconds=pytest.approx(9.242094),
        ttft=pytest.approx(0.09398865),
        ttft_p90=pytest.approx(0.20749497),
        tpot=pytest.approx(0.00856376),
        latency=pytest.approx(0.66855),
    )
    GUIDELLM["benchmarks"][0]["config"]["backend"]["stream"] = False
    (tmp_path / "load.json").write_text(json.dumps(GUIDELLM), encoding="utf-8")
    whole = CLIENTS["guidellm"].read(tmp_path)
    assert (whole.ttft, whole.ttft_p90, whole.tpot) == (None, None, None)
    (tmp_path / "load.json").write_text(json.dumps(VLLM), encoding="utf-8")
    assert CLIENTS["vllm"].read(tmp_path) == Outcome(
        requests=200,
        errors=0,
        tokens=12800,
        seconds=pytest.approx(9.0328437),
        ttft=pytest.approx(0.1170980737),
        ttft_p90=pytest.approx(0.22544733),
        tpot=pytest.approx(0.00926389),
        latency=pytest.approx(0.6757693),
    )


def test_vllms_generator_says_what_it_cannot_do() -> None:
    with pytest.raises(RequestError, match="streams only"):
        CLIENTS["vllm"].check((True, False), ())
    with pytest.raises(RequestError, match="transformers"):
        CLIENTS["vllm"].check((True,), ("vllm", "transformers"))
    CLIENTS["vllm"].check((True,), ("vllm",))


SCRIPT = """
import json, sys, time, urllib.request
url, model, stream, prompts, result = sys.argv[1:]
start = time.perf_counter()
lines = [json.loads(line) for line in open(prompts)]
for line in lines:
    body = {"model": model, "prompt": line["prompt"], "max_tokens": line["output_tokens"],
            "ignore_eos": True, "stream": stream == "True"}
    request = urllib.request.Request(url + "/v1/completions", json.dumps(body).encode(),
                                     {"Content-Type": "application/json"})
    urllib.request.urlopen(request).read()
json.dump({"requests": len(lines), "errors": 0, "seconds": time.perf_counter() - start,
           "tokens": sum(line["output_tokens"] for line in lines)}, open(result, "w"))
"""


class OneAfterAnother:
    """A client that asks for one answer at a time: enough to see the turns."""

    name = "one after another"
    advice = "it is always there"

    def check(self, streams: Sequence[bool], peers: Sequence[str]) -> None:
        """It can do all."""

    def command(self, python: str, load: Load, scratch: Path) -> list[str]:
        words = [load.url, load.model, str(load.stream), str(load.prompts)]
        return [python, "-c", SCRIPT, *words, str(scratch / "load.json")]

    def read(self, scratch: Path) -> Outcome:
        return Outcome(**json.loads((scratch / "load.json").read_text(encoding="utf-8")))


def measure(peers: Sequence[str] = (), **options: Any) -> dict[str, Any]:
    settled: dict[str, Any] = {
        "loops": (1, 2),
        "pythons": {},
        "client": OneAfterAnother(),
        "client_python": sys.executable,
        "threads": 1,
        "report": lambda line: None,
    }
    target = find_target("loopcoder-nano", None, None)
    return measure_serving(target, PLAN, peers=peers, **{**settled, **options})


@pytest.mark.slow
def test_servers_and_the_engine_alone_take_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two servers of ours; a peer that is not there is a row with the reason."""
    native = cache_home() / "native"
    if native.is_dir():  # compiled once
        (tmp_path / "native").symlink_to(native)
    monkeypatch.setenv("LOOPCODER_HOME", str(tmp_path))
    bare = getattr(sys, "_base_executable", sys.executable)
    result = measure(("vllm",), pythons={"vllm": bare})
    loads = [row for row in result["rows"] if row["measured"] == "serve"]
    assert [(row["case"], row["stream"]) for row in loads] == [
        ("R1", True),
        ("R1", False),
        ("R2", True),
        ("R2", False),
        ("engine alone R1", None),
        ("engine alone R2", None),
        ("vllm", None),
    ]
    for row in loads[:-1]:
        assert (row["n"], row["requests"], row["errors"], row["clients"]) == (1, 4, 0, 2)
        assert row["tokens_per_s"] > 0
        assert row["processor_s_per_token"] > 0
    assert "vllm did not start" in loads[-1]["skipped"]
    assert "LOOPCODER_PEER_PYTHON_VLLM" in loads[-1]["skipped"]
    assert set(result["ratios"]) == {
        f"R{n} / engine alone R{n}, 2 clients, {how}"
        for n in (1, 2)
        for how in ("streams", "whole answers")
    }
    starts = [row for row in result["rows"] if row["measured"] == "start to first token"]
    assert [row["case"] for row in starts] == ["R1", "R2"]
    assert all(row["median_s"] > 0 for row in starts)
    assert not list(cache_home().glob("bench-serve-*")), "nothing is left behind"
    json.dumps(result)
    show(result)
    shown = capsys.readouterr().out
    assert "engine alone R2" in shown
    assert "start to first token, R1" in shown


def test_a_server_stands_still_goes_on_and_ends_with_all_its_processes() -> None:
    spec = our_server(NANO, PLAN, loops=2, threads=1)
    with Server(spec, threads=1) as server:
        assert server.first_token() > 0
        group = members(server._process.pid)
        assert len(group) == 2, "the front and the engine"
        server.stop()
        end = time.monotonic() + 30
        while any(state(pid) != "T" for pid in group):  # a signal takes its time
            assert time.monotonic() < end, "it has not stopped"
            time.sleep(0.01)
        stopped = server.processor_seconds()
        assert server.processor_seconds() == stopped
        server.resume()
        server.warm_up(3)
        assert server.processor_seconds() > stopped
    assert members(group[0]) == []


def members(group: int) -> list[int]:
    """Processes of a group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(path.name)) == group and state(int(path.name)) != "Z":
                found.append(int(path.name))
        except (ProcessLookupError, FileNotFoundError):
            continue
    return sorted(found)


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_a_server_that_cannot_start_says_why() -> None:
    spec = our_server(NANO, replace(PLAN, clients=(2,)), loops=2, threads=1)
    broken = replace(spec, command=(*spec.command, "--max-queue", "-1"))
    with pytest.raises(WorkerError, match="R2 did not start: error: max_queue is -1"):
        Server(broken, threads=1)


@pytest.mark.slow
def test_a_generator_that_is_not_there_is_one_line() -> None:
    bare = getattr(sys, "_base_executable", sys.executable)
    with pytest.raises(WorkerError, match=r"guidellm left no result.*LOOPCODER_CLIENT_PYTHON"):
        measure(loops=(2,), client=CLIENTS["guidellm"], client_python=bare)


def test_ratios_are_medians_of_rounds() -> None:
    def measured(engine: str, name: str, stream: bool | None, *rates: float) -> Measured:
        case = Case(engine=name, clients=4, stream=stream)
        outcomes = [Outcome(requests=1, errors=0, tokens=60, seconds=60 / rate) for rate in rates]
        found = Measured(name=name, engine=engine, loops=2, spec=None)
        found.outcomes[case] = outcomes
        return found

    all_of = [
        measured("loopcoder", "R2", False, 10, 20, 30),
        measured("engine alone", "engine alone R2", None, 20, 20, 20),
        measured("vllm", "vllm", False, 5, 20, 10),
        measured("transformers", "transformers", True, 1, 1, 1),
    ]
    assert ratios(all_of) == {
        "R2 / engine alone R2, 4 clients, whole answers": pytest.approx(1.0),
        "R2 / vllm, 4 clients, whole answers": pytest.approx(2.0),
    }
    first = rows(all_of, PLAN)[0]
    assert first["tokens_per_s"] == pytest.approx(20)
    assert (first["requests"], first["n"], first["ttft_s"]) == (3, 3, None)


@pytest.mark.parametrize("client", ["guidellm", "vllm"])
def test_the_generators_put_a_load_on_a_real_server(client: str) -> None:
    variable = {
        "guidellm": "LOOPCODER_CLIENT_PYTHON",
        "vllm": "LOOPCODER_PEER_PYTHON_VLLM",
    }[client]
    python = os.environ.get(variable)
    if python is None:
        pytest.skip(f"give the Python that has {client} in {variable}")
    done = loopcoder(
        *("bench", "serve", "--client", client, "--client-python", python, "--json"),
        *("--clients", "2", "--requests", "6", "--prompt", "12", "--tokens", "9"),
        *("--rounds", "1", "--threads", "1"),
        *("--stream", "yes" if client == "vllm" else "yes,no"),
    )
    assert done.returncode == 0, done.stderr
    served = [row for row in json.loads(done.stdout)["rows"] if row["case"] == "R2"]
    for row in served[:-1]:
        assert (row["requests"], row["errors"]) == (6, 0)
        assert row["latency_s"] > 0
        if row["stream"]:
            assert 0 < row["ttft_s"] <= row["ttft_p90_s"]
            assert row["tpot_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--clients", "0"), "--clients is '0'"),
        (("--stream", "maybe"), "--stream has 'maybe'"),
        (("--client", "ab"), "--client has 'ab'"),
        (("--peer", "llama.cpp"), "--peer has 'llama.cpp'"),
        (("--requests", "0"), "--requests is 0"),
        (("--prompt", "2000"), "2064 tokens"),
        (("--client", "vllm"), "streams only"),
        (("--layers", "2"), "give --like"),
        (("--threads", "0"), "--threads is 0"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments: tuple[str, ...], expected: str) -> None:
    done = loopcoder("bench", "serve", *arguments)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_help_has_an_example() -> None:
    assert "Example: loopcoder bench serve" in loopcoder("bench", "serve", "--help").stdout


@pytest.mark.slow
def test_servers_that_do_not_fit_together_start_for_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("loopcoder.bench.serving.rounds.available_bytes", lambda: 1)
    said: list[str] = []
    monkeypatch.setattr(f"{__name__}.PLAN", replace(PLAN, streams=(False,), rounds=2))
    result = measure(loops=(2,), report=said.append)
    assert result["machine"]["turns"] == "one server started at a time"
    assert [row["n"] for row in result["rows"]] == [2, 2, 2]
    assert said.count("R2: starting") == 2
