"""From what a user types (a bundled name, a directory or a hub id) to a directory."""

import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from loopcoder.checkpoint.config_file import CONFIG_FILE
from loopcoder.checkpoint.download import cached, download
from loopcoder.errors import ModelNotFoundError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    cache_dir: Path | str | None = None,
    token: Any = None,
) -> Path:
    """The directory of checkpoint `name`.

    A name of `bundled_models()` comes first, then a directory, then a hub id: one that has been
    downloaded before, else, unless `local_files_only`, from the network. The options are the
    hub's. Raises `ModelNotFoundError`, saying what was tried.
    """
    text = os.fspath(name)
    bundled = bundled_models()
    if text in bundled:
        return bundled[text]
    if text and Path(text).expanduser().is_dir():
        return Path(text).expanduser()
    known = ", ".join(bundled) or "none"
    if Path(text).is_file():
        raise ModelNotFoundError(
            f"{text} is a file; give a checkpoint's directory, or turn it into one with "
            "`loopcoder convert`"
        )
    if not isinstance(name, str) or not _HUB_ID.fullmatch(text):
        raise ModelNotFoundError(
            f"there is no model {text!r}: it is not bundled (bundled: {known}), not a directory, "
            "and not a hub id (owner/name)"
        )
    found = None if force_download else cached(text, revision=revision, cache_dir=cache_dir)
    if found is not None:
        return found
    if local_files_only:
        raise ModelNotFoundError(
            f"there is no model {text!r}: it is not bundled (bundled: {known}), not a directory, "
            "and not downloaded; fetch it with `loopcoder download`"
        )
    try:
        return download(
            text,
            revision=revision,
            cache_dir=cache_dir,
            force_download=force_download,
            token=token,
        )
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{error} (tried: bundled models ({known}), a directory, the hub)"
        ) from error


def bundled_models() -> dict[str, Path]:
    """The checkpoints that ship inside the package, by name."""
    root = Path(str(files("loopcoder"))) / "models"
    if not root.is_dir():
        return {}
    found = sorted(path for path in root.iterdir() if (path / CONFIG_FILE).is_file())
    return {path.name: path for path in found}
