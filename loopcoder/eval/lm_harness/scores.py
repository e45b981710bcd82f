"""Log-probabilities of continuations from the engine, and whether greedy decoding writes them."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from loopcoder.engine.llm import LLM
from loopcoder.errors import GenerationError
from loopcoder.types import RequestOutput, SamplingParams

_WAITING = 8  # requests in one call for each that runs: short ones do not leave the others alone

# The engine always writes one token, which is the greedy one.
_PROMPT = SamplingParams(max_tokens=1, temperature=0.0, prompt_logprobs=1)
_NEXT = SamplingParams(max_tokens=1, temperature=0.0, logprobs=-1)


class Pair(NamedTuple):
    """Tokens to score behind tokens that they follow; neither is empty."""

    context: Sequence[int]
    continuation: Sequence[int]


class Score(NamedTuple):
    """Nats (negative), and whether greedy decoding would have written the same tokens."""

    log_likelihood: float
    greedy: bool


def score_pairs(
    llm: LLM, pairs: Sequence[Pair], *, sequences: int, done: Callable[[int], object]
) -> list[Score]:
    """One score a pair, in order; `done` hears how many pairs each call of the engine settled.

    A pair's tokens must be fewer than `llm.max_model_len`. `sequences` is how many the engine runs
    at once. Choices of a single token behind one context are read from one prediction; its prompt
    needs the later loops at its end only, and shares the prefix of others (SPEC.md section 3).
    Longer continuations need all loops at all of their positions, and the engine runs them
    everywhere. Raises `GenerationError` where the model gives no numbers.
    """
    scores: dict[int, Score] = {}
    choices: dict[tuple[int, ...], list[int]] = {}
    longer: list[int] = []
    for number, (context, continuation) in enumerate(pairs):
        if len(continuation) == 1:
            choices.setdefault(tuple(context), []).append(number)
        else:
            longer.append(number)
    contexts = sorted(choices)  # those that begin alike come one after another
    # A whole vocabulary of probabilities is large: only as many at once as run at once.
    for at in range(0, len(contexts), sequences):
        some = contexts[at : at + sequences]
        for context, output in zip(some, _run(llm, some, _NEXT), strict=True):
            for number in choices[context]:
                scores[number] = _next(output, pairs[number].continuation[0])
            done(len(choices[context]))
    longer.sort(key=lambda number: -len(pairs[number].context) - len(pairs[number].continuation))
    for at in range(0, len(longer), sequences * _WAITING):
        numbers = longer[at : at + sequences * _WAITING]
        prompts = [[*pairs[number].context, *pairs[number].continuation] for number in numbers]
        for number, output in zip(numbers, _run(llm, prompts, _PROMPT), strict=True):
            scores[number] = _behind(output, pairs[number].continuation)
        done(len(numbers))
    return [scores[number] for number in range(len(pairs))]


def _run(llm: LLM, prompts: Sequence[Sequence[int]], params: SamplingParams) -> list[RequestOutput]:
    outputs = llm.generate(prompts, params)
    if any(output.outputs[0].finish_reason == "error" for output in outputs):
        raise GenerationError(
            "the model's logits are not numbers (NaN or infinite); check the weights, or try "
            "dtype=float32"
        )
    return outputs


def _next(output: RequestOutput, token_id: int) -> Score:
    written = output.outputs[0]
    assert written.logprobs is not None
    return Score(written.logprobs[0][token_id].logprob, written.token_ids[0] == token_id)


def _behind(output: RequestOutput, continuation: Sequence[int]) -> Score:
    """From the prompt's own log-probabilities: of each token, and of the likeliest if another."""
    assert output.prompt_logprobs is not None
    reports = output.prompt_logprobs[-len(continuation) :]
    total, greedy = 0.0, True
    for token_id, report in zip(continuation, reports, strict=True):
        assert report is not None
        total += report[token_id].logprob
        greedy = greedy and len(report) == 1
    return Score(total, greedy)
