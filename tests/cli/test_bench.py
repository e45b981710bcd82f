"""`loopcoder bench` as a user runs it: every subcommand for real, JSON and tables, mistakes."""

import json
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from loopcoder.model import cost
from tests.cli.run import loopcoder

TINY = ("--like", "loopcoder-v2", "--layers", "2", "--threads", "1")
SIZES = (
    ("hidden_size", 64),
    ("intermediate_size", 96),
    ("num_attention_heads", 4),
    ("num_key_value_heads", 2),
    ("head_dim", 16),
    ("vocab_size", 256),
)
SHAPE = (*TINY, *(word for name, size in SIZES for word in ("--set", f"{name}={size}")))
MACHINE = {"processor", "cores", "memory_bytes", "torch", "threads", "features", "kernels", "gpu"}


def measured(*arguments: str) -> dict[str, Any]:
    done = loopcoder("bench", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    assert set(result) == {"machine", "model", "rows", "ratios"}
    assert set(result["machine"]) >= MACHINE
    assert {"name", "weights", "dtype", "parameters", "layers"} <= set(result["model"])
    return result


def check_times(row: dict[str, Any], rounds: int, tokens: int) -> None:
    assert row["n"] == rounds
    assert 0 < row["p10_s"] <= row["median_s"] <= row["p90_s"]
    assert row["tokens_per_s"] == pytest.approx(tokens / row["median_s"])


@pytest.mark.slow
def test_decode_with_a_peer() -> None:
    options = ("--schedule", "parallel,serial", "--quantization", "none,int8", "--rounds", "3")
    result = measured(
        *("decode", *SHAPE, *options, "--context", "10", "--batch", "2", "--peer", "transformers")
    )
    assert [row["case"] for row in result["rows"]] == [
        "R1 parallel",
        "R2 parallel",
        "R2 serial",
        "transformers bf16",
        "R1 parallel int8",
        "R2 parallel int8",
        "R2 serial int8",
    ]
    for row in result["rows"]:
        check_times(row, rounds=3, tokens=2)
        assert row["weight_bytes_per_s"] > 0
        assert row["over_plain_read"] > 0
    floats = result["rows"][0]["weight_bytes"]
    assert floats == 2 * (cost_of_matrices())
    assert result["rows"][3]["weight_bytes"] == floats
    assert floats / 2 < result["rows"][4]["weight_bytes"] < floats
    assert "transformers bf16 / R2 parallel" in result["ratios"]
    assert result["machine"]["plain_read_bytes_per_s"] > 0
    assert set(result["machine"]["kernels"]) == {"bfloat16", "int8"}


def cost_of_matrices() -> int:
    from loopcoder.model.presets import loopcoder_v2

    config = loopcoder_v2().with_(num_hidden_layers=2, plt_num_loops=1, **dict(SIZES))
    parts = cost.parameters(config)
    return parts.attention + parts.mlp + parts.head


def test_prefill_by_tails_and_in_full() -> None:
    result = measured(
        "prefill", *SHAPE, "--tokens", "40", "--schedule", "tail,full", "--rounds", "2"
    )
    names = ["R1 tail", "R2 tail", "R2 full"]
    assert [row["case"] for row in result["rows"]] == names
    for row in result["rows"]:
        check_times(row, rounds=2, tokens=40)
    assert "R2 full / R2 tail" in result["ratios"]


def test_throughput_compares_rates() -> None:
    sizes = ("--sequences", "3", "--prompt-tokens", "8", "--output-tokens", "4", "--rounds", "1")
    result = measured("throughput", *SHAPE, *sizes)
    one, two = result["rows"]
    check_times(two, rounds=1, tokens=12)
    assert result["ratios"]["R2 parallel / R1 parallel"] == pytest.approx(
        two["tokens_per_s"] / one["tokens_per_s"]
    )


def test_memory_agrees_with_the_formulas() -> None:
    """Whole pages: at most one a sequence beyond what the formula says."""
    result = measured("memory", *SHAPE, "--loops", "1,2,4", "--context", "90,200", "--batch", "2")
    token = 2 * 2 * 2 * 16 * 2  # K and V, layers, heads, head dim, bytes
    assert len(result["rows"]) == 6
    for row in result["rows"]:
        assert row["kv_in_use"] == row["loop1_pages"] + row["ring_pages"]
        assert 0 <= row["kv_in_use"] - row["kv_formula"] < 2 * 13 * token
        assert row["kv_in_use"] <= row["kv_reserved"]
        assert row["ring_pages"] == row["ring_formula"] == 2 * (row["loops"] - 1) * 65 * token
        assert row["carried"] == row["carried_formula"] == 2 * (row["loops"] - 1) * 64 * 2
    used = {row["case"]: row["kv_in_use"] for row in result["rows"]}
    ratio = used["R4 at 200"] / used["R1 at 200"]
    assert result["ratios"]["R4 at 200 / R1 at 200"] == ratio


def test_overhead_is_the_step_without_the_model() -> None:
    result = measured("overhead", "--sequences", "3", "--rounds", "5", "--loops", "1,2")
    assert 0.9e6 < result["model"]["parameters"] < 1.2e6
    assert [row["case"] for row in result["rows"]] == ["R1 x 3", "R2 x 3"]
    for row in result["rows"]:
        assert row["n"] == 5
        assert 0 < row["model_s"] < row["step_s"]
        assert 0 < row["overhead_s"] < row["step_s"]


def test_a_probe_is_timed_beside_the_pass_that_it_observes() -> None:
    result = measured("probe", *SHAPE, "--loops", "1,2", "--length", "40", "--rounds", "2")
    cases = [row["case"] for row in result["rows"]]
    assert cases == [
        f"R{r} {case}" for r in (1, 2) for case in ("forward", "probe, no attention", "probe, all")
    ]
    medians = {row["case"]: row["median_s"] for row in result["rows"]}
    assert min(medians.values()) > 0
    assert "R2 probe, all / R2 forward" in result["ratios"]


def test_a_checkpoint_is_the_default_and_tables_are_for_people() -> None:
    done = loopcoder("bench", "decode", "--context", "8", "--rounds", "2", "--threads", "1")
    assert done.returncode == 0, done.stderr
    for word in ("loopcoder-nano", "checkpoint", "R2 parallel / R1 parallel", "plain read"):
        assert word in done.stdout
    assert "round 2 of 2" in done.stderr


def test_a_peer_that_is_not_there_is_a_row_with_the_reason() -> None:
    """Its Python is one that has nothing installed."""
    import sys

    bare = f"vllm={getattr(sys, '_base_executable', sys.executable)}"
    options = ("--context", "8", "--rounds", "1", "--peer", "vllm", "--peer-python", bare)
    result = measured("decode", *SHAPE, *options)
    row = result["rows"][-1]
    assert row["case"] == "vllm bf16"
    assert "vllm is not installed" in row["skipped"]
    assert row["median_s"] is None


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("decode", "--loops", "0"), "--loops is '0'"),
        (("decode", "--schedule", "tail"), "--schedule has 'tail'"),
        (("decode", "--quantization", "int3"), "'int3'"),
        (("decode", "--peer", "ollama"), "'ollama'"),
        (("decode", "--peer", "vllm", "--peer-python", "vllm"), "write it as vllm=PATH"),
        (("decode", "--layers", "2"), "give --like"),
        (("decode", "--model", "loopcoder-nano", "--like", "loopcoder-v2"), "not both"),
        (("decode", "--model", "loopcoder-v2"), "give --like loopcoder-v2"),
        (("decode", "--like", "loopcoder-v3"), "loopcoder-v3"),
        (("decode", "--like", "loopcoder-v2", "--set", "no=1"), "--set no"),
        (("decode", "--context", "9999"), "2048 positions"),
        (("decode", "--threads", "0"), "--threads is 0"),
        (("decode", "--dtype", "float7"), "--dtype is 'float7'"),
        (("memory", "--device", "nowhere"), "device is 'nowhere'"),
        (("prefill", "--tokens", "0"), "--tokens is 0"),
        (("prefill", "--schedule", "serial"), "--schedule has 'serial'"),
        (("throughput", "--prompt-tokens", "0"), "--prompt-tokens is 0"),
        (("memory", "--context", "many"), "--context is 'many'"),
        (("overhead", "--sequences", "0"), "--sequences is 0"),
        (("overhead", "--rounds", "9999"), "positions"),
        (("probe", "--length", "9999"), "positions"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments: tuple[str, ...], expected: str) -> None:
    done = loopcoder("bench", *arguments, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("name", ["decode", "prefill", "memory", "throughput", "overhead", "probe"])
def test_every_subcommand_has_help_with_an_example(name: str) -> None:
    done = loopcoder("bench", name, "--help")
    assert done.returncode == 0
    assert f"Example: loopcoder bench {name}" in done.stdout


def test_commands_of_the_page_exist() -> None:
    """Those too large to be run here: their options are known and their shapes can be made."""
    from loopcoder.bench.target import find_target

    page = Path(__file__).parents[2] / "docs" / "performance.md"
    commands = re.findall(r"^`loopcoder bench (.*)`$", page.read_text("utf-8"), re.MULTILINE)
    assert len(commands) >= 10
    shown: dict[str, str] = {}
    for command in commands:
        name, *words = shlex.split(command)
        shown.setdefault(name, loopcoder("bench", name, "--help").stdout)
        for word in words:
            assert not word.startswith("--") or word in shown[name], command
        if "--like" in words:
            options = list(pairwise(words))
            layers = [int(value) for option, value in options if option == "--layers"]
            changes = [value for option, value in options if option == "--set"]
            target = find_target(None, "loopcoder-v2", layers[0] if layers else None, changes)
            assert target.config.num_hidden_layers == (layers[0] if layers else 14)
