"""The page: sections in their order, one HTML file that needs nothing else."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib import colormaps
from matplotlib.colors import to_hex

from loopcoder.errors import RecordError, file_errors
from loopcoder.loopcount import Advice, Evidence, Study, advise, studies
from loopcoder.report.numbers import count, visible
from loopcoder.report.parts import Section
from loopcoder.report.plots import COLOURS
from loopcoder.report.runs import Run, sort_runs
from loopcoder.report.sections import attention, output, similarity, states, tokens
from loopcoder.report.sections.ablation import ablation
from loopcoder.report.sections.depth import depth
from loopcoder.report.sections.loss import loss
from loopcoder.report.sections.recommendation import recommendation
from loopcoder.report.sections.scissors import scissors
from loopcoder.report.sections.sources import sources
from loopcoder.report.sections.trained import trained
from loopcoder.report.sections.tuning import tuning
from loopcoder.report.shown import shown_runs
from loopcoder.report.svg import DASHES

_TEMPLATES = Path(__file__).parent / "templates"
_RAMP_STOPS = 8
# The marks of `svg.MARKERS`, in a box of 30 x 12.
_SHAPES = (
    "M18.5 6a3.5 3.5 0 1 1-7 0 3.5 3.5 0 1 1 7 0z",
    "M11.5 2.5h7v7h-7z",
    "M15 2l4 7.5h-8z",
    "M15 1.5L19.5 6 15 10.500 10.500 6z",
    "M15 10l4-7.5h-8z",
    "M13.5 2h3v2.500h2.500v3h-2.500v2.500h-3v-2.500h-2.500v-3h2.500z",
    "M12 2l3 2.500 3-2.500 1 1-2.500 3 2.500 3-1 1-3-2.500-3 2.500-1-1 2.500-3-2.500-3z",
    "M15 1l1.3 3.5h3.7l-3 2.3 1.1 3.7-3.1-2.2-3.1 2.2 1.1-3.7-3-2.3h3.7z",
)


def write_report(directory: Path, out: Path, evidence: Evidence) -> int:
    """Write the page of what `directory` holds; returns its size in bytes.

    The file takes its name when it is whole. Raises `RecordError` where it cannot be written.
    """
    named = [replace(run, name=_inside(directory, run.name)) for run in evidence.runs]
    benches = [replace(bench, name=_inside(directory, bench.name)) for bench in evidence.benches]
    html = render(Evidence(runs=tuple(named), benches=tuple(benches))).encode()
    partial = out.with_name(f".{out.name}.partial")
    with file_errors(RecordError, "choose a file that can be written, with --out"):
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            partial.write_bytes(html)
            os.replace(partial, out)
        finally:
            partial.unlink(missing_ok=True)
    return len(html)


def render(evidence: Evidence) -> str:
    """The page as one string of HTML; runs that cannot be compared are shown without an advice."""
    shown, notes = shown_runs(evidence)
    runs = sort_runs(row for run in shown for row in run.rows)
    found = studies(evidence)
    advice, why_not = None, ""
    try:
        advice = advise(evidence)
    except RecordError as error:
        why_not = f"No advice: {visible(str(error))}."
    single = _of_single_models(runs, advice)
    if found and not runs:
        single = [section for section in single if not section.empty]
        notes.append("No model of the study was probed: sections on single models are left out.")
    sections = [
        recommendation(advice, why_not),
        loss(evidence, advice),
        depth(found, evidence, advice),
        trained(found),
        ablation(found, evidence.published),
        *single,
        tuning(found),
        sources(evidence, notes),
    ]
    template = _environment().get_template("page.html")
    return template.render(
        title=_title(runs, found),
        what=_what(runs, found),
        sections=[section for section in sections if section],
        style=Markup(_read("style.css").replace("RAMP", _ramp())),
        script=Markup(_read("page.js")),
        dashes=[" ".join(map(str, pattern)) for _, pattern in DASHES],
        shapes=_SHAPES,
    )


def _of_single_models(runs: Sequence[Run], advice: Advice | None) -> list[Section]:
    return [
        scissors(runs, advice.costs if advice else ()),
        states.steps(runs),
        states.rank(runs),
        attention.attention(runs),
        similarity.similarity(runs),
        attention.gates(runs),
        output.lens(runs),
        output.peak(runs),
        tokens.tokens(runs),
    ]


def _inside(directory: Path, name: str) -> str:
    """A file's name as seen from the directory that was given."""
    path = Path(name)
    return str(path.relative_to(directory)) if path.is_relative_to(directory) else name


def _title(runs: Sequence[Run], found: Sequence[Study]) -> str:
    names = dict.fromkeys(visible(study.name) for study in found) or dict.fromkeys(
        run.label.rpartition(" (R\u00a0=")[0] for run in runs
    )
    return f"How many loops? {', '.join(list(names)[:3])}{' and others' if len(names) > 3 else ''}"


def _what(runs: Sequence[Run], found: Sequence[Study]) -> str:
    samples = max((p.samples or 0 for run in runs for p in run.points("loss")), default=0)
    told = f", on up to {count(samples)} samples of text" if samples else ""
    number = f"{len(runs)} run{'' if len(runs) == 1 else 's'}{told}"
    models = sum(len(study.models) for study in found)
    trained = f"{models} model{'' if models == 1 else 's'} of a study"
    parts = [*([trained] if models else []), *([number] if runs or not models else [])]
    return f"{'; '.join(parts)}. Everything here is read from records."


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["prose"] = _prose
    return environment


def _prose(text: str) -> Markup:
    """Text whose `commands` stand in backticks."""

    def shown(match: re.Match[str]) -> str:
        words = " ".join(f"<span>{word}</span>" for word in match.group(1).split(" "))
        return f"<code>{words}</code>"

    return Markup(re.sub(r"`([^`]+)`", shown, str(escape(text))))


def _ramp() -> str:
    colours = colormaps[COLOURS]
    return ",".join(to_hex(colours(i / _RAMP_STOPS)) for i in range(_RAMP_STOPS + 1))


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
