"""The paper's scores (SPEC.md section 7) beside a run's own: LoopCoder-V2 and other models."""

from importlib.resources import as_file, files

from loopcoder.loopcount.published import published as published_sweep
from loopcoder.records.files import read_records
from loopcoder.records.rows import ScoreRow

OTHERS = "published.jsonl"
OURS = "LoopCoder-V2"
PAPER = "2606.18023"  # the other paper's scores are of another model and other tasks

# Our tasks and their scores, by the paper's name for the benchmark.
PAPER_NAMES = {
    ("humaneval_plus", "pass@1"): "HumanEval+",
    ("multipl-e", "pass@1"): "MultiPL-E",
    ("bigcodebench", "pass@1"): "BigCodeBench",
    ("bigcodebench-hard", "pass@1"): "BigCodeBench-Hard",
    ("livecodebench", "pass@1"): "LiveCodeBench",
    ("swe-bench-verified", "resolved"): "SWE-bench Verified",
    ("swe-bench-multilingual", "resolved"): "SWE-bench Multilingual",
    ("terminal-bench-1", "resolved"): "Terminal-Bench 1",
    ("terminal-bench-2", "resolved"): "Terminal-Bench 2",
    ("mind2web", "step success"): "Mind2Web",
    ("cruxeval_output", "pass@1"): "CRUXEval",
}


def paper_scores() -> dict[str, dict[str, float]]:
    """Percent, by model (LoopCoder-V2 by its loop count) and by the paper's benchmark name."""
    with as_file(files(__package__) / OTHERS) as path:
        rows = [*published_sweep(), *read_records(path)]
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if isinstance(row, ScoreRow) and PAPER in (row.source.citation or ""):
            who = row.subject or f"{OURS}, {row.loops} loop{'s' if row.loops != 1 else ''}"
            found.setdefault(who, {})[row.task] = row.value
    return found
