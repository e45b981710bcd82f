"""Which rows run in this step: the wavefront of loops over a sequence's tokens. No torch.

Loop r may run token t once loop r - 1 has finished token t - 1 and loop 1's keys of t exist. So in
decoding all loops run the newest token together (SPEC.md section 2), and in prefill each loop
follows the one before, a chunk behind, over the tail of tokens that matters (section 3).
"""

from dataclasses import dataclass

from loopcoder.engine.sequence import Sequence
from loopcoder.model.config import ModelConfig
from loopcoder.model.cost import tail_rows


@dataclass(frozen=True, kw_only=True)
class Span:
    """Tokens `start` to `stop` of one sequence in one loop (0-based), to run in one step.

    `goal` is the point whose state they prepare; rows too far before it drop out, layer by layer.
    None: all rows go through all layers.
    """

    sequence: Sequence
    loop: int
    start: int
    stop: int
    goal: int | None = None

    @property
    def rows(self) -> int:
        """Rows that enter the first layer."""
        return self.stop - self.start


class Wavefront:
    """Plans spans for sequences of one model. `serial` allows one loop per step: the yardstick."""

    def __init__(self, config: ModelConfig, *, tail: bool = True, serial: bool = False) -> None:
        self.config = config
        self.tail = tail
        self.serial = serial

    def reach(self, loops: int) -> int:
        """Tokens before a goal whose loop-1 output the later loops need; 0 for a single loop."""
        if loops == 1:
            return 0
        return tail_rows(self.config, loops, 1, self.config.num_hidden_layers)

    def lows(self, span: Span) -> tuple[int, ...] | None:
        """The first tokens that must be exact before each layer, and after the last: [L + 1].

        Loop 1 writes keys and values of every token in every layer. None: all rows go all the way.
        """
        if span.goal is None:
            return None
        L, loops = self.config.num_hidden_layers, span.sequence.loops
        needed = [span.goal - tail_rows(self.config, loops, span.loop + 1, n) for n in range(L + 1)]
        return tuple(needed) if span.loop else (0,) * L + (needed[L],)

    def plan(self, sequence: Sequence, budget: int) -> list[Span]:
        """At most `budget` rows that can run now, in the order of loops."""
        if self.serial:
            possible = (self._span(sequence, loop, budget) for loop in range(sequence.loops))
            return [span for span in possible if span is not None][:1]
        if not sequence.prefilling:
            return self._token(sequence) if sequence.loops <= budget else []
        spans = []
        for loop in reversed(range(sequence.loops)):
            span = self._span(sequence, loop, budget)
            if span is not None:
                budget -= span.rows
                spans.append(span)
        return spans[::-1]

    def _token(self, sequence: Sequence) -> list[Span]:
        at = len(sequence.tokens) - 1
        return [
            Span(sequence=sequence, loop=loop, start=at, stop=at + 1)
            for loop in range(sequence.loops)
        ]

    def _span(self, sequence: Sequence, loop: int, budget: int) -> Span | None:
        done, end = sequence.done, len(sequence.tokens)
        # No loop overtakes another: at a goal, all must have handed on before the last one ends.
        ready = done[loop - 1] if loop else end
        ahead = [goal for goal in sequence.goals if goal > done[loop]]
        goal = ahead[0] if ahead and self.tail and not sequence.whole else None
        start = done[loop]
        if loop and goal is not None:
            needed = goal - tail_rows(self.config, sequence.loops, loop + 1, 0)
            start = max(start, needed)
        # What is kept at a goal, a later loop's window among it, is of the tokens before it alone.
        until = min(ready, ahead[0]) if ahead else ready
        stop = min(until, start + budget)
        if stop <= start:
            return None
        return Span(sequence=sequence, loop=loop, start=start, stop=stop, goal=goal)
