"""Multi-step modular arithmetic: `3+4*2>4;`, left to right, modulo 5."""

from random import Random

from loopcoder.depth.question import Query, Question

MODULUS = 5


def apply(operation: str, left: int, right: int) -> int:
    """One operation modulo 5."""
    if operation == "+":
        return (left + right) % MODULUS
    if operation == "-":
        return (left - right) % MODULUS
    return left * right % MODULUS


def arithmetic(rng: Random, hops: int) -> Question:
    """`hops` operations in a row. The steps are the value after each but the last."""
    value = rng.randrange(MODULUS)
    text, values = str(value), []
    for _ in range(hops):
        operation, operand = draw_operation(rng)
        value = apply(operation, value, operand)
        text += f"{operation}{operand}"
        values.append(str(value))
    query = Query(ask=text, steps="".join(values[:-1]), answer=values[-1])
    return Question(task="arithmetic", hops=hops, statement="", queries=(query,))


def draw_operation(rng: Random) -> tuple[str, int]:
    """An operation that keeps all five values apart: no step forgets what came before it."""
    operation = rng.choice("+-*")
    return operation, rng.randrange(2 if operation == "*" else 1, MODULUS)
