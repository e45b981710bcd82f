"""A passage, token by token: what each loop expected there, and how much a loop changed it."""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from markupsafe import Markup, escape

from loopcoder.records.rows import PassageRow, PassageToken
from loopcoder.report.numbers import number, visible
from loopcoder.report.parts import Section, Table
from loopcoder.report.runs import Run
from loopcoder.report.sections.common import PROBE

MOST_PASSAGES = 6
MOST_ROWS = 40  # tokens in the table; the view has them all
MOST_CANDIDATES = 6
STEPS = 8  # shades that are told apart with ease

_SIGNS = str.maketrans({" ": "\u00b7", "\n": "\u21b5", "\t": "\u2192"})
_PIECES = re.compile(r"(?P<sp> +)|(?P<tab>\t)|(?P<nl>\n)|[^ \t\n]+")


@dataclass(frozen=True, kw_only=True)
class Token:
    """A token as it stands in the passage."""

    text: Markup
    shade: float  # 0 to 1, of the first loop that is compared


@dataclass(frozen=True, kw_only=True)
class Passage:
    """All that the template shows of one passage."""

    name: str
    title: str
    tokens: Sequence[Token]
    compared: Sequence[int]  # loops that have one before them
    marks: Sequence[tuple[float, str]]  # shade and nats, for the legend
    sentence: str
    data: Markup
    table: Table


def tokens(runs: Sequence[Run]) -> Section:
    """The token view of every passage, the run of most loops first."""
    found = [(run, row) for run in runs for row in run.of(PassageRow) if row.tokens]
    found.sort(key=lambda pair: -pair[0].loops)
    shown = [_passage(run, row, i) for i, (run, row) in enumerate(found[:MOST_PASSAGES])]
    lines = []
    if not shown:
        lines = [f"Not in these records: a passage of text. `{PROBE}` reads one."]
    if len(found) > len(shown):
        lines = [f"{len(found) - len(shown)} more passages are in the record files."]
    return Section(
        name="tokens",
        title="Token by token",
        lead="Every token is tinted by how much a loop changed what the model expected there. "
        "Choose one with the pointer, a tap, or the arrow keys to see what each loop expected.",
        missing=lines,
        template="tokens.html",
        content=shown,
    )


def shown(text: str) -> str:
    """A token on one line of its own: spaces and line ends as signs."""
    return visible(text).translate(_SIGNS) or "\u2205"


def laid_out(text: str) -> Markup:
    """A token within its passage: white space keeps its place and can be seen."""
    if not text:
        return Markup("<i class=ctl>\u2205</i>")
    return Markup("").join(_piece(match) for match in _PIECES.finditer(visible(text)))


def _piece(match: re.Match[str]) -> Markup:
    if match.lastgroup == "nl":
        return Markup("<i class=nl></i>\n")
    if match.lastgroup is None:
        return escape(match.group())
    return Markup("<i class={}>{}</i>").format(match.lastgroup, match.group())


def _passage(run: Run, row: PassageRow, place: int) -> Passage:
    most = _most(row)
    first = [_rounded(token.shift[0]) if token.shift else 0.0 for token in row.tokens]
    return Passage(
        name=f"passage-{place}",
        title=f"{visible(row.document)}, read by {run.label}",
        tokens=[
            Token(text=laid_out(token.text), shade=_shade(shift, most))
            for token, shift in zip(row.tokens, first, strict=True)
        ],
        compared=range(2, row.loops + 1),
        marks=[(i / STEPS, number(most * (i / STEPS) ** 2, 2)) for i in range(0, STEPS + 1, 2)],
        sentence=_said(row),
        data=_json({"most": most, "tokens": [_data(token) for token in row.tokens]}),
        table=_table(row),
    )


def _most(row: PassageRow) -> float:
    """The shift with the deepest tint: few tokens are beyond it."""
    shifts = sorted(shift for token in row.tokens for shift in token.shift)
    return max(shifts[int(0.98 * (len(shifts) - 1))], 1e-6) if shifts else 1.0


def _shade(shift: float, most: float) -> float:
    """The root makes small changes visible beside large ones."""
    return round(math.sqrt(min(1.0, max(shift, 0.0) / most)), 2)


def _said(row: PassageRow) -> str:
    moved = [(token.shift[0], token.text) for token in row.tokens if token.shift]
    if not moved:
        return "One loop: there is no second prediction to compare the first with."
    most, text = max(moved)
    middle = median(shift for shift, _ in moved)
    return (
        f"Loop 2 changes the prediction most where \u201c{shown(text)}\u201d stands "
        f"({number(most)} nats); half of the {len(moved)} tokens change by less than "
        f"{number(middle)} nats."
    )


def _data(token: PassageToken) -> dict[str, object]:
    return {
        "t": shown(token.text),
        "s": [_rounded(value) for value in token.shift],
        "e": [number(value) for value in token.entropy],
        "r": token.rank,
        "p": [_rounded(value) for value in token.probability],
        "c": [
            [[shown(c.text), _rounded(c.probability)] for c in loop[:MOST_CANDIDATES]]
            for loop in token.candidates
        ],
    }


def _rounded(value: float) -> float:
    return float(f"{value:.3g}")


def _json(value: object) -> Markup:
    """JSON that no text can end early: every sign that HTML could read is spelled out."""
    text = json.dumps(value, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)


def _table(row: PassageRow) -> Table:
    return Table(
        columns=(
            "place",
            "token",
            "loop",
            "shift, nats",
            "entropy, nats",
            "rank",
            "probability",
            "likeliest",
        ),
        rows=list(_rows(row)),
        caption=f"The first {min(MOST_ROWS, len(row.tokens))} of {len(row.tokens)} tokens",
        words=frozenset({1, 7}),
    )


def _rows(row: PassageRow) -> Iterator[tuple[str, ...]]:
    for place, token in enumerate(row.tokens[:MOST_ROWS]):
        for i, (entropy, rank, probability) in enumerate(
            zip(token.entropy, token.rank, token.probability, strict=True)
        ):
            best = (
                token.candidates[i][0]
                if i < len(token.candidates) and token.candidates[i]
                else None
            )
            yield (
                str(place),
                shown(token.text),
                str(i + 1),
                number(token.shift[i - 1]) if i else "\u2013",
                number(entropy),
                str(rank),
                number(probability),
                f"{shown(best.text)} ({number(best.probability)})" if best else "\u2013",
            )
