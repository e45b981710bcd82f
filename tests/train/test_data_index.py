import functools
import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopcoder.errors import DataError
from loopcoder.train.data import index as index_module
from loopcoder.train.data.build import BuildOptions, build
from loopcoder.train.data.index import SdistIndex

from .data_helpers import write_project, write_recipe


def make_sdist(site: Path, name: str, licence: str, folder: Path) -> str:
    """Put name-1.0.tar.gz of the files below `folder`/`name` on the site; its sha256."""
    write_project(folder, name)
    (site / "simple" / name).mkdir(parents=True)
    archive = site / f"{name}-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / name, f"{name}-1.0")
        metadata = f"Metadata-Version: 2.4\nName: {name}\nLicense-Expression: {licence}\n".encode()
        for inner, content in (("PKG-INFO", metadata), ("setup.py", b"raise SystemExit('run!')\n")):
            info = tarfile.TarInfo(f"{name}-1.0/{inner}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    link = f'<a href="../../{archive.name}#sha256={sha256}">{archive.name}</a>'
    (site / "simple" / name / "index.html").write_text(f"<!DOCTYPE html><body>{link}</body>")
    return sha256


@pytest.fixture
def site(tmp_path: Path) -> Path:
    site = tmp_path / "site"
    made = tmp_path / "made"
    make_sdist(site, "free", "MIT", made)
    make_sdist(site, "copyleft", "GPL-3.0-only", made)
    return site


@pytest.fixture
def server(site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A package index on the loopback address, in the place of the configured one."""
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{running.server_address[1]}/simple"
        monkeypatch.setenv("PIP_INDEX_URL", url)
        monkeypatch.setenv("LOOPCODER_HOME", str(tmp_path / "home"))
        yield
        running.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.usefixtures("server")
def test_an_sdist_is_fetched_once_and_its_hash_is_that_of_the_index(
    site: Path, tmp_path: Path
) -> None:
    archive = SdistIndex().fetch("free==1.0")
    assert archive.path.is_relative_to(tmp_path / "home")
    assert archive.sha256 == hashlib.sha256((site / "free-1.0.tar.gz").read_bytes()).hexdigest()
    (site / "free-1.0.tar.gz").unlink()
    assert SdistIndex().fetch("free==1.0") == archive


@pytest.mark.usefixtures("server")
def test_a_damaged_cache_is_fetched_again() -> None:
    archive = SdistIndex().fetch("free==1.0")
    content = archive.path.read_bytes()
    archive.path.write_bytes(content[:-1])
    SdistIndex().fetch("free==1.0")
    assert archive.path.read_bytes() == content


@pytest.mark.usefixtures("server")
def test_another_content_than_the_index_promises(site: Path, tmp_path: Path) -> None:
    with (site / "free-1.0.tar.gz").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DataError, match=r"free==1\.0: the download has sha256"):
        SdistIndex().fetch("free==1.0")
    assert not list((tmp_path / "home").rglob("*.gz"))
    assert not list((tmp_path / "home").rglob("*.part"))


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("pin", ["free==2.0", "absent==1.0"])
def test_a_version_that_does_not_exist(pin: str) -> None:
    with pytest.raises(DataError, match=f"{pin}: the package index has no source distribution"):
        SdistIndex().fetch(pin)


@pytest.mark.usefixtures("server")
def test_a_download_over_the_limit_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "MAX_ARCHIVE_BYTES", 100)
    with pytest.raises(DataError, match="the archive is over"):
        SdistIndex().fetch("free==1.0")


@pytest.mark.usefixtures("server")
def test_a_build_refuses_what_is_not_permissive_and_says_so(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    pins = 'packages = ["free==1.0", "copyleft==1.0"]\n'
    recipe.write_text(pins + recipe.read_text())
    manifest = build(recipe, BuildOptions(out=tmp_path / "out", quiet=True))
    sources = {source["name"]: source for source in manifest["corpus"]["sources"]}
    assert sources["free"]["licence"] == "MIT"
    assert sources["free"]["version"] == "1.0"
    refused = manifest["corpus"]["refused"]
    assert [source["name"] for source in refused] == ["copyleft"]
    assert "GPL-3.0-only" in refused[0]["refusal"]
    assert refused[0]["kept"] == {}
    assert json.loads((tmp_path / "out" / "manifest.json").read_text()) == manifest
