"""Where the numbers come from: conventions, definitions, commands, models, text, machines."""

import json
from collections.abc import Sequence

from loopcoder.loopcount.runs import Evidence
from loopcoder.records.measures import MEASURES
from loopcoder.records.rows import AnyRow, MeasureRow, NoteRow
from loopcoder.report.numbers import count, formula, visible
from loopcoder.report.parts import Section, Table
from loopcoder.report.sections.common import NOTHING, without_empty

_DIGITS = 16  # of a hash: enough to tell files apart


def sources(evidence: Evidence, notes: Sequence[str] = ()) -> Section:
    """Everything that is needed to take the measurements again; `notes` on what is not shown."""
    rows = [row for run in evidence.runs for row in run.rows]
    tables = [
        _commands(evidence),
        _models(rows),
        _texts(rows),
        _machines(evidence),
        _definitions(rows),
    ]
    told = dict.fromkeys([*notes, *(row.text for row in rows if isinstance(row, NoteRow))])
    return Section(
        name="sources",
        title="Conventions, definitions and sources",
        lead="Loops count from 1, layers and heads from 0. u is the residual stream of the last "
        "layer before the final norm, h the state after it, p the prediction made from h; loop 0 "
        "stands for the embedding. Intervals are of 95 % over documents unless a line says "
        "otherwise.",
        tables=[table for table in tables if table.rows],
        missing=[f"Note: {text}" for text in told],
    )


def _commands(evidence: Evidence) -> Table:
    rows: list[tuple[str, ...]] = []
    for run in evidence.runs:
        for source in (row.source for row in run.rows):
            cited = f"{source.citation}; " if source.citation else ""
            seed = "\u2013" if source.seed is None else str(source.seed)
            written = (f"{cited}{source.command}", source.version, seed, _minute(source.time))
            rows.append((run.name, *written))
    for bench in evidence.benches:
        kinds = ", ".join(dict.fromkeys(str(row.get("measured", "")) for row in bench.rows))
        version = str(bench.machine.get("loopcoder", "\u2013"))
        rows.append((bench.name, f"loopcoder bench {kinds} --json", version, "\u2013", "\u2013"))
    return Table(
        columns=("file", "written by", "version", "seed", "time"),
        rows=[[visible(cell) for cell in row] for row in dict.fromkeys(rows)],
        caption="Files and the commands that made them",
        words=frozenset({0, 1, 2, 4}),
    )


def _minute(time: str) -> str:
    """A time in UTC as people write it; other text as it is."""
    day, mark, clock = time.partition("T")
    utc = mark and clock.endswith(("Z", "+00:00"))
    return f"{day} {clock[:5]} UTC" if utc else time


def _models(rows: Sequence[AnyRow]) -> Table:
    models = {row.source.model.hash: row.source.model for row in rows if row.source.model}
    table = Table(
        columns=(
            "model",
            "arm",
            "hash",
            "architecture",
            "loops",
            "parameters",
            "layers",
            "heads",
            "width",
            "window",
            "dtype",
        ),
        rows=[
            (
                visible(m.name),
                NOTHING if m.arm is None else visible(m.arm),
                visible(m.hash[:_DIGITS]),
                visible(m.architecture[:_DIGITS]),
                str(m.trained_loops),
                count(m.parameters),
                str(m.layers),
                str(m.heads),
                str(m.width),
                str(m.window),
                visible(m.dtype),
            )
            for m in models.values()
        ],
        caption="Models; hashes by their first 16 digits, window in keys",
        words=frozenset({0, 1, 2, 3, 10}),
    )
    return without_empty(table)


def _texts(rows: Sequence[AnyRow]) -> Table:
    texts = {row.source.data.hash: row.source.data for row in rows if row.source.data}
    return Table(
        columns=("text", "hash of its tokens", "tokens of a sample"),
        rows=[
            (visible(d.name), visible(d.hash[:_DIGITS]), count(d.length)) for d in texts.values()
        ],
        caption="Texts",
        words=frozenset({0, 1}),
    )


def _machines(evidence: Evidence) -> Table:
    told = [row.source.machine for run in evidence.runs for row in run.rows]
    told += [bench.machine for bench in evidence.benches]
    known = {
        json.dumps(machine, sort_keys=True, default=str): machine for machine in told if machine
    }
    machines = list(known.values())
    keys = dict.fromkeys(key for machine in machines for key in machine)
    return Table(
        columns=("", *(f"machine {i}" for i in range(1, len(machines) + 1))),
        rows=[
            (visible(key), *(visible(_short(m[key])) if key in m else "\u2013" for m in machines))
            for key in keys
        ],
        caption="Machines and versions",
        words=frozenset(range(len(machines) + 1)),
    )


def _short(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, default=str)


def _definitions(rows: Sequence[AnyRow]) -> Table:
    """The measures that were taken, and how what the papers leave open was chosen."""
    chosen: dict[str, dict[str, None]] = {}
    for row in rows:
        if isinstance(row, MeasureRow):
            told = (f"{visible(k)}: {visible(_short(v))}" for k, v in row.conventions.items())
            chosen.setdefault(row.measure, {}).update(dict.fromkeys(told))
    return Table(
        columns=("measure", "unit", "definition", "conventions"),
        rows=[
            (m.title, m.unit, formula(m.definition), "; ".join(chosen[m.name]))
            for m in MEASURES.values()
            if m.name in chosen
        ],
        caption="Definitions, and the conventions that the papers leave open",
        words=frozenset({0, 1, 2, 3}),
    )
