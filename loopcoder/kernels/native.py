"""The CPU library: C++ kernels in `csrc/`, compiled on first use and loaded with ctypes.

Without a compiler, without AVX-512, or with LOOPCODER_NATIVE=0 there is none, and torch does the
work. Kernels are plain C functions over pointers; each binding declares its `argtypes` beside its
use and passes `torch.get_num_threads()`, so that torch's setting governs both.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from loopcoder.home import cache_home

SOURCES = Path(__file__).parent / "csrc"
LIBRARY = "kernels"

# In the order of the bits that csrc/features.cpp returns.
FEATURES = (
    "avx512f",
    "avx512bw",
    "avx512vl",
    "avx512dq",
    "avx512bf16",
    "avx512vnni",
    "amx_bf16",
    "amx_int8",
)
REQUIRED = frozenset(FEATURES[:4])

COMMON_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-fopenmp", "-fno-math-errno")
AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma", "-mf16c")
# A file's own -m flags where they differ from AVX512; who calls its functions checks `features()`.
FILE_FLAGS: dict[str, tuple[str, ...]] = {
    "features.cpp": (),
    "bf16.cpp": (*AVX512, "-mavx512bf16"),
    "grouped.cpp": (*AVX512, "-mavx512vnni"),
    "attention.cpp": (*AVX512, "-mavx512bf16"),
}

_logger = logging.getLogger("loopcoder")


class BuildError(Exception):
    """Why there is no library, in one line."""


@cache
def library() -> ctypes.CDLL | None:
    """The loaded library, or None where torch has to do. Compiles at most once per machine."""
    loaded = _loaded()
    return loaded if loaded is not None and _supported(loaded) >= REQUIRED else None


@cache
def features() -> frozenset[str]:
    """Which of `FEATURES` this processor has; empty where there is no library."""
    loaded = _loaded()
    return frozenset() if loaded is None else _supported(loaded)


def build_directory() -> Path:
    """Where compiled libraries are kept: `native` in LOOPCODER_HOME (~/.cache/loopcoder)."""
    return cache_home() / "native"


def _supported(loaded: ctypes.CDLL) -> frozenset[str]:
    loaded.lc_features.restype = ctypes.c_uint
    bits = loaded.lc_features()
    return frozenset(name for i, name in enumerate(FEATURES) if bits >> i & 1)


@cache
def _loaded() -> ctypes.CDLL | None:
    if os.environ.get("LOOPCODER_NATIVE") == "0" or not _builds_here():
        return None
    compiler = _compiler()
    if compiler is None:
        return None
    try:
        path = _build(compiler)
        _share_openmp()
        return ctypes.CDLL(str(path))
    except (BuildError, OSError) as error:
        _logger.warning(
            "no native CPU kernels, torch is used instead (slower with few rows): %s", error
        )
        return None


def _builds_here() -> bool:
    return platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")


def _compiler() -> list[str] | None:
    """$CXX, or the system's C++ compiler."""
    if asked := os.environ.get("CXX"):
        return shlex.split(asked)
    found = shutil.which("g++") or shutil.which("c++")
    return [found] if found else None


def _build(compiler: list[str]) -> Path:
    """The library's path; compiled if no earlier run has left it there."""
    sources = sorted(SOURCES.glob("*.cpp"))
    path = build_directory() / f"{LIBRARY}-{_fingerprint(compiler, sources)}.so"
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Several processes may build at once: each in a directory of its own, the last rename wins.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as scratch:
        objects = [Path(scratch) / f"{source.stem}.o" for source in sources]
        _run_all(
            [*compiler, *_flags(source), "-c", str(source), "-o", str(out)]
            for source, out in zip(sources, objects, strict=True)
        )
        linked = Path(scratch) / path.name
        # Not linked with -fopenmp: its symbols come from the OpenMP runtime that torch has loaded.
        _run_all([[*compiler, "-shared", *map(str, objects), "-o", str(linked)]])
        linked.replace(path)
    return path


def _flags(source: Path) -> tuple[str, ...]:
    return (*COMMON_FLAGS, *FILE_FLAGS.get(source.name, AVX512))


def _fingerprint(compiler: list[str], sources: list[Path]) -> str:
    """Names a build by all that goes into it: compiler, flags, sources and headers."""
    digest = hashlib.sha256(_output([*compiler, "--version"]).encode())
    for source in sources:
        digest.update(" ".join(_flags(source)).encode())
    for file in sorted(SOURCES.iterdir()):
        if file.suffix in (".cpp", ".h"):
            digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise BuildError(f"{command[0]} cannot be run ({error.strerror})") from error
    if done.returncode:
        raise BuildError(f"{command[0]} --version failed")
    return done.stdout


def _run_all(commands: Iterable[list[str]]) -> None:
    """Run compilers side by side. Raises `BuildError` with the first error line of one."""
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    results = [(process, process.communicate()[1]) for process in running]
    for process, said in results:
        if process.returncode:
            lines = said.strip().splitlines() or [f"exit status {process.returncode}"]
            line = next((x for x in lines if "error" in x), lines[0])
            raise BuildError(f"the C++ compiler failed: {line}")


def _share_openmp() -> None:
    """Make torch's own OpenMP runtime visible to the library: one pool of threads, one setting."""
    torch_root = str(Path(torch.__file__).parent)
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    runtimes = sorted(
        (path for path in mapped if Path(path).name.startswith(("libgomp", "libiomp", "libomp"))),
        # torch's own wheel carries its runtime in torch/lib or in torch.libs beside it.
        key=lambda path: (not path.startswith(torch_root), path),
    )
    if not runtimes:
        raise BuildError("torch has loaded no OpenMP runtime")
    ctypes.CDLL(runtimes[0], mode=ctypes.RTLD_GLOBAL)
