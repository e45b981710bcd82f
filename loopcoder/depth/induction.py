"""k-hop induction: from the last letter to its last earlier occurrence, one on, k times.

`2|cdabcdab>d;` asks for two hops: b, c, d. The definition is that of Sanford, Hsu and Telgarsky,
*Transformers, parallel computation, and logarithmic depth* (arXiv 2402.09268).
"""

from random import Random

from loopcoder.depth.question import Query, Question, letter_of

ALPHABET = "abcd"
SPARE = 12  # letters beyond the four that a hop takes on average


def induction(rng: Random, hops: int) -> Question:
    """Letters in which `hops` hops are possible. The steps are the letters on the way.

    They do not end with a letter twice: each hop from there leads back to the same.
    """
    while True:
        text = "".join(rng.choice(ALPHABET) for _ in range(5 * hops + SPARE))
        found = follow(text, hops)
        if found is not None and text[-1] != text[-2]:
            break
    query = Query(ask=f"{letter_of(hops)}|{text}", steps=found[:-1], answer=found[-1])
    return Question(task="induction", hops=hops, statement="", queries=(query,))


def follow(text: str, hops: int) -> str | None:
    """The letters reached by 1..`hops` hops from the last letter; None if a hop finds nothing."""
    place, letters = len(text) - 1, ""
    for _ in range(hops):
        earlier = text.rfind(text[place], 0, place)
        if earlier < 0:
            return None
        place = earlier + 1
        letters += text[place]
    return letters
