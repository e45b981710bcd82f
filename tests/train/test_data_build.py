import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from loopcoder.cli.data import app
from loopcoder.errors import ConfigError, DataError
from loopcoder.train.data.build import BuildOptions, build
from loopcoder.train.data.corpus import read_split
from loopcoder.train.data.shards import TokenShards
from loopcoder.train.data.tokenizer import load_tokenizer, token_pieces

from .data_helpers import write_project, write_recipe
from .test_data_tokenizer import CHAT, base_tokenizer


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("made"))


@pytest.fixture(scope="module")
def built(recipe: Path) -> Path:
    build(recipe, BuildOptions(out=recipe.parent / "out", quiet=True))
    return recipe.parent / "out"


def manifest_of(folder: Path) -> dict[str, object]:
    manifest: dict[str, object] = json.loads((folder / "manifest.json").read_text())
    return manifest


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_the_same_recipe_gives_the_same_bytes(
    recipe: Path, built: Path, tmp_path: Path, hash_seed: str
) -> None:
    command = [sys.executable, "-c", "from loopcoder.cli.data import app; app()"]
    command += ["build", str(recipe), "--out", str(tmp_path / "elsewhere")]
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "RAYON_NUM_THREADS": "1"}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert contents(tmp_path / "elsewhere") == contents(built)


def test_a_build_from_the_corpus_is_the_same_without_the_sources(
    recipe: Path, built: Path, tmp_path: Path
) -> None:
    lonely = tmp_path / "recipe.toml"
    lonely.write_bytes(recipe.read_bytes())
    options = BuildOptions(out=tmp_path / "out", from_corpus=built / "corpus", quiet=True)
    build(lonely, options)
    assert contents(tmp_path / "out") == contents(built)


def test_a_tokenizer_can_be_reused(recipe: Path, built: Path, tmp_path: Path) -> None:
    options = BuildOptions(
        out=tmp_path / "out",
        from_corpus=built / "corpus",
        tokenizer=built / "tokenizer",
        quiet=True,
    )
    build(recipe, options)
    assert contents(tmp_path / "out") == contents(built)


def test_the_corpus_of_another_recipe_is_refused(recipe: Path, built: Path, tmp_path: Path) -> None:
    other = tmp_path / "recipe.toml"
    other.write_text(recipe.read_text().replace("seed = 3", "seed = 4"))
    options = BuildOptions(out=tmp_path / "out", from_corpus=built / "corpus", quiet=True)
    with pytest.raises(DataError, match="made by another recipe"):
        build(other, options)
    assert not (tmp_path / "out").exists()


def test_another_tokenizer_than_the_recipe_states_is_refused(
    recipe: Path, built: Path, tmp_path: Path
) -> None:
    other = tmp_path / "recipe.toml"
    other.write_text(recipe.read_text().replace("vocab_size = 512", "vocab_size = 520"))
    options = BuildOptions(
        out=tmp_path / "out",
        from_corpus=built / "corpus",
        tokenizer=built / "tokenizer",
        quiet=True,
    )
    with pytest.raises(
        DataError, match=r"has 512 tokens, the recipe's tokenizer\.vocab_size is 520"
    ):
        build(other, options)


def test_a_trained_model_s_own_tokenizer_is_taken_as_it_stands(
    recipe: Path, built: Path, tmp_path: Path
) -> None:
    tokenizer = base_tokenizer(
        tmp_path / "base", CHAT, bos_token=CHAT[1], eos_token=CHAT[2], pad_token=CHAT[2]
    )
    (tmp_path / "base" / "chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "base" / "config.json").write_text("{}")
    options = BuildOptions(
        out=tmp_path / "out", from_corpus=built / "corpus", tokenizer=tmp_path / "base", quiet=True
    )
    build(recipe, options)
    copied = contents(tmp_path / "out" / "tokenizer")
    assert copied.items() <= contents(tmp_path / "base").items()
    assert copied.keys() == {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    shards = TokenShards(tmp_path / "out", "heldout")
    shards.verify()
    assert (shards.vocab_size, shards.bos_id, shards.eos_id, shards.pad_id) == (304, 0, 0, 2)
    tokens, texts = shards.window(0, len(shards)), list(read_split(built / "corpus", "heldout"))
    documents = np.split(tokens, np.flatnonzero(tokens == 0)[1:])
    assert sorted(tokenizer.decode(ids.tolist()) for ids in documents) == sorted(
        item.text for item in texts
    )
    assert shards.bytes_of(tokens) == sum(len(item.text.encode()) for item in texts)


def test_the_split_is_by_project(built: Path) -> None:
    projects = {
        split: {item.project for item in read_split(built / "corpus", split)}
        for split in ("train", "heldout")
    }
    kinds = {item.kind for item in read_split(built / "corpus", "heldout")}
    assert not projects["train"] & projects["heldout"]
    assert kinds == {"code", "text"}
    assert manifest_of(built)["corpus"]["heldout_projects"] == sorted(projects["heldout"])  # type: ignore[index]


def test_the_shards_hold_the_corpus(built: Path) -> None:
    pieces = token_pieces(load_tokenizer(built / "tokenizer"))
    for split in ("train", "heldout"):
        shards = TokenShards(built, split)  # type: ignore[arg-type]
        tokens = shards.window(0, len(shards))
        documents = np.split(tokens, np.flatnonzero(tokens == shards.bos_id)[1:])
        found = sorted(b"".join(pieces[index] for index in ids).decode() for ids in documents)
        assert found == sorted(item.text for item in read_split(built / "corpus", split))


def test_the_ratio_is_kept_and_everything_is_accounted_for(built: Path) -> None:
    manifest = manifest_of(built)
    for split in ("train", "heldout"):
        record = manifest["splits"][split]  # type: ignore[index]
        assert record["text_to_code"] == pytest.approx(1 / 3, rel=0.15)
    listed = manifest["files"]
    assert set(listed) == set(contents(built)) - {"manifest.json"}  # type: ignore[call-overload]
    for source in manifest["corpus"]["sources"]:  # type: ignore[index]
        counts = [*source["kept"].values(), *source["dropped"].values()]
        assert sum(count["files"] for count in counts) == 12


def test_nothing_of_this_machine_is_in_the_output(recipe: Path, built: Path) -> None:
    for path in (built / "manifest.json", built / "corpus" / "corpus.json"):
        assert str(recipe.parent) not in path.read_text()


def test_a_held_out_copy_of_a_train_file_is_dropped(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    build(recipe, BuildOptions(out=tmp_path / "before", quiet=True))
    held = manifest_of(tmp_path / "before")["corpus"]["heldout_projects"]  # type: ignore[index]
    free = next(path for path in tmp_path.glob("project*") if path.name not in held)
    copied = (free / "mod0.py").read_text()
    (tmp_path / held[0] / "mod0.py").write_text(copied + "\n\nCOPIED = True\n")
    build(recipe, BuildOptions(out=tmp_path / "after", quiet=True))
    texts = [item.text for item in read_split(tmp_path / "after" / "corpus", "heldout")]
    assert texts
    assert not any("COPIED" in text for text in texts)


def test_an_output_in_use_is_kept_unless_forced(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(DataError, match="exists and is not empty"):
        build(recipe, BuildOptions(out=tmp_path, quiet=True))
    with pytest.raises(DataError, match="is no data directory"):
        build(recipe, BuildOptions(out=tmp_path, force=True, quiet=True))
    assert (tmp_path / "precious").read_text() == "x"
    (tmp_path / "manifest.json").write_text("{}")
    build(recipe, BuildOptions(out=tmp_path, force=True, quiet=True))
    assert not (tmp_path / "precious").exists()
    TokenShards(tmp_path).verify()


def test_a_build_that_fails_leaves_nothing_and_keeps_the_old_one(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, projects=2)
    recipe.write_text(recipe.read_text().replace("vocab_size = 512", "vocab_size = 60000"))
    old = tmp_path / "old"
    old.mkdir()
    (old / "precious").write_text("x")
    (old / "manifest.json").write_text("{}")
    before = sorted(tmp_path.iterdir())
    for out in (tmp_path / "new", old):
        with pytest.raises(DataError, match="yields only"):
            build(recipe, BuildOptions(out=out, force=True, quiet=True))
    assert sorted(tmp_path.iterdir()) == before
    assert (old / "precious").exists()


def test_recipes_that_cannot_be_built(tmp_path: Path) -> None:
    write_project(tmp_path, "one")
    path = tmp_path / "recipe.toml"
    head = 'name = "x"\n[[folders]]\nname = "one"\nlicence = "MIT"\n'
    for text, error, message in (
        ('path = "absent"', DataError, "absent: no such folder"),
        ('path = "one"', DataError, "needs at least 2"),
        ('path = "one"\nsize = 1', ConfigError, r"unknown key folders\.0\.size"),
    ):
        path.write_text(head + text)
        with pytest.raises(error, match=message):
            build(path, BuildOptions(out=tmp_path / "out", quiet=True))


def test_the_command_prints_a_summary(recipe: Path, tmp_path: Path) -> None:
    arguments = ["build", str(recipe), "--out"]
    plain = CliRunner().invoke(app, [*arguments, str(tmp_path / "a")])
    assert plain.exit_code == 0
    assert "held out: project" in plain.stdout
    assert "done" in plain.stderr
    as_json = CliRunner().invoke(app, [*arguments, str(tmp_path / "b"), "--json"])
    summary = json.loads(as_json.stdout)
    assert summary["splits"]["train"]["tokens"] == len(TokenShards(tmp_path / "b"))
    assert summary["tokenizer"]["vocab_size"] == 512


def test_the_command_writes_beside_where_it_was_called(
    recipe: Path, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["build", str(recipe), "--from-corpus", str(built / "corpus")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert contents(tmp_path / "made-up-data") == contents(built)


def test_the_command_line_loads_nothing_heavy() -> None:
    code = (
        "import sys, loopcoder.cli.data;"
        "print([name for name in ('numpy', 'torch', 'tokenizers', 'pydantic', 'datasketch')"
        " if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_tokenising_a_corpus_needs_neither_downloads_nor_duplicate_search(
    recipe: Path, built: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "for name in ('datasketch', 'unearth', 'typer', 'rich', 'torch', 'transformers'):\n"
        "    sys.modules[name] = None\n"
        "from loopcoder.train.data.build import BuildOptions, build\n"
        "recipe, corpus, out = map(Path, sys.argv[1:])\n"
        "build(recipe, BuildOptions(out=out, from_corpus=corpus))\n"
    )
    arguments = [str(path) for path in (recipe, built / "corpus", tmp_path / "out")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    assert contents(tmp_path / "out") == contents(built)


def test_a_damaged_corpus_is_one_error(recipe: Path, built: Path, tmp_path: Path) -> None:
    for path in (built / "corpus").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    options = BuildOptions(out=tmp_path / "out", from_corpus=tmp_path, quiet=True)
    damaged = tmp_path / "train.jsonl.xz"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"train\.jsonl\.xz: damaged"):
        build(recipe, options)
    damaged.unlink()
    with pytest.raises(DataError, match=r"train\.jsonl\.xz: missing"):
        build(recipe, options)
    (tmp_path / "corpus.json").write_text("{}")
    with pytest.raises(DataError, match=r"corpus\.json: damaged"):
        build(recipe, options)
