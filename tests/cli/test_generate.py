"""`loopcoder generate` as a user runs it: the bundled model, a pipe, JSON, mistakes."""

import json
from pathlib import Path

import pytest

from loopcoder.checkpoint.locate import bundled_models
from tests.cli.run import loopcoder

PROMPT = "def add(a, b):"


def test_the_bundled_model_writes_text() -> None:
    done = loopcoder("generate", PROMPT, "--max-tokens", "16", "--threads", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "16 tokens, 2 loops" in done.stderr


def test_json_has_the_documented_fields() -> None:
    done = loopcoder("generate", PROMPT, "--max-tokens", "8", "--json", "--seed", "1")
    result = json.loads(done.stdout)
    assert set(result) == {
        "text",
        "prompt",
        "token_ids",
        "finish_reason",
        "loops",
        "usage",
        "tokens_per_s",
    }
    assert result["prompt"] == PROMPT
    assert result["loops"] == 2
    assert result["usage"]["completion_tokens"] == len(result["token_ids"]) == 8
    assert result["usage"]["total_tokens"] == result["usage"]["prompt_tokens"] + 8


@pytest.mark.slow
def test_streamed_and_whole_text_agree_from_every_source(tmp_path: Path) -> None:
    file = tmp_path / "prompt.py"
    file.write_text(PROMPT, encoding="utf-8")
    options = ("--max-tokens", "12")
    runs = [
        loopcoder("generate", PROMPT, *options),
        loopcoder("generate", PROMPT, "--no-stream", *options),
        loopcoder("generate", "--file", str(file), *options),
        loopcoder("generate", *options, stdin=PROMPT),
        loopcoder("generate", "-", *options, stdin=PROMPT),
    ]
    assert len({run.stdout for run in runs}) == 1, [run.stderr for run in runs]


def test_loops_change_the_text_and_are_reported() -> None:
    done = loopcoder("generate", PROMPT, "--loops", "3", "--max-tokens", "4", "--json")
    assert json.loads(done.stdout)["loops"] == 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("generate", "x", "--model", "no-such-model"), "no-such-model"),
        (("generate", "x", "--temperature", "-1"), "temperature is -1.0"),
        (("generate", "x", "--max-tokens", "0"), "max_tokens is 0"),
        (("generate", "x", "--loops", "0"), "loops"),
        (("generate", "x", "--dtype", "float7"), "float7"),
        (("generate", "x", "--file", "y"), "give one of them"),
        (("generate", "--file", "no-such-file"), "no-such-file"),
        (("chat", "--model", "no-such-model"), "no-such-model"),
        (("bench", "decode", "--loops", "one"), "--loops is 'one'"),
        (("bench", "decode", "--schedule", "sideways"), "sideways"),
        (("bench", "decode", "--rounds", "0"), "--rounds is 0"),
        (("train", "no-such-recipe"), "no-such-recipe"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments: tuple[str, ...], expected: str) -> None:
    done = loopcoder(*arguments, env={"HF_HUB_OFFLINE": "1"})
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert done.stdout == ""


def test_debug_shows_the_traceback() -> None:
    done = loopcoder("--debug", "generate", "x", "--temperature", "-1")
    assert "Traceback" in done.stderr


def test_reader_that_leaves_early_is_no_error() -> None:
    """`loopcoder ... | head -c 1` ends without a traceback."""
    import subprocess
    import sys

    command = f"{sys.executable} -m loopcoder generate 'def f(' --max-tokens 64 | head -c 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_bundled_model_is_small_and_described() -> None:
    """At most 25 MB, with a model card and no pickle."""
    directory = bundled_models()["loopcoder-nano"]
    files = list(directory.iterdir())
    assert sum(file.stat().st_size for file in files) <= 25e6
    assert {file.name for file in files} >= {
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    }


def test_every_command_has_help_with_an_example() -> None:
    commands = ("generate", "chat", "info", "init", "convert", "download", "train")
    for command in (*((c,) for c in commands), ("data", "build"), ("bench", "decode")):
        done = loopcoder(*command, "--help")
        assert done.returncode == 0
        assert "Example: loopcoder" in done.stdout, command


def test_bench_prints_the_documented_object() -> None:
    done = loopcoder(
        *("bench", "decode", "--loops", "1,2", "--schedule", "parallel,serial"),
        *("--context", "16", "--rounds", "2", "--json"),
    )
    result = json.loads(done.stdout)
    assert set(result) == {"machine", "model", "rows", "ratios"}
    assert [row["case"] for row in result["rows"]] == ["R1 parallel", "R2 parallel", "R2 serial"]
    for row in result["rows"]:
        assert row["n"] == 2
        assert row["p10_s"] <= row["median_s"] <= row["p90_s"]
        assert row["tokens_per_s"] == pytest.approx(1 / row["median_s"])
