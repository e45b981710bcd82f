"""Every task by its name."""

from collections.abc import Callable

from inspect_ai import Task

from loopcoder.eval.bfcl.task import bfcl
from loopcoder.eval.tasks import code

TASKS: dict[str, Callable[..., Task]] = {
    "humaneval": code.humaneval,
    "humaneval_plus": code.humaneval_plus,
    "mbpp": code.mbpp,
    "mbpp_sanitized": code.mbpp_sanitized,
    "mbpp_plus": code.mbpp_plus,
    "cruxeval_input": code.cruxeval_input,
    "cruxeval_output": code.cruxeval_output,
    "infilling_single_line": code.infilling_single_line,
    "infilling_multi_line": code.infilling_multi_line,
    "infilling_random_span": code.infilling_random_span,
    "infilling_random_span_light": code.infilling_random_span_light,
    "bfcl": bfcl,
}
