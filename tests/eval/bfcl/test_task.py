"""The inspect task with the real checker: what comes of answers, right, wrong and none."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from loopcoder.errors import EvaluationError
from loopcoder.eval.bfcl import BFCL
from tests.eval.bfcl.answers import as_tools, keys, written

if TYPE_CHECKING:  # inspect-ai takes seconds to import, which collecting tests should not wait for
    from inspect_ai.model import ModelOutput
    from inspect_ai.tool import ToolInfo

pytestmark = [
    pytest.mark.slow,
    # inspect-ai's use of tenacity, and streams that it leaves to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:The 'initial' parameter:DeprecationWarning", "ignore:Unclosed:ResourceWarning"
    ),
]


@pytest.fixture(autouse=True)
def environment(python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real one, and each test with a process of its own."""
    from loopcoder.eval.bfcl import task

    monkeypatch.setenv(BFCL.variable, str(python))
    task._bridge.cache_clear()
    task._questions.cache_clear()
    yield
    if task._bridge.cache_info().currsize:
        task._bridge("v4", None).close()


@pytest.mark.parametrize("mode", ["prompt", "tools"])
def test_right_answers(python: Path, tmp_path: Path, mode: str) -> None:
    from inspect_ai.model import ModelOutput

    from loopcoder.eval.bfcl import task
    from tests.eval.bfcl.scripted import run, scripted, values

    by_question = {}
    for category in ("multiple", "simple_java"):
        questions = task._questions(task._bridge("v4", None), category)
        for key in keys(python, "v4", category):
            by_question[questions[key.id].messages[-1]["content"]] = (key, category)

    def answer(text: str, tools: "Sequence[ToolInfo]") -> "ModelOutput":
        key, category = by_question[text]
        assert bool(tools) == (mode == "tools")
        if mode == "prompt":
            return ModelOutput.from_content("scripted", written(key, category))
        ((name, arguments),) = as_tools(key, category)[0].items()
        assert name in {tool.name for tool in tools}
        return ModelOutput.for_tool_call("scripted", name, json.loads(arguments))

    chosen = "simple_java,multiple"
    log = run(tmp_path, scripted(answer), categories=chosen, mode=mode, limit=2)
    assert log.status == "success"
    assert values(log) == {"simple_java_0": 1.0, "multiple_0": 1.0}
    assert log.results is not None
    (score,) = log.results.scores
    found = {name: each.value for name, each in score.metrics.items()}
    assert found == {"accuracy": 1.0, "stderr": 0.0, "simple_java": 1.0, "multiple": 1.0}


def test_a_wrong_answer_says_why(tmp_path: Path) -> None:
    from tests.eval.bfcl.scripted import run, said

    wrong = said("[calculate_triangle_area(base=10, height=4)]")
    log = run(tmp_path, wrong, categories="simple_python", limit=1)
    assert log.samples is not None
    assert log.samples[0].metadata["asked"] == "prompt"
    assert log.samples[0].scores is not None
    score = log.samples[0].scores["checked"]
    assert score.value == 0.0
    assert score.metadata == {
        "category": "simple_python",
        "reason": "value_error:others",
        "detail": "Invalid value for parameter 'height': 4. Expected one of [5].",
    }


def test_a_question_too_long_for_the_model_is_not_refused_rightly(tmp_path: Path) -> None:
    from tests.eval.bfcl.scripted import run, said, values

    for stop_reason, value in (("model_length", 0.0), ("stop", 1.0)):
        log = run(tmp_path, said("", stop_reason), categories="irrelevance", limit=1)
        assert values(log) == {"irrelevance_0": value}


def test_without_the_checker_an_answer_is_unscored(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.eval.bfcl.scripted import run, said, values

    dying = tmp_path / "python"
    dying.write_text(f"""#!/bin/sh\nsed -u '/"op": "check"/Q' | {python} "$@"\n""")
    dying.chmod(0o755)
    monkeypatch.setenv(BFCL.variable, str(dying))
    log = run(tmp_path, said("[]"), categories="parallel", limit=2)
    assert values(log) == {}
    assert log.samples is not None
    for sample in log.samples:
        assert sample.error is not None
        assert "bfcl-eval's process" in sample.error.message


def test_nano_completes_a_text(tmp_path: Path) -> None:
    from tests.eval.bfcl.scripted import run, values

    nano = "loopcoder/loopcoder-nano"
    log = run(tmp_path, nano, mode="completion", categories="simple_python", limit=2)
    assert values(log) == {"simple_python_0": 0.0, "simple_python_1": 0.0}
    assert log.samples is not None
    asked, answer = log.samples[0].messages
    assert asked.text.startswith("You are an expert in composing functions.")
    assert asked.text.endswith("height of 5 units.\n\n")
    assert answer.text == log.samples[0].output.completion


def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from loopcoder.eval.bfcl import task

    with pytest.raises(EvaluationError, match="mode is 'chat'"):
        task.bfcl(mode="chat")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="no version 'v2'; give v4 or v3"):
        task.bfcl(version="v2")
    with pytest.raises(EvaluationError, match="no single-turn category 'memory'"):
        task.bfcl(categories="memory")
    task._bridge("v4", None).close()
    task._bridge.cache_clear()
    monkeypatch.setenv("LOOPCODER_HOME", "/nowhere")
    monkeypatch.delenv(BFCL.variable)
    with pytest.raises(EvaluationError, match="`loopcoder eval setup bfcl`"):
        task.bfcl()
