"""What a benchmark asks and how it is tested, from its files; no model and no prompt here."""

from loopcoder.eval.problems.cruxeval import read_cruxeval
from loopcoder.eval.problems.humaneval import read_humaneval, read_humaneval_plus, read_infilling
from loopcoder.eval.problems.mbpp import read_mbpp, read_mbpp_plus
from loopcoder.eval.problems.types import Assertions, CodeProblem, ExecutionProblem, Inputs

__all__ = [
    "Assertions",
    "CodeProblem",
    "ExecutionProblem",
    "Inputs",
    "read_cruxeval",
    "read_humaneval",
    "read_humaneval_plus",
    "read_infilling",
    "read_mbpp",
    "read_mbpp_plus",
]
