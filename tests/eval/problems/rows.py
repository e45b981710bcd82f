"""Small benchmark files in each format."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_ADD = {
    "task_id": "HumanEval/0",
    "prompt": 'def add(a, b):\n    """ Sum. """\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
}


def humaneval(**changes: Any) -> dict[str, Any]:
    test = "def check(candidate):\n    assert candidate(1, 2) == 3\n"
    return {**_ADD, "test": test, **changes}


def plus(**changes: Any) -> dict[str, Any]:
    inputs = {"base_input": [[1, 2]], "plus_input": [[0, 0], [1.5, -1]], "atol": 0}
    return {**_ADD, **inputs, **changes}


def gap(**changes: Any) -> dict[str, Any]:
    row = humaneval(
        task_id="SingleLineInfilling/HumanEval/0/L0",
        canonical_solution="    total = a + b\n",
        suffix="    return total\n",
    )
    return {**row, **changes}


def mbpp(**changes: Any) -> dict[str, Any]:
    row = {
        "task_id": 12,
        "text": "Write a function to double a number.",
        "code": "def helper(x):\r\n  return x\r\ndef double(x):\r\n  return 2 * helper(x)",
        "test_list": ["assert double(2) == 4", "assert double(helper(3)) == 6"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    return {**row, **changes}


def mbpp_plus(**changes: Any) -> dict[str, Any]:
    row = {
        "task_id": "Mbpp/2",
        "prompt": '"""\nShared elements.\nassert similar_elements((3, 4), (4, 5)) == (4,)\n"""\n',
        "entry_point": "similar_elements",
        "canonical_solution": "def similar_elements(a, b):\n  return tuple(set(a) & set(b))\n",
        "base_input": [[[3, 4], [4, 5]]],
        "plus_input": [[[], []]],
        "atol": 0,
    }
    return {**row, **changes}


def cruxeval(**changes: Any) -> dict[str, Any]:
    row = {"code": "def f(a):\n    return a + [a[0]]", "input": "[1]", "output": "[1, 1]"}
    return {**row, "id": "sample_0", **changes}


def write(path: Path, rows: Iterable[Any]) -> Path:
    """JSON Lines; text among the rows stands as it is; .gz is compressed."""
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    content = "\n".join(lines).encode() + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path
