"""Tiny data of our own in the formats of the outside benchmarks, and runs over it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loopcoder.eval.environments import Environment
from loopcoder.eval.harness.base import HarnessRun

REPORTS = Path(__file__).parent / "reports"  # what the harnesses wrote about this data
NOWHERE = "http://127.0.0.1:9/v1"  # the discard port: nothing answers there


def needs_environment(environment: Environment) -> pytest.MarkDecorator:
    """Skip where the harness has not been set up."""
    return pytest.mark.skipif(
        environment.interpreter() is None,
        reason=f"not set up: `loopcoder eval setup {environment.name}`, or {environment.variable}",
    )


def run_of(out: Path, data: Path | None = None, **fields: Any) -> HarnessRun:
    """A run of nano with short answers."""
    given: dict[str, Any] = {"base_url": NOWHERE, "max_tokens": 24, **fields}
    return HarnessRun(model="loopcoder-nano", api_key="none", out=out, data=data, **given)


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """JSON, one object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def bigcodebench_data(directory: Path) -> Path:
    """Two tasks in BigCodeBench's format."""
    tasks = [
        ("BigCodeBench/0", "math", "the square root of x", "math.sqrt(x)", "4"),
        ("BigCodeBench/1", "statistics", "the mean of x", "statistics.mean(x)", "[1, 3]"),
    ]
    write_lines(directory / "BigCodeBench.jsonl", [_bigcodebench(*task) for task in tasks])
    return directory


def livecodebench_data(directory: Path) -> Path:
    """Three problems in LiveCodeBench's format, with a loading script as its data set has one."""
    add = {
        "inputs": [("1 2\n", "3\n"), ("3 4\n", "7\n")],
        "content": "Print the sum of two integers.",
    }
    most = {"inputs": [("1 2\n", "2\n"), ("3 4\n", "4\n")], "content": "Print the larger integer."}
    one = {"inputs": [("1", "2"), ("5", "6")], "content": "Return x + 1.", "function": "addOne"}
    rows = [_livecodebench(f"abc{i}_a", **problem) for i, problem in enumerate((add, most))]
    write_lines(directory / "test.jsonl", [*rows, _livecodebench("3000", **one)])
    (directory / "code_generation_lite.py").write_text(_LOADER, encoding="utf-8")
    return directory


def multipl_e_data(directory: Path) -> Path:
    """Two problems in each of six languages in MultiPL-E's format."""
    for language, (prompt, tests, stop) in MULTIPL_E.items():
        row = {"language": language, "prompt": prompt, "tests": tests, "stop_tokens": stop}
        rows = [{"name": f"HumanEval_{i}_add", **row} for i in (53, 54)]
        write_lines(directory / f"humaneval-{language}" / "test.jsonl", rows)
    configurations = "".join(_CONFIGURATION.format(language=name) for name in MULTIPL_E)
    (directory / "README.md").write_text(f"---\nconfigs:\n{configurations}---\n", encoding="utf-8")
    return directory


def _bigcodebench(name: str, library: str, what: str, body: str, argument: str) -> dict[str, Any]:
    head = f"import {library}\ndef task_func(x):\n"
    return {
        "task_id": name,
        "complete_prompt": f'{head}    """Return {what}."""\n',
        "instruct_prompt": f"Return {what}.\nStart with:\n```\n{head}```",
        "canonical_solution": f"    return {body}\n",
        "code_prompt": head,
        "test": "import unittest\nclass TestCases(unittest.TestCase):\n"
        f"    def test_case_1(self):\n        self.assertEqual(task_func({argument}), 2)\n",
        "entry_point": "task_func",
        "libs": f"['{library}']",
    }


def _livecodebench(
    name: str, *, inputs: list[tuple[str, str]], content: str, function: str | None = None
) -> dict[str, str]:
    kind = "functional" if function else "stdin"
    cases = [{"input": given, "output": wanted, "testtype": kind} for given, wanted in inputs]
    start = f"class Solution:\n    def {function}(self, x: int) -> int:\n        "
    return {
        "question_title": name,
        "question_content": content,
        "platform": "leetcode" if function else "atcoder",
        "question_id": name,
        "contest_id": "abc0",
        "contest_date": "2024-09-01T00:00:00",
        "starter_code": start if function else "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(cases[:1]),
        "private_test_cases": json.dumps(cases[1:]),
        "metadata": json.dumps({"func_name": function} if function else {}),
    }


_LOADER = """
import json

import datasets

FIELDS = (
    *("question_title", "question_content", "platform", "question_id", "contest_id"),
    *("contest_date", "starter_code", "difficulty", "public_test_cases"),
    *("private_test_cases", "metadata"),
)


class Config(datasets.BuilderConfig):
    def __init__(self, *, version_tag="release_v1", **settings):
        super().__init__(name=version_tag, **settings)


class Builder(datasets.GeneratorBasedBuilder):
    BUILDER_CONFIG_CLASS = Config

    def _info(self):
        strings = {name: datasets.Value("string") for name in FIELDS}
        return datasets.DatasetInfo(features=datasets.Features(strings))

    def _split_generators(self, manager):
        path = manager.download("test.jsonl")
        return [datasets.SplitGenerator(name="test", gen_kwargs={"path": path})]

    def _generate_examples(self, path):
        with open(path, encoding="utf-8") as file:
            for index, line in enumerate(file):
                yield index, json.loads(line)
"""

_CONFIGURATION = """- config_name: humaneval-{language}
  data_files:
  - split: test
    path: humaneval-{language}/test.jsonl
"""

MULTIPL_E = {
    "js": (
        "//Add two integers\nfunction add(x, y){\n",
        "const assert = require('node:assert');\nassert.deepEqual(add(0, 1), 1);\n",
        ["\nfunction ", "\n//", "\nconsole.log"],
    ),
    "cpp": (
        "#include<assert.h>\n// Add two integers\nlong add(long x, long y) {\n",
        "}\nint main() {\n    assert(add((0), (1)) == (1));\n}\n",
        ["\n}"],
    ),
    "rs": (
        "/// Add two integers\nfn add(x: isize, y: isize) -> isize {\n",
        "}\nfn main() {\n    assert_eq!(add(0, 1), 1);\n}\n",
        ["\n}"],
    ),
    "java": (
        "class Problem {\n    public static long add(long x, long y) {\n",
        "    }\n    public static void main(String[] args) {\n"
        "    assert(add((0l), (1l)) == (1l));\n    }\n}\n",
        ["\n    }\n"],
    ),
    "py": (
        'def add(x: int, y: int) -> int:\n    """Add two integers."""\n',
        "assert add(0, 1) == 1\n",
        ["\ndef", "\n#", "\nclass"],
    ),
    "sh": (
        "#!/bin/bash\n# Add two integers\nadd() {\n",
        '}\nset -e\n[[ $(add "0" "1") = "1" ]]\n',
        ["\n}"],
    ),
}
BODIES = {
    "js": "  return x + y;\n}",
    "cpp": "    return x + y;",
    "rs": "    x + y",
    "java": "        return x + y;",
    "py": "    return x + y",
    "sh": "    echo $(($1 + $2))",
}


def is_root() -> bool:
    """Whether an unprivileged user can be told from ours."""
    return os.geteuid() == 0
