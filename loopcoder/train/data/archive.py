"""The files inside an archive or a folder, read in memory: nothing is unpacked, linked or run."""

import hashlib
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from loopcoder.errors import DataError

MAX_UNPACKED_BYTES = 4 << 30


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One regular file: its path below the project's root and a way to read at most `size`."""

    path: str
    size: int
    read: Callable[[], bytes]


def archive_entries(path: Path) -> Iterator[Entry]:
    """The regular files of a .tar.* or .zip; links, devices and paths that climb are left out.

    Each entry must be read before the next one is asked for. Raises `DataError` for an archive
    that is broken or unpacks to more than `MAX_UNPACKED_BYTES`.
    """
    members = _zip_members(path) if path.suffix == ".zip" else _tar_members(path)
    unpacked = 0
    with _readable(path):
        for name, size, read in members:
            unpacked += size
            if unpacked > MAX_UNPACKED_BYTES:
                raise DataError(f"{path}: unpacks to over {MAX_UNPACKED_BYTES >> 30} GiB; drop it")
            if inner := _below_root(name):
                yield Entry(path=inner, size=size, read=partial(_read, path, read))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise DataError(f"{path}: not a readable archive ({error}); delete it") from error


def _read(path: Path, read: Callable[[], bytes]) -> bytes:
    with _readable(path):
        return read()


_Member = tuple[str, int, Callable[[], bytes]]


def _tar_members(path: Path) -> Iterator[_Member]:
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            if member.isreg():
                yield member.name, member.size, _tar_reader(archive, member)


def _tar_reader(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        file = archive.extractfile(member)
        return file.read(member.size) if file else b""

    return read


def _zip_members(path: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield info.filename, info.file_size, _zip_reader(archive, info)


def _zip_reader(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(info) as file:
            return file.read(info.file_size)

    return read


def _below_root(name: str) -> str | None:
    """The path without the archive's top folder; None for one that is absolute or climbs out."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or len(path.parts) < 2:
        return None
    return str(PurePosixPath(*path.parts[1:]))


def folder_entries(root: Path) -> Iterator[Entry]:
    """The regular files below `root`, sorted by path; links and hidden folders are left out.

    Raises `DataError` if `root` is not a folder.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; correct its path in the recipe")
    paths = [path for path in _walk(root) if not path.is_symlink() and path.is_file()]
    for path in sorted(paths, key=lambda path: path.relative_to(root).as_posix()):
        relative = path.relative_to(root).as_posix()
        yield Entry(path=relative, size=path.stat().st_size, read=path.read_bytes)


def _walk(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root, followlinks=False):
        names[:] = [name for name in names if not name.startswith(".") and name != "__pycache__"]
        yield from (Path(folder) / name for name in files)


class TreeHash:
    """sha256 of the paths and contents of the files read from a folder, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, path: str, content: bytes) -> None:
        """Count one file in."""
        self._hash.update(f"{path}\0{hashlib.sha256(content).hexdigest()}\n".encode())

    def hexdigest(self) -> str:
        """The hash of all files so far."""
        return self._hash.hexdigest()
