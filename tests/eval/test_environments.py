import subprocess
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.environments import READY, Environment

TOOL = Environment(name="a-tool", requirements=("tool-of-ours==1.0",), module="tool_of_ours")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOOPCODER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(TOOL.variable, raising=False)
    return tmp_path / "home"


def wheel(directory: Path, name: str, requires: str = "", source: str = "") -> None:
    """The smallest wheel that pip takes."""
    module = name.replace("-", "_")
    info = f"{module}-1.0.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{requires}"
    files = {
        f"{module}.py": source,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    directory.mkdir(exist_ok=True)
    with zipfile.ZipFile(directory / f"{module}-1.0-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    return tmp_path / "wheels"


def test_missing_is_said_with_the_command_and_the_variable() -> None:
    assert TOOL.interpreter() is None
    with pytest.raises(EvaluationError, match="`loopcoder eval setup a-tool`") as caught:
        TOOL.require()
    assert "LOOPCODER_EVAL_PYTHON_A_TOOL" in str(caught.value)


def test_another_python_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.touch()
    monkeypatch.setenv(TOOL.variable, str(python))
    assert TOOL.interpreter() == TOOL.require() == TOOL.setup() == python
    python.unlink()
    assert TOOL.interpreter() is None
    for use in (TOOL.require, TOOL.setup):
        with pytest.raises(EvaluationError, match=f"names {python}, which does not exist"):
            use()


def test_half_made_or_made_for_other_requirements_is_not_there() -> None:
    TOOL.directory.mkdir(parents=True)
    assert TOOL.interpreter() is None
    (TOOL.directory / READY).write_text("tool-of-ours==0.9\nalone:")
    assert TOOL.interpreter() is None


def test_a_missing_python_version_is_named() -> None:
    old = Environment(name="old", requirements=("x",), module="x", python="2.1")
    with pytest.raises(EvaluationError, match=r"needs Python 2\.1, which is not here"):
        old.setup()


def test_a_shim_without_its_python_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(EvaluationError, match=r"needs Python 3\.99"):
        Environment(name="new", requirements=("x",), module="x", python="3.99").setup()


def test_a_place_that_cannot_be_written_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LOOPCODER_HOME", str(tmp_path / "file"))
    with pytest.raises(EvaluationError, match="LOOPCODER_HOME"):
        TOOL.setup()


@pytest.mark.slow  # two environments: pip's own installation takes its time
def test_setup(wheels: Path) -> None:
    wheel(wheels, "tool-of-ours", "Requires-Dist: needed-by-it\n", "import needed_by_it, alone")
    wheel(wheels, "alone", "Requires-Dist: not-to-be-had\n")
    tool = replace(TOOL, alone=("alone==1.0",), ours=True)
    with pytest.raises(EvaluationError, match="No matching distribution found for needed-by-it"):
        tool.setup()
    assert tool.interpreter() is None  # half made

    wheel(wheels, "needed-by-it", source="value = 7")
    python = tool.setup()
    program = "import tool_of_ours as t, loopcoder, pydantic; print(t.needed_by_it.value)"
    out = subprocess.run([python, "-I", "-c", program], capture_output=True, check=True).stdout
    assert out == b"7\n"
    assert tool.interpreter() == python
    made = (tool.directory / READY).stat().st_mtime_ns
    assert tool.setup() == python
    assert (tool.directory / READY).stat().st_mtime_ns == made
    assert replace(tool, requirements=("tool-of-ours==2.0",)).interpreter() is None
