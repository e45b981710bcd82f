"""Chains of assignments: `a7,ba,cb,:c>7;` says a = 7, b = a, c = b, and asks for c: two hops."""

from random import Random
from string import ascii_letters, digits

from loopcoder.depth.question import Query, Question

CHAINS = 3  # equally long, interleaved: without following one, a guess is right once in three
QUERIES = 8


def chains(rng: Random, hops: int) -> Question:
    """Variables copied from each other; the scored query is `hops` copies from its number."""
    names = rng.sample(ascii_letters, CHAINS * (hops + 1))
    chain = [names[index::CHAINS] for index in range(CHAINS)]
    value = rng.sample(digits, CHAINS)
    statements: list[str] = []
    done = [0] * CHAINS
    for index in _interleaved(rng, hops + 1):
        place = done[index]
        source = chain[index][place - 1] if place else value[index]
        statements.append(f"{chain[index][place]}{source},")
        done[index] += 1
    asked = [(rng.randrange(CHAINS), hops)]
    asked += [(rng.randrange(CHAINS), rng.randint(0, hops)) for _ in range(QUERIES - 1)]
    queries = tuple(
        Query(
            ask=chain[index][place],
            steps="".join(reversed(chain[index][:place])),
            answer=value[index],
        )
        for index, place in asked
    )
    statement = "".join(statements) + ":"
    return Question(task="chains", hops=hops, statement=statement, queries=queries)


def _interleaved(rng: Random, length: int) -> list[int]:
    order = [index for index in range(CHAINS) for _ in range(length)]
    rng.shuffle(order)
    return order
