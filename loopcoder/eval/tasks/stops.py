"""Where a base model's program ends, by benchmark."""

from loopcoder.eval.prompts import HUMANEVAL_STOPS, MBPP_STOPS


def stops(benchmark: str) -> tuple[str, ...]:
    """The stop strings of a completion."""
    return MBPP_STOPS if benchmark.startswith("mbpp") else HUMANEVAL_STOPS
