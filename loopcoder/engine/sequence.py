"""A request as the scheduler sees it: tokens, and how far each loop has come. No torch."""

from dataclasses import dataclass, field, replace

from loopcoder.cache.ledger import Holding
from loopcoder.types import SamplingParams


@dataclass(frozen=True, kw_only=True)
class Request:
    """One prompt and what is asked for; `params.loops` is set, `params.max_tokens` fits.

    `limit` is the greatest number of tokens to generate.
    """

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    params: SamplingParams
    limit: int

    @property
    def loops(self) -> int:
        """R of this request."""
        assert self.params.loops is not None
        return self.params.loops

    @property
    def seeded(self) -> bool:
        """Whether the text must be the same whatever else runs, now and before."""
        return self.params.seed is not None

    @property
    def whole(self) -> bool:
        """Whether every loop must run at every prompt position."""
        return self.params.prompt_logprobs is not None


@dataclass(kw_only=True)
class Times:
    """When things happened, in seconds of the scheduler's clock; None: not yet."""

    arrived: float = 0.0
    admitted: float | None = None
    first_token: float | None = None
    finished: float | None = None


@dataclass(eq=False, kw_only=True)
class Sequence:
    """One continuation of a request's prompt.

    `tokens` are the prompt and what was generated. `done[r]` counts the tokens that loop r
    (0-based) needs no more: it ran them, or no later row depends on them. `goals` are the points,
    the last of them the end of what was there at admission, whose state must come out exactly.
    """

    request: Request
    index: int = 0
    tokens: list[int]
    done: list[int] = field(default_factory=list)
    goals: list[int] = field(default_factory=list)
    whole: bool = False
    slot: int = -1
    holding: Holding | None = None
    siblings: int = 0  # continuations of the same prompt that wait for its end
    served: int = -1  # the step in which it last ran
    cached: int = 0  # tokens of the prompt found in memory at first admission
    order: tuple[int, int] = (0, 0)  # of arrival, then of continuations
    times: Times = field(default_factory=Times)

    @classmethod
    def of(cls, request: Request) -> "Sequence":
        """The request's first continuation, which reads the prompt for all of them."""
        tokens = list(request.prompt_token_ids)
        return cls(
            request=request, tokens=tokens, whole=request.whole, siblings=request.params.n - 1
        )

    def sibling(self) -> "Sequence":
        """The next continuation that waited for this one's prompt."""
        index = self.request.params.n - self.siblings
        self.siblings -= 1
        return replace(
            self,
            index=index,
            tokens=list(self.request.prompt_token_ids),
            done=list(self.done),
            goals=list(self.goals),
            whole=False,
            slot=-1,
            holding=None,
            siblings=0,
            order=(self.order[0], index),
            times=replace(self.times),
        )

    @property
    def loops(self) -> int:
        """R."""
        return self.request.loops

    @property
    def name(self) -> tuple[str, int]:
        """Which request, and which of its continuations."""
        return self.request.request_id, self.index

    @property
    def generated(self) -> int:
        """Tokens beyond the prompt."""
        return len(self.tokens) - len(self.request.prompt_token_ids)

    @property
    def prefilling(self) -> bool:
        """Whether loops have still to reach the end of what was there at admission."""
        return self.done[-1] < self.goals[-1]

    @property
    def complete(self) -> bool:
        """Whether the last loop has seen every token, so that the next one can be chosen."""
        return self.done[-1] == len(self.tokens)
