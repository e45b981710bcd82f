"""How many loops: gain, cost and advice, from records alone (SPEC.md section 6). No torch.

`read_evidence` reads record files and bench objects, `advise` weighs them, `published` gives the
papers' values as rows. `studies` sorts what a study left, `arm_differences` compares its arms.
"""

from loopcoder.loopcount.advice import Advice, Cost, Finding, LoopRow, LossTable
from loopcoder.loopcount.advisor import advise
from loopcoder.loopcount.arms import ArmDifference, arm_differences
from loopcoder.loopcount.decide import Limits
from loopcoder.loopcount.published import published
from loopcoder.loopcount.runs import Bench, Evidence, Run, as_run, published_run, read_evidence
from loopcoder.loopcount.study import Study, StudyModel, studies
from loopcoder.loopcount.sweep import Level

__all__ = [
    "Advice",
    "ArmDifference",
    "Bench",
    "Cost",
    "Evidence",
    "Finding",
    "Level",
    "Limits",
    "LoopRow",
    "LossTable",
    "Run",
    "Study",
    "StudyModel",
    "advise",
    "arm_differences",
    "as_run",
    "published",
    "published_run",
    "read_evidence",
    "studies",
]
