"""What a study leaves is read, its main models are compared, and its other arms are not."""

from pathlib import Path

import pytest

from loopcoder.errors import RecordError
from loopcoder.loopcount import advise, as_run, read_evidence, studies
from loopcoder.records.rows import AnyRow
from tests.loopcount.rows import bits_of, costs, measures, samples, text_sizes
from tests.loopcount.study import (
    answers,
    depth,
    evidence_of,
    source_of,
    training,
    write_study,
)

LEVELS = {1: 1.80, 2: 1.70}


def _probe(arm: str, loops: int, seed: int, level: float, *, main: bool = True) -> list[AnyRow]:
    sizes = text_sizes(40)
    bits = bits_of(sizes, [level + 1] * (loops - 1) + [level], 0.01, 10 * loops + seed)
    where = source_of(arm, loops, seed, main=main)
    return [*samples(where, bits, sizes), *costs(where)]


def _text_study(*, arms: bool) -> dict[str, list[AnyRow]]:
    """Two loop counts with three seeds each; with `arms`, one that would turn the advice."""
    files: dict[str, list[AnyRow]] = {}
    for loops, level in LEVELS.items():
        for seed in range(3):
            folder = f"records/plt-R{loops}-s{seed}"
            files[f"{folder}/study.jsonl"] = [training("plt", loops, seed, level)]
            files[f"{folder}/probe.jsonl"] = _probe("plt", loops, seed, level)
    if arms:
        rows = _probe("serial", 1, 0, 0.5, main=False)
        shift = {"output_shift": {2: 0.001}}
        rows += measures(source_of("serial", 1, 0, main=False), shift, 9)
        files["records/serial-R1-s0/probe.jsonl"] = rows
        files["records/serial-R1-s0/study.jsonl"] = [training("serial", 1, 0, 0.5, main=False)]
        files["records/trials.jsonl"] = [training("plt", 1, 0, 1.9, stage="trial")]
    return files


def _depth_study(shares: dict[int, list[float]], *, seeds: int = 1) -> dict[str, list[AnyRow]]:
    """Shares right by hops, the same in both of two tasks."""
    return {
        f"R{loops}-{seed}.jsonl": [
            training("plt", loops, seed, 1.0),
            *(
                depth("plt", loops, seed, task, "direct", answers(own, seed=seed))
                for task in ("chains", "brackets")
            ),
        ]
        for loops, own in shares.items()
        for seed in range(seeds)
    }


def test_a_studys_directory_is_read(tmp_path: Path) -> None:
    said: list[str] = []
    found = read_evidence([write_study(tmp_path, _text_study(arms=True))], say=said.append)
    assert said == []
    assert len(found.measured) == 12
    assert {run.model.arm for run in found.other_arms if run.model} == {"serial"}
    assert found.published == ()
    (study,) = studies(found)
    assert [(model.arm, model.loops, model.seed) for model in study.models] == [
        *(("plt", loops, seed) for loops in (1, 2) for seed in range(3)),
        ("serial", 1, 0),
    ]
    assert all(model.probe for model in study.models)
    assert len(study.trials) == 1


def test_seeds_of_a_study_are_compared_by_loops() -> None:
    advice = advise(evidence_of(_text_study(arms=False)))
    assert (advice.recommended_loops, advice.confidence) == (2, "sure")
    assert [level.models for level in advice.tables[0].levels] == [3, 3]
    assert not any("arms" in line for line in advice.caveats)


def test_other_arms_are_left_out_of_everything() -> None:
    without, having = (advise(evidence_of(_text_study(arms=arms))) for arms in (False, True))
    assert having.tables == without.tables
    assert having.costs == without.costs
    assert having.findings == without.findings
    assert having.sources == without.sources
    (line,) = set(having.caveats) - set(without.caveats)
    assert line == "1 model of other arms (serial) left out: they differ in more than loops"


def test_arms_alone_say_what_to_give() -> None:
    rows = [training("serial", loops, 0, 1.0, main=False) for loops in (1, 2)]
    with pytest.raises(RecordError, match=r"of an arm \(serial\).*give the records of the study's"):
        advise(evidence_of({f"{i}.jsonl": [row] for i, row in enumerate(rows)}))


def test_two_studies_are_not_mixed() -> None:
    rows = [training("plt", r, 0, 1.0, study=name) for r, name in ((1, "one"), (2, "other"))]
    with pytest.raises(RecordError, match=r"0\.jsonl is of the study one, 1\.jsonl of other"):
        advise(evidence_of({f"{i}.jsonl": [row] for i, row in enumerate(rows)}))


def test_trials_alone_tell_nothing() -> None:
    advice = advise(evidence_of({"trials.jsonl": [training("plt", 1, 0, 1.9, stage="trial")]}))
    assert advice.recommended_loops is None
    assert advice.sources == ()


def test_depth_accuracy_is_evidence() -> None:
    shares = {1: [0.6, 0.5, 0.3, 0.1, 0.9], 2: [0.85, 0.8, 0.55, 0.4, 0.0]}
    advice = advise(evidence_of(_depth_study(shares)))
    (table,) = advice.tables
    assert (table.name, table.unit, table.of) == (
        "depth accuracy (direct)",
        "points",
        "task depths",
    )
    # Two tasks with the four numbers of hops that training had.
    assert [level.units for level in table.levels] == [8, 8]
    assert [level.value for level in table.levels] == pytest.approx([37.5, 65])
    assert table.gains[0].value == pytest.approx(27.5)
    assert (advice.question, advice.recommended_loops) == ("train and run", 2)
    assert "better depth accuracy (direct) than 1: 65 against 37.5" in advice.reasons[0].sentence


def test_seeds_of_depth_accuracy_are_in_its_intervals() -> None:
    shares = {1: [0.5] * 4, 2: [0.9] * 4}
    files = _depth_study(shares, seeds=2)
    files["R2-1.jsonl"] = [files["R2-1.jsonl"][0], *_asked("plt", 2, 1, [0.1] * 4)]
    advice = advise(evidence_of(files))
    assert [level.models for level in advice.tables[0].levels] == [2, 2]
    assert advice.tables[0].levels[1].value == pytest.approx(50)
    assert advice.recommended_loops is None  # the seeds differ by more than the loops
    assert any("more seeds" in line for line in advice.would_change)


def _asked(arm: str, loops: int, seed: int, shares: list[float]) -> list[AnyRow]:
    return [
        depth(arm, loops, seed, task, "direct", answers(shares)) for task in ("chains", "brackets")
    ]


def test_the_modes_are_two_tables() -> None:
    files = _depth_study({1: [0.2] * 4, 2: [0.6] * 4})
    for loops in (1, 2):
        files[f"R{loops}-0.jsonl"].append(depth("plt", loops, 0, "chains", "steps", answers([0.9])))
    names = [table.name for table in advise(evidence_of(files)).tables]
    assert names == ["depth accuracy (direct)", "depth accuracy (steps)"]


def test_a_model_run_at_other_loops_is_no_model_trained_for_them() -> None:
    row = depth("plt", 2, 0, "chains", "direct", answers([0.9] * 4), run_at=1)
    files = _depth_study({2: [0.8] * 4, 3: [0.85] * 4})
    files["R2-0.jsonl"].append(row)
    assert advise(evidence_of(files)).compared == (2, 3)


def test_loss_and_depth_may_both_be_there() -> None:
    files = _text_study(arms=False)
    for loops, share in ((1, 0.3), (2, 0.7)):
        for seed in range(3):
            rows = files[f"records/plt-R{loops}-s{seed}/study.jsonl"]
            rows += [
                depth("plt", loops, seed, task, "direct", answers([share] * 4))
                for task in ("chains", "brackets")
            ]
    advice = advise(evidence_of(files))
    assert [table.of for table in advice.tables if table.decides] == ["documents", "task depths"]
    assert advice.recommended_loops == 2


@pytest.mark.parametrize("change", [{"hops": [1]}, {"right": ["01", "0x"]}])
def test_answers_that_were_changed(change: dict[str, object]) -> None:
    row = depth("plt", 1, 0, "chains", "direct", ["01", "00"]).model_copy(update=change)
    with pytest.raises(RecordError, match=r"a\.jsonl: the answers to chains \(direct\)"):
        as_run("a.jsonl", [row])


def test_texts_of_training_and_of_a_probe_may_differ() -> None:
    row = training("plt", 1, 0, 1.8)
    assert row.source.data is not None
    data = row.source.data.model_copy(update={"hash": "other"})
    other = row.model_copy(update={"source": row.source.model_copy(update={"data": data})})
    run = as_run("a.jsonl", [other, *_probe("plt", 1, 0, 1.8)])
    assert run.data is not None
    assert run.data.hash == "hash-text"
