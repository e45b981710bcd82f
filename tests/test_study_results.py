"""What docs/study.md says came out, against the records that came with it."""

import re
from collections import defaultdict
from pathlib import Path
from statistics import mean

import pytest

from loopcoder.loopcount import advise, read_evidence
from loopcoder.records.files import read_records
from loopcoder.records.rows import DepthRow, MeasureRow, TrainingRow

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "study.md").read_text(encoding="utf-8")
STUDIES = sorted(path.name for path in (DOCS / "examples").glob("study_*"))


def rows_of(name: str) -> tuple[list[TrainingRow], list[DepthRow]]:
    evidence = read_evidence([DOCS / "examples" / name / "records"], say=lambda line: None)
    found = [row for run in evidence.runs for row in run.rows]
    trained = [row for row in found if isinstance(row, TrainingRow) and row.stage == "run"]
    return trained, [row for row in found if isinstance(row, DepthRow)]


def section(title: str) -> str:
    """A section of the page, to the next of its rank."""
    found = re.search(rf"^### {re.escape(title)}.*?(?=^### |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    assert found, title
    return found[0]


def table_rows(text: str, first: str) -> list[list[str]]:
    """The cells of a table's rows, by the first cells of its head."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first}"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def accuracy(rows: list[DepthRow], arm: str, loops: int, mode: str) -> float:
    """Per cent right: mean over tasks and the hops that training had, then over seeds."""
    by_seed: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if (row.arm, row.loops, row.mode) == (arm, loops, mode):
            for hops, right in zip(row.hops, row.right, strict=True):
                if hops <= row.trained_hops:
                    by_seed[row.seed].append(100 * right.count("1") / len(right))
    return mean(mean(values) for values in by_seed.values())


@pytest.mark.parametrize("name", STUDIES)
def test_records_are_there_and_small(name: str) -> None:
    trained, _ = rows_of(name)
    assert len(trained) >= 2
    folder = DOCS / "examples" / name
    assert (folder / "report.html").is_file()
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 4_000_000


def test_the_table_of_loop_counts_is_what_was_measured() -> None:
    trained, answers = rows_of("study_depth")
    told = table_rows(section("Questions that need depth"), "R | bits")
    assert [row[0] for row in told] == ["1", "2", "3", "4"]
    base = mean(row.flops for row in trained if (row.arm, row.loops) == ("plt", 1))
    for loops, average, first, second, direct, steps, flops in told:
        own = sorted(
            (row for row in trained if (row.arm, row.loops) == ("plt", int(loops))),
            key=lambda row: row.seed,
        )
        bits = [row.bits_per_byte for row in own]
        assert [f"{mean(bits):.4f}", *(f"{each:.4f}" for each in bits)] == [average, first, second]
        assert f"{accuracy(answers, 'plt', int(loops), 'direct'):.1f}" == direct
        assert f"{accuracy(answers, 'plt', int(loops), 'steps'):.1f}" == steps
        assert own[0].flops / base == pytest.approx(float(flops), abs=0.006)


@pytest.mark.parametrize(("first", "arm", "bits"), [("| arm |", 1, 2), ("arm | bits", 0, 1)])
def test_the_tables_of_arms_are_what_was_measured(first: str, arm: int, bits: int) -> None:
    trained, answers = rows_of("study_depth")
    told = table_rows(section("Questions that need depth"), first)
    assert len(told) >= 2
    for row in told:
        name = re.search(r"`(\w+)`", row[arm])
        assert name
        alone = "R = 1" in row[arm] or name[1] in ("deep", "long")
        loops = 1 if alone else 2
        own = [r for r in trained if (r.arm, r.loops) == (name[1], loops)]
        assert f"{mean(r.bits_per_byte for r in own):.4f}" == row[bits]
        assert str(len(own)) == row[bits + 1]
        for cell, mode in zip(row[bits + 2 : bits + 4], ("direct", "steps"), strict=True):
            assert f"{accuracy(answers, name[1], loops, mode):.1f}" == cell


def test_the_table_of_text_is_what_was_measured() -> None:
    trained, _ = rows_of("study_text")
    told = table_rows(section("Python code"), "R | rate")
    assert len(told) == 5
    for loops, rate, average, first, second, *_ in told:
        arm = "fast" if "fast" in loops else "plt"
        own = sorted(
            (row for row in trained if (row.arm, row.loops) == (arm, int(loops[0]))),
            key=lambda row: row.seed,
        )
        bits = [row.bits_per_byte for row in own]
        assert [f"{mean(bits):.4f}", *(f"{each:.4f}" for each in bits)] == [average, first, second]
        tuned = own[0].settings.get("optim.peak_lr", 4e-3)  # the arm sets its own
        assert float(rate) == tuned


def test_the_gains_on_text_are_what_advise_says() -> None:
    evidence = read_evidence([DOCS / "examples" / "study_text" / "records"], say=lambda line: None)
    gains = advise(evidence).tables[0].gains
    told = [row[5:] for row in table_rows(section("Python code"), "R | rate")[1:4]]
    for (gain, interval), found in zip(told, gains, strict=True):
        assert float(gain) == pytest.approx(found.value, abs=6e-4)
        low, high = (float(end) for end in interval.split(" to "))
        assert low == pytest.approx(found.low99, abs=6e-4)
        assert high == pytest.approx(found.high99, abs=6e-4)


def test_the_loops_on_text_are_what_was_measured() -> None:
    path = DOCS / "examples" / "study_text" / "records" / "plt-R4-s0" / "probe.jsonl"
    measured = {
        (row.measure, row.loop): row.mean
        for row in read_records(path)
        if isinstance(row, MeasureRow) and row.layer is None
    }
    names = ("step_size", "output_shift", "effective_rank", "update_angle", "offset_cost")
    for row in table_rows(section("Python code"), "loop | step"):
        for name, cell in zip(names, row[1::2], strict=True):
            value = measured[name, int(row[0])]
            decimals = len(cell.partition(".")[2])
            assert f"{value:.{decimals}f}" == cell, (name, row[0])


def test_the_table_of_the_trained_model_is_what_was_measured() -> None:
    trained, _ = rows_of("study_smollm")
    own = {row.loops: row for row in trained}
    told = table_rows(section("A second loop for a trained model"), "R | before")
    assert [int(row[0]) for row in told] == sorted(own)
    for loops, before, after, change, flops in told:
        row = own[int(loops)]
        assert row.start_bits_per_byte is not None
        assert f"{row.start_bits_per_byte:.4f}" == before
        assert f"{row.bits_per_byte:.4f}" == after
        assert f"{row.bits_per_byte - row.start_bits_per_byte:.4f}" == change
        assert f"{row.flops / own[1].flops:.2f}".rstrip("0").rstrip(".") == flops
