"""The paper's rows as they ship."""

from loopcoder.eval.published import PAPER_NAMES, paper_scores
from loopcoder.eval.tables import paper_table
from loopcoder.records.rows import ScoreRow, Source

SOURCE = Source(command="test", version="0", machine={}, time="2026-11-24T00:00:00+00:00")
COLUMNS = 10


def test_the_tables_of_the_paper_are_whole() -> None:
    scores = paper_scores()
    sweep = [scores[f"LoopCoder-V2, {r} loop{'s' * (r > 1)}"] for r in (1, 2, 3, 4)]
    assert all(len(values) == COLUMNS for values in sweep)
    assert [values["SWE-bench Verified"] for values in sweep] == [43.0, 64.4, 27.6, 22.4]
    others = {w: v for w, v in scores.items() if "average" in v}
    assert len(others) == 11
    assert others["GLM-4.7"]["average"] == 61.0
    assert "BFCL v3" not in others["Seed-Coder-8B"]
    assert scores["LoopCoder-V2 Thinking"]["LiveCodeBench"] == 62.3
    assert not any("mean accuracy" in task for values in scores.values() for task in values)


def test_every_mean_is_the_mean_of_its_row() -> None:
    """A slip in copying shows here: the paper prints the averages too."""
    for who, values in paper_scores().items():
        tasks = [value for name, value in values.items() if name != "average"]
        if "average" in values:
            assert abs(sum(tasks) / len(tasks) - values["average"]) < 0.06, who


def test_a_run_stands_beside_them() -> None:
    row = ScoreRow(
        source=SOURCE, task="humaneval_plus", metric="pass@1", value=0.043, unit="share", loops=2
    )
    table = paper_table([row], every=False)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == ["humaneval_plus", "pass@1", "4.3", "81.1", "84.1", "75.0", "76.8"]
    assert len(paper_table([row], every=True).columns) == 3 + 4 + 11 + 2


def test_the_names_are_the_papers() -> None:
    known = {task for values in paper_scores().values() for task in values}
    assert set(PAPER_NAMES.values()) <= known
