"""What a run of `loopcoder eval` was asked for."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from loopcoder.errors import EvaluationError

FILE = "settings.json"
DATA = "data_hashes"
Prompt = Literal["auto", "chat", "completion", "tools"]

# What may differ between a run and its continuation: how, not what.
_FREE = frozenset(
    {"tasks", "api_key", "base_url", "threads", "max_num_seqs", "retries", "timeout", "workers"}
)


@dataclass(frozen=True, kw_only=True)
class EvalSettings:
    """One model, some tasks, and how they are asked.

    `model` is a checkpoint (bundled name, directory, hub id), or with `base_url` the name of a
    model behind an OpenAI-compatible endpoint. `data` is a directory with benchmark files.
    `max_tokens` None is the task's own limit. `options` are those of an outside harness, `workers`
    how many of its problems run at once. `timeout` (seconds, of one request) and `retries` are for
    endpoints. Raises `EvaluationError` for values that cannot be.
    """

    tasks: tuple[str, ...]
    out: Path
    model: str
    base_url: str | None = None
    api_key: str | None = None
    data: Path | None = None
    limit: int | None = None
    n: int = 1
    temperature: float = 0.0
    top_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    loops: int | None = None
    prompt: Prompt = "auto"
    reasoning: bool = False
    categories: str | None = None
    bfcl_version: Literal["v3", "v4"] = "v4"
    dtype: str = "auto"
    quantization: str | None = None
    device: str = "auto"
    threads: int | None = None
    max_num_seqs: int = 16
    workers: int = 2
    options: tuple[tuple[str, str], ...] = ()
    timeout: int = 600
    retries: int = 3
    unsafe_local: bool = False

    def __post_init__(self) -> None:
        """Refuse what no run can do."""
        for name in ("n", "limit", "max_tokens", "max_num_seqs", "timeout", "workers", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise EvaluationError(f"--{name.replace('_', '-')} is {value}; give 1 or more")
        if self.prompt not in get_args(Prompt):
            raise EvaluationError(
                f"--prompt is {self.prompt!r}; give {', '.join(get_args(Prompt))}"
            )
        if self.prompt == "tools" and self.tasks != ("bfcl",):
            raise EvaluationError("--prompt tools is for bfcl alone; give auto, chat or completion")
        if self.bfcl_version not in ("v3", "v4"):
            raise EvaluationError(f"--bfcl-version is {self.bfcl_version!r}; give v3 or v4")
        if not 0 <= self.temperature < float("inf"):
            raise EvaluationError(f"--temperature is {self.temperature}; give 0 (greedy) or more")
        if self.n > 1 and self.temperature == 0:
            raise EvaluationError(
                f"--n {self.n} with temperature 0 gives {self.n} times the same answer; give "
                "--temperature (0.8 is usual for pass@k), or leave --n out"
            )

    @property
    def subject(self) -> str | None:
        """Whose scores these are where there is no checkpoint to name: a model at an address."""
        return f"{self.model} at {self.base_url}" if self.base_url else None

    def identity(self) -> dict[str, Any]:
        """All that decides the answers, as JSON values."""
        values = {name: value for name, value in asdict(self).items() if name not in _FREE}
        del values["out"]
        return json.loads(json.dumps(values, default=str))  # type: ignore[no-any-return]


def claim(settings: EvalSettings, data: Mapping[str, str]) -> None:
    """Take the output directory for this run, or for going on with it.

    `data` has the hash of what each task reads. Raises `EvaluationError` where the directory holds
    a run with other settings, or of other data, naming them.
    """
    path = settings.out / FILE
    wanted = settings.identity()
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise EvaluationError(f"{path}: unreadable ({error}); choose another --out") from error
        before = found.pop(DATA, {})
        changed = sorted(name for name in before.keys() & data if before[name] != data[name])
        if changed:
            raise EvaluationError(
                f"{settings.out} holds answers to other data of {', '.join(changed)}: "
                "what it reads has changed since; choose another --out"
            )
        other = [n for n in sorted({*wanted, *found}) if wanted.get(n) != found.get(n)]
        if other:
            said = ", ".join(f"{n} {found.get(n)!r} there, {wanted.get(n)!r} now" for n in other)
            raise EvaluationError(
                f"{settings.out} holds a run with other settings ({said}); choose another --out"
            )
        if data.keys() - before:
            _write(path, {**wanted, DATA: {**before, **data}})
        return
    if settings.out.is_dir() and any(settings.out.iterdir()):
        raise EvaluationError(
            f"{settings.out} is not empty and holds no run of ours; choose another --out"
        )
    _write(path, {**wanted, DATA: dict(data)})


def _write(path: Path, values: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise EvaluationError(
            f"{path}: {error.strerror or error}; choose a directory that can be written"
        ) from error
