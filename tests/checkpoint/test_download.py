"""Downloads from a local server that speaks the hub's API, whole, broken off and refused."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loopcoder.checkpoint.download import cached, download
from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.checkpoint.load import load_model
from loopcoder.checkpoint.locate import bundled_models, locate
from loopcoder.errors import CheckpointError, ModelNotFoundError
from tests.checkpoint.hub_server import COMMIT, Hub, serve


@pytest.fixture
def repo(sharded: Path) -> Path:
    """A repository like LoopCoder-V2's, with code and a pickle that must not be fetched."""
    (sharded / "tokenizer.json").write_text("{}")
    (sharded / "chat_template.jinja").write_text("{{ messages }}")
    (sharded / "configuration_pltcoder.py").write_text("raise SystemExit")
    (sharded / "pytorch_model.bin").write_bytes(b"\x80\x04")
    return sharded


@pytest.fixture
def hub(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve(
        Hub({"owner/name": repo, "owner/gated": repo}, gated=frozenset({"owner/gated"}))
    ) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hf"))
        monkeypatch.setenv("LOOPCODER_HOME", str(tmp_path / "home"))
        monkeypatch.setenv("HF_TOKEN", "")
        yield hub


def test_a_download_is_the_checkpoint_without_code(hub: Hub, repo: Path, tmp_path: Path) -> None:
    directory = download("owner/name", out=tmp_path / "out")
    assert directory == tmp_path / "out"
    names = {path.name for path in repo.iterdir()}
    expected = names - {"configuration_pltcoder.py", "pytorch_model.bin"}
    assert {path.name for path in directory.iterdir()} == expected
    assert all((directory / name).read_bytes() == (repo / name).read_bytes() for name in expected)
    assert not any(name.endswith((".py", ".bin")) for name in hub.downloaded)
    load_model(directory)
    with pytest.raises(CheckpointError, match="not empty"):
        download("owner/name", out=tmp_path / "out")


def test_the_cache_is_used_from_then_on(hub: Hub, tmp_path: Path) -> None:
    assert cached("owner/name") is None
    with pytest.raises(ModelNotFoundError, match=r"not downloaded.*loopcoder download"):
        locate("owner/name", local_files_only=True)
    directory = locate("owner/name")
    assert directory.is_relative_to(tmp_path / "home")
    count = len(hub.downloaded)
    assert locate("owner/name") == locate("owner/name", local_files_only=True) == directory
    assert locate("owner/name", revision=COMMIT) == directory
    assert download("owner/name") == directory
    assert len(hub.downloaded) == count
    load_model(directory)


def test_another_programs_cache_is_found(hub: Hub, tmp_path: Path) -> None:
    directory = download("owner/name", cache_dir=tmp_path / "hf")
    assert locate("owner/name", local_files_only=True) == directory


def test_a_broken_connection_is_taken_up_again(hub: Hub, repo: Path, tmp_path: Path) -> None:
    shard = sorted(repo.glob("*.safetensors"))[0]
    hub.break_off[shard.name] = 1
    directory = download("owner/name", out=tmp_path / "out")
    assert (directory / shard.name).read_bytes() == shard.read_bytes()
    assert hub.downloaded.count(shard.name) == 2


@pytest.mark.slow
def test_a_partial_download_never_looks_complete(hub: Hub, repo: Path, tmp_path: Path) -> None:
    shard = sorted(repo.glob("*.safetensors"))[0]
    hub.break_off[shard.name] = 1000
    with pytest.raises(ModelNotFoundError, match=r"owner/name was not fetched.*continues"):
        download("owner/name", out=tmp_path / "out")
    with pytest.raises(ModelNotFoundError, match="was not fetched"):
        locate("owner/name")
    assert not (tmp_path / "out").exists()
    assert cached("owner/name") is None
    hub.break_off.clear()
    before = len(hub.downloaded)
    open_checkpoint(download("owner/name", out=tmp_path / "out"))
    assert len(hub.downloaded) - before == 1, "only the missing file is fetched"


def test_refusals_say_what_to_do(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"owner/other is not on the hub, or is private"):
        download("owner/other")
    with pytest.raises(ModelNotFoundError, match=r"owner/gated is gated: .*--token"):
        download("owner/gated")
    with pytest.raises(ModelNotFoundError, match=r"has no revision 'v9'"):
        download("owner/name", revision="v9")
    with pytest.raises(ModelNotFoundError, match="owner/name"):
        download("not a repository")
    assert not (tmp_path / "home" / "hub" / "models--owner--other").exists()


def test_a_token_opens_the_gate(hub: Hub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    with pytest.raises(ModelNotFoundError, match="gated") as caught:
        download("owner/gated", token="hf_wrong")
    assert "hf_wrong" not in str(caught.value)
    load_model(download("owner/gated", out=tmp_path / "out", token="hf_secret"))


def test_a_repository_of_pickles_is_refused(hub: Hub, tmp_path: Path) -> None:
    pickles = tmp_path / "pickles"
    pickles.mkdir()
    (pickles / "config.json").write_text("{}")
    (pickles / "pytorch_model.bin").write_bytes(b"\x80\x04")
    hub.repos["owner/pickles"] = pickles
    with pytest.raises(CheckpointError, match=r"owner/pickles .*never fetched"):
        download("owner/pickles", out=tmp_path / "out")
    assert "pytorch_model.bin" not in hub.downloaded
    assert not (tmp_path / "out").exists()


def test_no_network_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelNotFoundError, match="the hub is out of reach"):
        locate("owner/name")


def test_the_command_prints_where_it_is(hub: Hub, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "loopcoder", "download", "owner/name", "--json"]
    environment = os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    record = json.loads(result.stdout)
    assert open_checkpoint(record["directory"]).nbytes == record["bytes"]


class TestLocate:
    def test_a_directory(self, single: Path) -> None:
        assert locate(single) == locate(str(single)) == single

    def test_bundled_names_come_first(
        self, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shutil.copytree(single, tmp_path / "models" / "tiny")
        monkeypatch.setattr("loopcoder.checkpoint.locate.files", lambda _: tmp_path)
        assert bundled_models() == {"tiny": tmp_path / "models" / "tiny"}
        monkeypatch.chdir(tmp_path)
        (tmp_path / "tiny").mkdir()
        assert locate("tiny") == tmp_path / "models" / "tiny"
        assert locate("./tiny") == Path("./tiny")
        with pytest.raises(ModelNotFoundError, match=r"bundled: tiny"):
            locate("tinny")

    @pytest.mark.parametrize("name", ["nope", "./no/where", "/no/where", "a/b/c", "", "~/nope"])
    def test_what_was_tried_is_said(self, name: str) -> None:
        with pytest.raises(ModelNotFoundError, match="not a directory"):
            locate(name)

    def test_a_file(self, tmp_path: Path) -> None:
        (tmp_path / "m.gguf").write_text("")
        with pytest.raises(ModelNotFoundError, match="loopcoder convert"):
            locate(tmp_path / "m.gguf")
