"""One continuation of a prompt as its reader sees it: tokens, text, reasons to stop."""

from collections.abc import Collection

from loopcoder.engine.grammar import Grammar
from loopcoder.engine.sampling import Choice
from loopcoder.engine.sampling_state import SamplingState
from loopcoder.engine.sequence import Request
from loopcoder.engine.text import TextStream
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.types import CompletionOutput, Logprob, LoopLens, StreamEvent


class Continuation:
    """Turns chosen tokens into events until a stop rule applies.

    `grammar`, one that stands at its start, is copied.
    """

    def __init__(
        self,
        request: Request,
        index: int,
        end_token_ids: Collection[int],
        texts: TokenTexts | None,
        grammar: Grammar | None = None,
    ) -> None:
        params = request.params
        self.index = index
        self.request = request
        ends = () if params.ignore_eos else end_token_ids
        self._ends = frozenset(ends)
        self._grammar = grammar and grammar.copy(end=not params.ignore_eos)
        self.sampling = SamplingState(
            params,
            index=index,
            prompt_token_ids=request.prompt_token_ids,
            end_token_ids=ends,
            grammar=self._grammar,
        )
        self._text = None
        if texts is not None:
            self._text = TextStream(
                texts,
                request.prompt_token_ids,
                params.stop,
                include_stop=params.include_stop_str_in_output,
                skip_special_tokens=params.skip_special_tokens,
                min_tokens=params.min_tokens,
            )
        self._pieces: list[str] = []
        self._token_ids: list[int] = []
        self._logprobs: list[dict[int, Logprob]] = []
        self._lenses: list[LoopLens] = []
        self.finish_reason: str | None = None
        self._stop_reason: str | int | None = None

    @property
    def out_of_grammar(self) -> bool:
        """Whether there is no next token because of the grammar, not of the model."""
        return self._grammar is not None and self._grammar.failed

    def accept(self, choice: Choice, lens: LoopLens | None = None) -> StreamEvent:
        """The event of one chosen token; sets `finish_reason` when it is the last."""
        token_id = choice.token_id
        assert token_id is not None
        self._token_ids.append(token_id)
        if choice.logprobs is not None:
            self._logprobs.append(choice.logprobs)
        if lens is not None:
            self._lenses.append(lens)
        complete = self._grammar is not None and self._grammar.finished
        text = self._read(token_id, complete)
        if self.finish_reason is None and complete:
            self.finish_reason = "stop"
        if self.finish_reason is None and len(self._token_ids) == self.request.limit:
            self.finish_reason = "length"
        if self.finish_reason and self._text is not None:
            text += self._text.flush()
        self._pieces.append(text)
        return StreamEvent(
            token_id=token_id,
            text=text,
            finish_reason=self.finish_reason,
            index=self.index,
            stop_reason=self._stop_reason,
            logprobs=choice.logprobs,
            loop_lens=lens,
        )

    def _read(self, token_id: int, complete: bool) -> str:
        """The text that a token completes; end tokens have none."""
        params = self.request.params
        enough = len(self._token_ids) > params.min_tokens
        if token_id in self._ends and (enough or complete):
            self.finish_reason = "stop"
            return ""
        if token_id in params.stop_token_ids and enough:
            self.finish_reason, self._stop_reason = "stop", token_id
            return ""
        if self._text is None:
            return ""
        text = self._text.push(token_id)
        if self._text.stopped:
            self.finish_reason, self._stop_reason = "stop", self._text.stop_reason
        return text

    def output(self) -> CompletionOutput:
        """What there is so far."""
        asked = self.request.params.logprobs is not None
        lens = self.request.params.loop_lens is not None
        pairs = zip(self._logprobs, self._token_ids, strict=False)
        return CompletionOutput(
            index=self.index,
            text=None if self._text is None else "".join(self._pieces),
            token_ids=list(self._token_ids),
            finish_reason=self.finish_reason,
            stop_reason=self._stop_reason,
            cumulative_logprob=sum(seen[t].logprob for seen, t in pairs) if asked else None,
            logprobs=list(self._logprobs) if asked else None,
            loop_lens=list(self._lenses) if lens else None,
        )
