"""Whether an answer is right. The candidate runs where it sees neither tests nor answers."""

from loopcoder.eval.judge.execution import judge_execution
from loopcoder.eval.judge.judging import judge
from loopcoder.eval.judge.references import References
from loopcoder.eval.judge.verdict import Reason, Verdict

__all__ = ["Reason", "References", "Verdict", "judge", "judge_execution"]
