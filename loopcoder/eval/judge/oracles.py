"""When a value is as good as the reference's: EvalPlus 0.3.1's rules, on plain values.

Exact equality, or else, where a tolerance is set, numpy's allclose between values of one type. Once
an expected value has been floats the tolerance stays for all later inputs of the run. Some problems
have several right answers; their rule has a name (`Inputs.oracle`).
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

FLOAT_ATOL = 1e-6  # once floats are expected and the problem sets none
RTOL = 1e-7


class Comparison:
    """The rules of one problem for one run over its inputs, in order.

    Raises `ValueError` for an oracle it does not know.
    """

    def __init__(self, atol: float, oracle: str | None) -> None:
        if oracle is not None and oracle not in ORACLES:
            raise ValueError(f"the oracle is {oracle!r}; it must be one of {', '.join(ORACLES)}")
        self._atol = atol
        self._oracle = oracle

    def accepts(self, arguments: tuple[Any, ...], got: Any, expected: Any) -> bool:
        """Whether `got` is right where the reference gave `expected`."""
        try:
            if self._oracle == "root":
                return abs(_polynomial(arguments[0], got)) <= self._atol
            return self._equal(arguments, got, expected)
        except (ArithmeticError, TypeError, ValueError, RecursionError, MemoryError):
            return False  # values that cannot be compared are not equal

    def _equal(self, arguments: tuple[Any, ...], got: Any, expected: Any) -> bool:
        if self._oracle == "not_none":
            expected = expected is not None
        exact = self._exact(arguments, got, expected)
        if self._atol == 0 and _floats(expected):
            self._atol = FLOAT_ATOL
        if exact or self._atol == 0:
            return exact
        return _close(got, expected, self._atol)

    def _exact(self, arguments: tuple[Any, ...], got: Any, expected: Any) -> bool:
        if self._oracle == "set":
            return set(got) == set(expected)
        if self._oracle == "not_none" and not isinstance(got, bool):
            return bool(expected == (got is not None))
        return bool(got == expected) or (
            self._oracle is not None
            and self._oracle in _ALSO
            and bool(_ALSO[self._oracle](arguments, got, self._atol))
        )


# What is right besides the expected value: of arguments, value and tolerance.
_ALSO: dict[str, Callable[[tuple[Any, ...], Any, float], bool]] = {
    "any": lambda arguments, got, atol: True,
    "or_zero": lambda arguments, got, atol: got == 0,
    "surface_area": lambda arguments, got, atol: abs(got - _pyramid(*arguments)) <= atol,
    "digit_distance": lambda arguments, got, atol: got == _digit_distance(*arguments),
}
ORACLES = (*_ALSO, "set", "not_none", "root")


def _floats(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(isinstance(item, float) for item in value)
    return isinstance(value, float)


def _close(got: Any, expected: Any, atol: float) -> bool:
    if type(got) is not type(expected):
        return False
    if isinstance(expected, list | tuple) and len(got) != len(expected):
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of infinities and overflow: they compare as they are
        return bool(np.allclose(got, expected, rtol=RTOL, atol=atol))


def _polynomial(coefficients: list[float], x: float) -> float:
    """HumanEval/32: the value at `x`, which a root makes zero; lowest degree first."""
    return sum(factor * math.pow(x, degree) for degree, factor in enumerate(coefficients))


def _pyramid(base: float, height: float) -> int:
    """Mbpp/581: the surface where `height` is from the base's middle to the apex, rounded."""
    slant = math.sqrt((base / 2) ** 2 + height**2)
    return round(base**2 + 2 * base * slant)


def _digit_distance(first: int, second: int) -> int:
    """Mbpp/558: the sum of the differences of digits at the same place, zeros in front."""
    width = max(len(str(first)), len(str(second)))
    pairs = zip(str(first).zfill(width), str(second).zfill(width), strict=True)
    return sum(abs(int(one) - int(other)) for one, other in pairs)
