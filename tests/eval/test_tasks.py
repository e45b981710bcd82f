"""The tasks through inspect-ai: what is asked, sent and scored, in the real sandbox."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.problems import Assertions, CodeProblem
from loopcoder.eval.tasks.names import TASK_NAMES, files_of
from tests.eval.problems import rows

if TYPE_CHECKING:  # inspect-ai takes seconds to import, which collecting tests should not wait for
    from inspect_ai import Task
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.model import GenerateConfig

    from tests.eval.told import Answer

needs_bwrap = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="bubblewrap is not installed: apt install bubblewrap"
)
# inspect-ai's use of tenacity, and streams that it leaves to the garbage collector.
inspects = pytest.mark.filterwarnings(
    "ignore:The 'initial' parameter:DeprecationWarning", "ignore:Unclosed:ResourceWarning"
)
GOOD = "def add(a, b):\n    return a + b\n"


@pytest.fixture
def code() -> ModuleType:
    from loopcoder.eval.tasks import code

    return code


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A directory with a file of each benchmark, small."""
    folder = tmp_path / "data"
    folder.mkdir()
    gap = {"canonical_solution": "    total = a + b"}
    files: dict[str, list[Any]] = {
        "HumanEval.jsonl": [rows.humaneval()],
        "HumanEvalPlus.jsonl.gz": [rows.plus()],
        "mbpp.jsonl": [rows.mbpp(task_id=number) for number in (10, 11, 510, 511)],
        "MbppPlus.jsonl.gz": [rows.mbpp_plus()],
        "cruxeval.jsonl": [rows.cruxeval()],
        "HumanEval-SingleLineInfilling.jsonl": [rows.gap(**gap, suffix="\n    return total\n")],
    }
    for name, content in files.items():
        rows.write(folder / name, content)
    (folder / "sanitized-mbpp.json").write_text(json.dumps([rows.mbpp()]))
    return str(folder)


def logs(
    tasks: "Sequence[Task]", answer: "Answer", tmp_path: Path, **settings: Any
) -> "list[EvalLog]":
    from inspect_ai import eval as run

    from tests.eval.told import model

    chat = settings.pop("chat", True)
    return run(
        list(tasks),
        model=model(answer, chat=chat),
        log_dir=str(tmp_path / "logs"),
        display="none",
        score_display=False,
        **settings,
    )


def only(log: "EvalLog") -> "EvalSample":
    assert log.samples is not None, log.error
    (sample,) = log.samples
    assert sample.error is None
    return sample


def verdict(sample: "EvalSample") -> tuple[Any, Any, Any, Any]:
    assert sample.scores is not None
    score = sample.scores["executed"]
    details = score.metadata or {}
    return score.value, details["base"], details["plus"], details["reason"]


PASSED = (1.0, True, True, "passed")


@pytest.mark.slow
@needs_bwrap
@inspects
def test_right_answers_by_chat(code: ModuleType, data: str, tmp_path: Path) -> None:
    answers = {
        "double": "Here:\n```python\ndef double(x):\n    return 2 * x\n```",
        "similar_elements": "```\ndef similar_elements(a, b):\n    return list({*a} & {*b})\n```",
        "def add": f"```python\n{GOOD}```",
        "f(??) == [1, 1]": "[ANSWER]\nassert f([1]) == [1, 1]\n[/ANSWER]",
        "f([1]) == ??": "[THOUGHT]\n[1] and 1.\n[/THOUGHT]\n[ANSWER]\nassert f([1]) == [1, 1]\n",
    }
    seen: list[GenerateConfig] = []

    def answer(prompt: str, config: "GenerateConfig") -> str:
        seen.append(config)
        return next(text for key, text in answers.items() if key in prompt)

    tasks = [
        code.humaneval(data=data),
        code.humaneval_plus(data=data),
        code.mbpp(data=data),
        code.mbpp_sanitized(data=data),
        code.mbpp_plus(data=data),
        code.cruxeval_input(data=data),
        code.cruxeval_output(data=data, reasoning=True),
    ]
    found = logs(tasks, answer, tmp_path)
    for log in found:
        assert log.status == "success", log.error
        assert log.samples
        for sample in log.samples:
            assert verdict(sample) == PASSED
            assert sample.metadata["style"] == "chat"
    assert sorted(str(sample.id) for sample in found[2].samples or []) == ["Mbpp/11", "Mbpp/510"]
    assert (found[1].eval.metadata or {})["published"] is False
    assert (found[2].eval.metadata or {})["published"] is None
    assert not any((config.extra_body or {}).get("raw_prompt") for config in seen)
    assert {config.temperature for config in seen} == {0.0}


@pytest.mark.slow
@needs_bwrap
@inspects
def test_completions_and_gaps(code: ModuleType, data: str, tmp_path: Path) -> None:
    seen: dict[str, GenerateConfig] = {}

    def answer(prompt: str, config: "GenerateConfig") -> str:
        seen[prompt] = config
        if (config.extra_body or {}).get("suffix"):
            return "    total = a + b\n    return 0\n"
        if "[ANSWER]" in prompt:
            return "assert f([1]) == [1, 1]\n[/ANSWER]\n\n[PYTHON]"
        return "    return a + b\n\n\ndef add(a, b):\n    return 0\n"

    tasks = [
        code.humaneval_plus(data=data),
        code.cruxeval_output(data=data),
        code.infilling_single_line(data=data),
    ]
    for log in logs(tasks, answer, tmp_path, chat=False, extra_body={"loops": 2}):
        sample = only(log)
        assert verdict(sample) == PASSED
        assert sample.metadata["style"] == "completion"
    configs = list(seen.values())
    assert all((c.extra_body or {})["raw_prompt"] and c.extra_body["loops"] == 2 for c in configs)
    assert all(len(config.stop_seqs or []) <= 4 for config in configs)
    assert [(c.extra_body or {}).get("suffix") for c in configs].count("\n    return total\n") == 1
    assert any(prompt == rows.plus()["prompt"] for prompt in seen)


@pytest.mark.slow
@needs_bwrap
@inspects
def test_wrong_answers_say_why(code: ModuleType, data: str, tmp_path: Path) -> None:
    """One sample an answer: each epoch gets the next one; each has a seed of its own."""
    answers = [
        ("```\ndef add(a, b):\n    return 3\n```", (0.0, True, False, "wrong")),
        ("```\ndef add(a, b):\n    return a - b\n```", (0.0, False, False, "wrong")),
        ("```\ndef add(a, b):\n    return c\n```", (0.0, False, False, "raised")),
        ("```\ndef sum(a, b):\n    return a + b\n```", (0.0, False, False, "missing")),
        ("I cannot do that.", (0.0, False, False, "syntax")),
        ("", (0.0, False, False, "empty")),
        (f"```\n{GOOD}```", PASSED),
    ]

    def answer(_: str, config: "GenerateConfig") -> str:
        return answers[(config.seed or 0) - 40][0]

    task = code.humaneval_plus(data=data)
    (log,) = logs([task], answer, tmp_path, epochs=len(answers), seed=40)
    samples = sorted(log.samples or [], key=lambda sample: sample.epoch)
    assert [verdict(sample) for sample in samples] == [expected for _, expected in answers]
    assert samples[0].scores
    assert samples[0].scores["executed"].answer == "def add(a, b):\n    return 3\n"


def test_files_of_tasks(data: str) -> None:
    assert files_of("cruxeval_output", Path(data)) == [Path(data) / "cruxeval.jsonl"]
    assert files_of("bfcl", None) == []


@pytest.mark.slow
def test_names_and_tasks_agree() -> None:
    from loopcoder.eval.tasks.table import TASKS

    assert sorted(TASKS) == sorted(TASK_NAMES)


@pytest.mark.slow
def test_gaps_of_one_function_are_one_cluster(code: ModuleType) -> None:
    made: Any = {"prompt": "", "entry_point": "f", "reference": "", "tests": Assertions(source="")}
    for name, cluster in (
        ("SingleLineInfilling/HumanEval/3/L0", "HumanEval/3"),
        ("RandomSpanInfilling/HumanEval/3/1", "HumanEval/3"),
        ("HumanEval/3", "HumanEval/3"),
    ):
        assert code.function(CodeProblem(id=name, **made)) == cluster


@pytest.mark.slow
def test_what_cannot_be_asked_is_said_before_a_model_is(code: ModuleType, data: str) -> None:
    with pytest.raises(EvaluationError, match="no form for chat"):
        code.infilling_single_line(data=data, prompt="chat")
    with pytest.raises(EvaluationError, match="download infilling_multi_line"):
        code.infilling_multi_line(data=data)
    Path(data, "cruxeval.jsonl").write_text("{}\n")
    with pytest.raises(EvaluationError, match="line 1: field 'id' is missing"):
        code.cruxeval_input(data=data)
