"""Function calling (BFCL), scored by the leaderboard's own checker in an environment of its own.

Importing this package imports neither inspect-ai nor torch; the inspect task is in `task`.
"""

from loopcoder.eval.bfcl.client import BFCL, BFCL_V3, VERSIONS, Bridge, Checked, Question
from loopcoder.eval.bfcl.summary import summary

__all__ = ["BFCL", "BFCL_V3", "VERSIONS", "Bridge", "Checked", "Question", "summary"]
