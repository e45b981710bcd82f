"""The native library: one OpenMP runtime, a build cache that several may use, quiet fallbacks."""

import logging
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopcoder.kernels import native

needs_library = pytest.mark.skipif(
    native.library() is None, reason="no native library: no compiler, or no AVX-512"
)
needs_compiler = pytest.mark.skipif(
    shutil.which("g++") is None or not native._builds_here(), reason="no g++ on x86-64 Linux"
)

TWO_FUNCTIONS = {
    "features.cpp": 'extern "C" unsigned lc_features() { return 15; }',
    "other.cpp": 'extern "C" int lc_other() { return 7; }',
}


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    """Each test finds the library unloaded, and leaves it so."""
    _clear()
    yield
    _clear()


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two files that compile in no time, and an empty cache directory."""
    directory = tmp_path / "csrc"
    directory.mkdir()
    for name, text in TWO_FUNCTIONS.items():
        (directory / name).write_text(text)
    monkeypatch.setattr(native, "SOURCES", directory)
    monkeypatch.setenv("LOOPCODER_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LOOPCODER_NATIVE", raising=False)
    return directory


def _compiler_that_logs(tmp_path: Path) -> Path:
    """g++ that writes down what it is asked."""
    script = tmp_path / "logging-g++"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexec g++ "$@"\n')
    script.chmod(0o755)
    return script


@needs_library
def test_the_library_runs_in_torchs_openmp_runtime() -> None:
    script = """
import torch
from loopcoder.kernels import memory, native
assert native.library() is not None
torch.set_num_threads(2)
memory.read_bytes_per_second(torch.ones(1 << 16))
torch.ones(1 << 20).sum()
import re
maps = open("/proc/self/maps").read()
print(sorted(set(re.findall(r"/\\S*lib(?:g|i)?omp\\S*", maps))))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.count("omp") == 1, run.stdout


@needs_library
def test_features_are_those_of_proc_cpuinfo() -> None:
    spelled = {"avx512bf16": "avx512_bf16", "avx512vnni": "avx512_vnni"}
    flags = next(
        line.split() for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line
    )
    expected = {name for name in native.FEATURES if spelled.get(name, name) in flags}
    assert native.features() == expected
    assert native.features() >= native.REQUIRED


@needs_compiler
def test_a_second_build_is_found_and_a_changed_source_is_not(
    tmp_path: Path, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiler = [str(_compiler_that_logs(tmp_path))]
    first = native._build(compiler)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert sum(" -c " in line for line in asked) == len(TWO_FUNCTIONS)
    assert native._build(compiler) == first
    again = (tmp_path / "asked").read_text().splitlines()[len(asked) :]
    assert again == ["--version"]
    (sources / "shared.h").write_text("// a header is a source too")
    second = native._build(compiler)
    monkeypatch.setitem(native.FILE_FLAGS, "other.cpp", ("-O0",))
    assert len({first, second, native._build(compiler)}) == 3


@needs_compiler
def test_processes_that_build_at_once_leave_one_library(tmp_path: Path, sources: Path) -> None:
    script = (
        "from pathlib import Path; from loopcoder.kernels import native;"
        f"native.SOURCES = Path({str(sources)!r}); print(native._loaded().lc_other())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    assert [process.communicate()[0].strip() for process in running] == ["7"] * 3
    assert len(list((tmp_path / "home" / "native").iterdir())) == 1


@needs_compiler
@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        ("g++ --no-such-option", "--no-such-option"),
        ("false", "--version failed"),
        ("/no/such/compiler", "cannot be run"),
        ("BROKEN", "a line about an error"),
    ],
)
def test_a_compiler_that_fails_costs_one_warning(
    compiler: str,
    reason: str,
    tmp_path: Path,
    sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if compiler == "BROKEN":
        script = tmp_path / "broken"
        script.write_text(
            '#!/bin/sh\n[ "$1" = --version ] && exit 0\n'
            "echo first line >&2\necho a line about an error >&2\nexit 1\n"
        )
        script.chmod(0o755)
        compiler = shlex.quote(str(script))
    monkeypatch.setenv("CXX", compiler)
    with caplog.at_level(logging.WARNING, logger="loopcoder"):
        assert native.library() is None
        assert native.library() is None
        assert native.features() == frozenset()
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert reason in message
    assert "\n" not in message
    assert not list((tmp_path / "home").rglob(".build-*"))


@needs_compiler
def test_a_cache_that_cannot_be_written_costs_one_warning(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOOPCODER_HOME", "/dev/null/home")
    assert native.library() is None
    assert len(caplog.records) == 1
    assert "/dev/null/home" in caplog.text


def test_it_can_be_switched_off(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LOOPCODER_NATIVE", "0")
    assert native.library() is None
    assert not native.build_directory().exists()
    assert not caplog.records


def test_without_a_compiler_torch_is_used_and_nothing_is_said(
    sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", os.devnull)
    assert native.library() is None
    assert not caplog.records


@needs_compiler
def test_a_processor_without_avx512_gets_no_library(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert native.library() is not None
    (sources / "features.cpp").write_text('extern "C" unsigned lc_features() { return 7; }')
    _clear()
    assert native.library() is None
    assert native.features() == {"avx512f", "avx512bw", "avx512vl"}


def _clear() -> None:
    for function in (native.library, native.features, native._loaded):
        function.cache_clear()
