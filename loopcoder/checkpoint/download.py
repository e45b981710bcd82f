"""Checkpoints from the Hugging Face hub: weights, configuration and tokenizer, never code.

Downloads go to `LOOPCODER_HOME` (default `~/.cache/loopcoder`) or to a directory of the user's;
checkpoints that other programs have put into the hub's own cache are found too.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from loopcoder.checkpoint.header import open_checkpoint
from loopcoder.errors import CheckpointError, LoopCoderError, ModelNotFoundError
from loopcoder.home import cache_home

# Neither code (.py) nor pickles (.bin, .pt): a checkpoint is data.
PATTERNS = [
    "*.safetensors",
    "*.json",
    "*.jinja",
    "tokenizer.model",
    "merges.txt",
    "README.md",
    "LICENSE*",
]


def download(
    repo: str,
    *,
    revision: str | None = None,
    out: Path | str | None = None,
    token: str | None = None,
    cache_dir: Path | str | None = None,
    force_download: bool = False,
) -> Path:
    """Fetch the checkpoint `repo` ("owner/name") and return its directory.

    With `out` the directory appears under that name when it is complete; an interrupted download
    is kept beside it, hidden, and continued by the next call. `token` defaults to the one that
    the hub's own tools use (`HF_TOKEN`). Raises `ModelNotFoundError` (unknown, gated, no network)
    or `CheckpointError` (no safetensors, incomplete).
    """
    options: dict[str, Any] = {
        "revision": revision,
        "token": token,
        "force_download": force_download,
    }
    if out is None:
        directory = _snapshot(repo, cache_dir=cache_dir or cache_home() / "hub", **options)
        _check_complete(repo, directory)
        return directory
    out = Path(os.path.abspath(out))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise CheckpointError(f"{out} exists and is not empty; give a new directory")
    partial = out.with_name(f".{out.name}.download")
    partial.mkdir(parents=True, exist_ok=True)
    _snapshot(repo, local_dir=partial, **options)
    _check_complete(repo, partial)
    shutil.rmtree(partial / ".cache", ignore_errors=True)  # the hub's notes for continuing
    partial.rename(out)
    return out


def cached(
    repo: str, *, revision: str | None = None, cache_dir: Path | str | None = None
) -> Path | None:
    """The directory of a complete earlier download of `repo`, ours or another program's."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.constants import HF_HUB_CACHE
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for folder in (cache_dir,) if cache_dir else (cache_home() / "hub", HF_HUB_CACHE):
        try:
            found = Path(
                snapshot_download(
                    repo,
                    revision=revision,
                    cache_dir=folder,
                    local_files_only=True,
                    allow_patterns=PATTERNS,
                )
            )
            open_checkpoint(found)
        except (LocalEntryNotFoundError, HFValidationError, CheckpointError):
            continue
        return found
    return None


def _check_complete(repo: str, directory: Path) -> None:
    try:
        open_checkpoint(directory)
    except CheckpointError as error:
        raise CheckpointError(
            f"{repo} is not a complete safetensors checkpoint ({error}); "
            "code and pickles (.py, .bin, .pt) are never fetched"
        ) from error


def _snapshot(repo: str, **options: Any) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # A lost connection comes as an error of the hub's HTTP library, whichever that is; their
    # common base is the parent of HfHubHTTPError.
    http_error: type[Exception] = HfHubHTTPError.__bases__[0]
    try:
        return Path(snapshot_download(repo, allow_patterns=PATTERNS, **options))
    except (http_error, OSError, HFValidationError, RuntimeError) as error:
        raise _explain(repo, options.get("revision"), error) from error


def _explain(repo: str, revision: str | None, error: Exception) -> LoopCoderError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        why = "is gated: accept its terms on its page, then give --token or set HF_TOKEN"
    elif isinstance(error, RepositoryNotFoundError):
        why = "is not on the hub, or is private: check the name, or give --token or set HF_TOKEN"
    elif isinstance(error, RevisionNotFoundError):
        why = f"has no revision {revision!r}; give a branch, tag or commit"
    elif isinstance(error, HFValidationError):
        why = "is not a repository's name; write it as owner/name"
    elif isinstance(error, LocalEntryNotFoundError):
        why = f"cannot be fetched: the hub is out of reach ({_cause(error)})"
    else:
        why = f"was not fetched: {_cause(error)}; try again, and it continues where it stopped"
    return ModelNotFoundError(f"{repo} {why}")


def _cause(error: BaseException) -> str:
    """The innermost reason, on one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
