"""Numbers as a reader wants them: three digits, a real minus sign, intervals in words."""

import math
import re
import unicodedata
from collections.abc import Sequence

_RAISED = str.maketrans("r-0123456789", "ʳ⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LOWERED = str.maketrans("t-0123456789", "ₜ₋₀₁₂₃₄₅₆₇₈₉")
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_MOST_FILES = 3
_JOINERS = "\u200c\u200d"


def number(value: float | None, digits: int = 3) -> str:
    """`value` with about `digits` significant digits; an empty place where there is none."""
    if value is None:
        return "\u2013"
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else str(value)
    if value == round(value) and abs(value) < 10**digits:
        return f"{value:.0f}".replace("-", "\u2212")
    size = math.floor(math.log10(abs(value)))
    if -4 <= size < 9:
        return f"{value:,.{max(0, digits - 1 - size)}f}".replace("-", "\u2212")
    mantissa = f"{value / 10**size:.{digits - 1}f}".replace("-", "\u2212")
    return f"{mantissa} \u00d7 10{str(size).translate(_RAISED)}"


def signed(value: float, digits: int = 3) -> str:
    """A difference: its sign is always shown."""
    return f"+{number(value, digits)}" if value > 0 else number(value, digits)


def interval(low: float | None, high: float | None) -> str:
    """A confidence interval in words."""
    return "\u2013" if low is None or high is None else f"{number(low)} to {number(high)}"


def with_interval(value: float, low: float | None, high: float | None) -> str:
    """A number and, where there is one, its 95 % interval."""
    known = low is not None and high is not None
    return f"{number(value)} ({interval(low, high)})" if known else number(value)


def count(value: int | None) -> str:
    """A whole number."""
    return "\u2013" if value is None else f"{value:,}"


def amount(value: float, unit: str) -> str:
    """`value` with three digits and a prefix: 3.05 ms, 57.3 kB, 1.20 PFLOP."""
    if unit == "s" and value < 1:
        return f"{number(1e3 * value)} ms"
    if unit not in ("B", "FLOP"):
        return f"{number(value)} {unit}"
    place = 0
    while value >= 999.5 and place < len(_PREFIXES) - 1:
        value, place = value / 1000, place + 1
    return f"{number(value)} {_PREFIXES[place]}{unit}"


def duration(seconds: float) -> str:
    """How long something took, in the unit that people would say it in."""
    for size, unit in ((3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{number(seconds / size)} {unit}"
    return amount(seconds, "s")


def in_loops(loops: int) -> str:
    """`1 loop`, `2 loops`."""
    return f"{loops} loop" + ("" if loops == 1 else "s")


def files(source: str, basis: str) -> str:
    """Where a number comes from; of many files the first, as every one is in the sources."""
    names = source.split(", ")
    if basis != "measured" or len(names) <= _MOST_FILES:
        return visible(source)
    first, rest = names[: _MOST_FILES - 1], names[_MOST_FILES - 1 :]
    return f"{visible(', '.join(first))} and {len(rest)} more files"


def listed(words: Sequence[str]) -> str:
    """Words as a sentence lists them."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def capital(text: str) -> str:
    """`text` as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def small(text: str) -> str:
    """A title within a sentence; signs such as Δp and Ω stay as they are."""
    return text[:1].lower() + text[1:]


def sentence(text: str) -> str:
    """A line of another package as a sentence of the page."""
    said = re.sub(r"(?<=[\s(])-(?=[\d.])", "\u2212", visible(text))
    if said.split(" ")[0].isalpha():  # not the name of a file
        said = capital(said)
    return said if said.endswith((".", "?", "!")) else f"{said}."


def formula(text: str) -> str:
    """A definition's u^{r-1} and h_{t-1} with raised and lowered letters."""
    text = re.sub(r"\^\{([r0-9-]+)\}|\^([r0-9])", lambda m: _moved(m, _RAISED), text)
    return re.sub(r"_\{([t0-9-]+)\}|_(t)\b", lambda m: _moved(m, _LOWERED), text)


def _moved(match: re.Match[str], letters: dict[int, int]) -> str:
    return (match.group(1) or match.group(2)).translate(letters)


def visible(text: str) -> str:
    """`text` with every character that cannot be seen, or turns others round, spelled out.

    Spaces, tabs and line ends stay: who shows them decides how.
    """
    shown = "".join(char if _harmless(char) else _spelled(char) for char in text)
    if shown and not shown.strip(_JOINERS):
        return "".join(_spelled(char) for char in shown)
    return shown


def _harmless(char: str) -> bool:
    if char in " \t\n" or char in _JOINERS:
        return True
    return unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Cn", "Co", "Zl", "Zp")


def _spelled(char: str) -> str:
    return f"\u27e8U+{ord(char):04X}\u27e9"
