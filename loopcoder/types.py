"""What the layers hand each other: requests, results and the protocols between packages.

torch is imported for type checking only, so that `import loopcoder` stays light.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from loopcoder.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor


_PENALTIES = ("presence_penalty", "frequency_penalty", "repetition_penalty")


@dataclass(frozen=True, kw_only=True)
class StructuredOutputsParams:
    """What the text must be, token by token (names are vLLM's); exactly one is given.

    `json` is a JSON schema (a mapping, or its text), `json_object` any JSON object, `regex` a
    regular expression for the whole text, `choice` one of several texts, `grammar` a grammar in
    llguidance's Lark dialect.

    Raises `RequestError` where none or several are given, or one is of another type.
    """

    json: Mapping[str, Any] | str | None = field(default=None, hash=False)
    json_object: bool = False
    regex: str | None = None
    choice: tuple[str, ...] = ()
    grammar: str | None = None

    def __post_init__(self) -> None:
        """Check the types, and that there is exactly one."""
        _check("json_object", self.json_object, isinstance(self.json_object, bool), "True or False")
        valid = self.json is None or isinstance(self.json, str | Mapping)
        _check("json", self.json, valid, "a JSON schema, as a mapping or its text")
        for name in ("regex", "grammar"):
            value = getattr(self, name)
            _check(name, value, value is None or isinstance(value, str), "text, or None")
        object.__setattr__(self, "choice", _strings("choice", self.choice))
        given = [
            name
            for name in ("json", "json_object", "regex", "choice", "grammar")
            if getattr(self, name) not in (None, False, ())
        ]
        if len(given) != 1:
            raise RequestError(
                f"structured outputs name {', '.join(given) or 'nothing'}; give exactly one of "
                "json, json_object, regex, choice, grammar"
            )


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are chosen and when to stop (names and meanings are vLLM's).

    `temperature` 0 is greedy, `top_k` 0 or -1 off; `logit_bias` (token id to bias) and penalties
    act on the logits before the temperature. `stop` takes a string, a list or None. `logprobs` and
    `prompt_logprobs` are how many of the most likely tokens to report beside the chosen one (-1:
    the whole vocabulary). `structured_outputs` holds the text to a grammar. `loop_lens` is how many
    candidates of every loop to report beside each token (`LoopLens`). The `n` continuations of a
    prompt differ in their random streams; the same `seed` gives the same n. `loops` None is the
    model's own count.

    Raises `RequestError`, naming the argument, for a value of another type or outside its range.
    """

    max_tokens: int = 128
    min_tokens: int = 0
    n: int = 1
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: Mapping[int, float] | None = field(default=None, hash=False)
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    structured_outputs: StructuredOutputsParams | None = field(default=None, hash=False)
    loop_lens: int | None = None
    loops: int | None = None

    def __post_init__(self) -> None:
        """Bring every value to Python's own types, then check its range."""
        for name in ("include_stop_str_in_output", "ignore_eos", "skip_special_tokens"):
            value = getattr(self, name)
            _check(name, value, isinstance(value, bool), "True or False")
        for name in ("seed", "logprobs", "prompt_logprobs", "loop_lens", "loops"):
            if getattr(self, name) is not None:
                self._set(name, _integer(name, getattr(self, name), ", or None"))
        for name in ("max_tokens", "min_tokens", "n", "top_k"):
            self._set(name, _integer(name, getattr(self, name)))
        for name in ("temperature", "top_p", "min_p", *_PENALTIES):
            self._set(name, _real(name, getattr(self, name)))
        self._set("stop", _strings("stop", self.stop))
        listed = _items("stop_token_ids", self.stop_token_ids, "token ids")
        self._set("stop_token_ids", tuple(_token_id("stop_token_ids", each) for each in listed))
        self._set("logit_bias", _biases("logit_bias", self.logit_bias))
        structured = self.structured_outputs
        valid = structured is None or isinstance(structured, StructuredOutputsParams)
        _check("structured_outputs", structured, valid, "StructuredOutputsParams, or None")
        self._check_ranges()

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _check_ranges(self) -> None:
        """None passes, infinity does not, and NaN lies in no range."""
        self._check("max_tokens", 1, None, "at least 1")
        self._check("min_tokens", 0, self.max_tokens, f"from 0 to max_tokens, {self.max_tokens}")
        self._check("n", 1, None, "at least 1")
        self._check("temperature", 0, None, "0 (greedy) or more")
        self._check("top_p", math.ulp(0), 1, "above 0 and at most 1")
        self._check("top_k", -1, None, "0 or -1 (off) or more")
        self._check("min_p", 0, 1, "from 0 to 1")
        self._check("presence_penalty", -2, 2, "from -2 to 2")
        self._check("frequency_penalty", -2, 2, "from -2 to 2")
        self._check("repetition_penalty", 1e-3, 1e3, "from 0.001 to 1000 (1 is off)")
        self._check("seed", -(2**63), 2**64 - 1, "a whole number of 64 bits, or None")
        self._check("logprobs", -1, None, "0 or more, -1 for the whole vocabulary, or None")
        self._check("prompt_logprobs", -1, None, "0 or more, -1 for the whole vocabulary, or None")
        self._check("loop_lens", 0, None, "0 or more, or None")
        self._check("loops", 1, None, "at least 1, or None")

    def _check(self, name: str, low: float, high: float | None, expected: str) -> None:
        value = getattr(self, name)
        inside = value is None or (low <= value < math.inf and (high is None or value <= high))
        _check(name, value, inside, expected)


def _check(name: str, value: object, valid: bool, expected: str) -> None:
    if not valid:
        raise RequestError(f"{name} is {value!r}; it must be {expected}")


def _integer(name: str, value: Any, otherwise: str = "") -> int:
    valid = isinstance(value, Integral) and not isinstance(value, bool)
    _check(name, value, valid, f"a whole number{otherwise}")
    return int(value)


def _real(name: str, value: Any) -> float:
    _check(name, value, isinstance(value, Real) and not isinstance(value, bool), "a number")
    return float(value)


def _strings(name: str, value: Any) -> tuple[str, ...]:
    strings = [value] if isinstance(value, str) else _items(name, value, "strings")
    _check(name, value, all(isinstance(s, str) and s for s in strings), "non-empty strings")
    return tuple(strings)


def _items(name: str, value: Any, of: str) -> list[Any]:
    if value is None:
        return []
    listed = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    _check(name, value, listed, f"a list of {of}, or None")
    return list(value)


def _token_id(name: str, value: Any) -> int:
    valid = isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0
    _check(name, value, valid, "token ids, 0 or more")
    return int(value)


def _biases(name: str, value: Any) -> dict[int, float] | None:
    """Keys may be digits in a string, as JSON writes them; 100 in size is OpenAI's limit."""
    if value is None:
        return None
    _check(name, value, isinstance(value, Mapping), "a mapping of token id to bias, or None")
    biases: dict[int, float] = {}
    for key, bias in value.items():
        number = _real(f"{name}[{key!r}]", bias)
        _check(f"{name}[{key!r}]", bias, abs(number) <= 100, "from -100 to 100")
        digits = isinstance(key, str) and key.isdecimal() and len(key) < 20
        biases[_token_id(f"a key of {name}", int(key) if digits else key)] = number
    return biases


class Logprob(NamedTuple):
    """One candidate for a place: natural logarithm of its probability, and its rank from 1."""

    logprob: float
    rank: int
    decoded_token: str | None = None


class LoopLens(NamedTuple):
    """What each loop would have written in a token's place (SPEC.md section 5); values in nats.

    By loop 1..R: `candidates`, the chosen token and the most likely ones, and `entropy` of p^r. By
    loop 2..R: `shift`, KL(p^r | p^{r-1}), and `gate`, the weight on the global branch in each
    layer, the mean over heads, at the row that chose the token.
    """

    candidates: tuple[dict[int, Logprob], ...]
    entropy: tuple[float, ...]
    shift: tuple[float, ...]
    gate: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class CompletionOutput:
    """One continuation of a prompt; `text` is None for a checkpoint without a tokenizer.

    `finish_reason` is "stop", "length", "abort" or "error" (the model gave NaN); `stop_reason` the
    stop string or stop token id that ended it, None for the end token. `logprobs`, if asked for,
    has one dictionary a token: the token itself and the most likely ones; `cumulative_logprob` is
    the sum over the tokens. `loop_lens`, if asked for, has one entry a token.
    """

    index: int
    text: str | None
    token_ids: list[int]
    finish_reason: str | None
    stop_reason: str | int | None = None
    cumulative_logprob: float | None = None
    logprobs: list[dict[int, Logprob]] | None = None
    loop_lens: list[LoopLens] | None = None


@dataclass(frozen=True, kw_only=True)
class RequestOutput:
    """A prompt and its continuations, as vLLM's class of the same name.

    `prompt_logprobs`, if asked for, has one entry a prompt token; the first is None.
    `num_cached_tokens` counts prompt tokens taken from an earlier request's memory.
    """

    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput] = field(default_factory=list)
    prompt_logprobs: list[dict[int, Logprob] | None] | None = None
    request_id: str = ""
    finished: bool = True
    num_cached_tokens: int = 0


@dataclass(frozen=True, kw_only=True)
class StreamEvent:
    """One token of continuation `index`, the text that became certain with it, and how it ended.

    `text` may belong to several tokens, or be empty while a character or stop string is open.
    """

    token_id: int
    text: str
    finish_reason: str | None
    index: int = 0
    stop_reason: str | int | None = None
    logprobs: dict[int, Logprob] | None = None
    loop_lens: LoopLens | None = None


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
