"""What the bridge says where its process does not answer."""

from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.bfcl import Bridge


def program(directory: Path, text: str) -> Path:
    path = directory / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo no module named x >&2; exit 3", r"status 3 \(no module named x\)"),
        ("exec sleep 60", r"silent for 0\.3 s"),
        ("read line; echo hello; exec sleep 60", "Expecting value"),
        ("kill -9 $$", "status -9|Broken pipe"),
    ],
)
def test_an_end_silence_or_nonsense_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    with (
        Bridge(program(tmp_path, text), patience=0.3) as bridge,
        pytest.raises(EvaluationError, match=said) as caught,
    ):
        bridge.check("simple_python_0", "prompt", "[]")
    assert "\n" not in str(caught.value)


def test_it_is_started_again_after_an_end(tmp_path: Path) -> None:
    good = '{"ok": {"valid": true, "reason": "passed", "detail": ""}}'
    text = f"if mkdir {tmp_path}/once; then exit 1; fi; read line; echo '{good}'; exec sleep 60"
    with Bridge(program(tmp_path, text), patience=5) as bridge:
        with pytest.raises(EvaluationError, match="status 1"):
            bridge.check("simple_python_0", "prompt", "[]")
        assert bridge.check("simple_python_0", "prompt", "[]").valid


def test_a_refusal_is_passed_on(tmp_path: Path) -> None:
    text = """read line; echo '{"error": "ValueError: no such thing"}'; exec sleep 60"""
    with (
        Bridge(program(tmp_path, text), patience=5) as bridge,
        pytest.raises(EvaluationError, match="refused 'check': ValueError: no such thing"),
    ):
        bridge.check("simple_python_0", "prompt", "[]")


def test_a_long_answer_does_not_block(tmp_path: Path) -> None:
    text = "head -c 300000 > /dev/null; echo '{\"ok\": {}}'; exec sleep 60"
    with Bridge(program(tmp_path, text), patience=5) as bridge:
        assert bridge._ask({"op": "check", "answer": "x" * 400_000}) == {}
