"""`--set field=value`: changes to a configuration, from the command line. No torch."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from loopcoder.errors import ConfigError
from loopcoder.model.config import ModelConfig


def parse_changes(assignments: Iterable[str]) -> dict[str, Any]:
    """`["plt_num_loops=4", "plt_window_size=[32,0]"]` as a mapping; values are JSON or text."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {assignment!r}: write it as field=value")
        try:
            changes[name.strip()] = json.loads(text)
        except ValueError:
            changes[name.strip()] = text
    return changes


def with_changes(config: ModelConfig, changes: Mapping[str, Any]) -> ModelConfig:
    """`config` with some fields set. Raises `ConfigError` for a field that does not exist."""
    for name in changes:
        if name not in ModelConfig.field_names():
            known = ", ".join(sorted(ModelConfig.field_names()))
            raise ConfigError(f"--set {name}: there is no such field; known: {known}")
    try:
        return config.with_(**changes)
    except TypeError as error:
        raise ConfigError(f"--set: {error}") from error
