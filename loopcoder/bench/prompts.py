"""Random prompts: the same for every engine, new ones for every measurement."""

from random import Random
from typing import Any


def draw_prompts(job: dict[str, Any], work: dict[str, Any], number: int) -> list[list[int]]:
    """Token ids of the prompts of measurement `number`.

    New ones each time, so that no engine answers from a prefix that it has seen.
    """
    random = Random(f"prompts of measurement {number}")
    vocabulary = range(job["config"]["vocab_size"])
    return [random.choices(vocabulary, k=work["prompt"]) for _ in range(work["sequences"])]


def brief(work: dict[str, Any]) -> dict[str, Any]:
    """The same kind of work, small: what an engine does only once, it does in this."""
    return {**work, "prompt": min(work["prompt"], 16), "output": min(work["output"], 2)}
