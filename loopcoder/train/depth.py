"""Token shards of the tasks that need depth (`loopcoder.depth`), a byte a token."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopcoder.depth.question import DIRECT, END, MAX_HOPS, MODES, STEPS, Mode, Split
from loopcoder.depth.tasks import TASKS, check_choice, questions
from loopcoder.errors import ConfigError
from loopcoder.train.data.folder import write_folder
from loopcoder.train.data.shards import Answers
from loopcoder.train.data.tokenizer import BOS, EOS, SPECIAL_TOKENS, train_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SHARD_TOKENS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class DepthMix:
    """Which questions are trained on: every task, depth from 1 to `hops` and mode as often.

    `heldout` counts questions of the test split, for the loss on answers; accuracy by hops is
    measured elsewhere, on as many as are asked for.
    """

    tasks: tuple[str, ...] = tuple(TASKS)
    modes: tuple[Mode, ...] = MODES
    hops: int = 8
    tokens: int
    heldout: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `ConfigError` naming the field for what cannot be drawn."""
        check_choice("depth", self.tasks, self.modes)
        if not 1 <= self.hops <= MAX_HOPS:
            raise ConfigError(f"depth.hops is {self.hops}; it must be from 1 to {MAX_HOPS}")
        for name in ("tokens", "heldout"):
            if getattr(self, name) < 1:
                raise ConfigError(f"depth.{name} is {getattr(self, name)}; it must be at least 1")


def write_depth(out: Path, mix: DepthMix, *, force: bool = False) -> dict[str, Any]:
    """Write the data directory `out`; returns its manifest.

    Loss is taken on answers only (`Answers`): between ">" or "?" and ";". Raises `DataError` for an
    `out` in the way.
    """
    tokenizer = byte_tokenizer()
    direct, steps, end = (id_of_token(tokenizer, mark) for mark in (DIRECT, STEPS, END))
    return write_folder(
        out,
        tokenizer,
        {
            "train": _encoded(tokenizer, _until_tokens(texts(mix, "train"), mix.tokens)),
            "heldout": _encoded(tokenizer, _first(texts(mix, "test"), mix.heldout)),
        },
        shard_tokens=_SHARD_TOKENS,
        answers=Answers(open=(direct, steps), close=(end,)),
        about={"depth": asdict(mix)},
        force=force,
    )


def byte_tokenizer() -> "Tokenizer":
    """A token for every byte, and the special ones."""
    return train_tokenizer([], 256 + len(SPECIAL_TOKENS))


def byte_ids(tokenizer: "Tokenizer") -> dict[str, int]:
    """The token of every character that a question is made of."""
    return {chr(byte): id_of_token(tokenizer, chr(byte)) for byte in range(33, 127)}


def texts(mix: DepthMix, split: Split) -> Iterator[str]:
    """Documents of a split, without end."""
    rng = Random(f"{mix.seed} {split}")
    streams = {
        (task, hops): questions(task, hops, split, mix.seed)
        for task in mix.tasks
        for hops in range(1, mix.hops + 1)
    }
    while True:
        question = next(streams[rng.choice(mix.tasks), rng.randint(1, mix.hops)])
        yield question.text(rng.choice(mix.modes))


def _until_tokens(documents: Iterator[str], tokens: int) -> Iterator[str]:
    """Documents of ASCII until they fill `tokens`, bos and eos counted."""
    used = 0
    while used < tokens:
        document = next(documents)
        used += len(document) + 2
        yield document


def _first(documents: Iterator[str], count: int) -> Iterator[str]:
    return (next(documents) for _ in range(count))


def _encoded(tokenizer: "Tokenizer", documents: Iterator[str]) -> Iterator[NDArray[np.int64]]:
    id_of = byte_ids(tokenizer)
    bos, eos = id_of_token(tokenizer, BOS), id_of_token(tokenizer, EOS)
    for document in documents:
        yield np.array([bos, *map(id_of.__getitem__, document), eos])


def id_of_token(tokenizer: "Tokenizer", token: str) -> int:
    """The id of a token that `tokenizer` is known to have."""
    found: int | None = tokenizer.token_to_id(token)
    assert found is not None, f"{token} is a byte or a special token"
    return found
