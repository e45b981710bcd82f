"""What the front and the engine process say to each other through the pipe. No torch."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from loopcoder.engine.sequence import Request
from loopcoder.types import Logprob, LoopLens


@dataclass(frozen=True, kw_only=True)
class EngineSpec:
    """How the engine process is to be built: arguments of `LLM` and `EngineSettings`.

    `tokenizer` is the text of a tokenizer.json; the process needs no `transformers`, which would
    take it a second to load.
    """

    directory: str
    dtype: str = "auto"
    quantization: str | None = None
    device: str = "auto"
    threads: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


class Vocabulary(NamedTuple):
    """The first message to the engine process, once the front has read the tokenizer."""

    tokenizer: str | None
    end_token_ids: frozenset[int]
    max_model_len: int
    loops: int


class Add(NamedTuple):
    """A request to be queued."""

    request: Request


class Abort(NamedTuple):
    """Nobody waits for this request any more."""

    request_id: str


class Ready(NamedTuple):
    """The engine stands: facts about it, for the front's pages."""

    facts: dict[str, Any]


class Failed(NamedTuple):
    """The engine cannot be built; `user` says that the user's input is the reason."""

    message: str
    user: bool


class Refused(NamedTuple):
    """A request could never run."""

    request_id: str
    message: str


class End(NamedTuple):
    """What is known once a whole request is over; times are of `time.monotonic`."""

    prompt_logprobs: list[dict[int, Logprob] | None] | None
    cached_tokens: int
    arrived: float
    admitted: float | None


class Token(NamedTuple):
    """One token of continuation `number`. `token_id` None: it broke off without another (NaN)."""

    request_id: str
    number: int
    token_id: int | None
    text: str
    finish_reason: str | None
    stop_reason: str | int | None
    logprobs: dict[int, Logprob] | None
    loop_lens: LoopLens | None
    end: End | None


class Step(NamedTuple):
    """What one engine step chose, and now and then the counters."""

    tokens: list[Token]
    stats: dict[str, Any] | None
