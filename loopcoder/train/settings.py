"""Recipe files: TOML, checked key by key, with `key=value` overrides from the command line."""

import json
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from loopcoder.errors import ConfigError

S = TypeVar("S", bound="Section")


class Section(BaseModel):
    """Base of every table of a recipe: read-only, unknown keys are errors, no coercion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises `ConfigError` naming the file."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the recipe ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from error


def find_recipe(name: str | Path) -> Path:
    """The recipe file `name`, or the bundled recipe of that name. Raises `ConfigError`."""
    path = Path(name)
    if path.is_file():
        return path
    folder = Path(str(files("loopcoder.recipes")))
    bundled = folder / f"{path.name.removesuffix('.toml')}.toml"
    if path.parent == Path() and bundled.is_file():
        return bundled
    known = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
    raise ConfigError(f"{path}: no such recipe file; bundled are {known}")


def override(values: Mapping[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """`values` with `section.key=value` applied; a value is TOML, or text where it is not.

    Raises `ConfigError` for an assignment of another form.
    """
    result: dict[str, Any] = json.loads(json.dumps(values, default=str))
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        *sections, name = key.strip().split(".")
        if not equals or not name:
            raise ConfigError(f"--set {assignment}: write it like --set optim.peak_lr=1e-3")
        table = result
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {assignment}: {section} is a value, not a table")
        table[name] = _value(text.strip())
    return result


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def check(model: type[S], values: Mapping[str, Any], origin: str, page: str) -> S:
    """`values` as a `model`; `origin` names the file in messages, `page` the key list.

    Raises `ConfigError`, one line that names file and key.
    """
    try:
        # JSON, so that TOML's arrays may be tuples and integers floats, and nothing else bends.
        return model.model_validate_json(json.dumps(values))
    except ValidationError as error:
        raise ConfigError(_one_line(error, origin, page)) from error
    except TypeError as error:
        raise ConfigError(f"{origin}: {error}; use text, numbers, lists and tables") from error


def _one_line(error: ValidationError, origin: str, page: str) -> str:
    first, *rest = error.errors()
    # The names of union members, in brackets here, are no keys.
    parts = [str(part) for part in first["loc"] if not str(part).startswith("<")]
    key = ".".join(parts)
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        message = f"{origin}: unknown key {key}; {page} lists the keys"
    elif first["type"] in ("missing", "missing_keyword_only_argument"):
        message = f"{origin}: {key} is missing; {page} says what it is"
    elif not key:  # a check of several fields, whose message names them
        message = f"{origin}: {first['msg'].removeprefix('Value error, ')}"
    else:
        given = "" if isinstance(first["input"], dict) else f" is {first['input']!r}"
        message = f"{origin}: {key}{given}: {first['msg'].removeprefix('Value error, ')}"
    return f"{message} ({len(rest)} more errors)" if rest else message
