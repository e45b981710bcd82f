"""Benchmark files: read whole, or refused with every bad line named."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loopcoder.errors import EvaluationError
from loopcoder.eval.problems import (
    Assertions,
    Inputs,
    read_cruxeval,
    read_humaneval,
    read_humaneval_plus,
    read_infilling,
    read_mbpp,
    read_mbpp_plus,
)
from tests.eval.data import DATA, needs_data
from tests.eval.problems import rows

FORMATS = {
    "humaneval": (read_humaneval, rows.humaneval),
    "humaneval_plus": (read_humaneval_plus, rows.plus),
    "infilling": (read_infilling, rows.gap),
    "mbpp": (read_mbpp, rows.mbpp),
    "mbpp_plus": (read_mbpp_plus, rows.mbpp_plus),
    "cruxeval": (read_cruxeval, rows.cruxeval),
}
every_format = pytest.mark.parametrize(("read", "row"), FORMATS.values(), ids=FORMATS)
Read = Callable[[Path], tuple[Any, ...]]
Row = Callable[..., dict[str, Any]]


def complaint(read: Read, path: Path) -> str:
    with pytest.raises(EvaluationError) as raised:
        read(path)
    return str(raised.value)


@pytest.mark.slow
@needs_data
def test_humaneval_plus_as_published() -> None:
    assert DATA is not None
    problems = {p.id: p for p in read_humaneval_plus(DATA / "HumanEvalPlus.jsonl.gz")}
    assert len(problems) == 164
    first = problems["HumanEval/0"]
    assert isinstance(first.tests, Inputs)
    assert first.entry_point == "has_close_elements"
    assert first.tests.base[0] == ([1.0, 2.0, 3.9, 4.0, 5.0, 2.2], 0.3)
    assert len(first.tests.base) == 7
    assert len(first.tests.plus) > 100
    assert first.reference.startswith(first.prompt)
    assert {p.id for p in problems.values() if p.tests.oracle} == {"HumanEval/32"}


@pytest.mark.slow
@needs_data
def test_mbpp_plus_as_published() -> None:
    assert DATA is not None
    problems = {p.id: p for p in read_mbpp_plus(DATA / "MbppPlus.jsonl.gz")}
    assert len(problems) == 378
    assert problems["Mbpp/2"].tests.base[0] == ((3, 4, 5, 6), (5, 7, 4, 10))
    assert problems["Mbpp/124"].tests.base[0] == (0.0, 1j)
    assert problems["Mbpp/793"].tests.plus == ()
    oracles = [p.tests.oracle for p in problems.values() if p.tests.oracle]
    assert oracles.count("set") == 7
    assert oracles.count("not_none") == 3


@needs_data
def test_cruxeval_as_published() -> None:
    assert DATA is not None
    problems = read_cruxeval(DATA / "cruxeval.jsonl")
    assert len(problems) == len({p.id for p in problems}) == 800
    assert problems[0].input == "[1, 1, 3, 1, 3, 1]"
    assert problems[0].output == "[(4, 1), (4, 1), (4, 1), (4, 1), (2, 3), (2, 3)]"


def test_humaneval_calls_its_check(tmp_path: Path) -> None:
    (problem,) = read_humaneval(rows.write(tmp_path / "a.jsonl", [rows.humaneval()]))
    assert isinstance(problem.tests, Assertions)
    space: dict[str, Any] = {}
    exec(problem.reference + problem.tests.source, space)
    space["add"] = lambda a, b: a - b
    with pytest.raises(AssertionError):
        exec(problem.tests.source, space)


def test_infilling_keeps_both_sides_of_the_gap(tmp_path: Path) -> None:
    (problem,) = read_infilling(rows.write(tmp_path / "a.jsonl", [rows.gap()]))
    assert problem.suffix == "    return total\n"
    assert problem.reference == f"{problem.prompt}    total = a + b\n{problem.suffix}"


def test_mbpp_of_both_files(tmp_path: Path) -> None:
    whole = rows.mbpp()
    sanitized = rows.mbpp(prompt=whole["text"], test_imports=["import math"])
    del sanitized["text"], sanitized["test_setup_code"]
    array = tmp_path / "sanitized-mbpp.json"
    array.write_text(json.dumps([sanitized]))
    (ours,) = read_mbpp(rows.write(tmp_path / "mbpp.jsonl", [whole]))
    (other,) = read_mbpp(array)
    assert (ours.id, ours.entry_point) == (other.id, other.entry_point) == ("Mbpp/12", "double")
    assert ours.prompt == f'"""\n{whole["text"]}\nassert double(2) == 4\n"""\n'
    assert "\r" not in ours.reference
    assert isinstance(other.tests, Assertions)
    assert other.tests.source.startswith("import math\nassert double(2)")


@every_format
@pytest.mark.parametrize("name", ["plain.jsonl", "packed.jsonl.gz", "packed under another name"])
def test_plain_and_compressed(tmp_path: Path, read: Read, row: Row, name: str) -> None:
    path = rows.write(tmp_path / name, [row(more="fields", we="do not use"), ""])
    if name == "packed under another name":
        path.write_bytes(gzip.compress(path.read_bytes()))
    assert len(read(path)) == 1


@every_format
def test_every_bad_line_is_named(tmp_path: Path, read: Read, row: Row) -> None:
    good = row()
    key = "id" if "id" in good else "task_id"
    field = "output" if "output" in good else "code" if "code" in good else "prompt"
    lacking = {name: value for name, value in good.items() if name != field}
    path = rows.write(
        tmp_path / "bad.jsonl",
        [good, "{broken", {**good, key: ["no", "name"]}, lacking, good, "3", '"text"', "[1]", "{"],
    )
    told = complaint(read, path)
    assert "8 of 9 lines" in told
    assert "\n" not in told
    assert "line 2: no JSON" in told
    assert f"line 3: field '{key}' should be" in told
    assert f"line 4: field '{'text' if field == 'text' else field}' is missing" in told
    assert "line 5: id" in told
    assert "is that of line 1 too" in told
    assert "line 6: no JSON object" in told
    assert "and 3 more" in told


@pytest.mark.parametrize(
    ("read", "row", "told"),
    [
        (read_humaneval, rows.humaneval(entry_point="a b"), "names no function"),
        (read_humaneval, rows.humaneval(entry_point="class"), "names no function"),
        (read_humaneval_plus, rows.plus(base_input=[3]), "field 'base_input.0' should be"),
        (read_humaneval_plus, rows.plus(atol="0"), "field 'atol' should be"),
        (read_mbpp_plus, rows.mbpp_plus(task_id="HumanEval/2"), "not of the form Mbpp/2"),
        (read_mbpp_plus, rows.mbpp_plus(base_input=[[3, 4]]), "'base_input' has another form"),
        (read_mbpp_plus, rows.mbpp_plus(plus_input={"a": 1}), "field 'plus_input' should be"),
        (read_mbpp, rows.mbpp(test_list=[]), "should have at least 1 item"),
        (read_mbpp, rows.mbpp(test_list=["assert 1"]), "'test_list' calls no function"),
        (read_mbpp, rows.mbpp(task_id="12"), "field 'task_id' should be"),
    ],
)
def test_fields_of_another_kind(tmp_path: Path, read: Read, row: Any, told: str) -> None:
    assert told in complaint(read, rows.write(tmp_path / "bad.jsonl", [row]))


def test_files_that_are_none(tmp_path: Path) -> None:
    assert "No such file" in complaint(read_cruxeval, tmp_path / "nowhere.jsonl")
    assert "no problems" in complaint(read_cruxeval, rows.write(tmp_path / "empty", []))
    packed = rows.write(tmp_path / "a.gz", [rows.cruxeval(id=f"sample_{n}") for n in range(99)])
    packed.write_bytes(packed.read_bytes()[:-20])
    assert "broken gzip" in complaint(read_cruxeval, packed)
    array = tmp_path / "cut.json"
    array.write_text('[{"id": ')
    assert "no JSON array" in complaint(read_cruxeval, array)
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(json.dumps(rows.cruxeval()).encode() + b"\n{\xe9}\n")
    assert "line 2: no UTF-8 at byte 2" in complaint(read_cruxeval, latin)
    deep = rows.write(tmp_path / "deep", ["[" * 200_000, '{"a":' * 200_000])
    assert "no JSON" in complaint(read_cruxeval, deep)


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(1, 700), flip=st.integers(0, 700), byte=st.integers(0, 255))
def test_damage_is_refused_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int, byte: int
) -> None:
    """A file cut off or changed anywhere has all of its problems, or is refused as one."""
    path = tmp_path_factory.mktemp("damaged") / "a.jsonl"
    whole = rows.write(path, [rows.cruxeval(id=f"sample_{n}") for n in range(5)]).read_bytes()
    changed = bytearray(whole)
    changed[flip % len(whole)] = byte
    for content in (bytes(changed), whole[: -(cut % len(whole)) or None]):
        path.write_bytes(content)
        ended = content.endswith(b"}\n") or content.endswith(b"}")
        try:
            found = len(read_cruxeval(path))
        except EvaluationError:
            continue
        assert found == len([line for line in content.split(b"\n") if line.strip()])
        assert ended or content == bytes(changed)
