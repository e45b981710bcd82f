"""The inspect task with the real checker: what comes of answers, right, wrong and none."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.model import ChatMessage, Model, ModelOutput, get_model
from inspect_ai.tool import ToolInfo

from loopcoder.errors import EvaluationError
from loopcoder.eval.bfcl import BFCL
from loopcoder.eval.bfcl import task as bfcl_task
from loopcoder.eval.bfcl.task import bfcl
from tests.eval.bfcl.answers import as_tools, keys, written

pytestmark = [
    pytest.mark.slow,
    # inspect-ai calls tenacity by a name that it has given up.
    pytest.mark.filterwarnings("ignore:The 'initial' parameter:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def environment(python: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(BFCL.variable, str(python))
    _forget()
    yield
    _forget()


def _forget() -> None:
    if bfcl_task._bridge.cache_info().currsize:
        bfcl_task._bridge("v4", None).close()
    bfcl_task._bridge.cache_clear()
    bfcl_task._questions.cache_clear()


def scripted(answer: Callable[[str, list[ToolInfo]], ModelOutput]) -> Model:
    """A model that says what a function of the last message says."""

    def generate(input: list[ChatMessage], tools: list[ToolInfo], *_: Any) -> ModelOutput:
        return answer(input[-1].text, tools)

    return get_model("mockllm/model", custom_outputs=generate, memoize=False)


def run(directory: Path, model: Model | str, **arguments: Any) -> EvalLog:
    settings = {name: arguments.pop(name) for name in ("limit", "model_args") if name in arguments}
    (log,) = inspect_eval(
        bfcl(**arguments),
        model=model,
        log_dir=str(directory),
        display="none",
        fail_on_error=False,
        max_tokens=8,
        **settings,
    )
    return log


def values(log: EvalLog) -> dict[str, float]:
    assert log.samples is not None
    return {str(s.id): s.scores["checked"].as_float() for s in log.samples if s.scores}


@pytest.mark.parametrize("mode", ["prompt", "tools"])
def test_right_answers(python: Path, tmp_path: Path, mode: str) -> None:
    by_question = {}
    for category in ("multiple", "simple_java"):
        questions = bfcl_task._questions(bfcl_task._bridge("v4", None), category)
        for key in keys(python, "v4", category):
            by_question[questions[key.id].messages[-1]["content"]] = (key, category)

    def answer(text: str, tools: list[ToolInfo]) -> ModelOutput:
        key, category = by_question[text]
        assert bool(tools) == (mode == "tools")
        if mode == "prompt":
            return ModelOutput.from_content("mockllm/model", written(key, category))
        ((name, arguments),) = as_tools(key, category)[0].items()
        assert name in {tool.name for tool in tools}
        return ModelOutput.for_tool_call("mockllm/model", name, json.loads(arguments))

    chosen = "simple_java,multiple"
    log = run(tmp_path, scripted(answer), categories=chosen, mode=mode, limit=2)
    assert log.status == "success"
    assert values(log) == {"simple_java_0": 1.0, "multiple_0": 1.0}
    assert log.results is not None
    (score,) = log.results.scores
    assert {name: each.value for name, each in score.metrics.items()} == {
        "accuracy": 1.0,
        "stderr": 0.0,
        "simple_java": 1.0,
        "multiple": 1.0,
    }


def test_a_wrong_answer_says_why(tmp_path: Path) -> None:
    said = ModelOutput.from_content("mockllm/model", "[calculate_triangle_area(base=10, height=4)]")
    log = run(tmp_path, scripted(lambda *_: said), categories="simple_python", limit=1)
    assert log.samples is not None
    assert log.samples[0].scores is not None
    score = log.samples[0].scores["checked"]
    assert score.value == 0.0
    assert score.metadata == {
        "category": "simple_python",
        "reason": "value_error:others",
        "detail": "Invalid value for parameter 'height': 4. Expected one of [5].",
    }


def test_a_question_too_long_for_the_model_is_not_refused_rightly(tmp_path: Path) -> None:
    cut = ModelOutput.from_content("mockllm/model", "", stop_reason="model_length")
    log = run(tmp_path, scripted(lambda *_: cut), categories="irrelevance", limit=1)
    assert values(log) == {"irrelevance_0": 0.0}
    silent = ModelOutput.from_content("mockllm/model", "")
    log = run(tmp_path, scripted(lambda *_: silent), categories="irrelevance", limit=1)
    assert values(log) == {"irrelevance_0": 1.0}


def test_without_the_checker_an_answer_is_unscored(
    python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dying = tmp_path / "python"
    dying.write_text(f"""#!/bin/sh\nsed -u '/"op": "check"/Q' | {python} "$@"\n""")
    dying.chmod(0o755)
    monkeypatch.setenv(BFCL.variable, str(dying))
    said = ModelOutput.from_content("mockllm/model", "[]")
    log = run(tmp_path, scripted(lambda *_: said), categories="parallel", limit=2)
    assert values(log) == {}
    assert log.samples is not None
    for sample in log.samples:
        assert sample.error is not None
        assert "bfcl-eval's process" in sample.error.message


def test_nano_completes_a_text(tmp_path: Path) -> None:
    log = run(
        tmp_path,
        "loopcoder/loopcoder-nano",
        model_args={"num_threads": 1},
        categories="simple_python",
        limit=2,
    )
    assert values(log) == {"simple_python_0": 0.0, "simple_python_1": 0.0}
    assert log.samples is not None
    (asked, answer) = log.samples[0].messages
    assert asked.text.startswith("You are an expert in composing functions.")
    assert asked.text.endswith("height of 5 units.\n\n")
    assert log.samples[0].metadata["asked"] == "completion"
    assert answer.text == log.samples[0].output.completion


def test_what_cannot_be_asked_is_said_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(EvaluationError, match="mode is 'chat'"):
        bfcl(mode="chat")  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="no version 'v2'; give v4 or v3"):
        bfcl(version="v2")
    with pytest.raises(EvaluationError, match="no single-turn category 'memory'"):
        bfcl(categories="memory")
    bfcl_task._bridge.cache_clear()
    monkeypatch.setenv("LOOPCODER_HOME", "/nowhere")
    monkeypatch.delenv(BFCL.variable)
    with pytest.raises(EvaluationError, match="`loopcoder eval setup bfcl`"):
        bfcl()
