"""Record files: what is written comes back, and what is no record says where and why."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from loopcoder.errors import RecordError
from loopcoder.records.files import read_records, record_file
from loopcoder.records.rows import (
    SCHEMA,
    Candidate,
    CostRow,
    DataIdentity,
    MatrixRow,
    MeasureRow,
    ModelIdentity,
    NoteRow,
    PassageRow,
    PassageToken,
    Row,
    SampleRow,
    ScoreRow,
    Source,
    TimingRow,
)

SOURCE = Source(
    command="loopcoder probe nano",
    version="0.1.0",
    model=ModelIdentity(
        name="nano",
        hash="ab",
        architecture="cd",
        trained_loops=2,
        parameters=10,
        layers=2,
        heads=2,
        width=8,
        window=65,
        dtype="bfloat16",
    ),
    data=DataIdentity(name="text", hash="ef", length=64),
    seed=0,
    machine={"processor": "a", "cores": 2, "gpu": None},
    time="2026-01-01T00:00:00+00:00",
)
PUBLISHED = Source(command="-", version="0", machine={}, time="2025", citation="arXiv")
TOKEN = PassageToken(
    # JSON leaves these as they are, and other software ends lines at them.
    text="\u2028\u2029\x85\x0b\x0c\x1c\r\n漢",
    shift=[0.25],
    entropy=[1.0, 2.0],
    rank=[1, 3],
    probability=[0.5, 1 / 3],
    candidates=[[Candidate(text="\ufffd", probability=0.5)], []],
)
ROWS: list[Row] = [
    MeasureRow(source=SOURCE, measure="step_size", loop=1, mean=1 / 3, loops=2, samples=1),
    MeasureRow(
        source=SOURCE,
        measure="gate",
        loop=2,
        layer=1,
        mean=[0.1, 5e-324],
        low=[0.0, -1.0],
        high=[1e308, 1.0],
        sd=[0.5, 0.5],
        samples=4,
        documents=2,
        loops=2,
        conventions={"first_token": 0, "rank_rows": "rms"},
    ),
    SampleRow(
        source=SOURCE,
        document="a.py",
        start=3,
        tokens=63,
        bytes=200,
        loops=2,
        nats=[100.5, 99.0],
        values={"loss": [1.5, 1.25], "output_shift": [0.5]},
    ),
    MatrixRow(source=SOURCE, loop=1, layer=0, mean=[[1.0, 0.5], [0.5, 1.0]], samples=4, loops=2),
    PassageRow(source=SOURCE, document="a.py", loops=2, tokens=[TOKEN]),
    CostRow(
        source=SOURCE,
        loops=2,
        context=64,
        decode_flops=2**60,
        prefill_flops=1,
        training_flops=1,
        kv_bytes=1,
        carried_bytes=1,
    ),
    ScoreRow(source=PUBLISHED, task="HE+", metric="pass@1", value=84.1, unit="%", loops=2),
    TimingRow(source=PUBLISHED, case="PLT-2", measured="decode_ms", loops=2, value=4.9),
    NoteRow(source=SOURCE, measure="gate", text="not asked for"),
]


def write(path: Path, rows: list[Row]) -> Path:
    with record_file(path) as file:
        for row in rows:
            file.write(row)
    return path


def changed(**fields: Any) -> str:
    """A line of `ROWS[0]` with fields changed; None takes one out."""
    values = {**json.loads(ROWS[0].model_dump_json(exclude_none=True)), **fields}
    return json.dumps({name: value for name, value in values.items() if value is not None})


def test_every_kind_of_row_comes_back_as_it_was(tmp_path: Path) -> None:
    path = write(tmp_path / "deep" / "rows.jsonl", ROWS)
    assert read_records(path) == ROWS
    assert {type(row) for row in read_records(path)} == {type(row) for row in ROWS}
    assert [each.name for each in path.parent.iterdir()] == ["rows.jsonl"]


def test_each_line_stands_alone(tmp_path: Path) -> None:
    """Version, command and model in every row, for readers that know JSON only."""
    lines = write(tmp_path / "rows.jsonl", ROWS).read_bytes().split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(ROWS)
    for line, row in zip(lines, ROWS, strict=True):
        values = json.loads(line)
        assert values["schema"] == SCHEMA
        assert values["source"]["command"] == row.source.command


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_written(value: float) -> None:
    for mean in (value, [0.0, value]):
        with pytest.raises(ValidationError, match="finite"):
            MeasureRow(source=SOURCE, measure="gate", loop=2, mean=mean, loops=2)
    with pytest.raises(ValidationError, match="finite"):
        SampleRow(**{**dict(ROWS[2]), "nats": [value]})


def test_rows_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        ROWS[0].mean = 3.0  # type: ignore[attr-defined]


GOOD = changed()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD[:-9], "line 2: not JSON .*; the file may be cut off"),
        (GOOD[:1], "line 2: not JSON"),
        ("plain text", "line 2: not JSON"),
        (changed(schema=2), "line 2: written in schema version 2 by loopcoder 0.1.0, this one"),
        (changed(schema="1.0"), "line 2: written in schema version 1.0 by loopcoder 0.1.0"),
        (changed(schema=None), "line 2: a row without a schema version"),
        ('{"step": 1, "loss": 3.0}', "line 2: a row without a schema version"),
        ("[1, 2]", "line 2: a row without a schema version"),
        ("3", "line 2: a row without a schema version"),
        (changed(extra=1), "line 2: measure.extra: Extra inputs"),
        (changed(loop=None), "line 2: measure.loop: Field required"),
        (changed(mean="much"), "line 2: measure.mean"),
        (changed(mean=math.nan), "line 2: measure.mean.*finite"),
        (changed(mean=[1.0, math.inf]), "line 2: measure.mean"),
        (changed(kind="unheard"), "line 2: kind: .*'unheard'"),
        (changed(kind=None), "line 2: kind: "),
        (changed(source=None), "line 2: measure.source: Field required"),
        (changed(source={"version": "0.1.0"}), "line 2: measure.source.command: Field required"),
    ],
)
def test_a_line_that_is_no_row_is_one_message(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\n{line}\n", encoding="utf-8")
    with pytest.raises(RecordError, match=f"^{path}, {message}") as error:
        read_records(path)
    assert "\n" not in str(error.value)


def test_empty_lines_are_passed_over_but_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{GOOD}\r\n\n  \n{GOOD}", encoding="utf-8")
    assert len(read_records(path)) == 2
    path.write_text(f"{GOOD}\n\n  \nno", encoding="utf-8")
    with pytest.raises(RecordError, match="line 4: not JSON"):
        read_records(path)


def no_file(path: Path) -> None:
    pass


def no_rows(path: Path) -> None:
    path.write_text("\n")


def no_text(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\0")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_file, "No such file or directory; give a record file"),
        (Path.mkdir, "Is a directory; give a record file"),
        (Path.touch, "has no rows"),
        (no_rows, "has no rows"),
        (no_text, "not UTF-8 text"),
    ],
)
def test_a_file_without_records_is_one_message(
    make: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    make(path)
    with pytest.raises(RecordError, match=f"^{path}: {message}"):
        read_records(path)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def fail() -> None:
        with record_file(tmp_path / "rows.jsonl") as file:
            file.write(ROWS[0])
            raise error

    with pytest.raises(error):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_error_while_writing_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS[:1])

    def fail() -> None:
        with record_file(path) as file:
            file.write(ROWS[1])
            assert read_records(path) == ROWS[:1]  # until the new one is whole
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert read_records(path) == ROWS[:1]
    write(path, ROWS[1:2])
    assert read_records(path) == ROWS[1:2]


def test_a_place_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RecordError, match=r"file: .*; choose a directory that can be written"):
        write(tmp_path / "file" / "rows.jsonl", ROWS)
