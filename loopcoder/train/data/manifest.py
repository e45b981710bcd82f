"""What a data directory says of itself. No times, no paths of a machine: equal builds are equal."""

import hashlib
import platform
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loopcoder.train.data.encode import WrittenSplit
from loopcoder.train.data.files import Document
from loopcoder.train.data.marks import read_marks
from loopcoder.train.data.recipe import DataRecipe
from loopcoder.train.data.shards import Answers
from loopcoder.train.data.sources import Source
from loopcoder.train.data.tally import Tally, count_kept, kind_bytes
from loopcoder.train.data.tokenizer import load_tokenizer, tokenizer_hash, vocabulary_size

SCHEMA = 1


def about_corpus(
    recipe: DataRecipe,
    sources: Iterable[Source],
    splits: Mapping[str, list[Document]],
    tally: Tally,
) -> dict[str, Any]:
    """Where the corpus came from and what was left out; needs no tokenizer."""
    kept = count_kept(document for documents in splits.values() for document in documents)
    heldout = sorted({document.project for document in splits["heldout"]})
    records = [
        source.record()
        | {
            "split": "heldout" if source.name in heldout else "train",
            "kept": kept.get(source.name, {}),
            "dropped": tally.dropped(source.name),
        }
        for source in sources
    ]
    return {
        "schema": SCHEMA,
        "corpus_recipe_sha256": recipe.corpus_hash(),
        "sources": [record for record in records if not record["refusal"]],
        "refused": [record for record in records if record["refusal"]],
        "heldout_projects": heldout,
        "splits": {split: _proportions(documents) for split, documents in splits.items()},
        "dropped": tally.total(),
        "libraries": _versions("datasketch", "numpy"),
    }


def _proportions(documents: list[Document]) -> dict[str, Any]:
    sizes = kind_bytes(documents)
    code = sizes["code_bytes"]
    ratio = round(sizes["text_bytes"] / code, 4) if code else None
    return sizes | {"text_to_code": ratio}


def make(
    recipe: DataRecipe, about: dict[str, Any], splits: Mapping[str, WrittenSplit], folder: Path
) -> dict[str, Any]:
    """The manifest of the directory as it lies in `folder`, its own file excepted."""
    merged = {
        split: about["splits"][split] | {"tokens": written.tokens, "shards": written.shards}
        for split, written in splits.items()
    }
    return {
        "schema": SCHEMA,
        "recipe": recipe.model_dump(mode="json"),
        "recipe_sha256": recipe.hash(),
        "tokenizer": _tokenizer_record(folder / "tokenizer"),
        "splits": merged,
        "files": _files(folder),
        "libraries": _versions("loopcoder", "numpy", "tokenizers"),
        "corpus": {key: value for key, value in about.items() if key != "splits"},
    }


def of_arrays(
    folder: Path,
    splits: Mapping[str, Mapping[str, Any]],
    answers: Answers | None,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """The manifest of a directory whose tokens came from no corpus; `about` says from where."""
    return {
        "schema": SCHEMA,
        **about,
        **({} if answers is None else {"answers": answers.record()}),
        "tokenizer": _tokenizer_record(folder / "tokenizer"),
        "splits": dict(splits),
        "files": _files(folder),
        "libraries": _versions("loopcoder", "numpy", "tokenizers"),
    }


def _tokenizer_record(folder: Path) -> dict[str, Any]:
    tokenizer = load_tokenizer(folder)
    return {
        "sha256": tokenizer_hash(folder),
        "vocab_size": vocabulary_size(tokenizer),
        **read_marks(folder, tokenizer).record(),
    }


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    records = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            name = path.relative_to(folder).as_posix()
            records[name] = {"bytes": path.stat().st_size, "sha256": digest}
    return records


def _versions(*names: str) -> dict[str, str]:
    found = {name: _version(name) for name in names}
    return found | {"python": platform.python_version()}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers that tell what a build made."""
    splits = {
        split: {key: value for key, value in record.items() if key != "shards"}
        for split, record in manifest["splits"].items()
    }
    refused = {item["name"]: item["refusal"] for item in manifest["corpus"]["refused"]}
    return {
        "recipe": manifest["recipe"]["name"],
        "recipe_sha256": manifest["recipe_sha256"],
        "sources": len(manifest["corpus"]["sources"]),
        "refused": refused,
        "heldout_projects": manifest["corpus"]["heldout_projects"],
        "splits": splits,
        "dropped": manifest["corpus"]["dropped"],
        "tokenizer": manifest["tokenizer"],
        "corpus_bytes": sum(
            record["bytes"]
            for name, record in manifest["files"].items()
            if name.startswith("corpus/") and name.endswith(".xz")
        ),
    }
