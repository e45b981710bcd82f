"""Every number that ships is the one in SPEC.md, and the advice from them is the paper's."""

import re
from pathlib import Path

import pytest

from loopcoder.checkpoint.describe import describe
from loopcoder.loopcount import Evidence, Limits, advise, as_run, published, published_run
from loopcoder.model import cost
from loopcoder.records.rows import CostRow, MeasureRow, NoteRow, ScoreRow, TimingRow

SPEC = Path(__file__).parents[3] / "shared" / "SPEC.md"


@pytest.fixture(scope="module")
def spec() -> str:
    if not SPEC.is_file():
        pytest.skip("SPEC.md is not beside the repository")
    return SPEC.read_text(encoding="utf-8")


def _numbers(text: str) -> list[float]:
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?", text)]


def _of(kind: type) -> list:
    return [row for row in published() if isinstance(row, kind)]


def test_the_loop_sweep_is_the_table(spec: str) -> None:
    scores = [row for row in _of(ScoreRow) if "loop sweep" in row.source.citation]
    assert len(scores) == 40
    for loops in (1, 2, 3, 4):
        line = re.search(rf"^\| {loops} \|(.*)\|$", spec, flags=re.MULTILINE)
        assert line is not None
        wanted = _numbers(line.group(1))[:10]
        assert [row.value for row in scores if row.loops == loops] == wanted
    tasks = re.search(r"Loop sweep \(7B; (.*), average\)", spec).group(1).split(", ")
    assert [row.task for row in scores if row.loops == 1] == tasks


def test_the_printed_averages_are_in_a_note(spec: str) -> None:
    averages = [_numbers(line)[11:12] for line in re.findall(r"^\| [1-4] \|.*$", spec, re.M)]
    note = next(row.text for row in _of(NoteRow) if "averages" in row.text)
    assert _numbers(note)[4:8] == [value for (value,) in averages]
    assert "35.7" in note
    of_four = [r.value for r in _of(ScoreRow) if r.loops == 4]
    assert sum(of_four) / len(of_four) == pytest.approx(35.7, abs=0.05)


def test_diagnostics_are_those_of_section_5(spec: str) -> None:
    line = next(line for line in spec.splitlines() if line.startswith("Published values"))
    wanted = {
        "step_size": "step size",
        "output_shift": "Δp",
        "effective_rank": "effective rank",
        "update_angle": "angle",
    }
    rows = [row for row in _of(MeasureRow) if row.loops == 4]
    for measure, words in wanted.items():
        numbers = _numbers(re.search(rf"{words} ([-\d./ ]+)", line).group(1))[:3]
        assert {r.loop: r.mean for r in rows if r.measure == measure} == dict(
            zip((2, 3, 4), numbers, strict=True)
        )
    cosines = _numbers(re.search(r"mean head cosine ([\d./ ]+)", line).group(1))[:3]
    assert [r.mean for r in _of(MeasureRow) if r.measure == "head_cosine"] == cosines


def test_the_toll_is_a_range_and_says_so(spec: str) -> None:
    low, high = _numbers(re.search(r"so about (\d+-\d+)\)", spec).group(1).replace("-", " "))
    tolls = [row for row in _of(MeasureRow) if row.measure == "offset_cost"]
    assert [row.loop for row in tolls] == [2, 3, 4]
    for row in tolls:
        assert (row.low, row.high, row.mean) == (low, high, (low + high) / 2)
        assert "no confidence interval" in row.conventions["interval"]


def test_shares_of_refinement_are_in_a_note(spec: str) -> None:
    line = next(line for line in spec.splitlines() if line.startswith("Published values"))
    shares = line.split("Shares of post-context refinement at loops 2 / 3 / 4:")[1]
    note = next(row.text for row in _of(NoteRow) if row.text.startswith("Shares"))
    assert _numbers(note.split(":")[1]) == _numbers(shares)


def test_the_ablation_is_that_of_section_7(spec: str) -> None:
    line = next(line for line in spec.splitlines() if line.startswith("PLT ablation"))
    parts = line.split("):")[1].split(";")
    triples = [_numbers(part.replace("PLT-2", "").replace("PLT-3", "")) for part in parts]
    timings = _of(TimingRow)
    cases = list(dict.fromkeys(row.case for row in timings))
    for case, (accuracy, ms, megabytes) in zip(cases, triples[:5], strict=True):
        values = {row.measured: row.value for row in timings if row.case == case}
        assert values == {"decode_ms": ms, "kv_megabytes": megabytes}
        scored = [r for r in _of(ScoreRow) if r.metric == "accuracy" and r.value == accuracy]
        assert any(case in r.task or r.task == "mean accuracy" for r in scored)
    assert triples[5] == [40.8]
    three = [r.value for r in _of(ScoreRow) if r.metric == "accuracy" and r.loops == 3]
    assert three == triples[5]


def test_rows_say_where_they_come_from() -> None:
    for row in published():
        if isinstance(row, CostRow):
            assert row.source.citation is None
            assert row.source.command.startswith("loopcoder info loopcoder-v2")
        else:
            assert re.search(
                r"arXiv (2606\.18023|2510\.24824); .*section [57]", row.source.citation
            )


def test_cost_rows_are_what_the_formulas_give() -> None:
    config = describe("loopcoder-v2").config
    rows = _of(CostRow)
    assert [row.loops for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row.decode_flops == cost.decode_flops(config, row.context, row.loops).total
        assert row.prefill_flops == cost.prefill_flops(config, row.context, row.loops).total
        assert row.kv_bytes == cost.kv_bytes(config, row.context, row.loops, 2)
        assert row.carried_bytes == cost.carried_bytes(config, row.loops, 2)


def test_published_values_advise_two_loops() -> None:
    advice = advise(Evidence(runs=(published_run(),)))
    assert advice.recommended_loops == 2
    assert advice.question == "train and run"
    assert advice.confidence == "likely"  # ten tasks, one model a loop count
    assert advice.lowest_share > 0.99
    assert advice.diagnosed == 2
    # The other paper's three loops, better than two, are not left out.
    assert any("2510.24824" in f.source and f.value > 0 for f in advice.against)
    (latency,) = [c for c in advice.costs if (c.loops, c.conditions) == (2, "PLT-2 (+ G-SWA)")][:1]
    assert latency.basis == "published"
    assert advice.per_loop[1].latency == pytest.approx(4.9 / 4.8)


def test_diagnostics_alone_advise_two_loops_weakly() -> None:
    rows = [row for row in published() if not isinstance(row, ScoreRow)]
    advice = advise(Evidence(runs=(as_run("diagnostics", rows),)))
    assert (advice.recommended_loops, advice.confidence) == (2, "weak")
    assert any("effective rank falls at loop 3" in f.sentence for f in advice.reasons)
    assert advice.lowest_share is None


def test_the_scissors_of_the_paper() -> None:
    """Gain falls after loop 2 while the toll stays; the ratio names its units."""
    advice = advise(Evidence(runs=(published_run(),)))
    ratios = {row.loop: row.per_shift for row in advice.per_loop}
    assert ratios[1] is None
    assert min(ratios[2], ratios[3], ratios[4]) == ratios[2]
    assert all(30 <= ratios[loop] <= 45 for loop in (2, 3, 4))
    assert any("compares no two models" in caveat for caveat in advice.caveats)


def test_a_limit_on_latency_takes_loops_away() -> None:
    evidence = Evidence(runs=(published_run(),))
    assert advise(evidence, Limits(max_latency=1.05)).recommended_loops == 2
    strict = advise(evidence, Limits(max_latency=1.01))
    assert strict.recommended_loops == 1
    assert any("2 loops left out" in line for line in strict.would_change)
