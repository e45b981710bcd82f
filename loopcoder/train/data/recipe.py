"""What a data recipe may say: a TOML file, checked key by key (docs/data.md explains them)."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from pydantic import AfterValidator, Field, model_validator

from loopcoder.train.settings import Section, check, find_recipe, read_toml

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]


def _exact_requirement(value: str) -> str:
    try:
        requirement = Requirement(value)
    except InvalidRequirement as error:
        raise ValueError(f"{value!r} is not of the form name==version") from error
    specifiers = list(requirement.specifier)
    exact = len(specifiers) == 1 and specifiers[0].operator == "=="
    if not exact or specifiers[0].version.endswith(".*") or requirement.extras:
        raise ValueError(f"{value!r} is not of the form name==version")
    return f"{canonicalize_name(requirement.name)}=={specifiers[0].version}"


PackagePin = Annotated[str, AfterValidator(_exact_requirement)]


class Folder(Section):
    """A local folder, one project of the corpus.

    `path` is relative to the recipe file; `{stdlib}` stands for this Python's standard library.
    `kind` keeps only the code or only the text files.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    path: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    kind: Literal["code", "text", "both"] = "both"


class Files(Section):
    """Which files of a source are kept. Sizes in bytes, lines in characters.

    `max_project_bytes` holds for the code and for the text of a project, each on its own.
    """

    min_bytes: int = Field(default=128, ge=0)
    max_bytes: Count = 200_000
    max_line: Count = 400
    max_mean_line: Count = 80
    min_letters: Share = 0.35
    max_project_bytes: Count = 8_000_000
    strip_licence_headers: bool = True


class Dedup(Section):
    """Near-duplicates: estimated Jaccard similarity of word shingles at or above `threshold`."""

    threshold: float = Field(default=0.7, gt=0, le=1)
    num_perm: int = Field(default=64, ge=16, le=256)
    shingle_words: Count = 5


class Heldout(Section):
    """Share of the bytes held out, in whole projects, each at most 1/`min_projects` of it."""

    fraction: float = Field(default=0.025, gt=0, lt=0.5)
    min_projects: Count = 8


class Mix(Section):
    """`text` to `code` by bytes, the size of the train split, and how much code is not Python."""

    text: int = Field(default=1, ge=0)
    code: int = Field(default=5, ge=0)
    max_bytes: Count = 250_000_000
    max_other_code: Share = 0.15

    @model_validator(mode="after")
    def _not_empty(self) -> "Mix":
        if self.text + self.code == 0:
            raise ValueError("text and code are both 0; at least one must be positive")
        return self


class TokenizerSettings(Section):
    """Vocabulary size, special tokens among it, and how many bytes of train text it learns from."""

    vocab_size: int = Field(default=8192, ge=512)
    sample_bytes: Count = 80_000_000


class ShardSettings(Section):
    """Tokens in one shard file."""

    tokens: Count = 1 << 25


class DataRecipe(Section):
    """A whole recipe. The same recipe and libraries give the same bytes."""

    name: str = Field(pattern=r"^[A-Za-z0-9._-]+$")
    seed: int = 0
    licences: tuple[str, ...] = ()
    packages: tuple[PackagePin, ...] = ()
    folders: tuple[Folder, ...] = ()
    files: Files = Files()
    dedup: Dedup = Dedup()
    heldout: Heldout = Heldout()
    mix: Mix = Mix()
    tokenizer: TokenizerSettings = TokenizerSettings()
    shards: ShardSettings = ShardSettings()

    @model_validator(mode="after")
    def _sources_are_distinct(self) -> "DataRecipe":
        names = [pin.split("==")[0] for pin in self.packages]
        names += [folder.name for folder in self.folders]
        if not names:
            raise ValueError("no sources; give packages = [...] or [[folders]]")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"sources named twice: {', '.join(repeated)}")
        return self

    def hash(self) -> str:
        """sha256 of everything the recipe says, in hexadecimal."""
        return _digest(self.model_dump(mode="json"))

    def corpus_hash(self) -> str:
        """sha256 of what decides the corpus: all but tokenizer and shards."""
        return _digest(self.model_dump(mode="json", exclude={"tokenizer", "shards"}))


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def load_recipe(name: str | Path) -> DataRecipe:
    """Read a recipe file, or the bundled recipe of that name. Raises `ConfigError`."""
    path = find_recipe(name)
    return parse_recipe(read_toml(path), str(path))


def parse_recipe(values: dict[str, Any], origin: str) -> DataRecipe:
    """Check the tables of a recipe; `origin` names it in messages. Raises `ConfigError`."""
    return check(DataRecipe, values, origin, "docs/data.md")
