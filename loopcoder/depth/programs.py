"""Small programs: `a3,b1,ab+4,ba*3,:b>0;` is a = 3, b = 1, a = b + 4, b = a * 3: what is b?"""

from random import Random

from loopcoder.depth.arithmetic import MODULUS, apply, draw_operation
from loopcoder.depth.question import Query, Question

NAMES = "abcdef"


def programs(rng: Random, hops: int) -> Question:
    """`hops` statements that the asked value goes through, and half as many that it does not.

    The asked value moves from variable to variable. The steps are its value after each statement
    but the last.
    """
    values = {name: rng.randrange(MODULUS) for name in NAMES[: 2 + hops // 6]}
    statements = [f"{name}{value}," for name, value in values.items()]
    asked = rng.choice(sorted(values))
    trace: list[str] = []
    for _ in range(hops):
        others = [name for name in values if name != asked]
        if rng.random() < 1 / 2:
            beside = rng.choice(others)
            statements.append(_statement(rng, values, beside, rng.choice(others)))
        target = rng.choice(sorted(values))
        statements.append(_statement(rng, values, target, asked))
        asked = target
        trace.append(str(values[asked]))
    query = Query(ask=asked, steps="".join(trace[:-1]), answer=trace[-1])
    statement = "".join(statements) + ":"
    return Question(task="programs", hops=hops, statement=statement, queries=(query,))


def _statement(rng: Random, values: dict[str, int], target: str, source: str) -> str:
    operation, operand = draw_operation(rng)
    values[target] = apply(operation, values[source], operand)
    return f"{target}{source}{operation}{operand},"
