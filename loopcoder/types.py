"""What the layers hand each other: requests, results and the protocols between packages.

torch is imported for type checking only, so that `import loopcoder` stays light.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when to stop (names and meanings are vLLM's).

    Raises `RequestError`, naming the argument, for a value outside its range.
    """

    max_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    loops: int | None = None

    def __post_init__(self) -> None:
        """Accept a single stop string or a list, then check every range."""
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        object.__setattr__(self, "stop", stop)
        object.__setattr__(self, "stop_token_ids", tuple(self.stop_token_ids))
        _check("max_tokens", self.max_tokens, self.max_tokens >= 1, "at least 1")
        _check("temperature", self.temperature, self.temperature >= 0, "0 (greedy) or more")
        _check("top_p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1")
        _check("top_k", self.top_k, self.top_k >= 0, "0 (off) or more")
        _check("min_p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1")
        _check("loops", self.loops, self.loops is None or self.loops >= 1, "at least 1, or None")
        _check("stop", stop, all(stop), "non-empty strings")


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise RequestError(f"{name} is {value!r}; it must be {expected}")


@dataclass(frozen=True, kw_only=True)
class CompletionOutput:
    """One continuation of a prompt; `text` is None for a checkpoint without a tokenizer."""

    index: int
    text: str | None
    token_ids: list[int]
    finish_reason: str | None


@dataclass(frozen=True, kw_only=True)
class RequestOutput:
    """A prompt and its continuations, as vLLM's class of the same name."""

    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """One decoded token of a stream: its id, the text it completes, and the reason at the end."""

    token_id: int
    text: str
    finish_reason: str | None


class KVView(Protocol):
    """The keys and values of one forward pass, as a layer sees them.

    Rows come loop 1 first: a layer writes the keys and values of all its rows, then asks for
    attention. Who owns the memory, and which rows belong to which sequence, only the view knows.
    """

    def write(self, layer: int, k_NGK: "Tensor", v_NGK: "Tensor") -> None:
        """Store the rows' keys and values, each under its own loop."""
        ...

    def attend_global(self, layer: int, q_NHK: "Tensor") -> "Tensor":
        """Every row over its sequence's loop-1 keys up to its own position: [N, H, K]."""
        ...

    def attend_local(self, layer: int, q_MHK: "Tensor") -> "Tensor":
        """The M rows of later loops, each over the last W keys of its own loop: [M, H, K]."""
        ...
