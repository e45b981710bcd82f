"""Source distributions from the package index, checked against its sha256 and cached.

An sdist is data here: it is never built, so none of its code runs.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from loopcoder.errors import DataError
from loopcoder.home import cache_home

if TYPE_CHECKING:
    from unearth import Link, PackageFinder

MAX_ARCHIVE_BYTES = 512 << 20
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A source distribution on disk and the sha256 that the index gave for it."""

    path: Path
    sha256: str


class SdistIndex:
    """The index that pip is configured for, with a cache in front."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = (cache or cache_home()) / "sdists"
        self._finder: PackageFinder | None = None

    def fetch(self, pin: str) -> Archive:
        """The sdist of `pin` (name==version). Raises `DataError` if there is none or it is bad."""
        folder = self._cache / pin
        return _cached(folder) or self._download(pin, folder)

    def _download(self, pin: str, folder: Path) -> Archive:
        link = self._find(pin)
        sha256 = (link.hash_option or {}).get("sha256", [""])[0]
        if not sha256:
            raise DataError(f"{pin}: the index gives no sha256 for {link.filename}; drop it")
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / link.filename
        with _temporary(folder) as part:
            self._stream(link, part, pin)
            _check_sha256(part, sha256, pin)
            (folder / f"{link.filename}.sha256").write_text(sha256 + "\n")
            part.replace(path)
        return Archive(path=path, sha256=sha256)

    def _find(self, pin: str) -> "Link":
        self._finder = self._finder or _finder()
        try:
            packages = list(self._finder.find_matches(pin, allow_yanked=True))
        except Exception as error:  # the HTTP library behind unearth is not part of its interface
            raise DataError(f"{pin}: the package index cannot be reached ({error})") from error
        links = [package.link for package in packages if not package.link.is_wheel]
        if not links:
            raise DataError(
                f"{pin}: the package index has no source distribution of that version; "
                "give another version in the recipe"
            )
        return min(links, key=lambda link: (not link.filename.endswith(".tar.gz"), link.filename))

    def _stream(self, link: "Link", part: Path, pin: str) -> None:
        assert self._finder is not None
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with self._finder.session.get_stream(link.normalized) as response:
                    response.raise_for_status()
                    _write_bounded(response.iter_bytes(1 << 20), part, pin)
                return
            except DataError:
                raise
            except Exception as error:  # as in _find
                if attempt == _ATTEMPTS:
                    raise DataError(
                        f"{pin}: download failed {_ATTEMPTS} times ({error})"
                    ) from error


def _finder() -> "PackageFinder":
    try:
        from unearth import PackageFinder
    except ImportError as error:
        raise DataError("downloads need unearth: pip install 'loopcoder[train]'") from error
    url = _configured_index()
    return PackageFinder(index_urls=[url] if url else [], ignore_compatibility=True)


def _configured_index() -> str | None:
    """What pip would ask; None leaves unearth's default, the public index."""
    if url := os.environ.get("PIP_INDEX_URL"):
        return url
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None if answer.returncode == 0 else None


def _cached(folder: Path) -> Archive | None:
    for note in sorted(folder.glob("*.sha256")):
        path, sha256 = note.with_suffix(""), note.read_text().strip()
        if path.is_file() and _sha256(path) == sha256:
            return Archive(path=path, sha256=sha256)
    return None


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _write_bounded(chunks: Iterator[bytes], path: Path, pin: str) -> None:
    size = 0
    with path.open("wb") as file:
        for chunk in chunks:
            size += len(chunk)
            if size > MAX_ARCHIVE_BYTES:
                limit = MAX_ARCHIVE_BYTES >> 20
                raise DataError(f"{pin}: the archive is over {limit} MiB; drop it from the recipe")
            file.write(chunk)


def _check_sha256(path: Path, expected: str, pin: str) -> None:
    found = _sha256(path)
    if found != expected:
        raise DataError(
            f"{pin}: the download has sha256 {found} and the index says {expected}; try again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
