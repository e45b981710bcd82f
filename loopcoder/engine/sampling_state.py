"""What one continuation carries from token to token: its random stream and its token counts."""

import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.random import PCG64, SeedSequence
from numpy.typing import NDArray

from loopcoder.engine.grammar import Grammar
from loopcoder.errors import RequestError
from loopcoder.types import SamplingParams

# Below this a temperature is greedy, as in vLLM.
GREEDY_BELOW = 1e-5


class SamplingState:
    """The sampling side of continuation `index` of a request; it outlives preemption.

    `end_token_ids` are those that `min_tokens` must keep away, beside `params.stop_token_ids`.
    `generated` are tokens chosen earlier: a state made with them goes on exactly where the one
    that chose them stood, because the stream gives one number for each token. `seed` is the
    request's, or a random one: with it in `params`, an unseeded state can be made again. `grammar`
    stands behind the tokens generated.
    """

    def __init__(
        self,
        params: SamplingParams,
        *,
        index: int = 0,
        prompt_token_ids: Sequence[int] = (),
        generated: Sequence[int] = (),
        end_token_ids: Collection[int] = (),
        grammar: Grammar | None = None,
    ) -> None:
        self.params = params
        self.greedy = params.temperature < GREEDY_BELOW
        self.seed = secrets.randbits(63) if params.seed is None else params.seed
        self.generated = len(generated)
        self.edits = _edits(params, prompt_token_ids, generated)
        self.grammar = grammar
        self._ends = sorted({*end_token_ids, *params.stop_token_ids})
        entropy = SeedSequence(self.seed % 2**64, spawn_key=(index,))
        self._stream = PCG64(entropy)
        self._stream.advance(len(generated))

    @property
    def forbidden(self) -> list[int]:
        """Tokens that would end the text before `min_tokens`; under a grammar, `allowed` tells."""
        return self._too_early() if self.grammar is None else []

    def allowed(self, vocabulary: int) -> NDArray[np.bool_]:
        """What the grammar leaves of a vocabulary: [V].

        Nothing that would end the text before `min_tokens`, unless it is all that is left.
        """
        assert self.grammar is not None
        allowed_V = self.grammar.allowed(vocabulary)
        too_early = self._too_early()
        if not too_early:
            return allowed_V
        kept_V = allowed_V.copy()
        kept_V[too_early] = False
        return kept_V if kept_V.any() else allowed_V

    def _too_early(self) -> list[int]:
        return self._ends if self.generated < self.params.min_tokens else []

    def uniform(self) -> float:
        """The stream's next number in [0, 1), of 53 bits; drawn once for each sampled token."""
        return float(self._stream.random_raw() >> 11) * 2.0**-53

    def accept(self, token_id: int) -> None:
        """Count a chosen token."""
        self.generated += 1
        if self.edits is not None:
            self.edits.count(token_id)
        if self.grammar is not None:
            self.grammar.accept(token_id)


def check_vocabulary(params: SamplingParams, vocabulary: int) -> None:
    """Raise `RequestError` for a token id in `params` that a model of `vocabulary` lacks."""
    for name, ids in (("logit_bias", params.logit_bias), ("stop_token_ids", params.stop_token_ids)):
        outside = [token for token in ids or () if token >= vocabulary]
        if outside:
            raise RequestError(
                f"{name} has token id {outside[0]}, outside the vocabulary of {vocabulary}"
            )


class TokenEdits:
    """The tokens of one continuation whose logits change, and by how much.

    A sparse table, because a text holds hundreds of different tokens and the vocabulary has tens
    of thousands. Repetition penalties count the prompt, the others only what was generated.
    """

    _ID, _BIAS, _COUNT, _REPEATED = range(4)

    def __init__(self, params: SamplingParams, prompt_token_ids: Iterable[int]) -> None:
        self._params = params
        self._place: dict[int, int] = {}
        self._table = np.zeros((4, 64))
        for token_id, bias in (params.logit_bias or {}).items():
            place = self._find(token_id)  # before the table is named: it may move
            self._table[self._BIAS, place] = bias
        if params.repetition_penalty != 1:
            for token_id in set(prompt_token_ids):
                place = self._find(token_id)
                self._table[self._REPEATED, place] = 1

    def count(self, token_id: int, times: int = 1) -> None:
        """Note `times` more of a generated token."""
        place = self._find(token_id)
        self._table[self._COUNT, place] += times
        self._table[self._REPEATED, place] = 1

    def rows(self, row: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        """For each token: `row`, token id, bias, factor of repetition, final shift; [5, tokens]."""
        params, table = self._params, self._table[:, : len(self._place)]
        edits = np.empty((5, table.shape[1]))
        edits[0] = row
        edits[1:3] = table[: self._COUNT]
        edits[3] = np.where(table[self._REPEATED] > 0, params.repetition_penalty, 1)
        count = table[self._COUNT]
        edits[4] = -params.frequency_penalty * count - params.presence_penalty * (count > 0)
        return edits

    def _find(self, token_id: int) -> int:
        place = self._place.setdefault(token_id, len(self._place))
        if place == self._table.shape[1]:
            self._table = np.concatenate((self._table, np.zeros_like(self._table)), axis=1)
        self._table[self._ID, place] = token_id
        return place


def _edits(
    params: SamplingParams, prompt_token_ids: Sequence[int], generated: Sequence[int]
) -> TokenEdits | None:
    neutral = (params.presence_penalty, params.frequency_penalty, params.repetition_penalty)
    if neutral == (0, 0, 1) and not params.logit_bias:
        return None
    edits = TokenEdits(params, prompt_token_ids)
    for token_id, times in Counter(generated).items():
        edits.count(token_id, times)
    return edits
