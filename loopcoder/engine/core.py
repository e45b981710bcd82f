"""The engine's step: schedule, one forward pass, one choice for each sequence that is ready."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import torch

from loopcoder.cache.ledger import Ledger
from loopcoder.cache.paged import PagedMemory
from loopcoder.cache.states import HandedStates
from loopcoder.engine.continuation import Continuation
from loopcoder.engine.grammar import Grammar, Grammars
from loopcoder.engine.lens import loop_lenses
from loopcoder.engine.logprobs import prompt_logprobs
from loopcoder.engine.runner import Runner, StepStates
from loopcoder.engine.sampling import Choice, sample_batch
from loopcoder.engine.scheduler import Limits, Ready, Scheduler
from loopcoder.engine.sequence import Request, Sequence, Times
from loopcoder.engine.vocabulary import TokenTexts
from loopcoder.engine.wavefront import Span, Wavefront
from loopcoder.model.plt import PLT
from loopcoder.types import Logprob, LoopLens, RequestOutput, StreamEvent


@dataclass(kw_only=True)
class _Answer:
    """A request under way: its continuations, and the log-probabilities of its prompt."""

    request: Request
    first: Sequence
    grammar: Grammar | None
    continuations: dict[int, Continuation] = field(default_factory=dict)
    prompt_logprobs: dict[int, dict[int, Logprob]] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        done = [c for c in self.continuations.values() if c.finish_reason]
        return len(done) == self.request.params.n


@dataclass(frozen=True, kw_only=True)
class Update:
    """What a step did for continuation `index` of a request: an event, or None where it broke off.

    The whole output comes with the last one.
    """

    request_id: str
    index: int
    event: StreamEvent | None
    output: RequestOutput | None
    times: Times


class Engine:
    """Continuous batching over one model (SPEC.md sections 2 and 3).

    Requests may be added and aborted between any two steps; rows of all sequences and of all
    their loops share each forward pass.
    """

    def __init__(
        self,
        model: PLT,
        memory: PagedMemory,
        *,
        limits: Limits,
        wavefront: Wavefront,
        end_token_ids: Collection[int] = (),
        tokenizer: Any = None,
        reuse: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.model = model
        self.memory = memory
        shape, width = memory.shape, model.config.hidden_size
        states = HandedStates(limits.sequences, width, shape.dtype, shape.device)
        ledger = Ledger(memory.pages, shape.page_size, shape.ring_pages, reuse=reuse)
        self.scheduler = Scheduler(wavefront, ledger, states, limits, clock)
        self.runner = Runner(model, memory, states, wavefront)
        self._ends = frozenset(end_token_ids)
        self._texts = None if tokenizer is None else TokenTexts(tokenizer)
        self.grammars = Grammars(tokenizer, self._ends)
        self._answers: dict[str, _Answer] = {}
        self.generated = self.prompted = 0
        self.step_seconds = 0.0

    @property
    def busy(self) -> bool:
        """Whether a step would do something."""
        return bool(self.scheduler.running or self.scheduler.waiting)

    def check(self, request: Request) -> None:
        """Raise `RequestError`, with the numbers, for a request that could never run."""
        self.scheduler.check(request)
        self.grammars.check(request.params.structured_outputs)

    def add(self, request: Request, grammar: Grammar | None = None) -> None:
        """Queue a request. Raises `RequestError` at once if it can never fit.

        `grammar` is what `grammars.compile` made of its parameters, where another thread has; it is
        made here otherwise.
        """
        assert request.request_id not in self._answers, "request ids are unique"
        if grammar is None:
            grammar = self.grammars.compile(request.params.structured_outputs)
        first = self.scheduler.add(request)
        self._answers[request.request_id] = _Answer(request=request, first=first, grammar=grammar)
        self.prompted += len(request.prompt_token_ids)

    def abort(self, request_id: str) -> RequestOutput | None:
        """Stop a request at once; what it has so far comes back. None if it is not there."""
        answer = self._answers.get(request_id)
        if answer is None:
            return None
        self.scheduler.abort(request_id)
        for index in range(answer.request.params.n):
            continuation = self._continuation(answer, index)
            continuation.finish_reason = continuation.finish_reason or "abort"
        return self._close(answer)

    @torch.inference_mode()
    def step(self) -> list[Update]:
        """Run one forward pass and choose what it makes ready."""
        begun = time.perf_counter()
        spans = self.scheduler.schedule()
        if not spans:
            return []
        try:
            self._copy()
            states = self.runner.forward(spans)
            self._read_prompts(spans, states)
        except BaseException:  # Ctrl-C, or a device that is out of memory
            self.scheduler.begin_again(spans)
            raise
        ready = self.scheduler.advance(spans)
        updates = self._choose(ready, states) if ready else []
        self.step_seconds += time.perf_counter() - begun
        return updates

    def _copy(self) -> None:
        copies = self.scheduler.ledger.copies
        if copies:
            self.memory.copy_pages(copies)
            copies.clear()

    def _read_prompts(self, spans: list[Span], states: StepStates) -> None:
        """Log-probabilities of prompt tokens whose predecessors the last loop has just run."""
        for span in spans:
            sequence, request = span.sequence, span.sequence.request
            count = request.params.prompt_logprobs
            if not sequence.whole or count is None or span.loop < sequence.loops - 1:
                continue
            first, h_TD = states.prompt(span)
            following = request.prompt_token_ids[first + 1 : span.stop + 1]
            found = prompt_logprobs(
                self.runner.logits, h_TD[: len(following)], following, count, self._texts
            )
            answer = self._answers[request.request_id]
            answer.prompt_logprobs.update(enumerate(found, first + 1))

    def _choose(self, ready: list[Ready], states: StepStates) -> list[Update]:
        logits_BV = self.runner.logits(states.last([each.source for each in ready]))
        answers = [self._answers[each.sequence.request.request_id] for each in ready]
        writers = [
            self._continuation(answer, each.sequence.index)
            for answer, each in zip(answers, ready, strict=True)
        ]
        choices = sample_batch(logits_BV, [writer.sampling for writer in writers], self._texts)
        lenses = loop_lenses(self.runner, ready, choices, logits_BV, self._texts)
        return [
            self._accept(each.sequence, answer, writer, choice, lens)
            for each, answer, writer, choice, lens in zip(
                ready, answers, writers, choices, lenses, strict=True
            )
        ]

    def _continuation(self, answer: _Answer, index: int) -> Continuation:
        if index not in answer.continuations:
            answer.continuations[index] = Continuation(
                answer.request, index, self._ends, self._texts, answer.grammar
            )
        return answer.continuations[index]

    def _accept(
        self,
        sequence: Sequence,
        answer: _Answer,
        writer: Continuation,
        choice: Choice,
        lens: LoopLens | None,
    ) -> Update:
        event = None
        if choice.token_id is None:  # no distribution: this sequence ends, the others go on
            writer.finish_reason = "error"
        else:
            self.generated += 1
            self.scheduler.accept(sequence, choice.token_id)
            event = writer.accept(choice, lens)
        if writer.finish_reason:
            self.scheduler.finish(sequence, keep=choice.token_id is not None)
        if choice.token_id is None and not writer.out_of_grammar:
            self.scheduler.distrust()
        return Update(
            request_id=answer.request.request_id,
            index=sequence.index,
            event=event,
            output=self._close(answer) if answer.finished else None,
            times=sequence.times,
        )

    def _close(self, answer: _Answer) -> RequestOutput:
        request = answer.request
        del self._answers[request.request_id]
        asked = request.params.prompt_logprobs is not None
        read = answer.prompt_logprobs
        return RequestOutput(
            prompt=request.prompt,
            prompt_token_ids=request.prompt_token_ids,
            outputs=[answer.continuations[n].output() for n in range(request.params.n)],
            prompt_logprobs=[None, *(read[n] for n in sorted(read))] if asked else None,
            request_id=request.request_id,
            num_cached_tokens=answer.first.cached,
        )

    def stats(self) -> dict[str, Any]:
        """Counters since the start (`rows` and `prefill_rows` by loop, 1-based), and memory now."""
        scheduler, pool = self.scheduler, self.scheduler.ledger.pool
        page, ledger = self.memory.shape.page_bytes, self.scheduler.ledger
        cached = pool.reclaimable
        return {
            "steps": scheduler.steps,
            "rows": dict(sorted(self.runner.rows_by_loop.items())),
            "prefill_rows": dict(sorted(self.runner.prefill_rows_by_loop.items())),
            "prompt_tokens": self.prompted,
            "generated_tokens": self.generated,
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting),
            "preemptions": scheduler.preemptions,
            "kv_bytes_reserved": pool.count * page,
            "kv_bytes_in_use": (pool.count - pool.free - cached) * page,
            "kv_bytes_cached": cached * page,
            "prefix_tokens_asked": ledger.asked,
            "prefix_tokens_hit": ledger.hit,
            "step_seconds": self.step_seconds,
            "model_seconds": self.runner.model_seconds,
        }
