"""Bracket matching: `({[]}()>)`: which bracket closes the last one that is still open?"""

from random import Random

from loopcoder.depth.question import Query, Question, letter_of

PAIRS = {"(": ")", "[": "]", "{": "}"}


def brackets(rng: Random, hops: int) -> Question:
    """Open brackets, the last of them followed by a closed part nested `hops` deep.

    Closed pairs stand between the others, so that counting alone does not find the last one. The
    steps are the depth after every bracket.
    """
    last = rng.choice("([{")
    text = "".join(_pairs(rng) + rng.choice("([{") for _ in range(rng.randrange(4)))
    text += _pairs(rng) + last + _closed(rng, hops)
    depth, trace = 0, ""
    for bracket in text:
        depth += 1 if bracket in PAIRS else -1
        trace += letter_of(depth)
    query = Query(ask=text, steps=trace, answer=PAIRS[last])
    return Question(task="brackets", hops=hops, statement="", queries=(query,))


def _pairs(rng: Random) -> str:
    """None, one or two brackets that are closed at once."""
    opened = [rng.choice("([{") for _ in range(rng.randrange(3))]
    return "".join(bracket + PAIRS[bracket] for bracket in opened)


def _closed(rng: Random, depth: int) -> str:
    """A balanced text nested `depth` deep, with shallow ones strewn in."""
    if depth == 0:
        return ""
    opening = rng.choice("([{")
    inner = _closed(rng, depth - 1)
    beside = rng.choice("([{") if rng.random() < 1 / 4 else ""
    extra = beside + PAIRS[beside] if beside else ""
    before, after = (extra, "") if rng.random() < 1 / 2 else ("", extra)
    return before + opening + inner + PAIRS[opening] + after
