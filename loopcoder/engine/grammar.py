"""Which tokens a text may go on with: structured outputs, by llguidance.

A `Grammar` belongs to one continuation and outlives preemption. What it allows goes before every
other rule of sampling.
"""

import json
import time
from collections.abc import Collection
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from loopcoder.engine.structured import (
    check_grammar,
    grammar_text,
    parser_limits,
    refused,
    require_llguidance,
)
from loopcoder.errors import RequestError
from loopcoder.types import StructuredOutputsParams

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

# Processor time for one text, in seconds. A token of JSON takes 0.0001; a grammar that goes on
# taking this long would make all others wait for it.
_AT_FIRST, _A_TOKEN = 1.0, 0.005


class Grammar:
    """Where one text stands in its grammar.

    `finished`: the text is complete, and nothing may follow. `failed`: a limit was reached, or no
    token is left. `size` is how many tokens there are; `end` says that the `end_token_ids` among
    them end this text too.
    """

    def __init__(
        self, matcher: "LLMatcher", size: int, end_token_ids: Collection[int], *, end: bool
    ) -> None:
        self.finished = self.failed = False
        self._matcher = matcher
        self._size = size
        self._ends = np.array(sorted(end_token_ids), dtype=np.int64)
        self._end = end
        self._seconds_left = _AT_FIRST

    def copy(self, *, end: bool) -> "Grammar":
        """The same for another text, from where this one stands."""
        return Grammar(self._matcher.deep_copy(), self._size, self._ends.tolist(), end=end)

    def allowed(self, vocabulary: int) -> NDArray[np.bool_]:
        """Whether each token may come next: [V], for logits of any V; nothing once failed."""
        begun = time.thread_time()
        packed = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        accepting = self._matcher.is_accepting()
        self._seconds_left -= time.thread_time() - begun
        self.failed = self.failed or self._matcher.is_error() or self._seconds_left < 0
        allowed_V = np.zeros(vocabulary, dtype=np.bool_)
        if self.failed:
            return allowed_V
        known = min(vocabulary, self._size)
        allowed_V[:known] = np.unpackbits(packed, count=known, bitorder="little")
        ends = self._ends[self._ends < vocabulary]
        # Where an end token also spells something, the library lets it in as that.
        allowed_V[ends] = accepting and self._end
        if accepting and not allowed_V.any():  # told to ignore end tokens, but there is no more
            allowed_V[ends] = True
        self.failed = not allowed_V.any()
        return allowed_V

    def accept(self, token_id: int) -> None:
        """Go on with a chosen token."""
        begun = time.thread_time()
        self._seconds_left += _A_TOKEN
        if token_id in self._ends:
            self.finished = True
        elif self._matcher.consume_token(token_id):
            self.finished = self._matcher.is_stopped()
        else:
            self.failed = True
        self._seconds_left -= time.thread_time() - begun


class Grammars:
    """Compiles grammars for one vocabulary; from any thread.

    `tokenizer` has the `tokenizers` object as `backend_tokenizer`; None: there is none.
    """

    def __init__(self, tokenizer: Any, end_token_ids: Collection[int]) -> None:
        self._tokenizer = tokenizer
        self._ends = frozenset(end_token_ids)
        self._vocabulary: LLTokenizer | None = None
        self._lock = Lock()

    def check(self, params: StructuredOutputsParams | None) -> None:
        """Raise `RequestError` for what `compile` would refuse, as far as it shows at once."""
        if params is not None:
            self._check_tokenizer()
            check_grammar(params)

    def compile(self, params: StructuredOutputsParams | None) -> Grammar | None:
        """The grammar at its start, to be copied for each text; None without `params`.

        Other threads go on meanwhile. Raises `RequestError` for a grammar that is not valid or
        beyond `structured.LIMITS`.
        """
        if params is None:
            return None
        self._check_tokenizer()
        text = grammar_text(params)
        from llguidance import LLMatcher

        vocabulary = self.load()
        matcher = LLMatcher(vocabulary, text, log_level=0, limits=parser_limits())
        if matcher.is_error():
            raise refused(params, matcher.get_error())
        return Grammar(matcher, vocabulary.vocab_size - 1, self._ends, end=True)

    def load(self) -> "LLTokenizer":
        """Read the vocabulary, once. Other threads stand still for it: 0.05 s for 8,192 tokens,
        0.3 s for 49,152, so a server does it at its start.

        Raises `RequestError` for a tokenizer that llguidance cannot read.
        """
        self._check_tokenizer()
        with self._lock:
            if self._vocabulary is None:
                self._vocabulary = read_vocabulary(self._tokenizer.backend_tokenizer)
            return self._vocabulary

    def _check_tokenizer(self) -> None:
        if self._tokenizer is None:
            raise RequestError("structured outputs need a tokenizer, and this checkpoint has none")


def read_vocabulary(backend: Any) -> "LLTokenizer":
    """The tokens of a `tokenizers` object, as llguidance wants them, and one more as their end.

    Raises `RequestError` where it cannot read them, or is not installed.
    """
    require_llguidance()
    from llguidance import LLTokenizer

    described = json.loads(backend.to_str())
    size = max(backend.get_vocab_size(), 1 + max(backend.get_added_tokens_decoder(), default=-1))
    # The library insists on an end token; ours are for `Grammar` to see to.
    end = {"id": size, "content": "<|end of the grammar|>", "special": True, "normalized": False}
    end |= {"single_word": False, "lstrip": False, "rstrip": False}
    described |= {"padding": None, "truncation": None}
    described["added_tokens"] = [*(described.get("added_tokens") or ()), end]
    try:
        return LLTokenizer(json.dumps(described), n_vocab=size + 1, eos_token=size)
    except (ValueError, RuntimeError) as error:
        raise RequestError(
            f"structured outputs cannot read this checkpoint's tokenizer: {error}; save it as a "
            "byte-level or byte-fallback tokenizer.json"
        ) from error
