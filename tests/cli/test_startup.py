"""What starting up must not load, so that `import loopcoder` and `--help` stay quick."""

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "transformers",
    "numpy",
    "pydantic",
    "huggingface_hub",
    "accelerate",
    "fastapi",
    "matplotlib",
    "datasets",
    "inspect_ai",
    "triton",
)


def _loaded(code: str) -> list[str]:
    report = f"{code}; import sys; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", report], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize("module", ["loopcoder", "loopcoder.cli.main"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    assert _loaded(f"import {module}") == []


def test_names_load_torch_when_asked_for() -> None:
    assert "torch" not in _loaded("from loopcoder import SamplingParams, LoopCoderError")
    assert "torch" in _loaded("from loopcoder import LLM")


def test_reading_checkpoints_needs_no_model_classes() -> None:
    """`info` reads headers: no torch, and none of transformers' model classes (seconds)."""
    code = "import loopcoder.checkpoint.header, loopcoder.checkpoint.describe"
    assert _loaded(code) == []


def test_unknown_names_are_attribute_errors() -> None:
    import loopcoder

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = loopcoder.nonsense
