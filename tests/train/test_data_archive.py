import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from loopcoder.errors import DataError
from loopcoder.train.data import archive
from loopcoder.train.data.archive import archive_entries, folder_entries


def make_tar(path: Path, members: list[tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            data = member.name.encode() if member.isreg() else b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def test_only_regular_files_below_the_root_come_out(tmp_path: Path) -> None:
    path = make_tar(
        tmp_path / "p-1.tar.gz",
        [
            member("p-1/a.py"),
            member("p-1/sub/b.py"),
            member("../evil.py"),
            member("p-1/../../evil.py"),
            member("/etc/evil.py"),
            member("loose.py"),
            member("p-1/link.py", tarfile.SYMTYPE, "/etc/passwd"),
            member("p-1/hard.py", tarfile.LNKTYPE, "p-1/a.py"),
            member("p-1/fifo.py", tarfile.FIFOTYPE),
            member("p-1/dir", tarfile.DIRTYPE),
        ],
    )
    found = {entry.path: entry.read() for entry in archive_entries(path)}
    assert found == {"a.py": b"p-1/a.py", "sub/b.py": b"p-1/sub/b.py"}
    assert sorted(tmp_path.iterdir()) == [path]


def test_zip_files_are_read_alike(tmp_path: Path) -> None:
    path = tmp_path / "p-1.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("p-1/a.py", "p-1/../../evil.py", "/abs.py"):
            file.writestr(name, "x")
    assert [(entry.path, entry.read()) for entry in archive_entries(path)] == [("a.py", b"x")]


def test_an_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_tar(tmp_path / "p.tar.gz", [member("p/aaaaaaaaaaaa.py"), member("p/b.py")])
    monkeypatch.setattr(archive, "MAX_UNPACKED_BYTES", 10)
    with pytest.raises(DataError, match=r"p\.tar\.gz: unpacks to over"):
        list(archive_entries(path))


@pytest.mark.parametrize("name", ["p.tar.gz", "p.zip"])
def test_a_broken_archive_is_one_error(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"this is not an archive")
    with pytest.raises(DataError, match="not a readable archive"):
        list(archive_entries(tmp_path / name))


def test_a_truncated_archive_is_one_error(tmp_path: Path) -> None:
    path = make_tar(tmp_path / "p.tar.gz", [member(f"p/{number}.py") for number in range(200)])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="not a readable archive"):
        [entry.read() for entry in archive_entries(path)]


def test_a_folder_is_walked_in_order_and_links_are_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text("secret")
    root = tmp_path / "root"
    for name in ("b/x.py", "a.py", ".git/config.py", "__pycache__/a.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "linked").symlink_to(outside)
    (root / "link.py").symlink_to(outside / "secret.py")
    assert [entry.path for entry in folder_entries(root)] == ["a.py", "b/x.py"]


def test_a_missing_folder_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        list(folder_entries(tmp_path / "absent"))
